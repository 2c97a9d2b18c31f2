"""Which precision a device multiplies fastest in: what CPUs tell of themselves, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lossmith.precision import described, fast_bf16, fast_on_cpu, hidden_amx

EMERALD_RAPIDS = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": True}  # as this project's machine tells
COOPER_LAKE = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": False, "amx_bf16": False}
EPYC = {"cpu_name": "AMD EPYC", "avx512_bf16": True, "avx512_fp16": False, "amx_bf16": False}


@pytest.mark.parametrize(
    ("capabilities", "hidden"),
    [
        (EMERALD_RAPIDS | {"amx_bf16": False}, True),
        (EMERALD_RAPIDS | {"amx_bf16": True}, False),
        (COOPER_LAKE, False),
        (EPYC, False),
        (EPYC | {"avx512_fp16": True}, False),
        ({}, False),  # a torch that does not tell
    ],
)
def test_only_intel_cores_made_for_amx_lose_by_bfloat16_without_it(capabilities: dict[str, Any], hidden: bool) -> None:
    assert hidden_amx(capabilities) is hidden


def test_this_cpu_is_asked() -> None:
    told = torch.cpu.get_capabilities()
    native = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert fast_on_cpu(torch.bfloat16) is (native and not hidden_amx(told))
    assert fast_bf16(torch.device("cpu")) is fast_on_cpu(torch.bfloat16)
    assert fast_bf16(torch.device("meta")) is False


def test_a_slower_precision_is_named_with_what_to_do() -> None:
    assert described(False, torch.device("cpu")) == "float32"
    slower = described(True, torch.device("meta"))  # which multiplies nothing
    assert "slower than float32" in slower
    assert "leave --bf16 out" in slower
    quick = "bf16 autocast" if fast_on_cpu(torch.bfloat16) else slower
    assert described(True, torch.device("cpu")) == quick
