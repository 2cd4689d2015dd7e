"""The short simulations that values are tried with: few rounds, judged on the peers' own rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from peer.config import Experiment
from peer.corpus import Corpus
from peer.setup import load_corpus
from sim.cluster.session import Session
from sim.runner import simulate
from sim.tuning.search import Losses, Values, with_values

SHARE: Final = 0.1
"""Of each peer's rows that are set apart, unless the run's own evaluation takes fewer rows."""

MOST_ROUNDS: Final = 3

LOG = logging.getLogger("kseed")


def shortened(experiment: Experiment) -> Experiment:
    """Return the experiment of a short run: a quarter of the rounds, nothing befalls it."""
    rounds = min(max(1, experiment.rounds // 4), MOST_ROUNDS)
    short = replace(experiment, rounds=rounds, scenario=(), trace=False)
    return replace(short, out="", resume=False, dry_run=False, tune=False, json=False)


def rows_apart(experiment: Experiment) -> Corpus:
    """Return an experiment's rows with some of each peer's own set apart to judge on.

    The rows that the run itself is judged on are in no part of it.

    Raises:
        UserError, TopologyError: a mistake, told in one line.
    """
    corpus = load_corpus(experiment)
    rows = sum(map(len, corpus.split.shards))
    share = min(SHARE, len(corpus.split.held_out) / rows)
    return corpus.set_apart(share, experiment.seed)


def try_values(
    short: Experiment,
    corpus: Corpus,
    values: Values,
    scratch: Path,
    there: Session | None = None,
) -> Losses:
    """Make a short run, which leaves nothing.

    Args:
        short: see `shortened`.
        corpus: see `rows_apart`.
        values: options that are tried.
        scratch: an existing folder to work in.
        there: see `simulate`.
    """
    with TemporaryDirectory(dir=scratch, prefix="short-run-") as folder, _quiet():
        summary = simulate(with_values(replace(short, out=folder), values), corpus, there)
    loss = summary["eval_loss"]
    # A loss that is not finite is null in a summary.
    return Losses(*(nan if loss[when] is None else loss[when] for when in ("initial", "final")))


@contextmanager
def _quiet() -> Iterator[None]:
    """Let a run show no progress and log only what has gone wrong."""
    level = LOG.level
    LOG.setLevel(max(level, logging.ERROR))
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        LOG.setLevel(level)
