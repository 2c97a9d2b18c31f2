"""The Triton kernels against the plain formula in float64: on a GPU where there is one, else interpreted by Triton.

Triton decides when it is imported whether it interprets, for the whole process. So where there is no GPU the first test
runs this file again in a process of its own, and the tests marked `kernels` run there.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses.linear_cross_entropy import _triton, _triton_kernels
from lossmith.losses.linear_cross_entropy._chunked import Options
from lossmith.losses.linear_cross_entropy._reference import logits, reference
from lossmith.losses.linear_cross_entropy._triton import Pull, triton_gradients, triton_rows, triton_sum

INSTALLED = importlib.util.find_spec("triton") is not None
RUNS = INSTALLED and (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ALL = Options(label_smoothing=0.1, z_loss=0.01, softcap=5.0, logit_scale=0.7)
EVERY = (True, True, True)

pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason="triton is not installed"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of the interpreter: NumPy warns of what overflows to inf
]
kernels = pytest.mark.skipif(not RUNS, reason="runs in the process that test_kernels_under_the_interpreter starts")


@pytest.mark.skipif(RUNS or not INSTALLED, reason="this is that process")
def test_kernels_under_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", str(Path(__file__))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


@pytest.fixture(autouse=True)
def _one_tile_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, compile for each shape one size of tiles only, not all that Triton would time."""
    if DEVICE == "cuda":
        for kernel in (_triton_kernels.statistics_kernel, _triton_kernels.gradient_kernel):
            monkeypatch.setattr(kernel, "cache", {})
            monkeypatch.setattr(kernel, "early_config_prune", _take(getattr(request, "param", None)))


def _take(size: tuple[Any, ...] | None) -> Any:
    def prune(configs: list[Any], arguments: dict[str, Any], **_: Any) -> list[Any]:
        fits = _triton_kernels._that_fit(configs, arguments)
        same = [c for c in fits if (c.kwargs["BLOCK_V"], c.num_warps, c.num_stages) == size]
        return same or fits[:1]

    return prune


@pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter has one size of tiles")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "_one_tile_size", [(v, w, s) for v, _, w, s, _ in (*_triton_kernels.HALF, *_triton_kernels.SINGLE)], indirect=True
)
def test_every_tile_size(dtype: torch.dtype) -> None:
    inputs = example(300, 200, 5000, dtype)
    check(ours(inputs, max_memory=600_000), exact(inputs), dtype, floor=0.01)


def example(
    rows: int, width: int, vocabulary: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Any]:
    torch.manual_seed(seed)
    made = {
        "hidden": torch.randn(rows, width).to(dtype),
        "head": torch.randn(vocabulary, width).to(dtype),
        "bias": torch.randn(vocabulary),
        "targets": torch.randint(vocabulary, (rows,)),
        "weights": torch.rand(rows) + 0.1,
        "class_weights": torch.rand(vocabulary) + 0.1,
    }
    return {name: x.to(DEVICE) for name, x in made.items()}


def ours(
    inputs: dict[str, Any], options: Options = ALL, want: tuple[bool, bool, bool] = EVERY, **more: Any
) -> list[Tensor]:
    """Value, and gradients with respect to hidden, head and bias."""
    return list(triton_sum(**inputs, options=options, want=want, **more))


def exact(inputs: dict[str, Any], options: Options = ALL) -> list[Tensor]:
    """The same by autograd from the plain formula in float64."""
    wide = {k: x.double() if x is not None and x.is_floating_point() else x for k, x in inputs.items()}
    leaves = [wide[k].requires_grad_() for k in ("hidden", "head", "bias") if wide[k] is not None]
    named = {k: getattr(options, k) for k in ("label_smoothing", "z_loss", "softcap", "logit_scale")}
    value = reference(**wide, **named).value
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def distance(a: Tensor, b: Tensor, floor: float = 1e-30) -> float:
    return float((a.double() - b).norm() / b.norm().clamp_min(floor * b.numel() ** 0.5))


def check(found: list[Tensor], truth: list[Tensor], dtype: torch.dtype, floor: float = 1e-30) -> None:
    """Value and bias in float32; the others are rounded twice, each time by half an epsilon at most.

    floor: size of an entry below which errors count as if it were so large (p − 1 cancels where p is nearly 1).
    """
    rounded = max(torch.finfo(dtype).eps, 1e-6)
    for name, a, b, bound in zip(
        ("value", "hidden", "head", "bias"), found, truth, (1e-6, rounded, rounded, 2e-6), strict=True
    ):
        error = distance(a, b, floor)
        assert error <= bound, f"{name}: {error:.2e} > {bound:.2e}"


@kernels
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 7), (5, 17, 129), (130, 64, 1000)], ids=str)
def test_value_and_gradients_are_those_of_the_formula(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    inputs = example(*shape, dtype)
    check(ours(inputs), exact(inputs), dtype)


@kernels
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(label_smoothing=0.2),
        Options(z_loss=0.05),
        Options(softcap=2.0),
        Options(logit_scale=-1.5),
        Options(softcap=3.0, logit_scale=4.0),
        Options(label_smoothing=1.0, z_loss=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("left_out", [(), ("weights", "class_weights"), ("weights",), ("class_weights",)], ids=str)
def test_every_option_alone(options: Options, left_out: tuple[str, ...]) -> None:
    inputs = example(33, 20, 70) | dict.fromkeys(left_out)
    check(ours(inputs, options), exact(inputs, options), torch.float32)


@kernels
def test_without_a_bias() -> None:
    inputs = example(7, 5, 40) | {"bias": None}
    value, hidden, head, _ = ours(inputs, want=(True, True, False))
    for a, b in zip((value, hidden, head), exact(inputs), strict=True):
        assert distance(a, b) < 1e-6


@kernels
@given(
    rows=st.integers(1, 70), width=st.sampled_from([1, 31, 32, 70]), vocabulary=st.integers(1, 150),
    seed=st.integers(0, 99), dtype=st.sampled_from(DTYPES), memory=st.integers(1, 60_000),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_any_shape(rows: int, width: int, vocabulary: int, seed: int, dtype: torch.dtype, memory: int) -> None:
    inputs = example(rows, width, vocabulary, dtype, seed)
    check(ours(inputs, max_memory=memory), exact(inputs), dtype, floor=1.0)


@kernels
def test_the_last_partial_tile_is_masked_and_a_fault_there_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = example(5, 17, 65)  # one column more than a tile of the interpreter
    check(ours(inputs), exact(inputs), torch.float32)
    sound = _triton_kernels._logits

    def unmasked(z: Any, bias: Any, columns: Any, V: Any, *rest: Any) -> Any:
        return sound(z, bias, columns % V, V, *rest)

    if DEVICE == "cpu":  # a compiled kernel cannot be replaced piecemeal
        monkeypatch.setattr(_triton_kernels, "_logits", unmasked)
        with pytest.raises(AssertionError, match="value"):
            check(ours(inputs), exact(inputs), torch.float32)


@kernels
def test_what_lies_beyond_the_inputs_is_not_read() -> None:
    inputs = example(5, 37, 65)  # D too is a tile and a bit
    fenced: dict[str, Any] = {}
    for name, x in inputs.items():  # as a corner of something larger that is all poison
        poison = float("nan") if x.is_floating_point() else 3
        larger = torch.full([n + 40 for n in x.shape], poison, dtype=x.dtype, device=x.device)
        corner = larger[tuple(slice(n) for n in x.shape)]
        corner.copy_(x)
        fenced[name] = corner
    for a, b in zip(ours(inputs), ours(fenced), strict=True):
        assert torch.equal(a, b)


@kernels
def test_any_strides() -> None:
    inputs = example(34, 18, 66)
    spread = {k: torch.stack([x, x], -1)[..., 0] for k, x in inputs.items()}  # every second entry
    turned = inputs | {"hidden": inputs["hidden"].T.contiguous().T, "head": inputs["head"].T.contiguous().T}
    for other in (spread, turned):
        for a, b in zip(ours(inputs), ours(other), strict=True):
            assert torch.equal(a, b)


@kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_stretch_of_the_vocabulary_changes_nothing_but_rounding(dtype: torch.dtype) -> None:
    inputs = example(40, 20, 300, dtype)
    whole, cut = ours(inputs, max_memory=10**9), ours(inputs, max_memory=1)
    assert torch.equal(whole[0], cut[0])
    assert torch.equal(whole[3], cut[3])
    check(cut, exact(inputs), dtype)
    assert distance(whole[1], cut[1].double()) < max(torch.finfo(dtype).eps, 1e-6)


@kernels
def test_two_runs_give_the_same_bits() -> None:
    inputs = example(40, 20, 300, torch.bfloat16)
    for a, b in zip(ours(inputs), ours(inputs), strict=True):
        assert torch.equal(a, b)


@kernels
@pytest.mark.parametrize(
    "want", [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)], ids=str
)
def test_only_what_is_wanted_is_made(want: tuple[bool, bool, bool]) -> None:
    inputs = example(6, 8, 40)
    everything, some = ours(inputs), ours(inputs, want=want)
    for wanted, a, b in zip((True, *want), everything, some, strict=True):
        assert torch.equal(a, b) if wanted else b is None


@kernels
def test_gradients_in_a_wider_dtype_spare_the_last_rounding() -> None:
    inputs = example(40, 24, 90, torch.bfloat16)
    truth, narrow, wide = exact(inputs), ours(inputs), ours(inputs, grad_dtype=torch.float32)
    for i in (1, 2):
        assert wide[i].dtype == torch.float32
        assert narrow[i].dtype == torch.bfloat16
        assert distance(wide[i], truth[i]) < distance(narrow[i], truth[i])


@kernels
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_filter_keeps_to_its_bound(dtype: torch.dtype) -> None:
    inputs, threshold = example(130, 16, 400, dtype), 1e-3
    inputs["head"][:320] *= 0.1  # the last 80 columns hold nearly all the probability
    inputs["hidden"] *= 4
    inputs["targets"] %= 320
    plain = Options()
    full, filtered = ours(inputs, plain), ours(inputs, replace(plain, filter_below=threshold))
    for i in (0, 2, 3):
        assert torch.equal(full[i], filtered[i])
    z = logits(inputs["hidden"].double(), inputs["head"].double(), inputs["bias"].double(), 1.0, None)
    own = inputs["class_weights"][inputs["targets"]] * inputs["weights"]
    onehot = torch.nn.functional.one_hot(inputs["targets"], 400)
    gradient = own[:, None].double() * (torch.softmax(z, -1) - onehot)
    small = torch.where(gradient.abs() < threshold, gradient.abs(), 0)
    bound = small @ inputs["head"].double().norm(dim=1)  # what the docstring promises, entry by entry
    missing = (full[1].double() - filtered[1].double()).norm(dim=1)
    rounding = 2 * torch.finfo(dtype).eps * full[1].double().norm(dim=1)
    assert bool((missing <= bound + rounding).all())
    assert float(missing.max()) > 0 or dtype != torch.float32, "nothing was left out: the test shows nothing"


@kernels
def test_a_filter_nothing_stays_below_changes_no_gradient() -> None:
    inputs = example(40, 20, 100)
    full, kept = ours(inputs), ours(inputs, replace(ALL, filter_below=1e-30))
    for a, b in zip(full, kept, strict=True):
        assert distance(b, a.double()) < 1e-6


@kernels
def test_a_filter_that_leaves_out_everything() -> None:
    inputs = example(40, 20, 100)
    full, none = ours(inputs), ours(inputs, replace(ALL, filter_below=1e9))
    assert not none[1].any()
    assert torch.equal(full[2], none[2])


@kernels
@pytest.mark.parametrize("filter_below", [0.0, 1e-3])
def test_nan_in_a_counted_row_shows(filter_below: float) -> None:
    inputs = example(5, 8, 40)
    inputs["hidden"][2, 3] = float("nan")
    value, hidden, head, bias = ours(inputs, replace(ALL, filter_below=filter_below))
    assert value.isnan()
    assert hidden[2].isnan().all()
    assert not hidden[[0, 1, 3, 4]].isnan().any()
    assert head.isnan().all()
    assert bias.isnan().all()
    alone = {k: x[2:3] if len(x) == 5 else x for k, x in inputs.items()}
    assert ours(alone, replace(ALL, filter_below=filter_below))[1].isnan().all()


@kernels
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [Options(), Options(label_smoothing=0.1), Options(softcap=30.0)], ids=str)
def test_extreme_logits(options: Options, dtype: torch.dtype) -> None:
    inputs = example(9, 4, 90, dtype) | {"bias": torch.zeros(90, device=DEVICE)}  # else 1e4 + bias rounds in float32
    inputs["hidden"] = (inputs["hidden"] * 100).sign() * 100
    inputs["head"] = (inputs["head"] * 100).sign() * 25  # logits of −1e4, −5e3, 0, 5e3, 1e4
    found, truth = ours(inputs, options), exact(inputs, options)
    assert all(bool(x.isfinite().all()) for x in found)
    check(found, truth, dtype)


@kernels
def test_a_bias_of_minus_infinity_takes_a_class_out() -> None:
    inputs = example(9, 6, 300)
    inputs["targets"] = inputs["targets"] % 10 + 290
    inputs["bias"][:290] = float("-inf")  # whole tiles, and a whole program's columns
    cut = (
        inputs | {k: inputs[k][290:] for k in ("head", "bias", "class_weights")} | {"targets": inputs["targets"] - 290}
    )
    found, truth = ours(inputs, Options(z_loss=0.1)), exact(cut, Options(z_loss=0.1))
    check([found[0], found[1], found[2][290:], found[3][290:]], truth, torch.float32)
    assert not found[2][:290].any()


@kernels
def test_targets_out_of_range_are_read_nowhere() -> None:
    inputs = example(4, 6, 50)
    inputs["targets"] = torch.tensor([3, -7, 10**9, 50], device=DEVICE)
    value, hidden, head, bias = ours(inputs)
    assert all(bool(x.isfinite().all()) for x in (value, hidden, head, bias))


@kernels
def test_no_rows() -> None:
    inputs = example(0, 6, 50)
    value, hidden, head, bias = ours(inputs)
    assert value == 0
    assert hidden.shape == (0, 6)
    assert not head.any()
    assert not bias.any()


@kernels
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_log_probabilities_of_each_row_and_their_gradient(dtype: torch.dtype) -> None:
    inputs, options = example(37, 12, 140, dtype), Options(softcap=4.0, logit_scale=1.5)
    x, w, b = inputs["hidden"], inputs["head"], inputs["bias"]
    upstream = torch.randn(37, device=DEVICE)
    rows = triton_rows(x, w, b, inputs["targets"], options)
    found = triton_gradients(x, w, b, inputs["targets"], rows, Pull(-upstream, -upstream), options, EVERY)
    wide = [y.double().requires_grad_() for y in (x, w, b)]
    z = logits(*wide, options.logit_scale, options.softcap)  # type: ignore[arg-type]
    own = torch.log_softmax(z, -1).gather(1, inputs["targets"][:, None])[:, 0]
    torch.testing.assert_close(-rows.surprisal.double(), own.detach(), rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(rows.lse.double(), torch.logsumexp(z, -1).detach(), rtol=1e-6, atol=2e-6)
    truth = torch.autograd.grad(own @ upstream.double(), wide)
    check([rows.lse, *found], [torch.logsumexp(z, -1).detach(), *truth], dtype)  # type: ignore[list-item]


@kernels
def test_float64_is_refused() -> None:
    with pytest.raises(InputError, match=r"one dtype of float32, bfloat16, float16; got torch\.float64"):
        ours(example(2, 3, 4, torch.float64))


@pytest.mark.skipif(RUNS, reason="here the kernels run")
def test_where_they_cannot_run_they_say_why() -> None:
    assert "no CUDA device" in str(_triton.available())
    with pytest.raises(InputError, match="impl='triton' cannot run here: no CUDA device"):
        ours(example(2, 3, 4))


COMPILE = """
import sys, warnings
warnings.simplefilter("ignore")
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lossmith.losses.linear_cross_entropy import _triton_kernels as k

FIXED = {"ROWS": k.ROWS, "SPAN": k.SPAN, "GROUP": k.GROUP, "FILTER": k.FILTER, "BLOCK_V": 128, "BLOCK_D": 64,
         "STEP": 64, "D": 100, "CAPPED": True, "PRECISION": "tf32"}
TYPES = {"x": "*bf16", "w": "*bf16", "grad": "*bf16", "targets": "*i64", "order": "*i64", "counts": "*i32",
         "marks": "*i32", "scale": "fp32", "softcap": "fp32", "threshold": "fp32"}
NUMBERS = {"V", "x_stride", "w_stride", "out_stride", "grad_stride", "first", "last", "width"}

def compiled(kernel, out, rows, capability):
    while not hasattr(kernel, "params"):
        kernel = kernel.fn
    signature, constants = {}, {}
    for i, name in enumerate(kernel.arg_names):
        if name in FIXED or (name == "N" and rows == 1):  # Triton makes a constant of an argument that is 1
            signature[name], constants[(i,)] = "constexpr", FIXED.get(name, 1)
        elif name in NUMBERS | {"N"}:
            signature[name] = "i32"
        else:
            signature[name] = out if name == "out" else TYPES.get(name, "*fp32")
    source = ASTSource(kernel, signature, constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})

for capability, unit in ((80, "mma.sync"), (90, "wgmma.mma_async")):
    for kernel, out in ((k.statistics_kernel, ""), (k.gradient_kernel, "*bf16"), (k.hidden_kernel, "*fp32")):
        made = compiled(kernel, out, 1 if capability == 80 else 0, capability)
        assert unit in made.asm["ptx"], (capability, out)
        assert made.metadata.shared <= 160 * 1024
print("compiled")
"""


@pytest.mark.skipif(
    not INSTALLED or os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)
def test_the_kernels_compile_to_matrix_instructions_of_ampere_and_hopper(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    if "No module named 'triton" in done.stderr or "cannot import name" in done.stderr:
        pytest.skip(f"this version of Triton compiles in another way: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "compiled" in done.stdout
