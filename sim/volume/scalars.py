"""Cost models of the systems that send scalars in place of weights, both ways or up alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from peer.adapter_size import lora
from sim.volume.costs import (
    DOWNLOAD,
    NO_SHAPE,
    PAIR,
    SCALAR,
    Costs,
    Gossip,
    Memory,
    Server,
    System,
    entries,
    full_backpropagation,
    inference,
)
from sim.volume.setting import ENTRY_HEAD, Setting
from sim.volume.tree_sum import sums_bytes_of_draws

_HALF: Final = 2
"""Bytes of a coordinate of Ferret's: "16-bit floating point numbers" (C.2)."""

_WIDE: Final = 8
"""Bytes of an integer seed and of a Python float in FATE-LLM."""

_OURS: Final = "without a server it is this project: histories alone, no control traffic"


def fedkseed(setting: Setting) -> Costs:
    """Return K sums down with 4 bytes for all seeds, tau pairs up: 4 K + 8 tau + 4 (Table 3).

    Section 5.3: the K seeds "can be encoded into one single seed", 4 bytes. Equation (4): the
    latest model is w0 and K steps, however many rounds there were. Without a server this project's
    entries spread, with the indices of seeds left out: they follow from origin and round.
    """
    k, tau, d = setting.candidate_seeds, setting.local_steps, setting.model.parameters
    return Costs(
        Server(PAIR * tau, SCALAR * k + SCALAR, k * d),
        entries(setting, setting.history_bytes, k * d),
        inference(setting),
        _OURS,
    )


def fedkseed_pro(setting: Setting) -> Costs:
    """Return the same with K probabilities down: 8 K + 8 tau + 4 (Table 3, section 4.3).

    Without a server everybody computes the probabilities from the entries; what is drawn by them
    follows from no number, so the indices travel.
    """
    k, tau, d = setting.candidate_seeds, setting.local_steps, setting.model.parameters
    return Costs(
        Server(PAIR * tau, 2 * SCALAR * k + SCALAR, k * d),
        entries(setting, setting.pro_history_bytes, k * d),
        inference(setting),
        _OURS,
    )


def infinite(setting: Setting) -> Costs:
    """Return pairs up, and the pairs of all others down; every step is replayed.

    FedKSeed, section 4.2 and Table 1 on Zelikman et al. (2023): tau r m steps after r rounds, so
    tau R m at the end of the run. Who comes back after N / m rounds gets the pairs of all of them.
    """
    m, tau, d = setting.active, setting.local_steps, setting.model.parameters
    latest = tau * setting.rounds * m * d
    return Costs(
        Server(PAIR * tau, PAIR * tau * m * setting.gap, latest),
        replace(entries(setting, setting.history_bytes, latest), how="log of entries, replayed"),
        inference(setting),
        "steps from w0 at the end of the run; who keeps its model makes tau m of them a round",
    )


def ferret(setting: Setting) -> Costs:
    """Return sum K_l coordinates up and their mean down, 16 bits each (Ferret, C.2).

    C.2: projected gradients "are first aggregated through averaging, then reconstructed", so one
    vector of coordinates comes down for each round. A round's reconstruction is sum K_l d_l, which
    is K d / L with L equal blocks (Proposition 1 and the text after it). Who comes back after N / m
    rounds gets and reconstructs all of them. Local steps are of first order. Without a server this
    project's entries spread: coordinates of `gradient_bytes`, and how many of them each block has.
    """
    k, d = setting.coordinates, setting.model.parameters
    sent = _HALF * k
    reconstruction = k * d / setting.blocks
    spread = entries(setting, setting.ferret_history_bytes, reconstruction)
    return Costs(
        Server(sent, sent * setting.gap, reconstruction * setting.gap),
        spread,
        full_backpropagation(setting),
        f"sum K_l = {k:,} and L = {setting.blocks:,} taken; where each client has its own seed "
        "(Algorithm 1) coordinates cannot be averaged, and m times as many come down",
    )


def fwdllm(setting: Setting) -> Costs:
    """Return scalars up and the adapter's weights down (FedKSeed, appendix A on Xu et al., 2023).

    "Only uplink communication at the client-side is optimized". Perturbed forward passes on LoRA.
    """
    shape = setting.model.shape
    trained = None if shape is None else lora(shape)
    down = None if trained is None else trained * setting.weight_bytes
    held = None if trained is None else setting.model.parameters + trained
    return Costs(
        Server(PAIR * setting.local_steps, down, DOWNLOAD),
        "its server makes the weights from the scalars of a round and sends them out",
        Memory("M_infer", None if held is None else held * setting.weight_bytes),
        "O(1) up in the paper: one seed and scalar a local step taken"
        + (f"; {NO_SHAPE}" if trained is None else ""),
    )


def baffle(setting: Setting) -> Costs:
    """Return K differences of losses up and the weights down (FedKSeed, appendix A).

    Feng et al. (2023): K perturbations, of which each gives one difference.
    """
    return Costs(
        Server(
            SCALAR * setting.candidate_seeds,
            setting.model.parameters * setting.weight_bytes,
            DOWNLOAD,
        ),
        "its server makes the weights from the differences of a round and sends them out",
        inference(setting),
        "K perturbations a round, as many as FedKSeed's candidate seeds here",
    )


def fedzen(setting: Setting) -> Costs:
    """Return scalars up and the weights down (FedKSeed, appendix A on Maritan et al., 2023).

    Gradient and Hessian are estimated at the server from function values along common directions.
    """
    return Costs(
        Server(
            2 * SCALAR * setting.local_steps,
            setting.model.parameters * setting.weight_bytes,
            DOWNLOAD,
        ),
        "an incremental estimate of the Hessian is no sum of what the peers send",
        inference(setting),
        "O(1) up: tau directions a round taken, a slope and a curvature along each",
    )


def evofed(setting: Setting) -> Costs:
    """Return K fitnesses up and K down: 8 K in a round (FedKSeed, appendix A).

    Rahimi et al. (2023), equation (12): who has missed rho rounds gets and makes the updates of
    rho rounds, K each; rho = N / m here. Local steps by backpropagation, then K distances of
    perturbed models to the result, another K d.
    """
    k, d = setting.candidate_seeds, setting.model.parameters
    return Costs(
        Server(SCALAR * k, SCALAR * k * setting.gap, k * d * setting.gap),
        entries(setting, SCALAR * k + ENTRY_HEAD, k * d),
        full_backpropagation(setting),
        "without a server a cost model only; its K distances a round, K d more, are not counted",
    )


def decomfl(setting: Setting) -> Costs:
    """Return tau scalars up; seeds and mean scalars of all rounds since the last time down.

    Li et al. (2025): all active clients of a round draw the same tau seeds, so their
    scalars are averaged, tau numbers a round. A client replays all rounds
    that it has missed, N / m on average, so catching up is not bounded. One perturbation a step.
    """
    tau, d = setting.local_steps, setting.model.parameters
    return Costs(
        Server(SCALAR * tau, PAIR * tau * setting.gap, tau * d * setting.gap),
        entries(setting, SCALAR * tau + ENTRY_HEAD, tau * d),
        inference(setting),
        "a star in its paper; without a server a cost model only",
    )


def seedflood(setting: Setting) -> Costs:
    """Return a flooded pair of seed and scalar for each peer and step (Kim and Lee, 2026).

    No server. A step's pairs are added up in a low-rank subspace that all share, and applied in one
    pass over the weights.
    """
    tau, d = setting.local_steps, setting.model.parameters
    spread = entries(setting, PAIR, tau * d, each=tau, mode="flood")
    return Costs(
        None,
        replace(spread, how="pairs flooded each step"),
        inference(setting),
        "8 bytes a pair and no framing taken; each of its many messages would have its own",
    )


def fate(setting: Setting) -> Costs:
    """Return what FATE-LLM's program puts into its messages: 28 K down, 16 tau up.

    Down, in each round and to every client: K seeds of 8 bytes, K probabilities of 4 (a float32
    tensor), and from the second round on K pairs of a seed and its sum, 16 as Python numbers. Up:
    the drawn seeds, each with a list of its scalar gradients, 16 a step if no seed is drawn twice.
    The client keeps w0 and tunes a copy of it.
    """
    k, tau, d = setting.candidate_seeds, setting.local_steps, setting.model.parameters
    down = (_WIDE + SCALAR + 2 * _WIDE) * k
    return Costs(
        Server(2 * _WIDE * tau, down, k * d, clients=setting.peers),
        "its arbiter holds the sums",
        inference(setting, models=2),
        "numbers without pickle's bytes, the first round counted like the others; no share of "
        "clients is drawn: all take part in each round",
    )


def tree_sum(setting: Setting) -> Costs:
    """Return K sums added up along one spanning tree and handed down: a cost model only.

    `sim.volume.tree_sum` has the formula, and why this is not built. Always 2 (N - 1) sends.
    """
    k, tau, n = setting.candidate_seeds, setting.local_steps, setting.peers
    draws = tau * setting.active
    note = "a cost model: a sum along a tree does not survive a loss or a repeat"
    if setting.subtrees:
        below = np.array(setting.subtrees) * (draws / n)
    else:
        below = np.full(n - 1, float(draws))
        note += "; the tree is not known, so each link is taken to carry everybody's sums"
    return Costs(
        None,
        Gossip(
            "sums along one tree",
            sums_bytes_of_draws(below, draws, k).total,
            2 * (n - 1),
            k * setting.model.parameters,
        ),
        inference(setting),
        note,
    )


_APPENDIX: Final = "FedKSeed appendix A"

SCALARS: Final = (
    System("fedkseed", "FedKSeed", "K sums down, history up", "FedKSeed Table 3, 5.3", fedkseed),
    System(
        "fedkseed-pro",
        "FedKSeed-Pro",
        "K sums and probabilities down, history up",
        "FedKSeed Table 3, 4.3",
        fedkseed_pro,
    ),
    System(
        "infinite-seeds",
        "infinite seeds, two-way (Zelikman)",
        "everybody's scalars",
        "FedKSeed 4.2, Table 1",
        infinite,
    ),
    System("ferret", "Ferret", "coordinates in each block", "Ferret C.2, Prop. 1", ferret),
    System("fwdllm", "FwdLLM", "scalars up, LoRA factors down", _APPENDIX, fwdllm),
    System("baffle", "BAFFLE", "K loss differences up, weights down", _APPENDIX, baffle),
    System("fedzen", "FedZeN", "scalars up, weights down", _APPENDIX, fedzen),
    System("evofed", "EvoFed", "K fitnesses", "FedKSeed appendix A, EvoFed (12)", evofed),
    System("decomfl", "DeComFL", "tau scalars", "DeComFL 2025", decomfl),
    System("seedflood", "SeedFlood", "a pair for each peer and step", "SeedFlood 2026", seedflood),
    System("fate-fedkseed", "FATE-LLM's FedKSeed", "K sums and more", "its program", fate),
    System("tree-sum", "sum along a tree", "K sums up and down", "here", tree_sum),
)
