"""The table of a comparison: a method a row, with means and standard deviations over the seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from peer.records import finite
from peer.whole_file import write_whole
from sim.compare.conduct import Conducted
from sim.compare.curves import curves_of
from sim.compare.definition import Contender
from sim.study.attempt import DONE
from sim.study.whole_run import was_resumed
from sim.tables import rows_csv

SCHEMA: Final = 1
REFERENCE: Final = Contender("fedkseed")
"""Whose loss the others are to reach."""

Row = dict[str, Any]
Summary = dict[str, Any]


def rows(conducted: Conducted) -> list[Row]:
    """Return the table's rows; what is not known is None.

    `_sd` is the standard deviation over the seeds, with n - 1 in its denominator; None for one
    seed. `bytes_per_peer_round` are sent plus received, everything included; `peak_memory_bytes` is
    the greatest of the runs, each in a process of its own; `consensus_relative` the mean relative
    distance between the peers' models, of methods that promise no equal bits; `rounds_to_reach`
    after how many rounds the mean loss is at most FedKSeed's mean final loss.
    """
    target = target_loss(conducted)
    return [_row(conducted, each, target) for each in conducted.comparison.contenders]


def target_loss(conducted: Conducted) -> float | None:
    """Return the mean final loss of FedKSeed; None: it is not among the methods, or has none."""
    curves = curves_of(conducted, REFERENCE)
    return None if curves is None else float(curves.losses[:, -1].mean())


def summaries(conducted: Conducted, contender: Contender) -> list[Summary]:
    """Return the summaries of a method's finished runs, seed by seed."""
    return [outcome.row for _, outcome in conducted.of(contender) if outcome.row is not None]


def _row(conducted: Conducted, contender: Contender, target: float | None) -> Row:
    done = summaries(conducted, contender)
    losses = [summary["eval_loss"] or {} for summary in done]
    apart = [(summary.get("consensus") or {}).get("relative") for summary in done]
    distances = [distance for distance in apart if distance is not None]
    curves = curves_of(conducted, contender)
    reached = None if curves is None or target is None else curves.first_at(target)
    return {
        "method": contender.method,
        "server": contender.with_server,
        "runs": len(done),
        **_spread("eval_loss_initial", [loss.get("initial") for loss in losses]),
        **_spread("eval_loss_final", [loss.get("final") for loss in losses]),
        **_spread("rouge_l_final", [(each["rouge_l"] or {}).get("final") for each in done]),
        **_spread("bytes_per_peer_round", [s["bytes"]["per_peer_round_mean"] for s in done]),
        "rounds": done[0]["rounds"] if done else None,
        "rounds_to_reach": reached,
        **_spread("wall_seconds", [summary["seconds"]["wall"] for summary in done]),
        **_spread("local_step_seconds", [s["seconds"]["local_steps"] for s in done]),
        "peak_memory_bytes": max((s["peak_memory_bytes"] for s in done), default=None),
        "digests_equal": all(s["digests"]["all_equal"] for s in done) if done else None,
        "consensus_relative": fmean(distances) if distances else None,
    }


def _spread(name: str, values: Sequence[float | None]) -> Row:
    """Return mean and standard deviation; None where a value is missing, or not finite."""
    known = [value for value in values if value is not None]
    whole = bool(known) and len(known) == len(values)
    return {
        name: fmean(known) if whole else None,
        f"{name}_sd": stdev(known) if whole and len(known) > 1 else None,
    }


def equal_to_twins(conducted: Conducted) -> dict[str, bool]:
    """Return for each method of sums whether its digests are those of its twin, for every seed.

    Methods are left out whose peers do not end with equal digests, or that lack a run.
    """
    found = {}
    for method in conducted.comparison.methods if conducted.comparison.twin else ():
        alone, twins = (summaries(conducted, Contender(method, kind)) for kind in (False, True))
        both = [*alone, *twins]
        whole = len(both) == 2 * conducted.comparison.seeds
        if whole and all(summary["digests"]["all_equal"] for summary in both):
            pairs = zip(alone, twins, strict=True)
            found[method] = all(_digests(mine) == _digests(twin) for mine, twin in pairs)
    return found


def _digests(summary: Summary) -> tuple[str, str | None]:
    digests = summary["digests"]
    return digests["accumulator"][0], digests["model"] and digests["model"][0]


def write_table(conducted: Conducted, table: Sequence[Row]) -> list[Path]:
    """Write compare.csv, and compare.json with the runs beside; return their paths."""
    folder = conducted.folder
    runs = [
        {
            "method": run.contender.method,
            "server": run.contender.with_server,
            "seed": run.seed,
            "status": outcome.status,
            "reason": outcome.reason or None,
            "folder": str(folder.of_run(run).relative_to(folder.path)),
            "resumed": outcome.status == DONE and was_resumed(folder.of_run(run)),
            "eval_loss": outcome.row and outcome.row["eval_loss"],
        }
        for run, outcome in zip(conducted.comparison.runs, conducted.outcomes, strict=True)
    ]
    content = {
        "schema": SCHEMA,
        "spread": "standard deviation over the seeds, n - 1",
        "target_loss": target_loss(conducted),
        "equal_to_twins": equal_to_twins(conducted),
        "methods": list(table),
        "runs": runs,
    }
    paths = [folder.path / "compare.csv", folder.path / "compare.json"]
    write_whole(paths[0], rows_csv(table))
    write_whole(paths[1], json.dumps(finite(content), indent=1) + "\n")
    return paths
