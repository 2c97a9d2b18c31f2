from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch

from lossmith import cli
from lossmith.data import Tokenizer
from lossmith.evaluate.surprisal import surprisal

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "surprise.json"
TEXT = "To be, or not to be.\n\n床前明月光\n" * 4


def save(path: Path, seed: int) -> Path:
    import transformers

    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=256, eos_token_id=256,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(path / "model")
    Tokenizer.byte().save(path / "model")
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(save(folder / "ours", 0)), str(save(folder / "theirs", 1))


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    return str(tmp_path / "a.txt")


def test_json_is_what_the_library_finds(models: tuple[str, str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["surprise", models[0], text, text, "--top", "2", "--against", models[1], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
    first, second = told["documents"]
    assert first == second
    found = surprisal(models[0], TEXT)
    assert first["bits"] == pytest.approx(found.bits.sum(), rel=1e-6)
    assert "".join(unit["text"] for unit in first["units"]) == TEXT
    assert sum(unit["bits"] for unit in first["units"]) == pytest.approx(first["bits"])
    assert all(len(g) == 2 for unit in first["units"] for g in unit["guesses"])
    assert sum(piece[2] for piece in first["against"]["pieces"]) == pytest.approx(first["against"]["bits"])


def test_page_and_table_are_written(
    models: tuple[str, str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyarrow import parquet

    page, table = tmp_path / "out.html", tmp_path / "out.parquet"
    assert cli.run(["surprise", models[0], text, "--html", str(page), "--parquet", str(table)]) == 0
    assert "written: " in capsys.readouterr().out
    assert "guesses: " in page.read_text(encoding="utf-8")
    rows = parquet.read_table(table)
    found = surprisal(models[0], TEXT)
    assert rows["nats"].to_pylist() == pytest.approx(found.nats.tolist(), rel=1e-5)
    assert rows["id"].to_pylist() == found.ids.tolist()
    assert TEXT[rows["start"][25].as_py() : rows["stop"][25].as_py()] in TEXT


@pytest.mark.parametrize("against", [False, True])
def test_the_terminal_shows_the_text(
    models: tuple[str, str], text: str, against: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--against", models[1]] if against else []
    assert cli.run(["surprise", models[0], text, "--show", "40", *more]) == 0
    out = capsys.readouterr().out
    assert TEXT[:40] in out
    assert f"{len(TEXT) - 40} characters more" in out
    assert "most surprising:" in out
    assert ("theirs: " in out) == against


def test_mistakes_are_said(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gb").write_bytes("床前".encode("gb18030"))
    for call, message in (
        ([models[0], str(tmp_path / "gb")], "expected UTF-8 text"),
        ([models[0], str(tmp_path / "no")], "cannot be read"),
        ([str(tmp_path), str(tmp_path / "gb")], "expected UTF-8 text"),
        ([models[0]], "name at least one file"),
    ):
        assert cli.run(["surprise", *call]) == 2
        assert message in capsys.readouterr().err


def test_an_empty_file_is_said(models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "空.txt").write_bytes(b"")
    assert cli.run(["surprise", models[0], str(tmp_path / "空.txt")]) == 2
    assert "is empty; give a file with text" in capsys.readouterr().err
