"""What this machine is, and what it does fast."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed instead of returning it to the kernel: each step needs the same buffers again.

    Measured: 3–10 % faster steps and half the time of an evaluation on two cores (page faults). Elsewhere: no effect.
    Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for parameter, value in ((_M_MMAP_THRESHOLD, 2**30), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28)):
            libc.mallopt(parameter, value)


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
