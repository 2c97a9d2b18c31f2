"""Any split of the same batch into micro-batches or ranks gives the same loss and the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config

WORKER = str(Path(__file__).with_name("gradients_of_one_step.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, english: str) -> Path:
    """A text and a model shape. GPT-2: its norms stay in float64, where Llama's are float32 whatever the model is."""
    folder = tmp_path_factory.mktemp("splits")
    (folder / "text.txt").write_text(english, encoding="utf-8")
    GPT2Config(
        n_layer=2, n_embd=32, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=1,
        vocab_size=257,
    ).save_pretrained(folder / "model")  # fmt: skip
    return folder


Gradients = Callable[[int, int, int], dict[str, object]]


@pytest.fixture
def gradients(place: Path, on_ranks: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Gradients:
    monkeypatch.setenv("LOSSMITH_CACHE", str(place / "cache"))

    def of(ranks: int, batch: int, parts: int) -> dict[str, object]:
        out = place / f"{ranks}-{batch}-{parts}.pt"
        if not out.exists():
            on_ranks(ranks, WORKER, str(place / "text.txt"), str(place / "model"), str(out), str(batch), str(parts))
        return dict(torch.load(out, weights_only=True))

    return of


@pytest.mark.parametrize(("ranks", "batch", "parts"), [(1, 4, 2), (1, 1, 8), (2, 4, 1), (2, 1, 4)])
def test_splits_agree(gradients: Gradients, ranks: int, batch: int, parts: int) -> None:
    whole, split = gradients(1, 8, 1), gradients(ranks, batch, parts)
    assert split["count"] == whole["count"]
    assert 0 < split["count"] < 8 * 16
    assert split["nats"] == pytest.approx(whole["nats"], rel=1e-12)
    for ours, theirs in zip(split["gradients"], whole["gradients"], strict=True):
        assert theirs.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
