"""The model of a fine-tuning run: pre-trained with a new head, or a preset from scratch; what of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lossmith.errors import DataError, InputError, MissingPackageError
from lossmith.models.build import attention, preset_config, with_weights
from lossmith.models.dropout import drops, set_dropout
from lossmith.models.presets import Preset
from lossmith.train.config import settled
from lossmith.train.finetune_config import FinetuneConfig

BY_LABELS = ("classification", "multi_label", "regression", "tagging")
DROPOUT = 0.1


@dataclass(frozen=True)
class Made:
    """A model, the names of its parameters that were drawn anew, and what to say of it."""

    model: Any
    new: tuple[str, ...]
    heads: tuple[nn.Module, ...]


def open_config(folder: Path, auto: str, task: str) -> Any:
    """Return the configuration of a model folder; InputError where this kind of model has no such head."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise DataError(f"{folder} holds no model that transformers knows: {why}") from error
    if type(config) not in getattr(transformers, auto)._model_mapping:
        raise InputError(
            f"--task {task} needs a model that transformers.{auto} knows; {config.model_type}, which {folder} holds, "
            "is none: take another MODEL or another --task"
        )
    return config


def load_pretrained(folder: Path, auto: str, task: str, settings: dict[str, Any], seed: int, tokens: int) -> Made:
    """Return a pre-trained model with the head of a task; a head that it has already for the same labels is kept.

    Errors: DataError for weights that belong to another architecture or a tokenizer of more `tokens` than the model
    knows, InputError for a model without such a head.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = open_config(folder, auto, task)
    known = getattr(config.get_text_config(), "vocab_size", None)
    if known and tokens > known:
        raise DataError(
            f"the tokenizer has {tokens} tokens and the model in {folder} has {known}: it is not the one the model was "
            "trained with. Give that one: --tokenizer FOLDER"
        )
    for key, value in settings.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    model, new = with_weights(getattr(transformers, auto), folder, config, resize=True)
    return Made(model, tuple(sorted(new)), _heads(model, new))


def from_preset(
    name: str,
    presets: dict[str, Preset],
    auto: str,
    settings: dict[str, Any],
    vocabulary: Any,
    context: int | None,
    seed: int,
) -> Made:
    """Return a model of a preset's shape with random weights and the head of a task; InputError for no such preset."""
    import transformers

    torch.manual_seed(seed)
    end, pad = vocabulary.eos_token_id, vocabulary.pad_token_id
    if name not in presets:
        raise InputError(f"--model {name} is no preset for this task; it has {', '.join(presets)}")
    positions = context or presets[name].block_size
    config = preset_config(presets[name], len(vocabulary), positions, end, pad)
    for key, value in settings.items():
        setattr(config, key, value)
    model = getattr(transformers, auto).from_config(config, attn_implementation=attention(config))
    return Made(model, (), _heads(model, {name for name, _ in model.named_parameters()}))


def _heads(model: Any, new: set[str]) -> tuple[nn.Module, ...]:
    """Layers outside the body that were drawn anew: what scores labels is no hidden matrix."""
    if model.base_model is model:
        return ()
    inside = {id(module) for module in model.base_model.modules()}
    names = {name.rsplit(".", 1)[0] for name in new}
    return tuple(m for name, m in model.named_modules() if name in names and id(m) not in inside)


def drop(model: Any, rate: float | None, task: str) -> None:
    """Set the dropout of a model's layers; None: leave them, but for tasks with labels where they drop nothing, 0.1.

    0.1 is BERT's (https://arxiv.org/abs/1810.04805, A.2); presets pre-train without, as every epoch hides other tokens.
    Measured on 1,000 rows of ten classes, three seeds (benchmarks/finetune_choices.py): accuracy 0.690 with 0.1 and
    0.676 without from a pre-trained nano, 0.627 and 0.640 from scratch, where the seeds differ by 0.03 to 0.05.
    """
    if rate is None and (task not in BY_LABELS or drops(model)):
        return
    set_dropout(model, DROPOUT if rate is None else rate)


def start_at_mean(made: Made, mean: float) -> None:
    """Let a new head for numbers begin with their mean, where the mean squared error is their variance."""
    for head in made.heads:
        if isinstance(head, nn.Linear) and head.out_features == 1 and head.bias is not None:
            with torch.no_grad():
                head.bias.fill_(mean)


def freeze(made: Made, what: str) -> None:
    """Leave a part without gradients: body, embeddings or N-layers; what was drawn anew is always trained.

    Errors: InputError where the body has fewer layers, or no layers that can be told apart.
    """
    body = made.model.base_model
    parts: list[Any] = [body] if what == "body" else [_embeddings(body)]
    if what.endswith("-layers"):
        layers, wanted = _layers(body), int(what.split("-")[0])
        if wanted > len(layers):
            raise InputError(f"--freeze {what}: the model has {len(layers)} layers")
        parts += layers[:wanted]
    for part in parts:
        part.requires_grad_(False)
    for name, parameter in made.model.named_parameters():
        if name in made.new:
            parameter.requires_grad_(True)


def _embeddings(body: Any) -> Any:
    """The embeddings with their positions and norm where they form a module, else the table of tokens."""
    return getattr(body, "embeddings", None) or body.get_input_embeddings()


def _layers(body: Any) -> list[Any]:
    wanted = getattr(body.config.get_text_config(), "num_hidden_layers", None)
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return list(module)
    raise InputError(f"--freeze: the layers of a {type(body).__name__} cannot be told apart; take body or embeddings")


def add_lora(made: Made, config: FinetuneConfig) -> None:
    """Put LoRA adapters into every linear layer of the body and freeze the rest of what was learnt before.

    Source: https://arxiv.org/abs/2106.09685 (LoRA); all linear layers: https://arxiv.org/abs/2305.14314 (QLoRA, 4).
    Errors: MissingPackageError without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingPackageError("--lora-rank needs the package peft: pip install peft") from None
    model, body = made.model, made.model.base_model
    inside = {id(module) for module in body.modules()}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in inside and module is not head
    ]
    names = [name for name in names if f"{name}.weight" not in made.new]
    lora = LoraConfig(
        r=settled(config.lora_rank), lora_alpha=settled(config.lora_alpha), lora_dropout=settled(config.lora_dropout),
        target_modules=names,
    )  # fmt: skip
    torch.manual_seed(settled(config.seed))
    inject_adapter_in_model(lora, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name in made.new)


def merge_lora(model: Any) -> None:
    """Add the adapters to the layers they stand in, and put these back, so that the model is a plain one again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())


def parameters_of(model: Any) -> tuple[int, int]:
    """Return how many parameters are trained, and how many there are."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters())


def suited_rate(model: Any, config: FinetuneConfig) -> float:
    """Return the default learning rate of a pre-trained model: 5e-5 · 768 / width, 768 being BERT's.

    Ten times that for adapters, and for a head on a frozen body.
    Source: 5e-5 is transformers' default and in BERT's range (https://arxiv.org/abs/1810.04805, A.3); that the best
    rate of Adam goes with 1/width: https://arxiv.org/abs/2203.03466 (µP); the factor ten of LoRA:
    https://thinkingmachines.ai/blog/lora/.
    """
    width = getattr(model.config.get_text_config(), "hidden_size", None) or 768
    return 5e-5 * 768 / int(width) * (10 if config.lora_rank or config.freeze == "body" else 1)


def named(classes: Sequence[str]) -> dict[str, Any]:
    """Return the configuration that gives the outputs of a head their names."""
    return {
        "num_labels": len(classes),
        "id2label": dict(enumerate(classes)),
        "label2id": {name: i for i, name in enumerate(classes)},
    }
