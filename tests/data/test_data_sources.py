"""Every format and compression gives back exactly the text; every bad input says what is wrong and what to do."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from lossmith.data import DataConfig, TokenStore, open_store
from lossmith.data.reading import decoded, raw_blocks
from lossmith.errors import DataError, InputError

TEXTS = [
    "one\r\ntwo",
    "床前明月光，疑是地上霜。",
    "emoji 😀👩‍🚀",
    "007",
    "NA",
    "2020-01-01",
    "  spaces\tand \"quotes\", 'x'\n",
]
PACK = {"": lambda data: data, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


def config(tmp_path: Path, *inputs: Path | str, **options: object) -> DataConfig:
    options = {"tokenizer": "byte", "cache_dir": str(tmp_path / "cache"), **options}
    return DataConfig(inputs=tuple(str(path) for path in inputs), **options)  # type: ignore[arg-type]


def texts(store: TokenStore) -> list[str]:
    """Every document of a tail-split store in order, those that the cut divides put together again."""
    found: list[str] = []
    for part in (store.train, store.validation):
        for start, stop in zip(part.bounds[:-1], part.bounds[1:], strict=True):
            assert part.tokens[start] == store.tokenizer.eos_id
            found.append(bytes(part.tokens[start + 1 : stop].astype("uint8")))
    if len(found) > store.meta["documents"]:
        cut = store.train.n_documents - 1
        found[cut : cut + 2] = [found[cut] + found[cut + 1]]
    return [piece.decode() for piece in found]


def as_file(kind: str, rows: list[dict[str, object]]) -> bytes:
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if kind == "json":
        return json.dumps(rows).encode()
    if kind == "csv":
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue().encode()
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_table_gives_back_its_text(tmp_path: Path, kind: str, pack: str) -> None:
    path = tmp_path / f"rows.{kind}{pack}"
    path.write_bytes(PACK[pack](as_file(kind, [{"n": i, "text": text} for i, text in enumerate(TEXTS)])))
    assert texts(open_store(config(tmp_path, path))) == TEXTS


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("kind", ["txt", "md"])
def test_a_text_file_is_one_document_and_comes_back_exactly(tmp_path: Path, kind: str, pack: str) -> None:
    path = tmp_path / f"text.{kind}{pack}"
    text = "\n\n".join(TEXTS) + "\r\nlast line without end"
    path.write_bytes(PACK[pack](text.encode()))
    assert texts(open_store(config(tmp_path, path))) == [text]


def test_cells_without_value_and_empty_cells_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_file("jsonl", [{"text": None}, {"text": "first"}, {"text": ""}, {"text": "second"}]))
    assert texts(open_store(config(tmp_path, path))) == ["first", "second"]


def test_the_byte_order_mark_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffab\ufeffcd\r\n".encode())
    table = tmp_path / "b.jsonl"
    table.write_bytes("\ufeff".encode() + as_file("jsonl", [{"text": "x\ufeffy"}]))
    assert texts(open_store(config(tmp_path, path, table))) == ["ab\ufeffcd\r\n", "x\ufeffy"]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "latin-1", "shift_jis"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = {"latin-1": "é à ü", "shift_jis": "日本語のテキスト"}.get(encoding, "静夜思：床前明月光\r\n") * 3
    plain, table = tmp_path / "a.txt", tmp_path / "b.csv"
    plain.write_bytes(text.encode(encoding))
    table.write_bytes(as_file("csv", [{"text": text}]).decode().encode(encoding))
    assert texts(open_store(config(tmp_path, plain, table, encoding=encoding))) == [text, text]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv"])
def test_bytes_that_are_no_text_are_named_with_file_and_offset(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = b"text\n" + "é".encode() * 600_000 + b"\n\xff\xfe more"
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(DataError, match=rf"{name}.*offset {data.index(0xFF)} .*0xff.*--encoding"):
        open_store(config(tmp_path, path))


@pytest.mark.parametrize(
    ("encoding", "data", "offset"),
    [
        ("utf-8", b"abc\xe5\xba", 3),  # the last character is cut in two
        ("utf-8", b"\xe5\xba\x8aab\xe5\x28", 5),
        ("gb18030", "床前".encode("gb18030") + b"\xff", 4),
        ("utf-16-le", "ab".encode("utf-16-le") + b"\x00\xdc", 4),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_offset_does_not_depend_on_how_the_bytes_arrive(encoding: str, data: bytes, offset: int, size: int) -> None:
    blocks = (data[i : i + size] for i in range(0, len(data), size))
    with pytest.raises(DataError, match=rf"at offset {offset} "):
        list(decoded(blocks, encoding, "file"))


@pytest.mark.parametrize("pack", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_a_file_cut_short_is_an_error(tmp_path: Path, kind: str, pack: str) -> None:
    data = as_file("jsonl", [{"text": f"{i} {i * i}"} for i in range(5000)])
    packed = PACK[pack](data)
    path = tmp_path / f"a.{kind}{pack}"
    for keep in (len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:keep])
        with pytest.raises(DataError, match="damaged or cut short"):
            open_store(config(tmp_path, path))


def test_a_compressed_name_on_plain_bytes_is_an_error(tmp_path: Path) -> None:
    for pack in (".gz", ".xz", ".zst"):
        path = tmp_path / f"a.txt{pack}"
        path.write_bytes(b"plain text")
        with pytest.raises(DataError, match="damaged or cut short"):
            open_store(config(tmp_path, path))


def test_zstandard_frames_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(zstandard.compress(b"one ") + zstandard.compress(b"two"))
    assert b"".join(raw_blocks(path, ".zst")) == b"one two"


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_a_table_that_is_no_table(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b'{"text": this is no json\nnor this')
    with pytest.raises(DataError, match=rf"a\.{kind}.* cannot be read as {kind}"):
        open_store(config(tmp_path, path))


def test_the_text_field_is_chosen_guessed_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_file("jsonl", [{"title": "first title", "body": "first body", "n": 1}]))
    assert texts(open_store(config(tmp_path, path, text_field="body"))) == ["first body"]
    with pytest.raises(DataError, match=r"2 of them hold text \(title, body\).*--text-field"):
        open_store(config(tmp_path, path))
    with pytest.raises(DataError, match=r"no column 'boby'.*title, body, n.*Did you mean 'body'"):
        open_store(config(tmp_path, path, text_field="boby"))
    with pytest.raises(DataError, match="holds int, expected text"):
        open_store(config(tmp_path, path, text_field="n"))


def test_a_table_without_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="none of them holds text"):
        open_store(config(tmp_path, path))


def test_missing_files_name_their_neighbours(tmp_path: Path) -> None:
    (tmp_path / "poems.txt").write_text("text")
    with pytest.raises(DataError, match=r"Did you mean 'poems\.txt'"):
        open_store(config(tmp_path, tmp_path / "poem.txt"))
    with pytest.raises(DataError, match="Did you mean 'shakespeare'"):
        open_store(config(tmp_path, "shakespear"))
    with pytest.raises(DataError, match="matches no file"):
        open_store(config(tmp_path, tmp_path / "*.jsonl"))
    with pytest.raises(DataError, match="does not exist either"):
        open_store(config(tmp_path, tmp_path / "nowhere" / "a.txt"))


def test_unknown_extensions(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"cannot tell how to read .*\.txt, \.md, \.jsonl, .*\.zst"):
        open_store(config(tmp_path, path))
    with pytest.raises(DataError, match="holds no file that can be read"):
        open_store(config(tmp_path, tmp_path))


def test_a_folder_is_walked_in_order_and_junk_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name, content in {
        "b.txt": "bb",
        "a.md": "aa",
        "sub/c.txt": "cc",
        ".hidden.txt": "no",
        ".git/d.txt": "no",
    }.items():
        (folder / name).write_text(content)
    (folder / "photo.png").write_bytes(b"\x89PNG\xff")
    (folder / "empty.txt").touch()
    store = open_store(config(tmp_path, folder))
    assert texts(store) == ["aa", "bb", "cc"]
    assert store.meta["ignored"] == [str(folder / "photo.png")]
    assert [Path(source["name"]).name for source in store.meta["sources"] if "skipped" in source] == ["empty.txt"]


def test_a_glob_names_each_file_once(tmp_path: Path) -> None:
    for name in ("a1.txt", "a2.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    assert texts(open_store(config(tmp_path, tmp_path / "a*.txt", tmp_path / "a1.txt"))) == ["a1.txt", "a2.txt"]


def test_nothing_to_read(tmp_path: Path) -> None:
    for name in ("a.txt", "b.jsonl", "c.csv", "d.txt.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
        with pytest.raises(DataError, match=r"has no text.*0 characters"):
            open_store(config(tmp_path, path))


def test_one_character_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("床")
    with pytest.raises(DataError, match="1 characters in 1 documents leave nothing for the training part"):
        open_store(config(tmp_path, path))
    path.write_text("床前")
    assert texts(open_store(config(tmp_path, path))) == ["床前"]


def test_standard_input(tmp_path: Path) -> None:
    code = (
        "import sys; from lossmith.data import *;"
        "s = open_store(DataConfig(inputs=('-',), tokenizer='byte', cache_dir=sys.argv[1]));"
        "print(s.path); print(s.train.n_bytes + s.validation.n_bytes)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    text = "一二三\r\n" * 100
    runs = [subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout for _ in range(2)]
    path, size = runs[0].decode().splitlines()
    assert runs[0] == runs[1]  # the second finds the first one's store
    assert int(size) == len(text.encode())
    assert texts(TokenStore(path)) == [text]
    assert not list((tmp_path / "cache").glob("stdin*"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("encoding", "utf-9"),
        ("split_by", "tial"),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("validation_max_bytes", 0),
        ("num_workers", 0),
        ("inputs", ()),
        ("tokenizer", "bpe:12"),
        ("tokenizer", "bpe:many"),
        ("tokenizer", "bpee:1024"),
    ],
)
def test_options_out_of_range(tmp_path: Path, option: str, value: object) -> None:
    with pytest.raises(InputError, match=r"expect|must be|needs at least"):
        open_store(DataConfig(**{"inputs": ("shakespeare",), "cache_dir": str(tmp_path), option: value}))  # type: ignore[arg-type]
