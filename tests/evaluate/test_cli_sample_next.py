from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from test_sampling import make_model

from lossmith import cli
from lossmith.cli.next import show
from lossmith.data import Tokenizer
from lossmith.evaluate import next_tokens, sample


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as far as `sample` and `next` look at it."""
    folder = tmp_path_factory.mktemp("runs") / "my run"
    tokenizer = Tokenizer.byte()
    make_model(tokenizer.vocab_size).float().save_pretrained(folder / "model")
    tokenizer.save(folder / "model")
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_sample_prints_what_the_library_samples(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "sample", str(run_folder), "--prompt", "床前", "--max-new-tokens", "20", "--seed", "3")
    model = make_model(257).float()
    assert code == 0
    assert out == sample(model, Tokenizer.byte(), "床前", max_new_tokens=20, seed=3) + "\n"


def test_sample_json_holds_every_sample(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(
        capsys, "sample", str(run_folder / "model"), "--prompt=a", "--num-samples=3", "--max-new-tokens=9", "--json"
    )
    data = json.loads(out)
    assert code == 0
    assert [entry["seed"] for entry in data["samples"]] == [0, 1, 2]
    assert all(entry["prompt"] == "a" and entry["text"].startswith("a") for entry in data["samples"])
    assert len({entry["text"] for entry in data["samples"]}) == 3


def test_next_json_is_what_the_library_finds(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(
        capsys, "next", str(run_folder), "床前明月", "--top", "4", "--candidates", "光", "水", "火", "--json"
    )
    data = json.loads(out)
    expected = next_tokens(make_model(257).float(), Tokenizer.byte(), "床前明月", top=4, candidates=("光", "水", "火"))
    assert code == 0
    assert [row["id"] for row in data["top"]] == [token.id for token in expected.top]
    assert [row["text"] for row in data["candidates"]] == [c.text for c in expected.candidates]
    assert [row["nats"] for row in data["candidates"]] == pytest.approx([c.nats for c in expected.candidates], rel=1e-5)


def test_next_shows_what_cannot_be_seen(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "next", str(run_folder), "a b\n", "--top", "257", "--candidates", " ", "\n")
    assert code == 0
    assert "after “a␠b⏎”" in out
    assert "\x1b" not in out
    for shown in ("␠", "⏎", "⇥", "␛", "␀"):
        assert f"\n{shown} " in out


def test_the_tables_fit_a_terminal() -> None:
    stream = io.StringIO()
    found = next_tokens(make_model(257), Tokenizer.byte(), "[red]x", candidates=("ab", "[bold]"))
    show(found, Console(file=stream, width=80, highlight=False))
    assert max(len(line) for line in stream.getvalue().splitlines()) <= 80
    assert "…" not in stream.getvalue()
    assert "[red]x" in stream.getvalue()
    assert "[bold]" in stream.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "{run}", "--num-samples", "0"], "--num-samples must be 1 or more; got 0"),
        (["sample", "{run}", "--temperature", "-1"], "--temperature"),
        (["sample", "{run}/nowhere"], "nowhere"),
        (["next", "{run}", "a", "--top", "0"], "--top must be 1 or more; got 0"),
        (["next", "{run}", "a", "--candidates", ""], "--candidates must not be empty"),
    ],
)
def test_a_wrong_call_is_a_message_and_exit_code_2(
    run_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = call(capsys, *(argument.format(run=run_folder) for argument in arguments))
    assert code == 2
    assert message in err
    assert out == ""
