"""Perturbations: the d numbers z that a seed stands for, and the passes over the weights with them.

`reference` is the definition. `perturbation` gives the fastest backend for a device; all of them
give the reference's bits.

>>> import torch
>>> kernel = perturbation("gaussian", "cpu", threads=1)
>>> kernel.units(seed=7, start=0, stop=3).tolist()
[-1678, 2563, 2027]
"""

from __future__ import annotations

from typing import Final

import torch

from peer.errors import UserError
from peer.perturbation.base import Pass, Perturbation
from peer.perturbation.cpu import CpuPerturbation
from peer.perturbation.portable import PortablePerturbation
from peer.perturbation.reference import GAUSSIAN, RADEMACHER

__all__ = ["DISTRIBUTIONS", "Pass", "Perturbation", "perturbation"]

_KNOWN: Final = {item.name: item for item in (GAUSSIAN, RADEMACHER)}

DISTRIBUTIONS: Final = tuple(_KNOWN)
"""The names of the distributions that a perturbation can have."""


def perturbation(
    distribution: str, device: str | torch.device, threads: int | None = None
) -> Perturbation:
    """Return the perturbations of a distribution, made on a device.

    A GPU that torch calls cuda (NVIDIA's, and AMD's under ROCm) gets kernels in Triton, which comes
    with torch on Linux. Where there is no Triton, as on Windows, or the GPU is older than NVIDIA's
    Ampere, plain torch operations give the same bits, slowly.

    Args:
        distribution: one of `DISTRIBUTIONS`.
        device: where the weights lie.
        threads: on the CPU, how many share the work; by default one for each core we may use.

    Raises:
        UserError: an unknown distribution, less than one thread, or a device without float64, which
            a rebuild needs (Apple's mps).
    """
    if distribution not in _KNOWN:
        raise UserError(f"unknown distribution {distribution!r}: {' or '.join(DISTRIBUTIONS)}")
    device = torch.device(device)
    if device.type == "cpu":
        return CpuPerturbation(_KNOWN[distribution], threads)
    if device.type == "mps":
        raise UserError("device mps has no float64, which exact rebuilds need: use cpu")
    if device.type == "cuda":
        try:
            from peer.perturbation import gpu
        except ImportError:
            pass  # no Triton
        else:
            if gpu.compiles_for(device):
                return gpu.GpuPerturbation(_KNOWN[distribution], device)
    return PortablePerturbation(_KNOWN[distribution], device)
