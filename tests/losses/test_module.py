"""Module: every loss of the table as an nn.Module, with what modules are expected to do."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossmith.errors import InputError
from lossmith.losses import LOSSES, Module, Temperature, cross_entropy, linear_cross_entropy
from lossmith.losses._spec import LossSpec
from lossmith.total import Total

WITH_EXAMPLE = [name for name, spec in LOSSES.items() if spec.example is not None]
OWNING = [name for name, spec in LOSSES.items() if inspect.isclass(spec.fn)]
LOGITS, TARGETS = torch.tensor([[2.0, 1.0, 0.5], [0.0, 3.0, 1.0]]), torch.tensor([0, 2])
CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


def same(a: Total, b: Total) -> bool:
    return torch.equal(a.value, b.value) and torch.equal(a.weight, b.weight)


def call(spec: LossSpec) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the example that go without a name, in their order, and those that need theirs."""
    assert spec.example is not None
    given = spec.example(torch.Generator().manual_seed(0), torch.float32)
    kinds = {name: p.kind for name, p in inspect.signature(spec.fn).parameters.items()}
    first = [given[name] for name, kind in kinds.items() if kind.name == "POSITIONAL_OR_KEYWORD" and name in given]
    return first, {name: x for name, x in given.items() if kinds[name].name == "KEYWORD_ONLY"}


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_any_loss_gives_what_the_function_gives(name: str) -> None:
    tensors, named = call(LOSSES[name])
    expected = LOSSES[name].fn(*tensors, **named)
    assert same(Module(name)(*tensors, **named), expected)
    assert same(Module(LOSSES[name].fn, **named)(*tensors), expected), "options fixed beforehand"


def test_what_owns_tensors_is_a_child() -> None:
    kinds = {"a": "regression", "b": "classification"}
    options: dict[str, dict[str, Any]] = {"uncertainty_weighting": {"kinds": kinds}, "grad_norm": {"names": "ab"}}
    options["scheduled_focal"] = {"start": 2.0, "stop": 0.0, "steps": 10}
    for name in OWNING:
        module = Module(name, **options.get(name, {}))
        inner = LOSSES[name].fn(**options.get(name, {}))
        assert set(module.state_dict()) == {f"loss.{key}" for key in inner.state_dict()}, name
    loss = Module("adaptive_robust", alpha=1.5)
    assert same(loss(LOGITS, LOGITS + 1), LOSSES["adaptive_robust"].fn(alpha=1.5)(LOGITS, LOGITS + 1))
    assert len(list(loss.parameters())) == 2


def test_tensors_among_the_options_are_registered() -> None:
    head = nn.Linear(4, 5)
    loss = Module(linear_cross_entropy, head=head.weight, bias=head.bias, class_weights=torch.ones(5))
    assert dict(loss.named_parameters()) == {"head": head.weight, "bias": head.bias}
    assert loss.head is head.weight, "tied, not copied"
    assert list(loss.state_dict()) == ["head", "bias", "class_weights"]
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 4, -100])
    expected = linear_cross_entropy(hidden, head.weight, targets, bias=head.bias)
    assert same(loss(hidden, targets), expected), "a fixed tensor is left out of the call"
    assert same(loss(targets=targets, hidden=hidden), expected)
    loss(hidden, targets).mean().backward()
    assert head.weight.grad is not None
    assert bool(head.weight.grad.any())


def test_a_module_among_the_options_is_called_and_learns() -> None:
    loss = Module("info_nce", temperature=Temperature(0.1))
    queries, keys = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    total = loss(queries, keys)
    assert torch.allclose(total.value, LOSSES["info_nce"].fn(queries, keys, temperature=0.1).value)
    total.mean().backward()
    (log_scale,) = loss.parameters()
    assert log_scale.grad is not None
    assert log_scale.grad != 0
    assert "temperature=Temperature" in repr(loss)


def test_what_a_call_names_wins() -> None:
    loss = Module("cross_entropy", label_smoothing=0.1, class_weights=CLASS_WEIGHTS)
    given = loss(LOGITS, TARGETS, label_smoothing=0.0, class_weights=None, weights=torch.tensor([1.0, 0.0]))
    assert given.mean().item() == pytest.approx(0.46436878)
    assert not same(loss(LOGITS, TARGETS), cross_entropy(LOGITS, TARGETS))


COPIES: dict[str, Callable[[Module], Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": lambda module: saved(module),
}


def saved(module: Module) -> Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: Module = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("how", COPIES)
def test_copies_give_the_same_and_own_their_tensors(how: str) -> None:
    loss = Module("cross_entropy", label_smoothing=0.1, class_weights=CLASS_WEIGHTS.clone())
    other = COPIES[how](loss)
    assert repr(other) == repr(loss)
    assert same(other(LOGITS, TARGETS), loss(LOGITS, TARGETS))
    other.class_weights.fill_(1)
    assert not same(other(LOGITS, TARGETS), loss(LOGITS, TARGETS))


def test_state_dict_and_to() -> None:
    loss, other = (Module("cross_entropy", class_weights=x) for x in (CLASS_WEIGHTS, torch.ones(3)))
    other.load_state_dict(loss.state_dict())
    assert same(loss(LOGITS, TARGETS), other(LOGITS, TARGETS))
    wide = copy.deepcopy(loss).double()
    assert repr(wide) == "Module(cross_entropy, class_weights=float64[3])"
    assert wide(LOGITS.double(), TARGETS).value.dtype == torch.float64


def test_repr_says_loss_and_options() -> None:
    assert repr(Module("focal", gamma=1.5)) == "Module(focal, gamma=1.5)"
    assert repr(Module("mse")) == "Module(mse)"
    shown = repr(Module("linear_cross_entropy", head=nn.Parameter(torch.zeros(5, 4)), softcap=30.0))
    assert shown == "Module(linear_cross_entropy, softcap=30.0, head=Parameter float32[5, 4])"


def plugin(inputs: Tensor, targets: Tensor, **anything: float) -> Total:
    """A loss of somebody else, which takes whatever it is given."""
    losses = (inputs - targets).abs() ** anything.get("power", 1.0)
    return Total(losses.sum(), torch.tensor(float(losses.numel())))


def test_a_function_that_is_not_in_the_table() -> None:
    assert Module(plugin, power=2.0)(torch.tensor([3.0]), torch.tensor([1.0])).mean() == 4


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "class_weights": CLASS_WEIGHTS}])
def test_torch_compile_takes_it_whole(options: dict[str, Any]) -> None:
    torch.compiler.reset()
    loss = Module("cross_entropy", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # dynamo's own
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(LOGITS, TARGETS)
    assert torch.allclose(compiled.value, loss(LOGITS, TARGETS).value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Module("cros_entropy"), "got 'cros_entropy'. Did you mean 'cross_entropy'?"),
        (lambda: Module("cross_entropy", label_smooting=0.1), "'label_smooting'. Did you mean 'label_smoothing'?"),
        (lambda: Module("focal", zzz=1), "focal takes logits, targets, gamma, alpha, weights; got 'zzz'.$"),
        (lambda: Module("adaptive_robust", alfa=1), "got 'alfa'. Did you mean 'alpha'?"),
        (lambda: Module("uncertainty_weighting"), "uncertainty_weighting needs kinds; missing: kinds"),
        (lambda: Module(Temperature()), "got Temperature, which is an nn.Module already"),
        (lambda: Module(3), "must be a name, a function or a class; got int"),
        (lambda: Module("mse")(LOGITS), "mse needs inputs, targets; missing: targets"),
        (lambda: Module("mse")(LOGITS, LOGITS, LOGITS), "mse takes inputs, targets here; got 3 tensors"),
        (lambda: Module("mse", targets=LOGITS)(LOGITS, LOGITS), "mse takes inputs here; got 2 tensors"),
        (lambda: Module("mse")(LOGITS, target=LOGITS), "got 'target'. Did you mean 'targets'?"),
        (lambda: Module("logit_adjusted")(LOGITS, TARGETS), "missing: priors"),
    ],
)
def test_wrong_calls_are_named(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        make()
