"""What the published FedKSeed program does over the weights, written out again to be measured.

It seeds torch's global generator anew for each pass and draws each parameter's numbers from there,
in the type of the weights. It is written in the fewest operations that this allows; the program
itself takes a few more. Callers keep the global generator as it was (`torch.random.fork_rng`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def rebuild_(
    parameters: Sequence[torch.Tensor], seeds: Sequence[int], coefficients: Sequence[float]
) -> None:
    """Subtract coefficient * z from the parameters, seed by seed, in place."""
    for seed, coefficient in zip(seeds, coefficients, strict=True):
        torch.manual_seed(seed)
        for parameter in parameters:
            parameter.sub_(_z_like(parameter), alpha=coefficient)


def perturb(parameters: Sequence[torch.Tensor], seed: int, coefficient: float) -> None:
    """Add coefficient * z to the parameters; each becomes a new tensor, as in the program."""
    torch.manual_seed(seed)
    for parameter in parameters:
        parameter.data = parameter.data + coefficient * _z_like(parameter)


def step(
    parameters: Sequence[torch.Tensor],
    seed: int,
    epsilon: float,
    learning_rate: float,
    loss: Callable[[], float],
) -> float:
    """Take a local step; return its scalar gradient."""
    perturb(parameters, seed, epsilon)
    above = loss()
    perturb(parameters, seed, -2 * epsilon)
    below = loss()
    perturb(parameters, seed, epsilon)
    gradient = (above - below) / (2 * epsilon)
    perturb(parameters, seed, -learning_rate * gradient)
    return gradient


def _z_like(parameter: torch.Tensor) -> torch.Tensor:
    return torch.normal(0.0, 1.0, parameter.shape, dtype=parameter.dtype, device=parameter.device)
