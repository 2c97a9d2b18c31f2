"""What a fine-tuning run can be told; what is the same as in `lossmith train` and `lossmith eval` has the same name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lossmith.data.labelled import TASKS, LabelColumns
from lossmith.errors import InputError, did_you_mean
from lossmith.models.presets import ENCODERS, PRESETS, Preset, presets_for
from lossmith.runs import read_json
from lossmith.train.config import CHOICES_OF_RUNS, RANGES_OF_RUNS, check_types, check_values, option
from lossmith.train.options import RunOptions

Tasks = Literal["classification", "multi_label", "regression", "tagging", "seq2seq", "instruction", "similarity"]
METRICS: dict[str, tuple[str, ...]] = {
    "classification": (
        *("f1_macro", "accuracy", "f1_micro", "f1_weighted", "precision_macro", "recall_macro"),
        *("precision_weighted", "recall_weighted", "cross_entropy", "brier", "calibration_error", "loss"),
    ),
    "multi_label": ("f1_micro", "f1_macro", "precision_micro", "recall_micro", "exact_match", "loss"),
    "regression": ("mse", "mae", "r2", "pearson", "spearman", "loss"),
    "tagging": ("entity_f1", "entity_precision", "entity_recall", "accuracy", "loss"),
    "seq2seq": ("chrf", "bleu", "loss"),
    "instruction": ("loss", "token_accuracy"),
    "similarity": ("spearman", "pearson", "recall_at_1", "recall_at_5", "mrr", "triplet_accuracy", "loss"),
}
"""Figures that --metric can choose by task; the first is the default (similarity without scores: recall_at_1)."""
SMALLER = {"loss", "mse", "mae", "cross_entropy", "brier", "calibration_error"}
TRUNCATIONS = ("cut", "drop", "error")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunOptions):
    """Options of a fine-tuning run. None means: not given; the default that the help names is taken."""

    model: str | None = None
    """A run folder, a checkpoint, a Hugging Face folder, or a preset (nano, …: from scratch, with --tokenizer)."""
    train_data: str | None = None
    """Training rows: .jsonl, .csv, .tsv or .parquet."""
    task: Tasks | None = None
    """What is to be learnt from the rows (docs/finetuning.md); default: classification."""
    eval_data: str | None = None
    """Validation rows in the same columns; without it a part of the training rows is held out."""
    validation_fraction: float | None = None
    """Part of the rows held out: of each class alike, equal texts on one side; default: 0.1."""
    text_column: tuple[str, ...] = ()
    """Column of the text, or two of a pair (similarity: two or three); default: text."""
    label_column: str | None = None
    """Column of the label, the labels or the number; default: label (similarity: none, unless given)."""
    source_column: str | None = None
    """seq2seq: column of the source text; default: source."""
    target_column: str | None = None
    """seq2seq: column of the target text; default: target."""
    prompt_column: str | None = None
    """instruction: column of the prompt; default: prompt."""
    response_column: str | None = None
    """instruction: column of the answer; default: response."""
    messages_column: str | None = None
    """instruction: column of lists of {"role", "content"}, instead of prompt and response."""
    tokens_column: str | None = None
    """tagging: column of the list of words; default: tokens."""
    tags_column: str | None = None
    """tagging: column of the list of tags, one a word; default: tags."""
    encoding: str | None = None
    """Encoding of text files; default: utf-8."""
    max_train_examples: int | None = None
    """Only the first so many training rows; default: all."""
    max_eval_examples: int | None = None
    """Validation rows of each evaluation during training; default: all. The last evaluation takes them all."""
    tokenizer: str | None = None
    """With a preset: char, byte, bpe:SIZE or a folder; default: the model's own, with a preset bpe:4096."""
    max_length: int | None = None
    """Longest row in tokens; default: the model's context (a preset: its own)."""
    truncation: Literal["cut", "drop", "error"] | None = None
    """Rows that are longer: cut them, leave them out, or stop. All are counted and reported; default: cut."""
    loss: str | None = None
    """A loss of the library that fits the task; default: the task's (docs/finetuning.md)."""
    loss_options: tuple[str, ...] = ()
    """Its options as key=value, such as class_weights=balanced, label_smoothing=0.1, gamma=2."""
    metric: str | None = None
    """Figure that the best checkpoint is chosen by; default: by task (f1_macro, f1_micro, mse, entity_f1, chrf, …)."""
    load_best_model_at_end: bool = True
    """Save the weights with the best --metric; else those of the last step."""
    early_stopping_patience: int | None = None
    """Stop after so many evaluations without a better figure; default: never."""
    freeze: str | None = None
    """Leave a part as it is: body, embeddings, or N-layers (the embeddings and the first N layers)."""
    lora_rank: int | None = None
    """Train LoRA adapters of this rank instead of the body (needs peft); they are merged into model/."""
    lora_alpha: float | None = None
    """LoRA's scale: the adapter counts alpha/rank; default: twice the rank."""
    lora_dropout: float | None = None
    """Dropout before the adapters; default: 0."""
    dropout: float | None = None
    """Dropout of all layers in training; default: the model's own, or 0.1 for labels where it has none."""
    pooling: Literal["mean", "cls", "last"] | None = None
    """similarity: how token states become one vector; default: mean."""
    generate_examples: int | None = None
    """seq2seq: validation rows that are generated at an evaluation for chrF and BLEU; default: 200."""
    max_new_tokens: int | None = None
    """seq2seq: longest generated text in tokens; default: 64."""
    per_device_train_batch_size: int | None = None
    """Rows in one forward pass on one device; default: 16, with a preset 32."""
    max_steps: int | None = None
    """Optimizer steps; default: as many as --num-train-epochs take."""
    num_train_epochs: float | None = None
    """Passes over the training rows; --max-steps wins; default: 3, with a preset 10."""
    learning_rate: float | None = None
    """Peak learning rate; default: the preset's or, seq2seq, a muon run's, else 5e-5 · 768 / width (LoRA: · 10)."""
    lr_scheduler_type: Literal["constant", "linear", "cosine", "wsd"] | None = None
    """Schedule after the warm-up; default: linear."""
    warmup_steps: float | None = None
    """Steps of linear warm-up; below 1: a fraction of all steps; default: 0.1."""
    weight_decay: float | None = None
    """Weight decay of matrices; default: 0.01, with a preset its own."""
    adam_beta2: float | None = None
    """Second-moment decay; default: 0.999."""
    eval_steps: int | None = None
    """Steps between evaluations; default: the end of every epoch."""
    eval_max_tokens: int | None = None
    """Of lossmith train; here it is --max-eval-examples."""
    sample_prompt: str | None = None
    """Of lossmith train; here validation rows are shown."""
    sample_tokens: int | None = None
    """0: show no answers to validation rows at evaluations."""

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def columns(self) -> LabelColumns:
        """The names of the columns."""
        return LabelColumns(
            text=self.text_column,
            label=self.label_column,
            source=self.source_column,
            target=self.target_column,
            prompt=self.prompt_column,
            response=self.response_column,
            messages=self.messages_column,
            tokens=self.tokens_column,
            tags=self.tags_column,
        )

    @property
    def chosen(self) -> str:
        """Which weights are saved."""
        return f"the best by {self.metric}" if self.load_best_model_at_end else "the last"

    @property
    def from_scratch(self) -> bool:
        """Whether the model is a preset."""
        return self.model in {**ENCODERS, **PRESETS}


_OWN: dict[str, tuple[str, ...]] = {
    "text_column": ("classification", "multi_label", "regression", "similarity"),
    "label_column": ("classification", "multi_label", "regression", "similarity"),
    "source_column": ("seq2seq",),
    "target_column": ("seq2seq",),
    "prompt_column": ("instruction",),
    "response_column": ("instruction",),
    "messages_column": ("instruction",),
    "tokens_column": ("tagging",),
    "tags_column": ("tagging",),
    "pooling": ("similarity",),
    "generate_examples": ("seq2seq",),
    "max_new_tokens": ("seq2seq",),
}
"""Options that belong to some tasks only."""

_AT_LEAST_ONE = ("max_length", "max_train_examples", "max_eval_examples", "early_stopping_patience", "lora_rank")
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    ((*_AT_LEAST_ONE, "generate_examples", "max_new_tokens"), lambda x: x >= 1, "at least 1"),
    (("validation_fraction",), lambda x: 0 < x < 1, "between 0 and 1 (exclusive)"),
    (("lora_alpha",), lambda x: 0 < x < float("inf"), "more than 0"),
    (("dropout", "lora_dropout"), lambda x: 0 <= x < 1, "in [0, 1)"),
    *RANGES_OF_RUNS,
)
_CHOICES = CHOICES_OF_RUNS | {"task": TASKS, "truncation": TRUNCATIONS, "pooling": ("mean", "cls", "last")}


def resolve_finetune(config: FinetuneConfig) -> FinetuneConfig:
    """Replace every None by what it stands for, and check the values; the rate of a pre-trained model waits for it.

    Errors: InputError naming the option.

    >>> resolve_finetune(FinetuneConfig(model="nano", train_data="rows.csv")).metric
    'f1_macro'
    """
    if config.train_data is None or config.model is None:
        raise InputError("lossmith finetune needs MODEL and DATA, as in lossmith finetune runs/my-run rows.jsonl")
    task = config.task or "classification"
    check_values(replace(config, task=task), _RANGES, _CHOICES)
    defaults = _defaults(config, task)
    filled = {key: value for key, value in defaults.items() if getattr(config, key) in (None, ())}
    resolved = replace(config, **filled)
    check_values(resolved, _RANGES, _CHOICES)
    _check_task(resolved, task)
    return resolved


def presets_of(task: str) -> dict[str, Preset]:
    """Return the shapes that a task is learnt from scratch with: encoder–decoder, causal, else BERT-like.

    >>> presets_of("seq2seq")["nano"].model_type
    'pegasus'
    """
    return presets_for({"seq2seq": "seq2seq", "instruction": "causal"}.get(task, "masked"))


def _defaults(config: FinetuneConfig, task: str) -> dict[str, Any]:
    preset = presets_of(task).get(config.model or "")
    suited: dict[str, Any] = dict(preset.options) if preset else _learnt_with(config, task)
    suited.pop("max_steps", None)
    optim = config.optim or suited.get("optim", "adamw")
    if optim != suited.get("optim"):
        suited = {}
    epochs = {} if config.max_steps is not None else {"num_train_epochs": 10.0 if preset else 3.0}
    figure = METRICS[task][0] if task != "similarity" or config.label_column else "recall_at_1"
    return {
        "task": task,
        **epochs,
        "validation_fraction": 0.1,
        "encoding": "utf-8",
        "tokenizer": "bpe:4096" if preset else None,
        "truncation": "cut",
        "metric": figure,
        "per_device_train_batch_size": 32 if preset else 16,
        "gradient_accumulation_steps": 1,
        "optim": optim,
        "learning_rate": suited.get("learning_rate", 1e-3 if preset else None),
        "adamw_learning_rate": suited.get("adamw_learning_rate", 3e-3),
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "decay_fraction": 0.2,
        "min_lr_rate": 0.0,
        "weight_decay": suited.get("weight_decay", 0.01),
        "momentum": 0.95 if optim == "muon" else 0.9,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "seed": 42,
        "logging_steps": 10,
        "save_total_limit": 2,
        "sample_tokens": 60,
        "report_to": "none",
    } | _of_task(config, task)


def _learnt_with(config: FinetuneConfig, task: str) -> dict[str, Any]:
    """Return the optimizer and rates of an encoder–decoder that muon trained here, for texts: adamw is far behind.

    Measured after 300 steps from scratch (benchmarks/finetune_choices.py): 2.57 nats a token, 4.80 with adamw.
    """
    folder, whole = Path(config.model or ""), not (config.freeze or config.lora_rank)
    for path in (folder / "run.json", folder.parent / "run.json"):
        used = read_json(path).get("config") if task == "seq2seq" and whole and path.is_file() else None
        if isinstance(used, dict) and (used.get("objective"), used.get("optim")) == ("span", "muon"):
            return {key: used[key] for key in ("optim", "learning_rate", "adamw_learning_rate", "weight_decay")}
    return {}


def _of_task(config: FinetuneConfig, task: str) -> dict[str, Any]:
    lora = {"lora_alpha": 2.0 * config.lora_rank, "lora_dropout": 0.0} if config.lora_rank else {}
    if task == "similarity":
        return lora | {"pooling": "mean"}
    return lora | ({"generate_examples": 200, "max_new_tokens": 64} if task == "seq2seq" else {})


def _check_task(config: FinetuneConfig, task: str) -> None:
    for name, tasks in _OWN.items():
        if getattr(config, name) not in (None, ()) and task not in tasks:
            raise InputError(f"{option(name)} belongs to --task {' or '.join(tasks)}; got it with {task}: leave it out")
    for name in ("eval_max_tokens", "sample_prompt"):
        if getattr(config, name) is not None:
            raise InputError(f"{option(name)} belongs to lossmith train: leave it out")
    if config.early_stopping_patience and not config.load_best_model_at_end:
        raise InputError("--early-stopping-patience waits for a better model: leave --no-load-best-model-at-end out")
    if config.metric not in METRICS[task]:
        hint = did_you_mean(str(config.metric), METRICS[task])
        raise InputError(f"--metric must be one of {', '.join(METRICS[task])} for {task}; got {config.metric!r}.{hint}")
    if config.freeze is not None and not re.fullmatch(r"body|embeddings|[1-9]\d*-layers", config.freeze):
        raise InputError(f"--freeze must be body, embeddings or N-layers, such as 2-layers; got {config.freeze!r}")
    if config.freeze and config.from_scratch:
        raise InputError("--freeze keeps what was learnt before, and a preset has learnt nothing: leave it out")
    if config.lora_rank and (config.freeze or config.from_scratch):
        what = "leave --freeze out" if config.freeze else "give a pre-trained MODEL"
        raise InputError(f"--lora-rank freezes a pre-trained body itself: {what}")


def as_dict(config: FinetuneConfig) -> dict[str, Any]:
    """Return the options as a dict."""
    return asdict(config)
