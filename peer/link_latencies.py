"""The latencies that are expected of an experiment's links, drawn or read from a file.

A file has a line `a,b,seconds` for each link, perhaps under the header of that wording; a and b are
names of peers. A line holds for both directions unless the other one has a line of its own. Lines
of pairs that are no link of the topology are of no effect, so one file can hold the distances of
all pairs.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import topology
from peer.config import Experiment
from peer.errors import UserError
from peer.latency import LONGEST, Edge, expected_latencies, parse_latency

HEADER = ["a", "b", "seconds"]


def link_latencies(experiment: Experiment, graph: topology.Topology) -> dict[Edge, float]:
    """Return the seconds that a frame is expected to take on each link, both directions.

    Raises:
        UserError: the file of latencies is missing, damaged, or lacks a link.
    """
    law = parse_latency(experiment.latency)
    if law is None:
        return read_latencies(Path(experiment.latency), graph)
    per_frame = experiment.latency_per == "frame"
    return expected_latencies(law, per_frame, experiment.seed, graph.edges)


def read_latencies(path: Path, graph: topology.Topology) -> dict[Edge, float]:
    """Return the latencies of a file for each link of a topology, both directions.

    Raises:
        UserError: it cannot be read, a line is not as it should be, or a link has none.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise UserError(f"latency: {path} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"latency: {path} is no CSV file: {error}") from None
    number = {name: peer for peer, name in enumerate(graph.names)}
    given: dict[Edge, float] = {}
    for line, row in enumerate(rows, start=1):
        if not row or (line == 1 and row == HEADER):
            continue
        a, b, seconds = _checked(path, line, row)
        if a in number and b in number:
            link = number[a], number[b]
            if link in given:
                raise UserError(f"latency: line {line} of {path} repeats the link of {a} and {b}")
            given[link] = seconds
    expected = {}
    for i, j in graph.edges:
        for link, other in (((i, j), (j, i)), ((j, i), (i, j))):
            if link not in given and other not in given:
                ends = f"{graph.names[i]} and {graph.names[j]}"
                raise UserError(f"latency: {path} has no line for the link of {ends}")
            expected[link] = given[link] if link in given else given[other]
    return expected


def _checked(path: Path, line: int, row: list[str]) -> tuple[str, str, float]:
    try:
        a, b, text = (cell.strip() for cell in row)
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    # Written so that NaN fails.
    if not 0 <= seconds <= LONGEST:
        raise UserError(
            f"latency: line {line} of {path} is not a,b,seconds "
            f"with seconds from 0 to {LONGEST:g}: {','.join(row)!r}"
        )
    return a, b, seconds
