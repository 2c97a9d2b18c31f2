"""Make a model: a preset, the shape in a config.json, or pre-trained weights to continue from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossmith.errors import DataError, InputError, did_you_mean
from lossmith.models.presets import Preset, presets_for

CLASSES = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "sentence_pair": "AutoModelForPreTraining",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "replaced_token": "AutoModelForPreTraining",
    "encoder": "AutoModel",
}
"""The Hugging Face class that an architecture is made with."""

SUITED = {"seq2seq": "the configuration of an encoder–decoder (T5, BART)"}

GROWING = ("causal", "seq2seq")  # architectures whose weights get rows for the tokens of an objective
JUDGING_PAIRS = ("bert", "albert", "big_bird", "ernie", "fnet", "megatron-bert", "mobilebert", "nezha")
"""Kinds of models whose pre-training class has a head for pairs of sentences."""
LONGEST_PLAIN_ATTENTION = 512  # tokens; its memory grows with the square of the context


def build_model(
    name: str,
    *,
    vocab_size: int,
    context: int,
    seed: int = 0,
    end_id: int | None = None,
    exact: bool = False,
    architecture: str = "causal",
    pad_id: int | None = None,
    new_tokens: int = 0,
    complete: bool = False,
) -> Any:
    """Return a Hugging Face model: preset `name`, or the folder `name` (config.json, with or without weights).

    Without weights the vocabulary becomes `vocab_size`, the positions at least `context`, and `seed` draws the weights.
    With weights both must fit what the folder holds: the vocabulary may be padded, unless it must be `exact`.
    `architecture`: a key of CLASSES. `pad_id` is the token that means nothing (None: no token does). `new_tokens`: how
    many of the last tokens the weights need not know yet: the model gets rows for them (causal, seq2seq). `complete`:
    weights that leave anything out, such as a head that is not trained yet, are refused.
    Errors: InputError for an unknown name and for a folder whose model has no such head, DataError for one that holds
    no readable config.json or does not fit.
    """
    import torch

    torch.manual_seed(seed)
    presets, special = presets_for(architecture), {"end_id": end_id, "pad_id": pad_id}
    if name in presets:
        return _from_preset(presets[name], vocab_size, context, architecture, **special)
    folder = Path(name)
    if not folder.is_dir():
        hint = did_you_mean(name, presets)
        raise InputError(f"--model must be one of {', '.join(presets)} or a folder; got {name!r}.{hint}")
    if has_weights(folder):
        return _continue_from(folder, vocab_size, context, exact, architecture, new_tokens, complete)
    return _from_config(folder, vocab_size, context, architecture, **special)


def has_weights(folder: Path) -> bool:
    """Tell whether a model folder holds weights to continue from."""
    names = ("model.safetensors", "pytorch_model.bin")
    return any((folder / f"{name}{tail}").exists() for name in names for tail in ("", ".index.json"))


def preset_config(preset: Preset, vocab_size: int, context: int, end_id: int | None, pad_id: int | None = None) -> Any:
    """Return the Hugging Face configuration of a preset for a vocabulary and a context length."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    settings = preset.config | _fitting(vocab_size, context, end_id, pad_id) | _decoding(preset.config, pad_id)
    return CONFIG_MAPPING[preset.model_type](**settings)


def _fitting(vocab_size: int, context: int, end_id: int | None, pad_id: int | None) -> dict[str, Any]:
    special = dict.fromkeys(("bos_token_id", "eos_token_id"), end_id)
    return {"vocab_size": vocab_size, "max_position_embeddings": context, "pad_token_id": pad_id, **special}


def _decoding(config: Any, pad_id: int | None) -> dict[str, Any]:
    """Return what an encoder–decoder needs: what its decoder begins with, and no token that it must end with."""
    paired = config.get("is_encoder_decoder") if isinstance(config, dict) else config.is_encoder_decoder
    return {"decoder_start_token_id": pad_id, "forced_eos_token_id": None} if paired else {}


def _from_preset(
    preset: Preset, vocab_size: int, context: int, architecture: str, end_id: int | None, pad_id: int | None
) -> Any:
    model = instantiate(preset_config(preset, vocab_size, context, end_id, pad_id), architecture)
    if preset.scaled_init:
        _scaled_init(model)
    return model


def instantiate(config: Any, architecture: str) -> Any:
    """Return a new model of a configuration, drawn by torch's random state."""
    return auto_class(config, architecture).from_config(
        labelled(config, architecture), attn_implementation=attention(config)
    )


def labelled(config: Any, architecture: str) -> Any:
    """Return a configuration with the labels of an architecture: a discriminator says one thing of each token."""
    if architecture == "replaced_token" and config.model_type != "electra":
        config.num_labels = 1
    return config


def auto_class(config: Any, architecture: str) -> Any:
    """Return the Auto class of an architecture; InputError where this kind of model has no such head."""
    from transformers.models.auto import modeling_auto

    chosen = getattr(modeling_auto, CLASSES[architecture])
    if architecture == "replaced_token" and config.model_type != "electra":
        chosen = modeling_auto.AutoModelForTokenClassification  # with one label: replaced or not, as in DeBERTaV3
    if architecture == "sentence_pair" and config.model_type not in JUDGING_PAIRS:
        chosen = modeling_auto.AutoModelForMaskedLM  # the objective brings a head for pairs along
    needed = [chosen, *([modeling_auto.AutoModelForMaskedLM] if architecture == "replaced_token" else [])]
    lacking = [kind.__name__ for kind in needed if type(config) not in kind._model_mapping]
    if architecture != "causal" and lacking:
        raise InputError(
            f"--objective {architecture} needs a model with such a head ({lacking[0]}); {config.model_type} has none: "
            f"take a preset or {SUITED.get(architecture, 'a BERT-like configuration')}"
        )
    return chosen


def attention(config: Any) -> str | None:
    """Return the attention that trains fastest here: on a CPU and short contexts plain products, else torch's choice.

    Measured on two EPYC cores at 128 tokens: torch's fused CPU attention takes 3–5 × as long in the backward pass.
    """
    import torch

    short = (getattr(config.get_text_config(), "max_position_embeddings", None) or 0) <= LONGEST_PLAIN_ATTENTION
    return "eager" if short and not torch.cuda.is_available() else None


def _scaled_init(model: Any) -> None:
    """Draw matrices at std 0.5/√fan_in and embeddings at 0.5; start the head and the residual projections at zero."""
    import torch

    zero = ("o_proj.weight", "down_proj.weight", "lm_head.weight")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(zero):
                parameter.zero_()
            elif parameter.ndim == 2:
                parameter.normal_(std=0.5 if "embed" in name else 0.5 * parameter.shape[1] ** -0.5)


def _read_config(folder: Path) -> Any:
    from transformers.models.auto.configuration_auto import AutoConfig

    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return AutoConfig.from_pretrained(folder)
    except FileNotFoundError:
        raise DataError(f"--model {folder} must hold a config.json; found {_listing(folder)}") from None
    except (ValueError, KeyError) as error:
        raise DataError(
            f"--model {folder}/config.json is not a configuration that transformers knows: {error}"
        ) from None


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "an empty folder"


def _from_config(
    folder: Path, vocab_size: int, context: int, architecture: str, end_id: int | None, pad_id: int | None
) -> Any:
    config = _read_config(folder)
    text = config.get_text_config()
    positions = max(context, getattr(text, "max_position_embeddings", 0) or 0)
    for key, value in (_fitting(vocab_size, positions, end_id, pad_id) | _decoding(config, pad_id)).items():
        setattr(text, key, value)
    return instantiate(config, architecture)


def _continue_from(
    folder: Path, vocab_size: int, context: int, exact: bool, architecture: str, new_tokens: int, complete: bool
) -> Any:
    config = _read_config(folder)
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    needed = vocab_size - (new_tokens if architecture in GROWING else 0)
    if text.vocab_size < needed or (exact and text.vocab_size != needed):
        raise DataError(
            f"the tokenizer has {needed} tokens and the model in {folder} has {text.vocab_size}: use the tokenizer "
            "that the model was trained with (leave --tokenizer out, or --tokenizer FOLDER)"
        )
    if positions and positions < context:
        raise DataError(f"--block-size {context} is more than the {positions} positions of the model in {folder}")
    # of a head that an encoder leaves behind, or that a discriminator gets, nobody need be warned
    auto = auto_class(config, architecture)
    with _quiet(complete or architecture in ("encoder", "replaced_token")):
        model, new = with_weights(auto, folder, labelled(config, architecture), resize=architecture == "replaced_token")
    if complete:
        refuse_absent(model, new, folder)
    if text.vocab_size < vocab_size:  # new rows are drawn like the others were
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
    return model


def with_weights(auto: Any, folder: Path, config: Any, *, resize: bool) -> tuple[Any, set[str]]:
    """Return a model of an Auto class with the weights in a folder, and the names of parameters that these do not hold.

    `resize`: weights of another size are left out, not refused.
    Errors: DataError for weights that cannot be loaded, or are of another architecture: they hold no embeddings of it.
    """
    import torch

    model, new, _ = _loaded(
        auto, folder, config=config, dtype=torch.float32, attn_implementation=attention(config),
        ignore_mismatched_sizes=resize,
    )  # fmt: skip
    embeddings = {id(p) for p in model.get_input_embeddings().parameters()}
    refuse_absent(model, {name for name, p in model.named_parameters() if name in new and id(p) in embeddings}, folder)
    return model, new


def whole(auto: Any, folder: Path, **options: Any) -> Any:
    """Return what an Auto class loads from a folder whose weights are all there, without a word from transformers.

    Errors: DataError for a folder that transformers cannot load, weights that leave parameters out, which would be
        random numbers (a pooler may be missing: nobody asks an encoder for it), or hold layers the model has not.
    """
    with _quiet():
        model, absent, extra = _loaded(auto, folder, **options)
    if auto.__name__.endswith("Model"):  # AutoModel, BertModel
        absent = {name for name in absent if "pooler" not in name}
    refuse_absent(model, absent, folder)
    layers = [name for name in extra if re.search(r"(layers?|h|blocks?)\.\d+\.", name)]
    if layers:
        raise DataError(
            f"the weights in {folder} hold layers that its config.json does not tell of, {min(layers)} among them: "
            "the two are not of the same model"
        )
    return model


def refuse_absent(model: Any, absent: set[str], folder: Path) -> None:
    """Raise DataError where parameters of a model are not among the weights in a folder."""
    if absent:
        kind, named = type(model).__name__, ", ".join(architectures(folder)) or "no class"
        raise DataError(
            f"the weights in {folder} are not those of a {kind}: {len(absent)} of its parameters, {min(absent)} among "
            f"them, are missing and would be random numbers (config.json names {named}). Give a model that was trained "
            f"as a {kind}, or say another task"
        )


def architectures(folder: Path) -> list[str]:
    """Return the classes that a model's config.json names; none where it cannot be read."""
    try:
        written = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
        return [str(name) for name in written]
    except (OSError, ValueError, AttributeError):
        return []


def guesses_hidden(architecture: str) -> bool:
    """Tell whether a class of transformers has a head for hidden tokens.

    BertForPreTraining and the like hold one too, which AutoModelForMaskedLM takes out; ELECTRA's judges tokens.

    >>> guesses_hidden("BertForPreTraining"), guesses_hidden("ElectraForPreTraining")
    (True, False)
    """
    return architecture.endswith(("ForMaskedLM", "ForPreTraining")) and architecture != "ElectraForPreTraining"


def _loaded(auto: Any, folder: Path, **options: Any) -> tuple[Any, set[str], set[str]]:
    """Return a model, the names of its parameters that a folder's weights do not hold, and those of weights left over.

    Errors: DataError for a folder that transformers cannot load.
    """
    from safetensors import SafetensorError

    try:
        model, info = auto.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise DataError(f"{folder} cannot be loaded with transformers.{auto.__name__}: {why}") from error
    absent = {str(name) for name in info["missing_keys"]} | {str(entry[0]) for entry in info["mismatched_keys"]}
    return model, absent, {str(name) for name in info["unexpected_keys"]}


@contextmanager
def _quiet(wanted: bool = True) -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    if wanted:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
