"""Hugging Face models and their Trainer: the model's own loss, computed without its logits."""

from __future__ import annotations

import inspect
import warnings
from functools import wraps
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.integrations._deferred import DeferredLogits, Ledger, defer
from lossmith.integrations._heads import output_layer, recipe_of
from lossmith.losses.classification import cross_entropy
from lossmith.losses.linear_cross_entropy import linear_cross_entropy

__all__ = ["FusedLoss", "compute_loss_func", "fused_loss"]


def fused_loss(model: Any, *, return_logits: bool = False, without_labels: bool = False) -> FusedLoss:
    """Make a causal or masked model compute its loss without its logits wherever labels are given.

    Formula: the model's own loss: its code runs as it is (shift, num_items_in_batch, scales, soft-caps, router losses);
        only its output layer returns logits that are not multiplied out, and cross-entropy takes them so.
    Use: `with fused_loss(model): ...`, or `fused_loss(model)` once, with `.undo()` where it shall end. Calls without labels
        (generate, evaluation) are untouched; the outputs' `logits` are None unless return_logits=True.
    Avoid: where the training code needs the logits anyway.
    without_labels=True defers logits in training calls without labels too: what compute_loss_func needs.
    A model whose loss cannot be had so (`.loss_path` is "logits", `.reason` says why; warned of once) keeps its own.
    Source: https://huggingface.co/docs/transformers/main_classes/model (get_output_embeddings)
    """
    return FusedLoss(model, return_logits=return_logits, without_labels=without_labels)


class FusedLoss:
    """What fused_loss returns: a context manager, and a handle to undo it and to ask which way the loss takes."""

    def __init__(self, model: Any, *, return_logits: bool, without_labels: bool) -> None:
        self.model, self.return_logits, self.without_labels = model, return_logits, without_labels
        self.layer: Any = output_layer(model)
        self.active, self.warned = True, False
        self._ledger: Ledger | None = None
        self._last: Ledger | None = None
        self._patches = [_Patch(model, self._forward)]
        if self.layer is not None:
            self._patches.append(_Patch(self.layer, self._head))

    def __enter__(self) -> FusedLoss:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def undo(self) -> None:
        """Give the model its forward methods back; what others have wrapped around them meanwhile stays, and passes on."""
        self.active = False
        for patch in reversed(self._patches):
            patch.undo()

    @property
    def loss_path(self) -> str:
        """Say how the last loss was computed: "hidden states" or "logits"; "none yet" before the first."""
        if self._last is None:
            return "none yet"
        return "hidden states" if self._last.fused and not self._last.made_for else "logits"

    @property
    def reason(self) -> str:
        """Say why the last loss was computed from logits; empty where it was not."""
        if self._last is None or self.loss_path == "hidden states":
            return ""
        if self.layer is None:
            return "get_output_embeddings() gives no layer"
        if not self._last.alive:
            return f"its output layer, {type(self.layer).__name__}, is not called, or not a plain linear one"
        return f"{', '.join(dict.fromkeys(self._last.made_for)) or 'no cross-entropy'} of its logits"

    def _forward(self, forward: Any, *args: Any, **kwargs: Any) -> Any:
        if not (self.active and self._wanted(forward, args, kwargs)):
            return forward(*args, **kwargs)
        outer, self._ledger = self._ledger, Ledger()
        try:
            outputs = forward(*args, **kwargs)
            self._last = self._ledger
        finally:
            self._ledger = outer
        given = _labels(forward, args, kwargs) is not None
        if given and self.loss_path == "logits" and not self.warned:
            self.warned = True
            warnings.warn(f"{type(self.model).__name__} computes its loss from logits: {self.reason}", stacklevel=4)
        return _replaced(outputs, self.return_logits) if given else outputs

    def _wanted(self, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        training = self.without_labels and self.model.training and torch.is_grad_enabled()
        return training or _labels(forward, args, kwargs) is not None

    def _head(self, forward: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        recipe = None
        if self.active and self._ledger is not None and not args and not kwargs:
            recipe = recipe_of(self.layer, hidden)
        if recipe is None or self._ledger is None:
            return forward(hidden, *args, **kwargs)
        precision = recipe.precision()

        def make(hidden: Tensor) -> Tensor:
            with precision:
                result: Tensor = forward(hidden)
                return result

        return defer(recipe, self._ledger, make, hidden)


class _Patch:
    """An instance's forward, replaced: `replacement(original, *args, **kwargs)` runs instead, under the same signature."""

    def __init__(self, module: nn.Module, replacement: Any) -> None:
        self.module, self.before = module, module.__dict__.get("forward")
        original = module.forward

        @wraps(original)
        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            return replacement(original, *args, **kwargs)

        forward.__signature__ = _with_self(original)  # type: ignore[attr-defined]
        self.ours = MethodType(forward, module)
        module.forward = self.ours

    def undo(self) -> None:
        """Put back what was there, unless somebody has wrapped ours in the meantime."""
        if self.module.__dict__.get("forward") is not self.ours:
            return
        if self.before is None:
            del self.module.forward
        else:
            self.module.forward = self.before


def _with_self(bound: Any) -> inspect.Signature:
    """Return the signature of a bound method with its self, so that binding it again takes that off."""
    signature = inspect.signature(bound)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    return signature.replace(parameters=[first, *signature.parameters.values()])


def _labels(forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the labels of a call of `forward`, by name or by position."""
    if "labels" in kwargs or not args:
        return kwargs.get("labels")
    names = list(inspect.signature(forward).parameters)
    at = names.index("labels") if "labels" in names else len(args)
    return args[at] if at < len(args) else None


def _replaced(outputs: Any, keep: bool) -> Any:
    """Return the outputs with deferred logits made (keep) or None, in the model's own class."""
    if isinstance(outputs, DeferredLogits):
        return outputs.make() if keep else None
    if isinstance(outputs, tuple) and not hasattr(outputs, "_fields"):
        return tuple(_replaced(x, keep) for x in outputs)
    if isinstance(outputs, dict):
        return type(outputs)(**{name: _replaced(x, keep) for name, x in outputs.items()})
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

    Formula: ``Σ loss / num_items_in_batch`` (the mean over labels without it), plus ``aux_coefficient·outputs.aux_loss``
        (a model's own router loss, which it adds only to its own).
    Shapes: outputs.logits [B, T, V], labels [B, T]; −100 weighs nothing.
    Use: `functools.partial(compute_loss_func, z_loss=1e-4)`; after `fused_loss(model, without_labels=True)` no logits are
        held in training, else those of the model are used.
    shift: whether token t predicts label t+1; None: yes, unless the outputs are a masked or a sequence-to-sequence model's.
    """
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    causal = not type(outputs).__name__.startswith(("MaskedLM", "Seq2Seq")) if shift is None else shift
    if causal:
        labels = nn.functional.pad(labels, (0, 1), value=-100)[..., 1:]
    labels = labels.to(logits.device)
    options: dict[str, Any] = {"label_smoothing": label_smoothing, "z_loss": z_loss}
    recipe = logits.recipe if isinstance(logits, DeferredLogits) else None
    if recipe is None:
        total = cross_entropy(logits.make() if isinstance(logits, DeferredLogits) else logits, labels, **options)
    else:
        with recipe.precision():
            total = linear_cross_entropy(recipe.hidden, recipe.head, labels, **recipe.arguments(), **options)
    loss = total.mean() if num_items_in_batch is None else total.value / num_items_in_batch
    return loss + aux_coefficient * outputs["aux_loss"] if aux_coefficient else loss
