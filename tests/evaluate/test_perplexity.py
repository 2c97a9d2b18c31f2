from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lossmith.data import DataConfig, TokenStore, open_store
from lossmith.errors import DataError
from lossmith.evaluate import Evaluation, evaluate
from lossmith.objectives import CausalObjective

TEXT = "The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸🦊跳过懒狗。\n" * 40


def make_store(folder: Path, text: str = TEXT, tokenizer: str = "byte") -> TokenStore:
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return open_store(DataConfig(inputs=(str(folder / "text.txt"),), tokenizer=tokenizer, cache_dir=str(folder / "c")))


def make_model(vocab: int, positions: int = 64) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).double().train()


def brute_force(model: Any, store: TokenStore, block: int, predictions: int) -> float:
    """Σ nll by the logits of the model, one window at a time."""
    tokens = torch.from_numpy(store.validation.tokens.astype("int64"))
    total = 0.0
    with torch.no_grad():
        for start in range(0, predictions, block):
            ids = tokens[start : min(start + block, predictions) + 1]
            logits = model(input_ids=ids[None, :-1]).logits[0]
            total += float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum"))
    return total


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
@pytest.mark.parametrize("limit", [None, 1, 50])
def test_it_is_the_cross_entropy_of_the_logits(store: TokenStore, batch_size: int, limit: int | None) -> None:
    model = make_model(store.tokenizer.vocab_size)
    result = evaluate(
        model, CausalObjective(), store.validation, store.tokenizer, block_size=16, batch_size=batch_size, limit=limit
    )
    predictions = limit or len(store.validation.tokens) - 1
    assert result.tokens == predictions
    assert result.nats == pytest.approx(brute_force(model, store, 16, predictions), rel=1e-12)
    assert model.training


def test_all_of_the_bytes_are_counted_once(store: TokenStore) -> None:
    model = make_model(store.tokenizer.vocab_size)
    split = store.validation
    whole = evaluate(model, CausalObjective(), split, store.tokenizer, block_size=16, batch_size=4)
    text = store.tokenizer.decode(split.tokens.tolist())
    assert whole.bytes == split.n_bytes == len(text.encode())
    part = evaluate(model, CausalObjective(), split, store.tokenizer, block_size=16, batch_size=4, limit=21)
    assert part.bytes == 21


def test_a_split_without_a_document_mark_does_not_count_its_first_token(tmp_path: Path) -> None:
    from dataclasses import replace

    store = make_store(tmp_path, "abcd efgh ijkl mnop qrst uvwx\n" * 20, tokenizer="char")
    split = store.validation
    unmarked = replace(split, tokens=split.tokens[1:])
    model = make_model(store.tokenizer.vocab_size)
    result = evaluate(model, CausalObjective(), unmarked, store.tokenizer, block_size=16, batch_size=4)
    assert (result.tokens, result.bytes) == (len(unmarked.tokens) - 1, split.n_bytes - 1)


def test_with_the_document_mask_all_predictions_count_and_see_their_document_only(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"document {i} " * 3)
    config = DataConfig(inputs=(str(tmp_path / "*.txt"),), tokenizer="byte", cache_dir=str(tmp_path / "c"))
    store = open_store(config)
    model = make_model(store.tokenizer.vocab_size, positions=4096)
    split = store.validation
    assert split.n_documents > 1
    result = evaluate(
        model, CausalObjective(), split, store.tokenizer, block_size=4000, batch_size=1, document_mask=True
    )
    assert result.tokens == len(split.tokens) - 1
    total = 0.0
    for start, stop in zip(split.bounds[:-1], split.bounds[1:], strict=True):  # a document at a time, alone
        ids = torch.from_numpy(split.tokens[start : stop + 1].astype("int64"))
        last = stop == len(split.tokens)
        inputs, labels = (ids[:-1], ids[1:]) if last else (ids[: stop - start], ids[1:])
        with torch.no_grad():
            logits = model(input_ids=inputs[None]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    assert result.nats == pytest.approx(total, rel=1e-10)


def test_a_text_of_one_token_is_an_error_that_says_what_to_do(store: TokenStore) -> None:
    from dataclasses import replace

    model = make_model(store.tokenizer.vocab_size).eval()
    short = replace(store.validation, tokens=store.validation.tokens[:1])
    with pytest.raises(DataError, match="--eval-file"):
        evaluate(model, CausalObjective(), short, store.tokenizer, block_size=16, batch_size=4)
    assert not model.training


def test_the_mode_is_restored_after_an_error(store: TokenStore) -> None:
    model = make_model(3)  # too small a vocabulary for the text
    with pytest.raises(IndexError):
        evaluate(model, CausalObjective(), store.validation, store.tokenizer, block_size=16, batch_size=4)
    assert model.training


def test_figures_of_an_evaluation() -> None:
    result = Evaluation(nats=30.0, tokens=10, bytes=20)
    assert result.perplexity == pytest.approx(math.exp(3.0))
    assert result.bits_per_byte == pytest.approx(30 / math.log(2) / 20)
    assert Evaluation(nats=1e6, tokens=1, bytes=None).perplexity == math.inf
    assert Evaluation(nats=1e6, tokens=1, bytes=None).bits_per_byte is None
    assert math.isnan(Evaluation(nats=math.nan, tokens=1, bytes=1).perplexity)


def _rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = make_store(Path(folder))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    model = make_model(store.tokenizer.vocab_size)
    arguments: dict[str, Any] = {"block_size": 16, "batch_size": 3}
    found = [
        evaluate(model, CausalObjective(), store.validation, store.tokenizer, **arguments, limit=limit)
        for limit in (None, 1)
    ]
    torch.save([(e.nats, e.tokens, e.bytes) for e in found], f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_find_what_one_finds(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = make_model(store.tokenizer.vocab_size)
    mp.start_processes(_rank, args=(2, str(tmp_path)), nprocs=2, start_method="spawn")
    for limit, *ranks in zip((None, 1), *(torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)), strict=True):
        alone = evaluate(
            model, CausalObjective(), store.validation, store.tokenizer, block_size=16, batch_size=3, limit=limit
        )
        for nats, tokens, n_bytes in ranks:
            assert (tokens, n_bytes) == (alone.tokens, alone.bytes)
            assert nats == pytest.approx(alone.nats, rel=1e-12)
