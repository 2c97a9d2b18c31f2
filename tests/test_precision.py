"""Which precision a device multiplies fastest in: what CPUs tell of themselves, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lossmith.precision import fast_bf16, fast_on_cpu, slower, x86_has_fast_bf16

# As torch.cpu.get_capabilities() tells them; Emerald Rapids is this project's machine.
EMERALD_RAPIDS = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": True, "amx_bf16": True}
COOPER_LAKE = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": False, "amx_bf16": False}
ICE_LAKE = {"cpu_name": "Intel Xeon", "avx512_bf16": False, "avx512_fp16": False, "amx_bf16": False}
EPYC = {"cpu_name": "AMD EPYC", "avx512_bf16": True, "avx512_fp16": False, "amx_bf16": False}


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        (EMERALD_RAPIDS, True),
        (EMERALD_RAPIDS | {"amx_bf16": False}, False),  # hidden by the hypervisor
        (COOPER_LAKE, True),
        (ICE_LAKE, False),  # oneDNN takes bfloat16 there, and emulates it
        (EPYC, True),
        (EPYC | {"avx512_fp16": True}, True),
        ({}, False),
    ],
)
def test_bfloat16_is_fast_where_the_cpu_has_it_and_not_amx_behind_a_curtain(
    capabilities: dict[str, Any], fast: bool
) -> None:
    assert x86_has_fast_bf16(capabilities) is fast


def test_a_precision_that_is_slower_here_is_called_so() -> None:
    assert slower(False, torch.device("cpu")) == ""
    assert "slower than float32" in slower(True, torch.device("meta"))  # which multiplies nothing
    assert (slower(True, torch.device("cpu")) == "") is fast_on_cpu(torch.bfloat16)
    assert fast_bf16(torch.device("meta")) is False
