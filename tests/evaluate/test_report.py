from __future__ import annotations

import itertools
import json
import math
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.errors import DataError
from lossmith.evaluate import write_report
from lossmith.pictures._png import figure_of
from lossmith.pictures._svg import spread
from lossmith.pictures.panel import loss_panel, side_panels, smooth, thin
from lossmith.runs import Curve, Run

HOSTILE = "</pre><script>alert(1)</script>\x07\x1b[31m ```` | & <b>&amp;</b> \ud800 床前明月光🌕 مرحبا"


def baseline(name: str, nats: float) -> dict[str, Any]:
    return {
        "name": name,
        "label": f"label of {name}",
        "nats_per_token": nats,
        "bits_per_byte": nats / math.log(2) / 2,
        "definition": f"definition of {name}",
    }


BASELINES = [baseline("uniform", 6.9), baseline("unigram", 5.5), baseline("xz", 4.0), baseline("gzip", 4.5)]
RESULT = {
    "eval_loss": 2.5,
    "eval_perplexity": math.exp(2.5),
    "eval_bpb": 2.5 / math.log(2) / 2,
    "eval_tokens": 54321,
    "eval_bytes": 108642,
    "train_loss": 2.4,
    "steps": 400,
    "tokens": 1_638_400,
}


def make_run(
    folder: Path,
    *,
    rows: list[dict[str, Any]] | None = None,
    samples: tuple[str, ...] = ("noise", HOSTILE),
    **record: Any,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = {
        "format": 1,
        "status": "finished",
        "error": None,
        "seconds": 83.2,
        "command": ["lossmith", "train", "my file.txt"],
        "config": {"learning_rate": 0.003, "optim": "adamw", "inputs": ["<i>x</i>", "y|z"]},
        "defaults": {"learning_rate": 0.001, "optim": "adamw", "inputs": []},
        "versions": {"torch": "2.13.0"},
        "hardware": {"cores": 2},
        "data": {"train_bytes": 4_000_000, "sources": [{"name": "my file.txt"}], "vocab_size": 1024},
        "model": {"name": "nano", "class": "LlamaForCausalLM", "parameters": 812_160},
        "baselines": BASELINES,
        "result": RESULT,
    }
    (folder / "run.json").write_text(json.dumps(info | record))
    rows = finished_rows() if rows is None else rows
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = [{"step": 200 * i, "prompt": "", "text": text} for i, text in enumerate(samples)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


def finished_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, 401):
        loss = 2.3 + 4.5 * math.exp(-step / 40)
        rows.append({"step": step, "loss": loss, "learning_rate": 1e-3 * step / 400, "tokens_per_second": 1e4})
        if step % 100 == 0:
            rows.append({"step": step, "eval_loss": loss + 0.1, "eval_bpb": 1.9, "eval_tokens": 5000})
    return rows


class Page(HTMLParser):
    """Checks that elements close in order, and gathers tags, attributes and text."""

    VOID = frozenset({"meta", "circle", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID or (tag == "path" and ("class", "broken") in attrs):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID or (self.open and self.open[-1] == tag):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(folder: Path) -> tuple[Page, str, dict[str, Path]]:
    files = write_report(folder)
    return Page(files["html"].read_text(encoding="utf-8")), files["md"].read_text(encoding="utf-8"), files


def test_a_finished_run_says_what_its_number_means(tmp_path: Path) -> None:
    page, md, files = report(make_run(tmp_path / "run"))
    for text in (page.text, md):
        for said in ("2.500", "12.18", "1.803", "54,321 tokens", "108,642 bytes", "label of uniform", "this model"):
            assert said in text
        assert f"lossmith sample {tmp_path}/run" in text
        assert f"lossmith train --output-dir {tmp_path}/run --resume-from-checkpoint" in text
        assert "AutoModelForCausalLM.from_pretrained" in text
        assert "22.5%" in text  # 1.803 bits of each 8, as a compressor
    assert sorted(files) == ["html", "md", "png"]
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in files["png"].parent.iterdir()) == sorted(
        ["run.json", "metrics.jsonl", "samples.jsonl", "loss.png", "report.md", "report.html"]
    )


def test_a_loss_of_several_terms_is_shown_as_their_sum(tmp_path: Path) -> None:
    terms = {"eval_loss/masked": 4.75, "eval_loss/next_sentence": 0.625}
    result = RESULT | terms | {"eval_loss": 5.375, "eval_perplexity": 115.58, "eval_bpb": None, "eval_bytes": None}
    page, md, _ = report(make_run(tmp_path, result=result, baselines=[]))
    for text in (page.text, md):
        assert "What to compare it with" not in text  # alone it says nothing
        for said in ("5.375", "weighted sum", "4.75", "masked", "0.625", "next_sentence", "e^(masked)"):
            assert said in text
        assert "comparable between all models" not in text  # nothing to say in bits per byte


def test_the_comparison_is_sorted_from_worst_to_best(tmp_path: Path) -> None:
    page, md, _ = report(make_run(tmp_path))
    names = ["label of uniform", "label of unigram", "label of gzip", "label of xz", "this model"]
    for text in (page.text, md):
        places = [text.index(name, text.index("What to compare it with")) for name in names]
        assert places == sorted(places)


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page, _, _ = report(make_run(tmp_path))
    assert not {"script", "link", "img", "iframe", "object", "b>"} & set(page.tags)
    assert not any(name.startswith("on") or name in ("src", "href") for name, _ in page.attributes)
    assert ("charset", "utf-8") in page.attributes
    assert ("lang", "en") in page.attributes
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "url(" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    page, md, _ = report(make_run(tmp_path, error=HOSTILE, status="failed", config={HOSTILE: HOSTILE}))
    shown = "</pre><script>alert(1)</script>␇␛[31m ```` | & <b>&amp;</b> ? 床前明月光🌕 مرحبا"
    assert page.text.count(shown) == 4  # sample, error, option and its value
    assert "\n`````\n" in md  # a fence longer than the run of backticks inside
    outside = [part for i, part in enumerate(md.split("`````")) if i % 2 == 0]
    assert all("<script>" not in part.replace("\\<script>", "") for part in outside)
    (row,) = [line for line in md.splitlines() if line.startswith("|") and "alert" in line]
    assert row.replace("\\|", "").count("|") == 4


def test_options_that_differ_from_their_default_stand_out(tmp_path: Path) -> None:
    page, md, _ = report(make_run(tmp_path))
    assert "| learning_rate | **0.003** | 0.001 |" in md
    assert "| optim | adamw |  |" in md
    assert page.text.index("learning_rate") < page.text.index("options at their defaults") < page.text.index("optim")


@pytest.mark.parametrize("status", ["stopped", "failed", "running"])
def test_a_run_without_a_result_shows_its_last_evaluation(tmp_path: Path, status: str) -> None:
    page, md, _ = report(make_run(tmp_path, status=status, result=None))
    last = 2.3 + 4.5 * math.exp(-10) + 0.1
    for text in (page.text, md):
        assert f"{last:.3f}" in text
        assert "last evaluation before the end, at step 400" in text
        assert {"stopped": "was stopped", "failed": "failed", "running": "not ended"}[status] in text


def test_a_run_never_evaluated_says_so(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 5.0 - step / 10} for step in range(1, 4)]
    page, md, _ = report(make_run(tmp_path, rows=rows, status="stopped", result=None, samples=()))
    for text in (page.text, md):
        assert "has not been evaluated yet" in text
        assert "at step 3, is 4.700 nats per token" in text
        assert "Samples" not in text


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"loss_unit": "nats: generator + 50 × <discriminator>"}, "nats: generator + 50 × <discriminator>"),
        ({}, "nats: weighted sum of generator, discriminator"),  # of a run that recorded no unit
    ],
)
def test_a_loss_that_is_a_sum_is_not_per_token(tmp_path: Path, recorded: dict[str, str], said: str) -> None:
    terms = {"loss/generator": 5.0, "loss/discriminator": 0.5}
    rows = [{"step": step, "loss": 30.0 - step, "tokens_per_second": 9.0, **terms} for step in range(1, 4)]
    page, md, _ = report(make_run(tmp_path, rows=rows, result=None, baselines=None, **recorded))
    for text in (page.text, md):
        assert f"is 27.000 {said}." in text.replace("\\", "")
        assert "per token" not in text
    assert f"Loss {said}" in " ".join(page.text.split())


def test_a_run_that_logged_nothing_has_no_picture(tmp_path: Path) -> None:
    page, md, files = report(
        make_run(tmp_path, rows=[], status="failed", error="no memory", result=None, baselines=None)
    )
    assert sorted(files) == ["html", "md"]
    assert "no memory" in page.text
    assert "Nothing has been logged yet." in md


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_is_shown_where_it_happened(tmp_path: Path, bad: str) -> None:
    rows: list[dict[str, Any]] = [{"step": s, "loss": 5.0 if s < 80 else bad} for s in range(1, 101)]
    page, md, _ = report(
        make_run(tmp_path, rows=[*rows, {"step": 100, "eval_loss": bad}], result=None, status="failed")
    )
    for text in (page.text, md):
        assert "Not finite at step 80, 81, 82 …" in text
    assert ("class", "broken") in page.attributes


@pytest.mark.parametrize(
    "rows", [[{"step": 1, "loss": "nan"}], [{"step": 0, "loss": 3.0}], [{"step": 5, "eval_loss": 1}]]
)
def test_one_point_is_a_curve(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    _, _, files = report(make_run(tmp_path, rows=rows, result=None))
    assert "png" in files


def test_a_folder_that_holds_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected run\.json or metrics\.jsonl"):
        write_report(tmp_path)
    make_run(tmp_path / "a", rows=[])
    (tmp_path / "a" / "metrics.jsonl").unlink()
    assert "html" in write_report(tmp_path / "a")
    make_run(tmp_path / "b")
    (tmp_path / "b" / "run.json").unlink()
    assert "html" in write_report(tmp_path / "b")


def test_many_samples_show_first_and_last_and_hide_the_rest(tmp_path: Path) -> None:
    page, md, _ = report(make_run(tmp_path, samples=tuple(f"sample number {i}." for i in range(50))))
    shown = page.text[: page.text.index("The other 42 samples")]
    assert "sample number 0." in shown
    assert "sample number 49." in shown
    assert all(f"sample number {i}." in page.text for i in range(50))
    assert md.count("sample number") == 8


def test_commands_quote_a_path_with_spaces(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "my run's; rm -rf")
    _, md, _ = report(folder)
    import shlex

    line = next(line for line in md.splitlines() if line.startswith("lossmith sample"))
    assert shlex.split(line)[2] == str(folder)


def test_a_name_with_undecodable_bytes_is_written(tmp_path: Path) -> None:
    folder = make_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff")))
    assert "html" in write_report(folder)


def curve_run(points: list[tuple[float, float]], **more: list[tuple[float, float]]) -> Run:
    curves = {"loss": Curve.of("loss", points)} | {name: Curve.of(name, pairs) for name, pairs in more.items()}
    return Run("", "lossmith", curves)


def test_axes_are_logarithmic_where_it_helps() -> None:
    early = loss_panel(curve_run([(s, 2 + 4 * math.exp(-s / 20)) for s in range(1, 2001)]))
    late = loss_panel(curve_run([(s, 5 - s / 1000) for s in range(1, 2001)]))
    steep = loss_panel(curve_run([(s, 100.0 / s) for s in range(1, 12)]))
    from_zero = loss_panel(curve_run([(s, 2 + 4 * math.exp(-s / 20)) for s in range(1, 2001)], eval_loss=[(0, 7.0)]))
    assert early is not None
    assert late is not None
    assert steep is not None
    assert from_zero is not None
    assert (early.log_x, early.log_y, early.note()) == (True, False, "Logarithmic axis: step.")
    assert (late.log_x, late.log_y) == (False, False)
    assert (steep.log_x, steep.log_y) == (False, True)
    assert not from_zero.log_x  # a logarithmic axis has no step 0


def test_reference_lines_inside_the_range_only() -> None:
    panel = loss_panel(curve_run([(1, 6.0), (2, 4.0)]), BASELINES)
    assert panel is not None
    assert panel.references == (("unigram model", 5.5),)


def test_a_resumed_run_is_drawn_once() -> None:
    panel = loss_panel(curve_run([(1, 6.0), (2, 5.0), (3, 4.0), (2, 5.5), (3, 4.5)]))
    assert panel is not None
    assert [line.x.tolist() for line in panel.lines] == [[1, 2, 3]]
    assert panel.lines[0].y.tolist() == [6.0, 5.5, 4.5]


def test_side_panels_start_at_zero() -> None:
    panels = side_panels(curve_run([], learning_rate=[(1, 0.1), (2, 0.2)], tokens_per_second=[(1, 5e3), (2, 6e3)]))
    assert [panel.title for panel in panels] == ["Learning rate", "Speed"]
    assert all(panel.limits()[2] == 0 for panel in panels)


def test_smoothing_does_not_lag_and_does_not_spread_a_gap() -> None:
    line = np.arange(200.0)
    np.testing.assert_allclose(smooth(line, 5)[:195], line[:195])
    line[100] = np.nan
    assert np.isnan(smooth(line, 5)).sum() == 1


def test_thinning_keeps_the_extremes_and_the_gaps() -> None:
    x = np.arange(100_000.0)
    y = np.sin(x)
    y[31_415], y[27_182], y[50_000] = 9.0, -9.0, np.nan
    few_x, few_y = thin(x, y)
    assert len(few_x) <= 602
    assert {9.0, -9.0} <= set(few_y.tolist())
    assert np.isnan(few_y).sum() == 1
    assert (np.diff(few_x) > 0).all()
    assert (few_x[0], few_x[-1]) == (0, 99_999)


def test_places_are_spread_as_little_as_needed() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 11, 40):
        places = rng.random(n)
        found = np.array(spread(places.tolist(), 0.1, 0.0, 1.0))
        order = np.argsort(places)
        assert (np.diff(found[order]) >= min(0.1, 1 / max(1, n - 1)) - 1e-6).all()
        assert found.min() >= -1e-6
        assert found.max() <= 1 + 1e-6
    assert spread([0.1, 0.5, 0.9], 0.1, 0.0, 1.0) == [0.1, 0.5, 0.9]


@pytest.mark.parametrize("top", [7.0, 90_000.0], ids=["linear", "decades"])
def test_no_text_of_the_picture_lies_on_another(top: float) -> None:
    """Baselines that nearly agree, a final loss beside one of them, and an axis over several decades."""
    points = [(s, 2 + (top - 2) * math.exp(-s / 40)) if top < 10 else (s, top * s**-2.5) for s in range(1, 401)]
    last = points[-1][1]
    near = [baseline("uniform", 6.93), baseline("unigram", 6.9), baseline("bigram", last * 1.01)]
    panel = loss_panel(curve_run(points, eval_loss=points[39::40]), near)
    assert panel is not None
    assert len(panel.references) == 3
    figure = figure_of(panel)
    figure.canvas.draw()
    (axes,) = figure.axes
    texts = [*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels(), *axes.get_legend().get_texts()]
    texts += [*axes.get_yticklabels(minor=True), *axes.get_xticklabels(minor=True)]
    texts += [axes.xaxis.label, axes.title, axes._left_title]  # type: ignore[attr-defined]
    boxes = {text.get_text(): text.get_window_extent() for text in texts if text.get_text() and text.get_visible()}
    assert f"{last:.3f}" in boxes
    assert ("1,000" in boxes) == (top > 10)
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)
    named = [boxes[text.get_text()] for text in (*axes.texts, *axes.get_legend().get_texts())]
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in named)
