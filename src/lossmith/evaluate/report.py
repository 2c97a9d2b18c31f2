"""Write the report of a run: report.html, report.md and loss.png."""

from __future__ import annotations

from pathlib import Path

from lossmith.evaluate._facts import Facts, gather
from lossmith.evaluate._html import html
from lossmith.evaluate._markdown import markdown
from lossmith.pictures import write_picture


def write_report(run_folder: str | Path) -> dict[str, Path]:
    """Write loss.png, report.md and report.html into a run folder and return their paths by name ("png", "md", "html").

    Reads run.json, metrics.jsonl and samples.jsonl, as far as they exist: the run may have finished, stopped, failed or
    be running. Each file appears at once, whole. "png" is missing where nothing has been logged yet.
    A folder with neither run.json nor metrics.jsonl is a DataError.
    """
    facts = gather(Path(run_folder))
    written = {"png": _picture(facts)} if facts.loss_panel is not None else {}
    written["md"] = _text(facts.folder / "report.md", markdown(facts))
    written["html"] = _text(facts.folder / "report.html", html(facts))
    return written


def _picture(facts: Facts) -> Path:
    path = facts.folder / "loss.png"
    beside = path.with_name(".loss.png.tmp")
    assert facts.loss_panel is not None
    write_picture(facts.loss_panel, beside)
    beside.replace(path)
    return path


def _text(path: Path, text: str) -> Path:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path
