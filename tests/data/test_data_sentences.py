"""Texts as examples: documents cut into sentences of any script, rows of pairs kept whole, each once in every epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.data import DataConfig, Sentences, TokenStore, held_out_texts, open_store
from lossmith.data.splitting import LONGEST, cut
from lossmith.errors import DataError, InputError


def said(text: str, how: str = "sentence", size: int | None = None) -> list[str]:
    size = size or max(len(text), 1)
    pieces = [(i == 0, text[i : i + size]) for i in range(0, len(text), size)]
    return [sentence for _, sentence in cut(pieces, how)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!  Three?\nFour", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. Smith met J. Doe, e.g. in Rome. He left.", ["Mr. Smith met J. Doe, e.g. in Rome.", "He left."]),
        ("It costs 3.50 now... maybe. ok", ["It costs 3.50 now... maybe. ok"]),
        ('"Go!" he cried. “Why?” She ran.', ['"Go!" he cried.', "“Why?”", "She ran."]),
        ("a hard\nwrapped line\n\nA title\n\nText.", ["a hard wrapped line", "A title", "Text."]),
        (
            "天下大勢，分久必合。合久必分！「是嗎？」他問。",
            ["天下大勢，分久必合。", "合久必分！", "「是嗎？」", "他問。"],
        ),
        ("床前明月\n光，疑是。", ["床前明月光，疑是。"]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("هل تسمع؟ نعم", ["هل تسمع؟", "نعم"]),
        ("* * *\n\n----\n\n42", ["42"]),
    ],
)
def test_sentences_end_where_they_end(text: str, expected: list[str]) -> None:
    assert said(text) == expected
    assert said(text + "\n\n", size=7) == expected or "..." in text or "e.g" in text  # in pieces as at once


def test_lines_and_documents() -> None:
    assert said("One. Two!\r\n\n 三。四 \n--\n", "line") == ["One. Two!", "三。四"]
    assert said("One. Two!\nThree", "document") == ["One. Two!\nThree"]
    assert next(len(text) for text in said("x" * (LONGEST + 5), size=1 << 19)) > LONGEST  # memory stays flat
    two = [text for _, text in cut([(True, "no end"), (True, "another document")], "sentence")]
    assert two == ["no end", "another document"]


def store(tmp_path: Path, **options: Any) -> TokenStore:
    return open_store(DataConfig(cache_dir=str(tmp_path / "cache"), validation_fraction=0.2, **options))


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe:300"])
def test_every_sentence_comes_once_in_an_epoch_whole(tmp_path: Path, tokenizer: str) -> None:
    sentences = [f"句子{i}：你好 {i * i}。" for i in range(40)]
    (tmp_path / "a.txt").write_text("".join(sentences), encoding="utf-8")
    made = store(tmp_path, inputs=(str(tmp_path / "a.txt"),), tokenizer=tokenizer, sentence_split="sentence")
    texts = Sentences(made.train, 64, seed=1)
    held = [made.tokenizer.decode(example["tokens"]) for example in held_out_texts(made.validation, 65, None)]
    epochs = [
        [made.tokenizer.decode(texts.example(i)["tokens"]) for i in range(e * len(texts), (e + 1) * len(texts))]
        for e in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(set(sentences) - set(held))
    assert epochs[0] != epochs[1]
    assert len(held) >= 2
    assert made.meta["split_by"] == "document"
    assert (texts.longer, texts.epoch(len(texts))) == (0, 1.0)
    short = Sentences(made.train, 4, seed=1)
    assert short.longer == short.texts == len(texts)
    assert np.array_equal(short.example(3)["tokens"], texts.example(3)["tokens"][:5])


ROWS = [{"q": f'问题 {i}, "quoted"', "a": f"answer\n{i}", "n": f"no\t{i}", "score": str(i)} for i in range(50)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    import csv

    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("columns", [("q", "a"), ("q", "a", "n")])
def test_rows_of_pairs_are_kept_whole_in_every_format(tmp_path: Path, suffix: str, columns: tuple[str, ...]) -> None:
    path = write(tmp_path / f"pairs{suffix}", ROWS)
    made = store(tmp_path, inputs=(str(path),), tokenizer="byte", pair_columns=columns)
    assert made.train.columns == len(columns)
    examples = list(held_out_texts(made.validation, 65, None))
    assert 5 <= len(examples) <= 11
    pairs = Sentences(made.train, 64)
    examples += [pairs.example(i) for i in range(len(pairs))]
    found = {tuple(made.tokenizer.decode(tokens) for tokens in example.values()) for example in examples}
    assert found == {tuple(row[name] for name in columns) for row in ROWS}
    assert [set(example) == set(("tokens", "positive", "negative")[: len(columns)]) for example in examples]


def test_a_file_for_evaluation_keeps_its_rows(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{name}.jsonl", rows)) for name, rows in (("a", ROWS[:30]), ("b", ROWS[30:]))]
    made = store(tmp_path, inputs=paths[:1], eval_file=paths[1:], tokenizer="byte", pair_columns=("q", "a"))
    assert (made.train.n_documents, made.validation.n_documents) == (60, 40)


def test_what_cannot_be_a_pair_is_explained(tmp_path: Path) -> None:
    table = str(write(tmp_path / "pairs.csv", [*ROWS[:3], ROWS[3] | {"a": " "}]))
    text = tmp_path / "a.txt"
    text.write_text("One. Two.", encoding="utf-8")

    def refused(match: str, kind: type[Exception] = InputError, **options: Any) -> None:
        with pytest.raises(kind, match=match):
            store(tmp_path, **{"inputs": (table,), "tokenizer": "byte", **options})

    refused(r"no text in the column 'a' of row 4", DataError, pair_columns=("q", "a"))
    refused(r"no column 'qq' \(--pair-columns\) in row 1; it has q, a, n, score", DataError, pair_columns=("qq", "n"))
    refused("must name two or three different columns", pair_columns=("q",))
    refused("must name two or three different columns", pair_columns=("q", "q"))
    refused("--pair-columns names columns of", pair_columns=("q", "n"), inputs=(str(text),))
    refused("give only one of them", pair_columns=("q", "n"), text_field="q")
    refused("would cut through a row", pair_columns=("q", "n"), split_by="tail")
    refused("--sentence-split must be one of line, sentence, document.*Did you mean", sentence_split="sentense")
    made = store(tmp_path, inputs=(str(text),), tokenizer="byte", sentence_split="sentence")
    with pytest.raises(DataError, match=r"holds 1 text\(s\)"):
        Sentences(made.train, 16)
