"""What a training run can be told, named as in Hugging Face's TrainingArguments wherever the thing is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from lossmith.data import DataConfig
from lossmith.data.config import SPLITS
from lossmith.errors import InputError, did_you_mean
from lossmith.models.presets import presets_for
from lossmith.objectives import MIXTURE_OPTIONS, OBJECTIVES, ObjectiveSpec, spec_named
from lossmith.objectives.options import CHOICES, RANGES, ObjectiveOptions
from lossmith.train.options import RunOptions, TextOptions

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
SCHEDULES = ("constant", "linear", "cosine", "wsd")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions, ObjectiveOptions, TextOptions):
    """Options of a run. None means: not given; the preset's value or the default that the help names is taken."""

    model: str | None = None
    """Preset (--list-models), a folder with config.json, or a pre-trained folder to continue from; default: nano."""
    block_size: int | None = None
    """Context length in tokens; default: the preset's, else 512."""

    def __post_init__(self) -> None:
        check_types(self)

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
    check_values(resolved, _RANGES, _CHOICES)
    resolved.data()  # which checks what the data room knows about
    return resolved


def objective_spec(config: TrainConfig) -> ObjectiveSpec:
    """Return what --objective asks for; InputError for an unknown one and for options that belong to another.

    >>> objective_spec(TrainConfig()).name
    'causal'
    """
    name = config.objective or "causal"
    spec = spec_named(name)
    every = {other.name: other.options for other in OBJECTIVES.values()} | {"a mixture (A:0.7+B:0.3)": MIXTURE_OPTIONS}
    for given in sorted({key for options in every.values() for key in options} - set(spec.options)):
        if getattr(config, given) is not None:
            owners = " or ".join(owner for owner, options in every.items() if given in options)
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
CHOICES_OF_RUNS: dict[str, tuple[str, ...]] = {
    "optim": OPTIMIZERS,
    "lr_scheduler_type": SCHEDULES,
    "report_to": ("none", "tensorboard"),
}
_CHOICES = CHOICES_OF_RUNS | {"split_by": SPLITS} | CHOICES
_POSITIVE = ("learning_rate", "adamw_learning_rate", "num_train_epochs", "adam_epsilon")
Ranges = tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...]
RANGES_OF_RUNS: Ranges = (
    (_AT_LEAST_ONE, lambda x: x >= 1, "at least 1"),
    (_NOT_NEGATIVE, lambda x: 0 <= x < float("inf"), "0 or more"),
    (_POSITIVE, lambda x: 0 < x < float("inf"), "more than 0"),
    (("decay_fraction",), lambda x: 0 <= x < 1, "in [0, 1)"),
    (("min_lr_rate",), lambda x: 0 <= x <= 1, "in [0, 1]"),
    (("momentum", "adam_beta1", "adam_beta2"), lambda x: 0 <= x < 1, "in [0, 1)"),
)
"""Names of options, the test that a value must pass, and the words for it."""
_RANGES: Ranges = ((("block_size",), lambda x: x >= 1, "at least 1"), *RANGES_OF_RUNS, *RANGES)


def option(name: str) -> str:
    """Spell a field as the user types it: "max_steps" → "--max-steps"."""
    return "--" + name.replace("_", "-")


def check_values(config: RunOptions, ranges: Ranges, choices_of: dict[str, tuple[str, ...]]) -> None:
    """Raise InputError for an option that is out of its range or none of its choices."""
    values = asdict(config)
    for names, good, words in ranges:
        for name in names:
            if values[name] is not None and not good(values[name]):
                raise InputError(f"{option(name)} must be {words}; got {values[name]!r}")
    for name, choices in choices_of.items():
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


def check_types(config: RunOptions) -> None:
    """Python's callers may give anything: say which option it is before a comparison fails."""
    for field in fields(config):
        value = getattr(config, field.name)
        words, kinds = _KINDS.get(str(field.type).split(" ")[0], _ANYTHING)  # choices: see check_values
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and words[:1] == "a")):
            raise InputError(f"{option(field.name)} must be {words}; got {value!r} ({type(value).__name__})")
