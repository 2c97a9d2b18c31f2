"""What a training run can be told, named as in Hugging Face's TrainingArguments wherever the thing is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar

from lossmith.data import DataConfig
from lossmith.data.config import SPLITS
from lossmith.errors import InputError, did_you_mean
from lossmith.models.presets import presets_for
from lossmith.objectives import OBJECTIVES, ObjectiveSpec
from lossmith.objectives.masking import UNITS
from lossmith.objectives.sentence_pair import TASKS

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
SCHEDULES = ("constant", "linear", "cosine", "wsd")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of a run. None means: not given; the preset's value or the default that the help names is taken."""

    inputs: tuple[str, ...] = ()
    """Files, folders, globs, "-" for stdin, or built-in corpora (--list-corpora); default: shakespeare."""
    objective: Literal["causal", "masked", "sentence_pair"] | None = None
    """causal (the next token), masked (hidden tokens), sentence_pair (and what follows what); default: causal."""
    mask_rate: float | None = None
    """masked, sentence_pair: part of the tokens that is hidden; default: 0.15."""
    mask_unit: Literal["token", "word", "span"] | None = None
    """masked, sentence_pair: hide single tokens, whole words, or spans of words; default: token."""
    sentence_task: Literal["next", "order"] | None = None
    """sentence_pair: is the second segment the next one (else of another document), or are both swapped (order)."""
    output_dir: str | None = None
    """Run folder; default: runs/INPUT-DATE-TIME."""
    eval_file: tuple[str, ...] = ()
    """Validation text; without it a part of the input is held out."""
    text_field: str | None = None
    """Column or key that holds the text in tables; guessed when there is one string column."""
    encoding: str | None = None
    """Encoding of text files; default: utf-8."""
    tokenizer: str | None = None
    """char, byte, bpe:SIZE or a Hugging Face folder; default: the pre-trained --model's own, else bpe:1024."""
    validation_fraction: float | None = None
    """Part of the text held out for validation (at most 8 MiB of it); default: 0.1."""
    split_by: Literal["auto", "document", "tail"] | None = None
    """Hold out whole documents or the contiguous tail of the text; default: auto (documents when there are many)."""
    document_mask: bool = False
    """Tokens attend within their document only."""
    cache_dir: str | None = None
    """Where tokenized text is kept; default: ~/.cache/lossmith."""
    num_workers: int | None = None
    """Processes that tokenize; default: the number of cores."""
    model: str | None = None
    """Preset (--list-models), a folder with config.json, or a pre-trained folder to continue from; default: nano."""
    block_size: int | None = None
    """Context length in tokens; default: the preset's, else 512."""
    per_device_train_batch_size: int | None = None
    """Blocks in one forward pass on one device; default: the preset's, else 8."""
    gradient_accumulation_steps: int | None = None
    """Forward passes summed into one optimizer step; default: 1."""
    max_steps: int | None = None
    """Optimizer steps; default: --num-train-epochs if given, else the preset's, else 1000."""
    num_train_epochs: float | None = None
    """Passes over the training text; --max-steps wins."""
    optim: Literal["sgd", "adam", "adamw", "muon"] | None = None
    """muon: torch.optim.Muon for the hidden matrices, adamw for the rest. Default: the preset's, else adamw."""
    learning_rate: float | None = None
    """Peak learning rate; with muon: that of the matrices. Default: the preset's, else 1e-3 (sgd 0.1, muon 0.02)."""
    adamw_learning_rate: float | None = None
    """With muon: peak rate of what adamw updates (embeddings, head, norms). Default: the preset's, else 3e-3."""
    lr_scheduler_type: Literal["constant", "linear", "cosine", "wsd"] | None = None
    """Schedule after the warm-up; wsd: constant, then linear decay. Default: the preset's, else cosine."""
    warmup_steps: float | None = None
    """Steps of linear warm-up; below 1: a fraction of all steps. Default: the preset's, else 0.05."""
    decay_fraction: float | None = None
    """Part of all steps that wsd spends decaying; default: the preset's, else 0.2."""
    min_lr_rate: float | None = None
    """Learning rate at the end as a fraction of the peak; default: 0."""
    weight_decay: float | None = None
    """Weight decay of matrices (adam, sgd: coupled); default: the preset's, else 0.1 (adam, sgd: 0)."""
    momentum: float | None = None
    """Momentum of sgd and muon; default: the preset's, else 0.9 (muon 0.95)."""
    adam_beta1: float | None = None
    """First-moment decay; default: the preset's, else 0.9."""
    adam_beta2: float | None = None
    """Second-moment decay; default: the preset's, else 0.95."""
    adam_epsilon: float | None = None
    """Added to the root of the second moment; default: 1e-8."""
    max_grad_norm: float | None = None
    """Clip the gradient to this L2 norm; 0: do not clip; default: 1."""
    seed: int | None = None
    """Seed of weights, order and dropout; default: 42."""
    bf16: bool | None = None
    """Compute in bfloat16 autocast; default: where the hardware does it faster."""
    torch_compile: bool = False
    """Compile the model (slow start, faster steps)."""
    logging_steps: int | None = None
    """Steps between lines of metrics.jsonl; default: 10."""
    eval_steps: int | None = None
    """Steps between evaluations; default: a tenth of the run."""
    eval_max_tokens: int | None = None
    """Validation tokens of each evaluation during training (default: 131072); the last evaluation takes them all."""
    save_steps: int | None = None
    """Steps between checkpoints; default: a fifth of the run."""
    save_total_limit: int | None = None
    """Checkpoints kept, the oldest go first; 0: keep all; default: 2."""
    resume_from_checkpoint: str | None = None
    """Continue a run: a checkpoint folder, or (without a value) the newest complete one of --output-dir."""
    sample_prompt: str | None = None
    """Start of the sample written at each evaluation; default: the start of a document."""
    sample_tokens: int | None = None
    """Tokens of each sample; 0: none; default: 200."""
    report_to: Literal["none", "tensorboard"] | None = None
    """tensorboard: also write event files into the run folder; default: none."""

    def __post_init__(self) -> None:
        _check_types(self)

    def data(self) -> DataConfig:
        """Return the part of resolved options that says what the tokens are."""
        shared = {field.name: getattr(self, field.name) for field in fields(DataConfig) if hasattr(self, field.name)}
        return DataConfig(**shared)


T = TypeVar("T")


def settled(value: T | None) -> T:
    """Return an option of a resolved config, which is never None.

    >>> settled(3)
    3
    """
    assert value is not None, "this config was not resolved"
    return value


def resolve(config: TrainConfig) -> TrainConfig:
    """Replace every None by what it stands for, and check the values; steps are settled later, from the data.

    Errors: InputError naming the option.

    >>> resolve(TrainConfig(optim="sgd", model="125m")).learning_rate
    0.1
    """
    spec = objective_spec(config)
    preset = presets_for(spec.architecture).get(config.model or "nano")
    suited: dict[str, Any] = {"block_size": preset.block_size, **preset.options} if preset else {}
    optim = config.optim or suited.get("optim", "adamw")
    if optim != suited.get("optim"):  # rates and decay belong to the optimizer that they were tuned for
        suited = {key: value for key, value in suited.items() if key not in TUNED_TOGETHER}
    if config.num_train_epochs is not None:
        suited.pop("max_steps", None)
    defaults = _defaults(optim, epochs_given=config.num_train_epochs is not None) | suited
    defaults |= {"objective": spec.name, **spec.options}
    filled = {key: value for key, value in defaults.items() if getattr(config, key) in (None, ())}
    resolved = replace(config, **filled)
    _check(resolved)
    resolved.data()  # which checks what the data room knows about
    return resolved


def objective_spec(config: TrainConfig) -> ObjectiveSpec:
    """Return what --objective asks for; InputError for an unknown one and for options that belong to another.

    >>> objective_spec(TrainConfig()).name
    'causal'
    """
    name = config.objective or "causal"
    if name not in OBJECTIVES:
        hint = did_you_mean(name, OBJECTIVES)
        raise InputError(f"--objective must be one of {', '.join(OBJECTIVES)}; got {name!r}.{hint}")
    spec = OBJECTIVES[name]
    for given in sorted({key for other in OBJECTIVES.values() for key in other.options} - set(spec.options)):
        if getattr(config, given) is not None:
            owners = " or ".join(other.name for other in OBJECTIVES.values() if given in other.options)
            raise InputError(f"{option(given)} belongs to --objective {owners}; got it with {name}: leave it out")
    return spec


TUNED_TOGETHER = {"optim", "learning_rate", "adamw_learning_rate", "weight_decay", "momentum"}
TUNED_TOGETHER |= {"adam_beta1", "adam_beta2"}


def _defaults(optim: str, *, epochs_given: bool) -> dict[str, Any]:
    rate = {"sgd": 0.1, "muon": 0.02}.get(optim, 1e-3)
    steps = {} if epochs_given else {"max_steps": 1000}
    return steps | {
        "inputs": ("shakespeare",),
        "encoding": "utf-8",
        "tokenizer": "bpe:1024",
        "validation_fraction": 0.1,
        "split_by": "auto",
        "model": "nano",
        "block_size": 512,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "optim": optim,
        "learning_rate": rate,
        "adamw_learning_rate": 3e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "decay_fraction": 0.2,
        "min_lr_rate": 0.0,
        "weight_decay": 0.0 if optim in ("adam", "sgd") else 0.1,
        "momentum": 0.95 if optim == "muon" else 0.9,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "seed": 42,
        "logging_steps": 10,
        "eval_max_tokens": 131072,
        "save_total_limit": 2,
        "sample_prompt": "",
        "sample_tokens": 200,
        "report_to": "none",
    }


_AT_LEAST_ONE = (
    "block_size",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_steps",
    "logging_steps",
    "eval_steps",
    "eval_max_tokens",
    "save_steps",
)
_NOT_NEGATIVE = (
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "sample_tokens",
    "seed",
    "save_total_limit",
)
_CHOICES = {
    "optim": OPTIMIZERS,
    "lr_scheduler_type": SCHEDULES,
    "report_to": ("none", "tensorboard"),
    "split_by": SPLITS,
    "mask_unit": UNITS,
    "sentence_task": TASKS,
}
_POSITIVE = ("learning_rate", "adamw_learning_rate", "num_train_epochs", "adam_epsilon")
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (_AT_LEAST_ONE, lambda x: x >= 1, "at least 1"),
    (_NOT_NEGATIVE, lambda x: 0 <= x < float("inf"), "0 or more"),
    (_POSITIVE, lambda x: 0 < x < float("inf"), "more than 0"),
    (("decay_fraction",), lambda x: 0 <= x < 1, "in [0, 1)"),
    (("mask_rate",), lambda x: 0 < x < 1, "between 0 and 1 (exclusive)"),
    (("min_lr_rate",), lambda x: 0 <= x <= 1, "in [0, 1]"),
    (("momentum", "adam_beta1", "adam_beta2"), lambda x: 0 <= x < 1, "in [0, 1)"),
)


def option(name: str) -> str:
    """Spell a field as the user types it: "max_steps" → "--max-steps"."""
    return "--" + name.replace("_", "-")


def _check(config: TrainConfig) -> None:
    values = asdict(config)
    for names, good, words in _RANGES:
        for name in names:
            if values[name] is not None and not good(values[name]):
                raise InputError(f"{option(name)} must be {words}; got {values[name]!r}")
    for name, choices in _CHOICES.items():
        if values[name] is not None and values[name] not in choices:
            hint = did_you_mean(str(values[name]), choices)
            raise InputError(f"{option(name)} must be one of {', '.join(choices)}; got {values[name]!r}.{hint}")


_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "str": ("text", (str,)),
    "bool": ("True or False", (bool,)),
}
_ANYTHING: tuple[str, tuple[type, ...]] = ("", (object,))


def _check_types(config: TrainConfig) -> None:
    """Python's callers may give anything: say which option it is before a comparison fails."""
    for field in fields(TrainConfig):
        value = getattr(config, field.name)
        words, kinds = _KINDS.get(str(field.type).split(" ")[0], _ANYTHING)  # choices are looked up in _check
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and words[:1] == "a")):
            raise InputError(f"{option(field.name)} must be {words}; got {value!r} ({type(value).__name__})")
