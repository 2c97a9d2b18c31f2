"""Which precision a device multiplies matrices fastest in."""

from __future__ import annotations

from typing import Any

import torch


def fast_bf16(device: torch.device) -> bool:
    """Tell whether this device multiplies bfloat16 matrices faster than float32; where it does, autocast is faster.

    Measured, steps against float32's: two EPYC cores (AVX-512 bf16) 2.2 × at 0.8M parameters, 1.8 × at 10M; two Xeon
    cores without AMX 0.7 × at 0.8M.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and fast_on_cpu(torch.bfloat16)


def described(bf16: bool, device: torch.device) -> str:
    """Return the name of a precision, and what to do where it is the slower one."""
    if bf16 and not fast_bf16(device):
        return "bf16 autocast, slower than float32 on this device (leave --bf16 out)"
    return "bf16 autocast" if bf16 else "float32"


def fast_on_cpu(dtype: torch.dtype) -> bool:
    """Tell whether this CPU multiplies bfloat16 or float16 natively, and no slower than float32."""
    kind = "bf16" if dtype == torch.bfloat16 else "fp16"
    if not getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported", lambda: False)():
        return False
    return dtype != torch.bfloat16 or not hidden_amx(getattr(torch.cpu, "get_capabilities", dict)())


def hidden_amx(capabilities: dict[str, Any]) -> bool:
    """Tell whether a CPU is an Intel one made for AMX whose hypervisor hides it, from torch.cpu.get_capabilities().

    Such cores (Sapphire Rapids and later: they have AVX-512 fp16) do bfloat16 in AMX; the AVX-512 instruction is there
    but runs at half the rate: 73 GFLOP/s a core against float32's 95 to 130 (Emerald Rapids, benchmarks/precision.py).

    >>> hidden_amx({"cpu_name": "Intel Xeon", "avx512_fp16": True, "amx_bf16": False})
    True
    >>> hidden_amx({"cpu_name": "AMD EPYC", "avx512_fp16": False, "amx_bf16": False})
    False
    """
    return (
        str(capabilities.get("cpu_name", "")).startswith("Intel")
        and bool(capabilities.get("avx512_fp16"))
        and not capabilities.get("amx_bf16")
    )
