"""What a person (or a machine) sees of a run while it goes: a live line, plain lines, JSON lines, TensorBoard."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from lossmith.errors import MissingPackageError
from lossmith.pictures.text import clean
from lossmith.train.folder import jsonable
from lossmith.train.scale import Scale, counted, epoch_bar, figures
from lossmith.train.story import Story
from lossmith.train.summary import print_summary

if TYPE_CHECKING:
    from lossmith.diagnosis import Finding

REDRAW = 0.1  # seconds between changes of the live line


@dataclass
class Reporter:
    """Hear of everything that happens in a run; this one stays silent."""

    total_steps: int = 0
    scale: Scale = field(default_factory=Scale)

    def message(self, text: str) -> None:
        """Hear a sentence for the reader."""

    def building(self, what: str, done: int, total: int | None) -> None:
        """Hear how far the data is prepared."""

    def start(self, total_steps: int, scale: Scale) -> None:
        """Hear that training starts: how many steps, and what its loss is measured by."""
        self.total_steps, self.scale = total_steps, scale

    def step(self, step: int, loss: float, smoothed: float) -> None:
        """Hear of every step: its loss and the smoothed one, in the unit of the scale."""

    def row(self, kind: str, row: dict[str, Any]) -> None:
        """Hear a row of metrics.jsonl or samples.jsonl."""

    def finding(self, finding: Finding) -> None:
        """Hear what is newly wrong with the run."""

    def epoch(self, first: int, last: int, loss: float) -> None:
        """Hear that the epochs `first` to `last` are over (mostly one), and the mean loss of all their tokens."""

    def saved(self, path: Path) -> None:
        """Hear that a checkpoint is complete."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Hear the result of the run."""


@dataclass
class JsonReporter(Reporter):
    """One JSON object a line on standard output.

    {"event": "metrics" | "sample" | "finding" | "epoch" | "saved" | "message" | "done", …}
    """

    closed: bool = False

    def _emit(self, event: str, **fields: Any) -> None:
        if self.closed:
            return
        try:
            print(json.dumps(jsonable({"event": event, **fields}), ensure_ascii=False), flush=True)
        except BrokenPipeError:  # whoever read us has gone; hours of training must not go with them
            self.closed = True

    def message(self, text: str) -> None:
        """Emit {"event": "message", "text"}."""
        self._emit("message", text=text)

    def row(self, kind: str, row: dict[str, Any]) -> None:
        """Emit {"event": "metrics" or "sample", …the row}."""
        self._emit("sample" if kind == "samples" else kind, **row)

    def finding(self, finding: Finding) -> None:
        """Emit {"event": "finding", …check, severity, message, advice, evidence}."""
        self._emit("finding", **finding.to_json())

    def epoch(self, first: int, last: int, loss: float) -> None:
        """Emit {"event": "epoch", "first", "last", "loss" (nats per token)}."""
        self._emit("epoch", first=first, last=last, loss=loss)

    def saved(self, path: Path) -> None:
        """Emit {"event": "saved", "path"}."""
        self._emit("saved", path=str(path))

    def finish(self, summary: dict[str, Any]) -> None:
        """Emit {"event": "done", …the summary}."""
        self._emit("done", **summary)


@dataclass
class PlainReporter(Reporter):
    """Plain lines, for logs and pipes."""

    console: Console = field(default_factory=lambda: Console(file=sys.stdout, highlight=False, soft_wrap=True))
    story: Story = field(default_factory=Story)
    _phase: str = ""

    def message(self, text: str) -> None:
        """Print a sentence."""
        self.console.print(escape(text))

    def building(self, what: str, done: int, total: int | None) -> None:
        """Print each phase once."""
        if what != self._phase:
            self._phase = what
            self.message(f"{what} …")

    def row(self, kind: str, row: dict[str, Any]) -> None:
        """Print what the row says."""
        if kind == "samples":
            self._sample(row)
        elif "eval_loss" in row:
            self.story.evaluation(row)
            self._evaluation(row)
        else:
            self.story.speed = row["tokens_per_second"]
            self._train(row)

    def step(self, step: int, loss: float, smoothed: float) -> None:
        """Remember the step for the next line."""
        self.story.advance(step, loss, smoothed)

    def epoch(self, first: int, last: int, loss: float) -> None:
        """Print a bar."""
        name = str(last) if first == last else f"{first}–{last}"
        self.console.print(epoch_bar(name, loss, self.scale))

    def finding(self, finding: Finding) -> None:
        """Print what is wrong and what to do about it."""
        style = "bold red" if finding.severity == "error" else "yellow"
        self.console.print(f"[{style}]{finding.check}[/]: {escape(finding.message)} {escape(finding.advice)}")

    def _train(self, row: dict[str, Any]) -> None:
        self.message(
            f"step {row['step']}/{self.total_steps}  loss {row['loss']:.4f} {self.scale.unit}"
            f"  smoothed {self.story.smoothed:.4f}  lr {row['learning_rate']:.2e}  grad norm {row['grad_norm']:.2f}"
            f"  {row['tokens_per_second']:,.0f} tokens/s  ETA {clock(self.story.remaining(self.total_steps))}"
        )

    def _evaluation(self, row: dict[str, Any]) -> None:
        unit = self.scale.eval_unit or self.scale.unit
        self.console.print(
            f"[bold]step {row['step']}  validation loss {row['eval_loss']:.4f} {unit}"
            f"{figures(row)}[/bold]  ({counted(row, unit)})"
        )

    def _sample(self, row: dict[str, Any]) -> None:
        self.console.print(
            Panel(
                escape(clean(row["text"]).strip("\n")),
                title=f"sample at step {row['step']}",
                title_align="left",
            )
        )

    def saved(self, path: Path) -> None:
        """Print where the checkpoint is."""
        self.message(f"saved {path}")

    def finish(self, summary: dict[str, Any]) -> None:
        """Print what the number means and where everything is."""
        self.close()
        print_summary(self.console, summary, Path(summary["run"]))


@dataclass
class LiveReporter(PlainReporter):
    """One live line of progress under the evaluations and samples, for terminals."""

    live: Live | None = None
    drawn: float = 0.0

    def _line(self, left: str, bar: ProgressBar, right: str) -> None:
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=8, transient=True)
            self.live.start()
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True)
        table.add_row(left, bar, right)
        self.live.update(table)

    def building(self, what: str, done: int, total: int | None) -> None:
        """Show a bar for the preparation of the data."""
        amount = f"{done / 2**20:,.1f} MiB" + (f" of {total / 2**20:,.1f}" if total else "")
        self._line(escape(what), ProgressBar(total=total, completed=done, pulse=total is None), amount)

    def step(self, step: int, loss: float, smoothed: float) -> None:
        """Draw the live line anew, as often as an eye can follow."""
        super().step(step, loss, smoothed)
        if time.perf_counter() - self.drawn >= REDRAW:
            self._progress()

    def _train(self, row: dict[str, Any]) -> None:
        self._progress()

    def _progress(self) -> None:
        self.drawn, story = time.perf_counter(), self.story
        speed = "" if math.isnan(story.speed) else f" · {story.speed:,.0f} tok/s"
        bits = "" if story.bits_per_byte is None else f" · {story.bits_per_byte:.3f} bits/byte"
        val = "" if math.isnan(story.eval_loss) else f" · val {story.eval_loss:.3f}{bits}"
        self._line(
            f"step {story.step}/{self.total_steps}",
            ProgressBar(total=self.total_steps, completed=story.step),
            f"loss [bold]{story.loss:.3f}[/bold] (smoothed {story.smoothed:.3f}){val}"
            f"{speed} · {clock(story.remaining(self.total_steps))}",
        )

    def saved(self, path: Path) -> None:
        """Stay quiet: the end of the run says where things are."""

    def close(self) -> None:
        """Take the live line away."""
        if self.live is not None:
            self.live.stop()
            self.live = None


class TensorBoardReporter(Reporter):
    """Write every number of metrics.jsonl, and the samples, as TensorBoard event files."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingPackageError("--report-to tensorboard needs the package: pip install tensorboard") from None
        self._writer: Any = SummaryWriter(str(folder))

    def row(self, kind: str, row: dict[str, Any]) -> None:
        """Write scalars under their Hugging Face keys, samples as text."""
        if kind == "samples":
            self._writer.add_text("sample", row["text"], row["step"])
        for key, value in row.items() if kind == "metrics" else ():
            if key not in ("step", "seconds") and isinstance(value, int | float):
                self._writer.add_scalar(key, value, row["step"])

    def close(self) -> None:
        """Bring the events to the disk."""
        self._writer.close()


def make_reporter(*, json_lines: bool = False) -> Reporter:
    """Return the reporter for where the output goes: JSON lines, a terminal, or plain lines."""
    if json_lines:
        return JsonReporter()
    return LiveReporter() if sys.stdout.isatty() else PlainReporter()


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03 or 2:03; "–" when unknown.

    >>> clock(123.4), clock(3723), clock(float("nan"))
    ('2:03', '1:02:03', '–')
    """
    if not math.isfinite(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
