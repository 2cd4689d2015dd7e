"""Peers that gossip end with the accumulator and the model of a server, bit for bit (C6)."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import whole

from peer import seeds
from peer.accumulator import Accumulator
from peer.config import Experiment, experiment_from
from peer.corpus import deal, encode_rows
from peer.gradients import decode, encode
from peer.importance import sampling_weights
from peer.perturbation import reference
from peer.setup import build_global_model
from peer.training import build_trainer
from peer.units import choose_units, power_below
from peer.weights_digest import weights_digest
from sim.runner import simulate

GRAPHS = ("ring", "star", "torus", "complete", "random-regular", "watts-strogatz")
DISTRIBUTIONS = {"gaussian": reference.GAUSSIAN, "rademacher": reference.RADEMACHER}


def server(run: Experiment) -> tuple[str, str]:
    """Algorithm 1 with a server that adds in plain integers; return (accumulator, model)."""
    corpus = deal(run, *encode_rows(run))
    global_model = build_global_model(run, remember=False, threads=1)
    clients = build_trainer(run, corpus, global_model)
    tau, k, bound = run.local_steps, run.candidate_seeds, run.gradient_bound
    units = choose_units(run.learning_rate, run.rounds, tau, bound, run.peers)
    exponent = power_below(run.learning_rate)
    sums, magnitudes, counts = [0] * k, [0] * k, [0] * k

    def state() -> Accumulator:
        columns = (np.array(column, dtype=np.int64) for column in (sums, magnitudes, counts))
        return Accumulator(units, *columns)

    for round_ in range(run.rounds):
        cut = state()
        active = seeds.active_peers(run.seed, run.peers, run.participation, round_)
        rows = sum(len(corpus.split.shards[client]) for client in active)
        for client in active:
            where = (run.seed, client, round_, tau)
            indices = (
                seeds.draw_weighted(*where, sampling_weights(cut))
                if run.is_pro
                else seeds.draw_uniform(*where, k)
            )
            made = clients.train(client, round_, cut, indices).gradients
            sent, scale = encode(made, run.gradient_bytes)
            share = len(corpus.split.shards[client]) / rows
            weight = Fraction(float(np.float32(share * (run.learning_rate / 2.0**exponent))))
            for j, g in zip(indices, decode(sent, run.gradient_bytes, scale, bound), strict=True):
                if not np.isnan(g):
                    exact = Fraction(float(g))
                    sums[j] += round(weight * exact * 2**units.fraction_bits)
                    if run.is_pro:
                        magnitudes[j] += round(abs(exact) * 2**units.magnitude_bits)
                        counts[j] += 1
    end = state()
    z, unit = DISTRIBUTIONS[run.perturbation], exponent - units.fraction_bits
    candidates = seeds.candidate_seeds(run.seed, k)
    return end.digest(), weights_digest(
        reference.rebuild(z, whole(global_model.w0), candidates, end.sums, unit)
    )


once = cache(server)
"""The server knows no topology, so one answer serves them all."""


def experiment(tiny_model: Path, tiny_data: Path, **options: Any) -> Experiment:
    values = {
        "model": str(tiny_model),
        "data": str(tiny_data),
        "peers": 8,
        "rounds": 3,
        "local_steps": 2,
        "candidate_seeds": 24,
        "learning_rate": 3e-3,
        "eval_rows": 4,
    }
    return experiment_from(values | options)


def ends_like_a_server(run: Experiment, graph: str, out: Path) -> dict[str, Any]:
    accumulator, model = once(run)
    values = {name: getattr(run, name) for name in run.identity()}
    summary = simulate(
        experiment_from(values | {"rounds": run.rounds, "topology": graph, "out": str(out)})
    )
    assert summary["timeouts_fired"] == 0
    assert summary["digests"]["accumulator"] == [accumulator] * run.peers
    assert summary["digests"]["model"] == [model] * run.peers
    assert summary["eval_loss"]["final"] != summary["eval_loss"]["initial"]
    return summary


@pytest.mark.parametrize(
    ("method", "perturbation"),
    [
        ("fedkseed", "gaussian"),
        ("fedkseed-pro", "rademacher"),
        pytest.param("fedkseed", "rademacher", marks=pytest.mark.slow),
        pytest.param("fedkseed-pro", "gaussian", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_topology_ends_like_a_server(
    graph: str, method: str, perturbation: str, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = experiment(tiny_model, tiny_data, method=method, perturbation=perturbation)
    ends_like_a_server(run, graph, tmp_path / "run")


@pytest.mark.parametrize(
    ("graph", "options"),
    [
        ("star", {"participation": 0.4}),
        ("torus", {"participation": 0.4, "method": "fedkseed-pro"}),
        ("torus", {"gossip": "flood", "sign": True}),
        ("random-regular", {"gossip": "antientropy", "fold": False, "method": "fedkseed-pro"}),
        ("ring", {"gradient_bytes": 1}),
        ("line", {"gradient_bytes": 2, "dtype": "bfloat16"}),
        ("tree", {"dtype": "float16", "learning_rate": 1e3, "gradient_bound": 32768.0}),
        ("grid", {"batch_size": 3, "partition": "by-category"}),
    ],
    ids=str,
)
def test_all_variants_of_a_run_end_like_a_server(
    graph: str, options: dict[str, Any], tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = experiment(tiny_model, tiny_data, **options)
    summary = ends_like_a_server(run, graph, tmp_path / "run")
    # So great a learning rate ruins weights of 16 bits, and later steps are skipped.
    assert (summary["skipped_steps"] > 0) == (run.dtype == "float16")


def test_the_server_knows_one_run_from_another(tiny_model: Path, tiny_data: Path) -> None:
    runs = [
        experiment(tiny_model, tiny_data, **options)
        for options in (
            {},
            {"method": "fedkseed-pro"},
            {"perturbation": "gaussian"},
            {"participation": 0.4},
            {"gradient_bytes": 1},
        )
    ]
    ends = [once(run) for run in runs]
    assert len({accumulator for accumulator, _ in ends}) == len(runs)
    assert len({model for _, model in ends}) == len(runs)
