"""What the report says, gathered from the files of a run folder, before it is written as Markdown or HTML."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lossmith.diagnosis import Finding
from lossmith.diagnosis.report import findings_of, marks_of
from lossmith.errors import DataError
from lossmith.evaluate._task_page import is_task, task_commands
from lossmith.pictures.panel import Panel, loss_panel, loss_unit, side_panels
from lossmith.pictures.text import clean, program
from lossmith.runs import Run, json_lines, parse_number, read_json, read_run, terms_of

OURS = "ours"
LOADERS = {  # the class of transformers that loads a model, by what it was trained for
    "causal": "AutoModelForCausalLM",
    "prefix": "AutoModelForCausalLM",
    "distill": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "distill_masked": "AutoModelForMaskedLM",
    "sentence_pair": "AutoModelForPreTraining",
    "span": "AutoModelForSeq2SeqLM",
}


@dataclass(frozen=True)
class Headline:
    """Hold the figures a run is known by; those that are not known are None."""

    loss: float | None
    perplexity: float | None
    bits_per_byte: float | None
    tokens: int | None
    bytes: int | None
    step: int | None
    final: bool
    unit: str = "token"
    terms: dict[str, float] = field(default_factory=dict)
    """The averages that the loss is the weighted sum of, where the result names them."""


@dataclass(frozen=True)
class Row:
    """Hold one line of the comparison."""

    name: str
    label: str
    nats: float
    bits: float | None
    definition: str

    @property
    def size(self) -> float:
        """What rows are ordered by: bits per byte, which any two of them share, else nats per token."""
        return self.nats if self.bits is None else self.bits


@dataclass(frozen=True)
class Facts:
    """Hold everything the report says."""

    folder: Path
    info: dict[str, Any]
    run: Run
    samples: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The name of the run: its folder's."""
        return clean(self.folder.name or str(self.folder))

    @property
    def unit(self) -> str:
        """What the loss is nats per."""
        return str(self.info.get("unit") or "token")

    @property
    def loss_unit(self) -> str:
        """What the loss is measured in, where it may be a sum of several averages."""
        return loss_unit(self.run)

    @property
    def status(self) -> str:
        """One of running, finished, stopped, failed, unknown."""
        return str(self.info.get("status", "unknown"))

    @cached_property
    def headline(self) -> Headline | None:
        """The result run.json holds, else the last evaluation in the log, else None."""
        result = self.info.get("result") or {}
        if result.get("eval_loss") is not None:
            return replace(_from_result(result), unit=self.unit)
        last = self._last_evaluation()
        return last and replace(last, unit=self.unit)

    def _last_evaluation(self) -> Headline | None:
        curve = self.run.curves.get("eval_loss")
        if curve is None or not len(curve):
            return None
        loss, step = float(curve.value[-1]), int(curve.step[-1])
        bits, tokens, n_bytes = (self._logged(name, step) for name in ("eval_bpb", "eval_tokens", "eval_bytes"))
        perplexity = math.exp(loss) if not loss > 700 else math.inf
        return Headline(loss, perplexity, bits, _whole(tokens), _whole(n_bytes), step, False)

    def _logged(self, name: str, step: int) -> float | None:
        curve = self.run.curves.get(name)
        return float(curve.value[-1]) if curve is not None and int(curve.step[-1]) == step else None

    @property
    def last_train_loss(self) -> float | None:
        """The last training loss that was logged."""
        curve = self.run.curves.get("loss")
        return float(curve.value[-1]) if curve is not None and len(curve) else None

    @property
    def last_step(self) -> int | None:
        """The last step that was logged."""
        steps = [int(curve.step[-1]) for curve in self.run.curves.values() if len(curve)]
        return max(steps, default=None)

    @cached_property
    def baselines(self) -> list[dict[str, Any]]:
        """The baselines in run.json."""
        return [entry for entry in self.info.get("baselines") or [] if isinstance(entry, dict)]

    @cached_property
    def findings(self) -> list[Finding]:
        """What the curves say is wrong, the gravest first."""
        return findings_of(self.run)

    @cached_property
    def comparison(self) -> list[Row]:
        """The baselines and the model, worst first; nothing where there are no baselines."""
        rows = [
            Row(b["name"], b["label"], float(b["nats_per_token"]), parse_number(b["bits_per_byte"]), b["definition"])
            for b in self.baselines
        ]
        best = None if is_task(self.info) or not rows else self.headline
        if best and best.loss is not None and math.isfinite(best.loss):
            definition = f"cross-entropy of the validation {self.unit}s under the model"
            rows.append(Row(OURS, "this model", best.loss, best.bits_per_byte, definition))
        return sorted(rows, key=lambda row: -row.size)

    @cached_property
    def spelled(self) -> bool:
        """Whether any row of the comparison is about the bytes of a text."""
        return any(row.bits is not None for row in self.comparison)

    @cached_property
    def loss_panel(self) -> Panel | None:
        """The loss curves, None when nothing was logged."""
        panel = loss_panel(self.run, self.baselines)
        return None if panel is None else replace(panel, marks=marks_of(self.findings))

    @cached_property
    def side_panels(self) -> list[Panel]:
        """Learning rate and speed."""
        return side_panels(self.run)

    def meaning(self) -> list[str]:
        """Say in sentences what the headline means."""
        best = self.headline
        if not best or best.bits_per_byte is None or not math.isfinite(best.bits_per_byte):
            return []
        share = best.bits_per_byte / 8
        said = f"As a compressor the model would store the validation text in {share:.1%} of its size"
        rivals = [row for row in self.comparison if row.name in ("gzip", "xz", "zstd") and row.bits is not None]
        if rivals:
            rival = min(rivals, key=lambda row: row.bits or 0)
            said += f"; {rival.label}, the best of the three compressors here, needs {(rival.bits or 0) / 8:.1%}"
        return [said + " (the model's own size not counted)."]

    def settings(self) -> Iterator[tuple[str, Any, Any, bool]]:
        """Yield (option, value, default, differs from the default)."""
        defaults = self.info.get("defaults") or {}
        for name, value in (self.info.get("config") or {}).items():
            yield name, value, defaults.get(name), name in defaults and value != defaults[name]

    @property
    def model_class(self) -> str:
        """The class of the model that was trained."""
        return str((self.info.get("model") or {}).get("class") or "")

    def commands(self) -> list[tuple[str, str, str]]:
        """Return (what for, language, what to type), with the real path of this run."""
        if is_task(self.info):
            return task_commands(self.info, str(self.folder.resolve()))
        path = shlex.quote(str(self.folder.resolve()))
        prompt = str(self.info.get("example") or "The")
        quoted = shlex.quote(clean(prompt).split("\n")[0][:60])
        model = json.dumps(str(self.folder.resolve() / "model"), ensure_ascii=False)
        objective = (self.info.get("config") or {}).get("objective") or "causal"
        kind = LOADERS.get(objective, "AutoModel")
        if objective == "sentence_pair" and not self.model_class.endswith("ForPreTraining"):
            kind = LOADERS["masked"]  # its head for pairs stays in the checkpoints
        load = (
            f"from transformers import {kind}, AutoTokenizer\n"
            f"model = {kind}.from_pretrained({model})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({model})"
        )
        writes = [
            ("Sample text", "sh", f"{program()} sample {path} --prompt {quoted}"),
            ("Ask what comes next", "sh", f"{program()} next {path} {quoted}"),
        ]
        if objective == "contrastive":
            pooling = (self.info.get("config") or {}).get("pooling") or "mean"
            columns = "pairs.csv --task similarity --text-column a b --label-column score"
            compare = f"{program()} eval {path} {columns} --pooling {pooling}"
            writes = [("Compare with what people say of pairs (columns a, b, score)", "sh", compare)]
        return [
            *(writes if objective in ("causal", "contrastive") else []),
            (
                "Go on training",
                "sh",
                f"{program()} train --output-dir {path} --resume-from-checkpoint",
            ),
            ("Load with transformers", "python", load),
        ]


def gather(folder: Path) -> Facts:
    """Read what the files of a run folder say; only one of run.json and metrics.jsonl need exist (else DataError)."""
    if not (folder / "run.json").is_file() and not (folder / "metrics.jsonl").is_file():
        raise DataError(f"{folder} is no run folder: expected run.json or metrics.jsonl in it")
    info = read_json(folder / "run.json")
    run = read_run(folder) if (folder / "metrics.jsonl").is_file() else Run(str(folder), "lossmith", {}, info)
    samples = folder / "samples.jsonl"
    return Facts(folder, info, run, list(json_lines(samples)) if samples.is_file() else [])


def _from_result(result: dict[str, Any]) -> Headline:
    return Headline(
        parse_number(result.get("eval_loss")),
        parse_number(result.get("eval_perplexity")),
        parse_number(result.get("eval_bpb")),
        _whole(parse_number(result.get("eval_tokens"))),
        _whole(parse_number(result.get("eval_bytes"))),
        _whole(parse_number(result.get("steps"))),
        True,
        terms=terms_of(result),
    )


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and math.isfinite(value) else None
