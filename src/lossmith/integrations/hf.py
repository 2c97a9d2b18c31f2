"""Hugging Face models and their Trainer: the model's own loss, computed without its logits."""

from __future__ import annotations

import functools
import inspect
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.errors import InputError
from lossmith.integrations._deferred import DeferredLogits, Ledger, defer
from lossmith.integrations._heads import output_layers, overridden, recipe_of
from lossmith.losses.classification import cross_entropy
from lossmith.losses.linear_cross_entropy import linear_cross_entropy

__all__ = ["FusedLoss", "compute_loss_func", "fused_loss"]

ON: weakref.WeakSet[nn.Module] = weakref.WeakSet()
COMPILED = "torch.compile of the whole model; compile what is below the output layer: model.base_model.compile()"


def fused_loss(model: Any, *, return_logits: bool = False, without_labels: bool = False) -> FusedLoss:
    """Make a causal or masked model compute its loss without its logits wherever labels are given.

    Formula: the model's own loss: its code runs as it is (shift, num_items_in_batch, scales, soft-caps, router losses);
        only its output layer returns logits that are not multiplied out, and cross-entropy takes them so.
    Use: `with fused_loss(model): ...`, or `fused_loss(model)` once, with `.undo()` where it shall end; before DDP.
        Calls without labels (generate) are untouched. In training `outputs.logits` is None, unless return_logits=True;
        then, and in evaluation, they are made when they are read. A copy or a pickle of the model is one without it.
    Avoid: where the training code needs the logits anyway.
    without_labels=True defers logits in training calls without labels too: what compute_loss_func needs.
    A model whose loss cannot be had so (`.loss_path` is "logits", `.reason` says why; warned of once) keeps its own, at
    the memory it takes. So does torch.compile of the whole model: compile its body instead.
    Errors: InputError for a model that does not say which layer makes its logits, and where fused_loss is already on.
    Source: https://huggingface.co/docs/transformers/main_classes/model (get_output_embeddings)

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=8, n_layer=1, n_head=2))
    >>> ids = torch.arange(12)[None]
    >>> with fused_loss(model) as fused:
    ...     outputs = model(input_ids=ids, labels=ids)
    >>> fused.loss_path, outputs.logits, outputs.loss.isclose(model(input_ids=ids, labels=ids).loss, rtol=0.1).item()
    ('hidden states', None, True)
    """
    if not hasattr(model, "get_output_embeddings"):
        hint = " Pass the model inside it, .module." if hasattr(model, "module") else ""
        raise InputError(
            f"fused_loss needs a transformers model, with get_output_embeddings(); got {type(model).__name__}.{hint}"
        )
    return FusedLoss(model, return_logits=return_logits, without_labels=without_labels)


class FusedLoss:
    """What fused_loss returns: a context manager, and a handle to undo it and to ask which way the loss takes."""

    def __init__(self, model: Any, *, return_logits: bool, without_labels: bool) -> None:
        self.model, self.return_logits, self.without_labels = model, return_logits, without_labels
        layers = output_layers(model)
        self.warned, self.compiled = False, False
        self._ledger: Ledger | None = None
        self._last: Ledger | None = None
        if any(module in ON for module in (model, *layers)):
            raise InputError("fused_loss is already on for this model; undo() that first")
        ON.update((model, *layers))
        self._heads = [_Patch(layer, functools.partial(self._head, at)) for at, layer in enumerate(layers)]
        self._patches = [_Patch(model, self._forward), *self._heads]

    def __enter__(self) -> FusedLoss:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def undo(self) -> None:
        """Give the model its forward methods back; what others have wrapped around ours stays, and passes on."""
        for patch in reversed(self._patches):
            patch.undo()
            ON.discard(patch.module)

    @property
    def loss_path(self) -> str:
        """Say how the last loss was computed: "hidden states" or "logits"; "none yet" before the first."""
        if self._last is None:
            return "logits" if self.compiled else "none yet"
        return "hidden states" if self._last.fused and not self._last.needed_by else "logits"

    @property
    def reason(self) -> str:
        """Say why the last loss was computed from logits; empty where it was not."""
        if self.loss_path != "logits":
            return ""
        if self._last is None:
            return COMPILED
        if not self._heads:
            return "get_output_embeddings() gives no layer"
        if not (self._last.fused or self._last.needed_by or self._last.alive):
            if self.compiled:
                return COMPILED
            return f"its output layer, {type(self._heads[0].module).__name__}, is not called, or not a plain linear one"
        return f"{', '.join(dict.fromkeys(self._last.needed_by)) or 'no cross-entropy'} of its logits"

    def _forward(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            self.compiled, self._last = True, None
            return forward(*args, **kwargs)
        labelled = _labels(forward, args, kwargs) is not None
        training = self.model.training and torch.is_grad_enabled()
        if not (labelled or (training and self.without_labels)):
            return forward(*args, **kwargs)
        self._ledger = ledger = Ledger()
        try:
            outputs = forward(*args, **kwargs)
        finally:
            self._ledger = None
        self._last = ledger
        if not labelled:
            return outputs
        ledger.closed = True
        if self.loss_path == "logits" and not self.warned:
            self.warned = True
            warnings.warn(f"{type(self.model).__name__} computes its loss from logits: {self.reason}", stacklevel=5)
        return outputs if self.return_logits or not torch.is_grad_enabled() else _without_logits(outputs)

    def _head(self, at: int, forward: Callable[..., Any], hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        patch = self._heads[at]
        if torch.compiler.is_compiling():
            self.compiled = True
            return forward(hidden, *args, **kwargs)
        ours = self._ledger is not None and not patch.wraps_another and not (args or kwargs)
        recipe = recipe_of(patch.module, hidden) if ours else None
        if recipe is None or self._ledger is None:
            return forward(hidden, *args, **kwargs)
        return defer(recipe, self._ledger, recipe.product)


class _Patch:
    """Stands in an instance for its forward: calls `run` with what was there before, under the same signature."""

    def __init__(self, module: nn.Module, run: Callable[..., Any]) -> None:
        self.module, self.run, self.active = module, run, True
        self.before = module.__dict__.get("forward")
        functools.update_wrapper(self, self.original())
        module.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args and args[0] is self.module:  # accelerate binds what it finds here to the model when it unwraps it
            args = args[1:]
        before = self.original()
        return self.run(before, *args, **kwargs) if self.active else before(*args, **kwargs)

    def __reduce__(self) -> Any:
        return _unpatched, (self.module, self.before)

    def original(self) -> Callable[..., Any]:
        """Return what was there before."""
        return _unpatched(self.module, self.before)

    @property
    def wraps_another(self) -> bool:
        """Tell whether what was there before is somebody else's, whose work must not be left out."""
        before = self.before
        while isinstance(before, _Patch) and not before.active:
            before = before.before
        return overridden(self.module, before)

    def undo(self) -> None:
        """Put back what was there, unless somebody has wrapped ours in the meantime."""
        self.active = False
        if self.module.__dict__.get("forward") is not self:
            return
        if self.before is None:
            del self.module.forward
        else:
            self.module.forward = self.before


def _unpatched(module: nn.Module, before: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return `before`, or the forward of the module's class; also what copying or unpickling a patch gives."""
    return (
        type(module).forward.__get__(module) if before is None else before
    )  # MethodType is too much for torch.compile


def _labels(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the labels of a call of `forward`, by name or by position."""
    if "labels" in kwargs or not args:
        return kwargs.get("labels")
    names = list(inspect.signature(forward).parameters)
    at = names.index("labels") if "labels" in names else len(args)
    return args[at] if at < len(args) else None


def _without_logits(outputs: Any) -> Any:
    """Return the outputs with None for what is deferred, in the model's own class."""
    if isinstance(outputs, DeferredLogits):
        return None
    if isinstance(outputs, tuple) and not hasattr(outputs, "_fields"):
        return tuple(_without_logits(x) for x in outputs)
    if isinstance(outputs, dict):
        return type(outputs)(**{name: _without_logits(x) for name, x in outputs.items()})
    return outputs


def compute_loss_func(
    outputs: Any,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    *,
    shift: bool | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    aux_coefficient: float = 0.0,
) -> Tensor:
    """Return the loss as Trainer(compute_loss_func=...) wants it, with options that models do not have.

    Formula: ``Σ loss / num_items_in_batch`` (without it the mean over labels), plus ``aux_coefficient·aux_loss`` of the
        outputs (a model's router loss, which it adds only to its own).
    Shapes: outputs.logits [B, T, V], labels [B, T]; −100 weighs nothing.
    Use: `functools.partial(compute_loss_func, z_loss=1e-4)`; after `fused_loss(model, without_labels=True)` no logits
        are held in training, else those of the model are used.
    shift: whether token t predicts label t+1; None: yes, unless the outputs are a masked or seq2seq model's.
    Errors: InputError for shapes that do not fit, and options out of range.
    Source: https://huggingface.co/docs/transformers/main_classes/trainer (compute_loss_func)

    >>> outputs = {"logits": torch.zeros(1, 3, 7)}
    >>> compute_loss_func(outputs, torch.tensor([[1, 2, 3]]))  # ln 7
    tensor(1.9459)
    """
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    kind = type(outputs).__name__
    causal = not ("MaskedLM" in kind or "Seq2Seq" in kind) if shift is None else shift
    if causal:
        labels = nn.functional.pad(labels, (0, 1), value=-100)[..., 1:]
    labels = labels.to(logits.device)
    options: dict[str, Any] = {"label_smoothing": label_smoothing, "z_loss": z_loss}
    if isinstance(logits, DeferredLogits) and logits.made is None:
        logits.ledger.fused = logits.ledger.closed = True
        recipe = logits.recipe
        with recipe.precision():
            total = linear_cross_entropy(recipe.hidden, recipe.head, labels, **recipe.arguments(), **options)
    else:
        total = cross_entropy(logits.make() if isinstance(logits, DeferredLogits) else logits, labels, **options)
    loss = total.mean() if num_items_in_batch is None else total.value / num_items_in_batch
    return loss + aux_coefficient * outputs["aux_loss"] if aux_coefficient else loss
