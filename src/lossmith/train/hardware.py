"""What this machine is, and what it does fast."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

SMALL_MODEL = (
    5_000_000  # parameters below which bf16 autocast gains nothing on a CPU (measured: 1.0× at 0.8M, 1.8× at 10M)
)


def fast_bf16(device: torch.device, parameters: int) -> bool:
    """Tell whether bfloat16 autocast is the faster choice for a model of that size on this device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(supported) and parameters >= SMALL_MODEL


def hardware(device: torch.device, world_size: int) -> dict[str, Any]:
    """Return device, cores, threads and memory, as run.json records them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "device": f"{device.type}: {name}",
        "processes": world_size,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory,
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, lossmith and the libraries that numbers depend on."""
    names = ("lossmith", "torch", "transformers", "tokenizers", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
