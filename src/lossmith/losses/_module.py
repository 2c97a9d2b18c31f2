"""Module: any loss as an nn.Module, its options fixed and checked when it is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lossmith.errors import InputError, did_you_mean
from lossmith.total import Total


@dataclass(frozen=True)
class Takes:
    """Say what a loss can be called with: names of its arguments, which may go without a name, which must be there."""

    loss: str
    names: tuple[str, ...]
    positional: tuple[str, ...]
    required: tuple[str, ...]
    anything: bool  # **options: nothing is unknown

    @classmethod
    def of(cls, fn: Callable[..., Any], loss: str) -> Takes:
        """Read the signature of a function, or of what makes a module."""
        given = inspect.signature(fn).parameters.values()
        named = [p for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return cls(
            loss,
            tuple(p.name for p in named),
            tuple(p.name for p in named if p.kind is p.POSITIONAL_OR_KEYWORD),
            tuple(p.name for p in named if p.default is p.empty),
            any(p.kind is p.VAR_KEYWORD for p in given),
        )

    def refuse_unknown(self, given: Iterable[str]) -> None:
        """Raise InputError for a name that the loss does not take."""
        for name in given:
            if name not in self.names and not self.anything:
                hint = did_you_mean(name, self.names)
                raise InputError(f"{self.loss} takes {', '.join(self.names)}; got {name!r}.{hint}")

    def refuse_missing(self, given: Iterable[str]) -> None:
        """Raise InputError where something is missing that the loss cannot do without."""
        missing = [name for name in self.required if name not in given]
        if missing:
            raise InputError(f"{self.loss} needs {', '.join(self.required)}; missing: {', '.join(missing)}")

    def bind(self, tensors: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
        """Give names to tensors without: those of the arguments, in their order, that are not `given` yet."""
        self.refuse_unknown(given)
        free = [name for name in self.positional if name not in given]
        if len(tensors) > len(free):
            raise InputError(f"{self.loss} takes {', '.join(free) or 'nothing'} here; got {len(tensors)} tensors")
        whole = given | dict(zip(free, tensors, strict=False))
        self.refuse_missing(whole)
        return whole


class Module(nn.Module):
    """Hold a loss and its options; called with the tensors that are left, it returns their Total.

    loss: a name of the table LOSSES, or any function (or class of modules) with the arguments of a loss. options: what
    it takes by name. A tensor among them becomes a buffer (moved by `.to`, saved by `state_dict`), an nn.Parameter a
    parameter, and an nn.Module a child that is called for its value (Temperature). What is fixed here is left out of
    the call: with `head=`, linear_cross_entropy is called with hidden and targets. What a call names itself wins.

    Errors: InputError for an unknown name or option, and for a call with too many tensors, too few, or unknown ones.

    >>> import torch
    >>> loss = Module("cross_entropy", label_smoothing=0.1, class_weights=torch.ones(3))
    >>> loss
    Module(cross_entropy, label_smoothing=0.1, class_weights=float32[3])
    >>> loss(torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0])).mean()  # 0.9·0.4644 + 0.1·(0.4644 + 1.4644 + 1.9644)/3
    tensor(0.5477)
    """

    def __init__(self, loss: str | Callable[..., Any], /, **options: Any) -> None:
        super().__init__()
        fn = _find(loss)
        name = loss if isinstance(loss, str) else str(getattr(fn, "__name__", fn))
        self._takes = Takes.of(fn, name)
        self._takes.refuse_unknown(options)
        self._fn: Callable[..., Any] | None = None if inspect.isclass(fn) else fn
        self._options = {key: x for key, x in options.items() if not isinstance(x, (Tensor, nn.Module))}
        self._held: tuple[str, ...] = ()  # what is a buffer, a parameter or a child of this module
        if self._fn is None:
            self._takes.refuse_missing(options)
            self.loss: nn.Module = fn(**options)
            self._takes = Takes.of(self.loss.forward, name)
        else:
            self._hold({key: x for key, x in options.items() if key not in self._options})

    def _hold(self, tensors: dict[str, Tensor | nn.Module]) -> None:
        self._held = tuple(tensors)
        for name, x in tensors.items():
            if isinstance(x, nn.Module | nn.Parameter):
                setattr(self, name, x)
            else:
                self.register_buffer(name, x)

    def forward(self, *tensors: Any, **named: Any) -> Total:
        """Return the Total; tensors without a name are the arguments in their order, less those that are fixed."""
        held = {name: getattr(self, name) for name in self._held if name not in named}
        made = {name: x() if isinstance(x, nn.Module) else x for name, x in held.items()}
        fixed = {} if self._fn is None else self._options | made
        total: Total = (self._fn or self.loss)(**self._takes.bind(tensors, fixed | named))
        return total

    def extra_repr(self) -> str:
        """Say which loss, and which options are fixed."""
        fixed = self._options | {name: getattr(self, name) for name in self._held}
        return ", ".join([self._takes.loss, *(f"{name}={_say(x)}" for name, x in fixed.items())])


def _find(loss: str | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(loss, str):
        if isinstance(loss, nn.Module) or not callable(loss):
            why = "is an nn.Module already: use it as it is" if isinstance(loss, nn.Module) else "is none of these"
            raise InputError(f"loss must be a name, a function or a class; got {type(loss).__name__}, which {why}")
        return loss
    from lossmith.losses import LOSSES  # the table, complete only once this module has been imported

    if loss not in LOSSES:
        hint = did_you_mean(loss, LOSSES)
        raise InputError(f"loss must be one of {', '.join(sorted(LOSSES))}; got {loss!r}.{hint}")
    found: Callable[..., Any] = LOSSES[loss].fn
    return found


def _say(value: Any) -> str:
    """Return a tensor as dtype and shape, anything else as Python writes it."""
    if isinstance(value, nn.Module):
        return type(value).__name__
    if not isinstance(value, Tensor):
        return repr(value)
    kind = "Parameter " if isinstance(value, nn.Parameter) else ""
    return f"{kind}{str(value.dtype).removeprefix('torch.')}[{', '.join(map(str, value.shape))}]"
