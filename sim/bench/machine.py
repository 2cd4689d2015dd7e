"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numba
import torch

from peer.errors import UserError
from peer.perturbation.cpu import cores


def facts(device: torch.device, threads: int) -> dict[str, Any]:
    """Return what a figure depends on besides the program, for JSON."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system has no name for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def check_room(device: torch.device, wanted: int) -> None:
    """Notice before anything is measured that there is too little memory.

    Args:
        device: where the weights are to be.
        wanted: bytes.

    Raises:
        UserError: the device has less, used and unused.
    """
    if device.type == "cuda":
        there = torch.cuda.mem_get_info(device)[1]
    else:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted > there:
        raise UserError(
            f"this takes {wanted / 1e9:.1f} GB of memory, and {device} has {there / 1e9:.1f} GB: "
            "ask for fewer parameters, replicas or candidate seeds"
        )
