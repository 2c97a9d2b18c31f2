"""Which precision a device multiplies matrices fastest in."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


def fast_bf16(device: torch.device) -> bool:
    """Tell whether this device multiplies bfloat16 matrices faster than float32; where it does, autocast is faster.

    Measured, nano's training steps against float32's: two EPYC cores (AVX-512 bf16) 2.2 ×; two Xeon cores with AMX
    hidden 0.84 × (benchmarks/precision.py).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and fast_on_cpu(torch.bfloat16)


@cache
def fast_on_cpu(dtype: torch.dtype) -> bool:
    """Tell whether this CPU multiplies bfloat16 or float16 in hardware, and no slower than float32."""
    kind = "bf16" if dtype == torch.bfloat16 else "fp16"
    if not getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported", lambda: False)():  # oneDNN may still emulate it
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if dtype != torch.bfloat16 or capabilities.get("architecture") not in ("x86_64", None):
        return True
    return x86_has_fast_bf16(capabilities or {"avx512_bf16": torch.cpu._is_avx512_bf16_supported()})


def x86_has_fast_bf16(capabilities: dict[str, Any]) -> bool:
    """Tell from torch.cpu.get_capabilities() whether an x86 CPU multiplies bfloat16 faster than float32.

    With AMX it does, and with the instruction of AVX-512. But Intel's cores that were made for AMX (Sapphire Rapids and
    later: they have AVX-512 fp16) run that instruction at half the rate, and many hypervisors hide AMX: 68 to 76
    GFLOP/s a thread against float32's 92 to 130 (Emerald Rapids, benchmarks/precision.py).

    >>> x86_has_fast_bf16({"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": True, "amx_bf16": False})
    False
    >>> x86_has_fast_bf16({"cpu_name": "AMD EPYC", "avx512_bf16": True})
    True
    """
    if capabilities.get("amx_bf16"):
        return True
    made_for_amx = str(capabilities.get("cpu_name", "")).startswith("Intel") and capabilities.get("avx512_fp16")
    return bool(capabilities.get("avx512_bf16")) and not made_for_amx


def slower(bf16: bool, device: torch.device) -> str:
    """Return what to add to the name of a precision that is the slower one on a device; else nothing."""
    return ", slower than float32 on this device" if bf16 and not fast_bf16(device) else ""
