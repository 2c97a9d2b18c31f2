"""A run does what it says: it learns, writes what the house describes, and continues from anything it made."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lossmith
from lossmith.data import Tokenizer
from lossmith.objectives import CausalObjective
from lossmith.train.config import TrainConfig, resolve
from lossmith.train.optim import build_optimizers
from lossmith.train.schedule import learning_rate_factor

Options = dict[str, Any]
POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。🌙\n"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def poem_run(tmp_path_factory: pytest.TempPathFactory) -> lossmith.TrainedRun:
    folder = tmp_path_factory.mktemp("poem")
    text = folder / "诗.txt"
    text.write_text(POEM * 80, encoding="utf-8")
    return lossmith.train(
        text, output_dir=str(folder / "run"), tokenizer="char", max_steps=80, block_size=32,
        per_device_train_batch_size=8, learning_rate=0.003, optim="adamw", sample_tokens=20, eval_steps=40,
    )  # fmt: skip


def test_a_poem_is_learnt(poem_run: lossmith.TrainedRun) -> None:
    result = poem_run.result
    assert result is not None
    assert result["eval_loss"] < 0.4
    assert result["eval_perplexity"] == pytest.approx(math.exp(result["eval_loss"]))
    bits = result["eval_loss"] * result["eval_tokens"] / math.log(2) / result["eval_bytes"]
    assert result["eval_bpb"] == pytest.approx(bits)
    assert poem_run.sample("床前明月", max_new_tokens=3, temperature=0.01).startswith("床前明月光，疑")
    assert poem_run.next("床前明月", candidates=["光", "霜"]).candidates[0].text == "光"


def test_the_run_folder_is_as_described(poem_run: lossmith.TrainedRun) -> None:
    names = {path.name for path in poem_run.path.iterdir()}
    assert names >= {
        "run.json", "metrics.jsonl", "samples.jsonl", "checkpoints", "model", "report.html", "report.md", "loss.png",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(".writing")]
    metrics = lines(poem_run.path / "metrics.jsonl")
    training = [row for row in metrics if "loss" in row]
    assert [row["step"] for row in training] == [1, *range(10, 81, 10)]
    assert training[-1]["tokens"] == 80 * 8 * 32
    assert {"epoch", "learning_rate", "grad_norm", "tokens_per_second"} <= training[0].keys()
    assert [row["step"] for row in metrics if "eval_loss" in row] == [40, 80]
    assert [row["step"] for row in lines(poem_run.path / "samples.jsonl")] == [0, 40, 80]


def test_transformers_loads_the_model_and_agrees(poem_run: lossmith.TrainedRun) -> None:
    model = AutoModelForCausalLM.from_pretrained(poem_run.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(poem_run.path / "model")
    ids = tokenizer(POEM, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == poem_run.tokenizer.encode(POEM).tolist()
    theirs = model(ids, labels=ids).loss
    objective = CausalObjective()
    batch = objective.batch([{"tokens": ids[0].numpy().astype(np.int64)}], np.random.default_rng(0))
    ours = objective.terms(poem_run.model, batch)["causal"].mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_continue_from_the_trained_folder_with_its_tokenizer(poem_run: lossmith.TrainedRun, tmp_path: Path) -> None:
    text = tmp_path / "more.txt"
    text.write_text(POEM * 40, encoding="utf-8")
    more = lossmith.train(
        text,
        model=str(poem_run.path / "model"),
        output_dir=str(tmp_path / "run"),
        max_steps=3,
        block_size=32,
        sample_tokens=0,
    )
    assert more.tokenizer.spec == poem_run.tokenizer.spec or more.tokenizer.vocab_size == poem_run.tokenizer.vocab_size
    assert more.result is not None
    assert more.result["eval_loss"] < 1.0


@pytest.mark.parametrize(  # the schedule is a factor that no optimizer knows of
    ("optim", "schedule"), [("sgd", "wsd"), ("adam", "constant"), ("adamw", "constant"), ("muon", "wsd")]
)
def test_every_optimizer_lowers_the_loss(
    tmp_path: Path, text_file: Path, tiny_options: Options, optim: str, schedule: str
) -> None:
    options = tiny_options | {"optim": optim, "lr_scheduler_type": schedule, "max_steps": 30, "sample_tokens": 0}
    run = lossmith.train(text_file, output_dir=str(tmp_path / "run"), logging_steps=1, **options)
    losses = [row["loss"] for row in lines(run.path / "metrics.jsonl") if "loss" in row]
    assert losses[0] == pytest.approx(math.log(257), rel=0.05)
    assert np.mean(losses[-5:]) < losses[0] - 0.5


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest(poem_run: lossmith.TrainedRun) -> None:
    model = poem_run.model
    muon, adamw = build_optimizers(model, resolve(TrainConfig(optim="muon"))).optimizers
    names = {id(p): name for name, p in model.named_parameters()}
    of = [{names[id(p)] for group in o.param_groups for p in group["params"]} for o in (muon, adamw)]
    assert of[0] | of[1] == set(names.values())
    assert not of[0] & of[1]
    assert all(".layers." in name for name in of[0])
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= of[1]


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_schedules_warm_up_peak_and_end_low(kind: str) -> None:
    factors = [learning_rate_factor(s, 100, kind=kind, warmup=0.1, min_rate=0.1) for s in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (s + 1) for s in range(10)])
    assert factors[10] == 1.0
    assert factors[-1] == pytest.approx(0.1, abs=0.05)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    if kind == "wsd":
        assert factors[79] == 1.0
        assert factors[90] < 1.0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_document_mask_keeps_documents_apart(attention: str) -> None:
    """A token's hidden state does not change with the document before it, and does with its own."""
    torch.manual_seed(0)
    from lossmith.models import build_model, hidden_and_head

    model = build_model("nano", vocab_size=50, context=16, seed=1)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.1)
    documents = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2], dtype=np.int32)

    def states(tokens: list[int]) -> torch.Tensor:
        example = {"tokens": np.array(tokens), "documents": documents}
        batch = CausalObjective().batch([example], np.random.default_rng(0))
        assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0]]
        del batch["labels"]
        return hidden_and_head(model, batch)[0][0].detach()

    base = states([1, 2, 3, 4, 5, 6, 7, 8, 9])
    other = states([9, 9, 9, 4, 5, 6, 7, 8, 9])
    own = states([1, 2, 3, 9, 5, 6, 7, 8, 9])
    assert torch.equal(base[3:], other[3:])
    assert not torch.allclose(base[:3], other[:3])
    assert not torch.allclose(base[3:7], own[3:7])
    assert torch.equal(base[7:], own[7:])


def test_document_mask_run_and_tensorboard(tmp_path: Path, tiny_options: Options) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": POEM * (i % 3 + 1)}) for i in range(60)), encoding="utf-8")
    options = tiny_options | {"document_mask": True, "validation_fraction": 0.2, "report_to": "tensorboard"}
    run = lossmith.train(rows, output_dir=str(tmp_path / "run"), max_steps=10, logging_steps=5, **options)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 5, 10]
    logged = [row["loss"] for row in lines(run.path / "metrics.jsonl") if "loss" in row]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(logged, rel=1e-6)


def test_two_ranks_train_and_write_one_run(tmp_path: Path, text_file: Path, environment: dict[str, str]) -> None:
    """The whole command under a real torchrun: twice the tokens of a rank, one folder, the loss of the same data."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "lossmith"]
    options = [
        "--tokenizer",
        "byte",
        "--block-size",
        "16",
        "--max-steps",
        "8",
        "--sample-tokens",
        "0",
        "--no-bf16",
        "--logging-steps",
        "1",
    ]
    for name, head, batch in (("two", launcher, "4"), ("one", [sys.executable, "-m", "lossmith"], "8")):
        call = [*head, "train", str(text_file), "--output-dir", str(tmp_path / name), *options]
        done = subprocess.run(
            [*call, "--per-device-train-batch-size", batch],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    two, one = ([r["loss"] for r in lines(tmp_path / n / "metrics.jsonl") if "loss" in r] for n in ("two", "one"))
    assert two == pytest.approx(one, rel=1e-4)
    final = [lines(tmp_path / n / "metrics.jsonl")[-1] for n in ("two", "one")]
    assert final[0]["eval_tokens"] == final[1]["eval_tokens"]
    assert final[0]["eval_loss"] == pytest.approx(final[1]["eval_loss"], rel=1e-4)


def test_the_store_tokenizer_is_the_models(poem_run: lossmith.TrainedRun) -> None:
    assert Tokenizer.load(poem_run.path / "model").decode(poem_run.tokenizer.encode(POEM)) == POEM
