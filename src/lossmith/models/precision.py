"""Which precision a device computes fastest in."""

from __future__ import annotations

import torch


def fast_bf16(device: torch.device) -> bool:
    """Tell whether this device multiplies bfloat16 matrices in hardware; where it does, autocast is the faster choice.

    Measured on two EPYC cores (AVX-512 bf16): 2.2 × the steps of float32 at 0.8M parameters, 1.8 × at 10M.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)
