"""`lossmith losses`: the list, one loss in full, its picture, as people, pipes and machines get them."""

from __future__ import annotations

import dataclasses
import fcntl
import inspect
import json
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from lossmith import cli
from lossmith.cli.loss_picture import Picture, braille, in_terminal, trace
from lossmith.cli.losses import details
from lossmith.losses import LOSSES
from lossmith.precision import fast_on_cpu

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/schemas/losses.json").read_text(encoding="utf-8"))
PICTURED = [name for name, spec in LOSSES.items() if spec.curve is not None]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.run(["losses", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def traced(name: str) -> Picture:
    picture = trace(LOSSES[name])
    assert picture is not None
    return picture


def in_a_terminal(environment: dict[str, str], python: str, columns: int, *arguments: str) -> list[str]:
    """The lines that a terminal of so many columns gets, without their colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: x for key, x in environment.items() if key not in ("COLUMNS", "NO_COLOR")}
    command = [python, "-m", "lossmith", "losses", *arguments]
    child = subprocess.Popen(command, stdout=theirs, env=environment | {"TERM": "xterm-256color"})
    os.close(theirs)
    out = b""
    while True:
        try:
            out += (part := os.read(ours, 65536))
        except OSError:  # how Linux says that the other side has closed
            break
        if not part:
            break
    os.close(ours)
    assert child.wait() == 0
    assert b"\x1b[" in out, "a terminal gets colours"
    return ANSI.sub("", out.decode()).replace("\r", "").split("\n")


def test_the_list_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(told(capsys, "--json"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(rows, SCHEMA)
    assert [row["name"] for row in rows] == list(LOSSES)
    assert all(row["formula"] and "http" in row["source"] and "``" not in row["formula"] for row in rows)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{**rows[0], "formula": None}], SCHEMA)


def test_the_list_for_pipes_is_a_line_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split("\t") for line in told(capsys).splitlines()]
    assert [line[:2] for line in lines] == [[spec.family, name] for name, spec in LOSSES.items()]
    assert {len(line) for line in lines} == {4}
    huber = next(line for line in lines if line[1] == "huber")
    assert huber[2] == "with x = inputᵢ − targetᵢ: x²/2 where |x| ≤ delta, else delta·(|x| − delta/2)."


def test_the_list_in_a_terminal(environment: dict[str, str]) -> None:
    lines = in_a_terminal(environment, sys.executable, 80)
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines if line.strip() and not line.startswith(" ")]
    assert [name for name in shown if name in LOSSES and name != "linear_cross_entropy" and name != "triplet"] == [
        name
        for name in LOSSES
        if name not in ("linear_cross_entropy", "triplet")  # families of these names too
    ]
    assert {spec.family for spec in LOSSES.values()} <= set(shown)
    assert any("https://arxiv.org/abs/2411.09009" in line for line in lines)
    assert not any("…" in line for line in lines), "addresses are folded, not cut"


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_one_loss_in_a_terminal(environment: dict[str, str], python: str, columns: int) -> None:
    lines = in_a_terminal(environment, python, columns, "linear_cross_entropy")
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    titles = ("Formula", "Shapes", "Use", "Avoid", "Memory", "Errors", "Source", "Notes", "Options", "Here", "Example")
    assert [title for title in titles if not any(line.startswith(title) for line in lines)] == []
    assert "filter_below: float = 0.0" in text
    assert "against the probability of the right answer" in text
    assert "…" not in text, "addresses are folded, not cut"
    beside = [line for line in lines if "loss (nats)" in line and "d loss / d logit" in line]
    assert len(beside) == (columns >= 72), "side by side where both fit"


@pytest.mark.parametrize("name", LOSSES)
def test_one_loss_for_machines(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = LOSSES[name]
    found = json.loads(told(capsys, name, "--json"), parse_constant=pytest.fail)  # no NaN, no Infinity
    jsonschema.validate(found, SCHEMA)
    assert (found["name"], found["family"]) == (name, spec.family)
    assert all(found[key] for key in ("summary", "formula", "shapes", "use", "avoid", "source", "example"))
    takes = list(inspect.signature(spec.fn).parameters)
    assert found["inputs"] + [option["name"] for option in found["options"]] == takes
    assert (found["picture"] is not None) == (spec.curve is not None)


def test_options_have_type_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    options = {x["name"]: x for x in json.loads(told(capsys, "logit_adjusted", "--json"))["options"]}
    assert options["tau"] == {"name": "tau", "type": "float", "required": False, "default": 1.0}
    assert options["priors"] == {"name": "priors", "type": "Tensor", "required": True, "default": None}
    assert "priors: Tensor to be given" in told(capsys, "logit_adjusted")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what runs where there is no CUDA device")
def test_what_would_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    def here(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(told(capsys, name, "--json"))["here"]
        return found

    linear = here("linear_cross_entropy")
    assert (linear["implementation"], linear["why"], linear["device"]) == ("chunked", "no CUDA device", "CPU")
    native = fast_on_cpu(torch.bfloat16)
    assert linear["bfloat16"].startswith("native products" if native else "widened to float32")
    assert here("info_nce")["implementation"] == "chunked"
    assert here("mse") == {
        "device": "CPU",
        "implementation": "torch",
        "why": "plain tensor operations",
        "bfloat16": None,
    }
    assert "chunked: no CUDA device (CPU)" in told(capsys, "linear_cross_entropy")


def test_the_picture_holds_the_right_numbers() -> None:
    picture = traced("cross_entropy")
    assert picture.unit == "nats"
    assert picture.loss == pytest.approx([-math.log(p) for p in picture.x])
    assert picture.gradient == pytest.approx([p - 1 for p in picture.x]), "of the right answer's logit: softmax − 1"
    huber = traced("huber")
    assert huber.gradient == pytest.approx([max(-1.0, min(1.0, x)) for x in huber.x])
    assert huber.unit == "", "no likelihood: no nats"
    siglip = traced("siglip")  # its curve takes plain numbers: central differences
    z = [10 * x - 10 for x in siglip.x]
    assert siglip.gradient == pytest.approx([-10 / (1 + math.exp(x)) for x in z], rel=1e-6)


def test_infinity_is_null_for_machines() -> None:
    spec = dataclasses.replace(LOSSES["mse"], curve=lambda x: torch.where(x < 0, torch.inf, x))
    found = details(spec, trace(spec))
    jsonschema.validate(found, SCHEMA)
    assert found["picture"]["loss"][0] is None
    assert found["picture"]["loss"][-1] == found["picture"]["x"][-1]


@pytest.mark.parametrize("name", PICTURED)
def test_the_gradient_is_the_slope_of_the_loss(name: str) -> None:
    picture = traced(name)
    at = [math.log(p / (1 - p)) for p in picture.x] if picture.axis.slope == "logit" else picture.x
    inner = range(1, len(at) - 1)
    slopes = [(picture.loss[i + 1] - picture.loss[i - 1]) / (at[i + 1] - at[i - 1]) for i in inner]
    off = [abs(slope - picture.gradient[i]) for slope, i in zip(slopes, inner, strict=True)]
    size = max(map(abs, picture.gradient))
    # Points of the picture are a hundredth of its width apart: so much is a chord off where the slope bends, and all of
    # it at a kink.
    assert sum(x > 0.05 * size for x in off) <= 4
    assert sorted(off)[len(off) // 2] < 0.005 * size


def test_the_line_of_dots_goes_where_the_numbers_go() -> None:
    assert braille([0.0, 0.0], 2, 2, 0.0, 1.0) == ["⠀⠀", "⣀⣀"]
    assert braille([1.0, math.nan, 0.0], 3, 1, 0.0, 1.0) == ["⠉⠀⣀"], "what is not finite is left out"
    assert braille([0.0] * 50 + [1.0] * 50, 4, 3, 0.0, 1.0) == ["⠀⠀⡏⠉", "⠀⠀⡇⠀", "⣀⣀⠇⠀"], "a step is closed"
    falling = dots(braille([3.0 - x / 20 for x in range(61)], 8, 4, 0.0, 3.0))
    assert falling == sorted(falling), "downwards from left to right"
    assert (falling[0], falling[-1]) == (0, 15)


def dots(rows: Sequence[str]) -> list[int]:
    """The highest dot of each column of dots, counted from the top."""
    bits = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
    columns = [
        [ord(row[i]) & bits[side][k] for row in rows for k in range(4)] for i in range(len(rows[0])) for side in (0, 1)
    ]
    return [next(k for k, dot in enumerate(column) if dot) for column in columns]


@pytest.mark.parametrize("name", PICTURED)
def test_every_picture_fits_its_width(name: str) -> None:
    for width in (50, 80, 200):
        lines = ["".join(text for _, text in line) for line in in_terminal(traced(name), width)]
        assert max(map(len, lines)) <= width
        assert sum("┤" in line for line in lines) >= 2, "ticks"


def test_pictures_in_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from matplotlib.image import imread

    png, svg = tmp_path / "focal.png", tmp_path / "focal.svg"
    out = told(capsys, "focal", "--png", png, "--svg", svg)
    assert f"picture: {png}" in out
    pixels = imread(png)[..., :3]
    assert pixels.shape == (720, 1800, 3)
    for colour in ((0x2F, 0x6B, 0xDB), (0xD9, 0x67, 0x0B)):  # the loss, its gradient
        drawn = abs(pixels - [part / 255 for part in colour]).max(-1) < 0.02
        assert drawn.sum() > 2000
    assert ET.parse(svg).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["focl"], "there is no loss 'focl'. Did you mean 'focal'?"),
        (["clip"], "It is mentioned by info_nce, temperature."),
        (["zzz"], "`lossmith losses` lists them"),
        (["kl", "--png", "kl.png"], "--png: kl has no picture, since it is no function of a single number"),
        (
            ["focal", "--svg", "no/such/folder.svg"],
            "--svg must be a file that can be written; got 'no/such/folder.svg'",
        ),
        (["--png", "all.png"], "--png and --svg need the NAME of a loss"),
    ],
)
def test_a_wrong_call_is_a_message(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["losses", *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert cli.run(["losses", *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_hyphens_are_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "total-variation").startswith("total_variation · divergence")


@pytest.mark.parametrize("page", ["docs/losses.md", "docs/losses.zh.md"])
def test_every_loss_is_on_the_page(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [
        name for name, spec in LOSSES.items() if f"`{name}`" not in text and f"`{spec.fn.__name__}`" not in text
    ] == []
