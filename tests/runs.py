"""Small simulated runs, and what is read from their folders, for tests."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from peer.config import experiment_from
from sim.runner import simulate

Options = dict[str, Any]

SYNTHETIC: Options = {
    "trainer": "synthetic",
    "peers": 5,
    "rounds": 4,
    "local_steps": 6,
    "candidate_seeds": 32,
}


def run(out: Path, options: Options, **changes: Any) -> dict[str, Any]:
    return simulate(experiment_from(options | {"out": str(out)} | changes))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def links(folder: Path) -> list[dict[str, int]]:
    with (folder / "links.csv").open(newline="") as file:
        return [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]


def without_costs(summary: dict[str, Any]) -> dict[str, Any]:
    unlike = {"seconds", "peak_memory_bytes", "folder", "rebuild"}
    return {key: value for key, value in summary.items() if key not in unlike}
