"""A user's mistake gets a message that names the option, the row and what to do; never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import classified
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from lossmith import cli
from lossmith.data import Tokenizer
from lossmith.data.labelled import LabelColumns, read_labelled
from lossmith.data.labelled_audit import audit, split_rows
from lossmith.data.labelled_order import Examples
from lossmith.errors import DataError
from lossmith.evaluate.generating import write
from lossmith.objectives.tasks_losses import task_loss
from lossmith.train.finetune_tokenizer import new_tokenizer

Table = Callable[..., str]
GOOD = classified(40)
CASES: list[tuple[str, list[dict[str, Any]], list[str], list[str]]] = [
    ("column", GOOD, ["--text-column", "txt"], ["no column 'txt' (--text-column)", "Did you mean 'text'?"]),
    ("label column", GOOD, ["--label-column", "labels"], ["--label-column", "Did you mean 'label'?"]),
    ("one class", [r | {"label": "a"} for r in GOOD], [], ["have the label 'a'", "one class"]),
    ("empty label", [*GOOD, {"text": "x", "label": ""}], [], ["row 41 has no 'label'"]),
    (
        "empty side", [{"a": "x", "b": " " if i == 3 else "y", "label": i % 2} for i in range(20)],
        ["--text-column", "a", "b"], ["row 4: 'b' is empty"],
    ),
    ("list", [r | {"label": ["a"]} for r in GOOD], [], ["must be one label", "--task multi_label"]),
    ("number", GOOD, ["--task", "regression"], ["'label' must be a number"]),
    (
        "loss", GOOD, ["--loss", "focall"],
        ["there is no loss 'focall'", "cross_entropy, focal, poly", "Did you mean 'focal'?"],
    ),
    ("unfit loss", GOOD, ["--loss", "mse"], ["mse is no loss for this task", "cross_entropy"]),
    ("loss option", GOOD, ["--loss-options", "label_smooth=0.1"], ["no option 'label_smooth'", "label_smoothing"]),
    ("no value", GOOD, ["--loss-options", "gamma"], ["takes key=value; got 'gamma'"]),
    ("no number", GOOD, ["--loss", "focal", "--loss-options", "gamma=abc"], ["gamma must be a number", "got 'abc'"]),
    ("yes", GOOD, ["--loss-options", "label_smoothing=true"], ["label_smoothing must be a number", "got 'true'"]),
    ("negative", GOOD, ["--loss-options", "class_weights=-1,1,1"], ["class_weights must be 0 or more", "got -1,1,1"]),
    ("missing number", [r | {"label": float("nan")} for r in GOOD], [], ["row 1 has no 'label'"]),
    ("text twice", GOOD, ["--text-column", "text", "text"], ["--text-column and --text-column", "'text'"]),
    ("text as label", GOOD, ["--label-column", "text"], ["--text-column and --label-column", "'text'"]),
    ("encoding", GOOD, ["--encoding", "klingon"], ["--encoding must be", "got 'klingon'"]),
    (
        "rare", [r | {"label": "b" if i < 2 else "a"} for i, r in enumerate(GOOD)], [],
        ["validation rows are all 'a'", "of 'a', 2 of 'b'", "--eval-data FILE"],
    ),
    ("blank", [{"tokens": ["a", " "], "tags": ["O", "O"]}], ["--task", "tagging"], ["entry 2 of 'tokens' is empty"]),
    ("no tag", [{"tokens": ["a", "b"], "tags": ["O", None]}], ["--task", "tagging"], ["entry 2 of 'tags' is empty"]),
    ("metric", GOOD, ["--metric", "f1_marco"], ["--metric must be one of f1_macro", "Did you mean 'f1_macro'?"]),
    ("task", GOOD, ["--task", "clasification"], ["--task must be one of", "Did you mean 'classification'?"]),
    ("freeze", GOOD, ["--freeze", "head"], ["--freeze must be body, embeddings or N-layers"]),
    ("layers", GOOD, ["--freeze", "9-layers"], ["the model has 2 layers"]),
    ("length", GOOD, ["--max-length", "65"], ["--max-length 65 is more than the 64 positions"]),
    ("belongs", GOOD, ["--tokens-column", "w"], ["--tokens-column belongs to --task tagging"]),
    (
        "error", [*GOOD, {"text": "long " * 99, "label": "sport"}], ["--truncation", "error"],
        ["tokens, and the context holds 64"],
    ),
    ("tags", [{"tokens": ["a", "b"], "tags": ["O"]}], ["--task", "tagging"], ["row 1 has 2 tokens and 1 tags"]),
    (
        "chat", [{"m": [{"role": "user", "content": "x"}]}], ["--task", "instruction", "--messages-column", "m"],
        ["no answer"],
    ),
    ("one row", GOOD[:1], [], ["1 rows are too few to hold a part of 0.1 of them out"]),
    ("architecture", [{"source": f"a{i}", "target": "b"} for i in range(20)], ["--task", "seq2seq"], []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rows", "options", "words"), CASES, ids=[case[0] for case in CASES])
def test_a_mistake_is_explained(
    name: str, rows: Any, options: list[str], words: list[str], bert: str, table: Table, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if name == "architecture":
        bert, words = _resnet(tmp_path), ["transformers.AutoModelForCausalLM", "take another MODEL"]
    call = ["finetune", bert, table(rows), "--output-dir", str(tmp_path / "run"), "--max-steps", "1", *options]
    assert cli.run(call) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert all(part in said for part in words), said
    assert "Traceback" not in said


def _resnet(tmp_path: Path) -> str:
    from transformers import ResNetConfig

    ResNetConfig().save_pretrained(tmp_path / "resnet")
    (tmp_path / "resnet" / "model.safetensors").write_bytes(b"")
    Tokenizer.byte().with_special(("pad",)).save(tmp_path / "resnet")
    return str(tmp_path / "resnet")


def test_a_label_that_training_does_not_know(bert: str, table: Table, tmp_path: Path, capsys: Any) -> None:
    held = table([*GOOD, {"text": "x", "label": "sprot"}], "held.jsonl")
    call = ["finetune", bert, table(GOOD), "--eval-data", held, "--output-dir", str(tmp_path / "run")]
    assert cli.run(call) == 2
    said = capsys.readouterr().err
    assert "row 41: the label 'sprot' is none of those" in said
    assert "Did you mean 'sport'?" in said


def test_a_tokenizer_that_does_not_fit(bert: str, table: Table, tmp_path: Path, capsys: Any) -> None:
    Tokenizer.train_bpe([row["text"] for row in classified(300)] * 3, 330).with_special(("pad", "cls", "sep")).save(
        tmp_path / "tok"
    )
    call = ["finetune", bert, table(GOOD), "--tokenizer", str(tmp_path / "tok"), "--output-dir", str(tmp_path / "run")]
    assert cli.run(call) == 2
    assert "it is not the one the model was trained with" in " ".join(capsys.readouterr().err.split())
    assert cli.run([*call[:3], "--tokenizer", "bpe:300"]) == 2
    assert "knows its own" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["finetune", "masked", "replaced_token"])
def test_weights_of_another_architecture(
    command: str, bert: str, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(bert, tmp_path / "odd")
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"model_type": "electra"}
    (folder / "config.json").write_text(json.dumps(shape | {"architectures": None}), encoding="utf-8")
    data, out = table(GOOD), ["--output-dir", str(tmp_path / "run")]
    pretrain = ["train", data, "--text-field", "text", "--objective", command, "--model", str(folder), *out]
    assert cli.run(["finetune", str(folder), data, *out] if command == "finetune" else pretrain) == 2
    assert "of its parameters, " in capsys.readouterr().err


def test_contrast_is_not_accumulated(bert: str, table: Table, tmp_path: Path, capsys: Any) -> None:
    data = table([{"anchor": f"{i}", "positive": f"b{i}"} for i in range(40)])
    call = ["finetune", bert, data, "--task", "similarity", "--gradient-accumulation-steps", "2"]
    assert cli.run([*call, "--output-dir", str(tmp_path / "run")]) == 2
    assert "would train another loss: info_nce" in capsys.readouterr().err


def test_what_is_cut_is_counted(bert: str, table: Table, tmp_path: Path, capsys: Any) -> None:
    rows = [*GOOD, {"text": "", "label": "sport"}, *({"text": "long " * 20, "label": n} for n in ("sport", "technik"))]
    rows += [GOOD[0], GOOD[0] | {"label": "other"}, *({"text": f"o{i}", "label": "other"} for i in range(12))]
    call = ["finetune", bert, table(rows), "--max-steps", "1", "--output-dir", str(tmp_path / "run")]
    assert cli.run(call) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "56 rows" in said
    assert "1 rows are exact duplicates" in said
    assert "5 rows (8.9%) have a text that also stands with another label" in said
    assert "1 rows without text are left out" in said
    assert "rows are longer than the context of 64 tokens: cut (" in said


def test_equal_texts_stay_on_one_side_and_classes_keep_their_share(table: Table) -> None:
    rows = [{"text": f"t{i // 2}", "label": "rare" if i < 40 else "often"} for i in range(400)]
    found = read_labelled(Path(table(rows)), "classification", LabelColumns())
    training, validation = split_rows(found.rows, 0.25, "classification", seed=3)
    assert not {row.texts for row in training} & {row.texts for row in validation}
    assert len(training) + len(validation) == 400
    share = sum(row.label == "rare" for row in validation)
    assert 8 <= share <= 12
    assert 96 <= len(validation) <= 104
    assert split_rows(found.rows, 0.25, "classification", seed=3)[1] == validation
    assert split_rows(found.rows, 0.25, "classification", seed=4)[1] != validation


def test_the_audit_counts(table: Table) -> None:
    rows = [{"text": t, "label": n} for t, n in [("a", 1), ("a", 1), ("a", 2), ("b", 2), ("c", 2), (" ", 1)]]
    facts = audit(read_labelled(Path(table(rows)), "classification", LabelColumns()), "classification")
    assert (facts["rows"], facts["empty"], facts["duplicates"], facts["contradictions"]) == (5, 1, 1, 3)
    assert facts["classes"] == {"1": 2, "2": 3}
    assert facts["imbalance"] == 1.5
    assert facts["majority_share"] == 0.6


@pytest.mark.parametrize(("n", "step"), [(1, 4), (7, 3), (1000, 16), (530, 8)])
def test_every_example_comes_once_an_epoch_and_those_of_a_step_are_alike(n: int, step: int) -> None:
    lengths = [(i * 37) % 101 + 1 for i in range(n)]
    order = Examples([{"id": i} for i in range(n)], lengths=lengths, step=step, seed=5)
    epochs = [[order.example(epoch * n + i)["id"] for i in range(n)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert n == 1 or epochs[0] != epochs[1]
    flat = [i for epoch in epochs for i in epoch]
    steps = [flat[i : i + step] for i in range(0, len(flat) - step, step)]
    if n >= 500:
        padded = sum(max(lengths[i] for i in part) * len(part) for part in steps)
        assert sum(lengths[i] for part in steps for i in part) / padded > 0.9


def test_a_mistyped_preset(table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["finetune", "nanoo", table(GOOD), "--tokenizer", "bpe:400", "--output-dir", str(tmp_path / "run")]
    assert cli.run(call) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "nanoo does not exist" in said
    assert "Did you mean 'nano'?" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label,label\na,x,y\n", "more than one column 'label'"),
        ('text,label\n"two\nlines",x\nshort\n', r"row 2 of .* \(it ends in line 4\) does not have the 2 cells"),
        ('text,label\na,x\nb,"y"z\n', "is broken at line 3"),
    ],
)
def test_a_table_that_is_broken(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_labelled(path, "classification", LabelColumns())


def test_what_cannot_be_learnt_from_leaves_no_folder(bert: str, table: Table, tmp_path: Path) -> None:
    call = ["finetune", bert, table(GOOD), "--output-dir", str(tmp_path / "run"), "--loss-options", "nothing=1"]
    assert cli.run(call) == 2
    assert not (tmp_path / "run").exists()


def test_classes_have_one_order_whatever_they_are_called() -> None:
    """A set has another order in every process: a resumed run must not read its classes otherwise."""
    code = "from lossmith.data.labelled import order_of; print(order_of({'nan', '10', '9', 'inf', 'b', '-1', 'x'}))"
    runs = [
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": str(seed)}, text=True,
                       capture_output=True, check=True).stdout
        for seed in range(3)
    ]  # fmt: skip
    assert set(runs) == {"['-1', '9', '10', 'b', 'inf', 'nan', 'x']\n"}


def test_one_long_word_does_not_stop_the_tokenizer(tmp_path: Path) -> None:
    new_tokenizer("bpe:300", ["好" * 60_000, "a few words"], tmp_path)  # as one word: minutes
    assert Tokenizer.load(tmp_path).vocab_size <= 303


@pytest.mark.parametrize("longest", [2, 6])
def test_a_decoder_of_few_positions(longest: int, table: Table, tmp_path: Path) -> None:
    rows = [{"source": f"a{i}", "target": "b" * (i % 4 + 1)} for i in range(20)]
    call = ["finetune", "nano", table(rows), "--task", "seq2seq", "--tokenizer", "char", "--max-steps", "1"]
    assert cli.run([*call, "--max-length", str(longest), "--output-dir", str(tmp_path / "run")]) == 0


def test_columns_that_nobody_asks_for_may_have_no_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label,,\na,x,,\nb,y,,\n", encoding="utf-8")
    assert len(read_labelled(path, "classification", LabelColumns())) == 2


def test_a_shape_below_zero_is_no_class_weight() -> None:
    assert task_loss("regression", "general_robust", ["alpha=-2"]).options == {"alpha": -2.0}
    assert task_loss("regression", "general_robust", ["alpha=-inf"]).options == {"alpha": float("-inf")}


def test_every_answer_has_the_room_that_its_own_prompt_leaves(tmp_path: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=8, n_layer=1, n_head=1, n_positions=32)).eval()
    model.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(_byte_tokenizer(tmp_path))
    with torch.no_grad():
        model.lm_head.weight.zero_()[120].fill_(1.0)  # the likeliest token is "x" or, where its state is below 0, "!"
    rows = [[65] * 4, [65] * 30]
    together = write(model, tokenizer, rows, 12)
    assert together == [write(model, tokenizer, [row], 12)[0] for row in rows]
    assert [len(tokenizer(text)["input_ids"]) for text in together] == [12, 2]


def _byte_tokenizer(folder: Path) -> Path:
    Tokenizer.byte().save(folder)
    return folder
