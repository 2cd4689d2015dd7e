"""What a report is made of: what there is of a run folder, and what is wrong with the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import topology
from peer.config import Experiment
from peer.errors import UserError
from peer.records import (
    ACCUMULATOR,
    CONFIG,
    LAYOUT,
    LINKS,
    ROUNDS,
    SUMMARY,
    TOPOLOGY,
    WEIGHTS,
    RunFolder,
)
from peer.summary import SCHEMA
from peer.traffic import LinkCount, Traffic
from sim import schema
from sim.plots import link_bytes
from sim.words import count

_ENGINES = ("sim", "launch", "peer")
_MOST_BYTES = 2**62
"""What no link has carried; sums of more would not fit."""


@dataclass(frozen=True)
class Run:
    """A run folder as it was read.

    Attributes:
        name: of the folder.
        engine: sim, launch or peer; None: the folder does not tell.
        config: config.toml, as it stands there.
        graph: None: topology.json is lost.
        rounds: the lines of rounds.jsonl, bytes since the run's start.
        traffic: what each link has carried, nothing where that was not counted.
        sent: bytes over each link, shape (E,), in the order of the graph's.
        summary: None: the run has not ended, or summary.json is lost.
        summary_broken: there is a summary.json, and it cannot be believed.
        damage: what is missing or broken, a sentence each.
        notes: what one should know about the rest, a sentence each.
    """

    name: str
    engine: str | None
    experiment: Experiment
    config: str
    graph: topology.Topology | None
    rounds: Sequence[Mapping[str, Any]]
    traffic: Traffic
    sent: NDArray[np.int64]
    summary: Mapping[str, Any] | None
    summary_broken: bool
    damage: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def rounds_done(self) -> int:
        """How many rounds the run has come to."""
        return max((record["round"] for record in self.rounds), default=0)

    @property
    def there(self) -> list[int]:
        """The peers that the lists of the summary speak of."""
        absent = set() if self.summary is None else set(self.summary["absent_peers"])
        return [peer for peer in range(self.experiment.peers) if peer not in absent]

    def called(self, peer: int) -> str:
        """Return a peer's number, with its name if that is another."""
        name = str(peer) if self.graph is None else self.graph.names[peer]
        return name if name == str(peer) else f"{peer} ({name})"


def read_run(path: Path) -> Run:
    """Return what there is of a run.

    Raises:
        UserError: there is no run in the folder.
    """
    folder = RunFolder(path)
    experiment = folder.experiment()
    reader = _Reader(folder, experiment)
    graph = reader.graph()
    rounds = reader.rounds()
    summary = reader.summary()
    traffic = reader.traffic(ended=summary is not None)
    reader.check_state(summary, rounds)
    if summary is not None:
        reader.check_pieces(summary, graph, traffic)
    return Run(
        name=path.resolve().name,
        engine=reader.engine if summary is None else summary["engine"],
        experiment=experiment,
        config=(path / CONFIG).read_text(encoding="utf-8"),
        graph=graph,
        rounds=rounds,
        traffic=traffic,
        sent=link_bytes(graph, traffic) if graph is not None else np.zeros(0, dtype=np.int64),
        summary=summary,
        summary_broken=reader.summary_broken,
        damage=tuple(reader.damage),
        notes=tuple(reader.notes),
    )


class _Reader:
    """Reads a folder's files, and keeps what is wrong with them."""

    def __init__(self, folder: RunFolder, experiment: Experiment) -> None:
        self._folder = folder
        self._path = folder.path
        self._experiment = experiment
        self.damage: list[str] = []
        self.notes: list[str] = []
        self.summary_broken = False
        self.engine = next((name for name in _ENGINES if folder.state(name).is_dir()), None)

    def graph(self) -> topology.Topology | None:
        if not (self._path / TOPOLOGY).exists():
            self.damage.append(f"{TOPOLOGY} is missing, so there is no picture of the graph.")
            return None
        try:
            graph = topology.load(self._path / TOPOLOGY)
        except topology.TopologyError as error:
            self.damage.append(f"{TOPOLOGY} is damaged: {self._told(error)}.")
            return None
        if len(graph.nodes) != self._experiment.peers:
            self.damage.append(
                f"{TOPOLOGY} is of another run: it has {count(len(graph.nodes), 'peer')}, "
                f"and {CONFIG} has {self._experiment.peers:,}."
            )
            return None
        return graph

    def rounds(self) -> list[dict[str, Any]]:
        path = self._path / ROUNDS
        lines = len(path.read_bytes().splitlines()) if path.is_file() else 0
        rounds: list[dict[str, Any]] = []
        for record in self._folder.read_rounds():
            after = not rounds or record["round"] > rounds[-1]["round"]
            wrong = schema.misfit(record, schema.ROUND)
            if wrong is None:
                wrong = schema.misfit_if_there(record, schema.LATER_ROUND)
            if wrong is not None or not after or record["round"] < 0:
                break
            rounds.append(record)
        if len(rounds) < lines:
            self.damage.append(
                f"{ROUNDS} is damaged: {count(lines - len(rounds), 'line')} of {lines:,} "
                f"cannot be used, from line {len(rounds) + 1:,} on."
            )
        return self._since_start(rounds)

    def _since_start(self, rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rounds with bytes since the start, where counting has begun anew."""
        counts = ("payload_bytes", "control_bytes", "wire_bytes")
        before, last = dict.fromkeys(counts, 0), dict.fromkeys(counts, 0)
        whole = []
        for record in rounds:
            if any(record[name] < last[name] for name in counts):
                before = {name: before[name] + last[name] for name in counts}
                self.notes.append(
                    f"Before round {record['round']:,} the counting of bytes began anew, as after "
                    "a rollback. The rounds below have what was sent before that too; bytes per "
                    "link and the sums of all bytes have only what was sent since."
                )
            last = {name: record[name] for name in counts}
            whole.append(record | {name: before[name] + last[name] for name in counts})
        return whole

    def summary(self) -> dict[str, Any] | None:
        path = self._path / SUMMARY
        if not path.exists():
            return None
        try:
            summary = json.loads(path.read_bytes())
            wrong = self._wrong(summary)
        except (ValueError, RecursionError):
            wrong = "it is not JSON"
        except OSError as error:
            wrong = f"{error.strerror}"
        if wrong is not None:
            self.summary_broken = True
            self.damage.append(f"{SUMMARY} is damaged: {wrong}.")
            return None
        assert isinstance(summary, dict)
        if summary["rounds"] != self._experiment.rounds:
            self.notes.append(
                f"{SUMMARY} is of the run's first {summary['rounds']:,} rounds, before it was "
                "resumed, and is not shown."
            )
            return None
        return summary

    def _wrong(self, summary: Any) -> str | None:
        where = schema.misfit(summary, schema.SUMMARY)
        if where is None:
            where = schema.misfit_if_there(summary, schema.LATER_SUMMARY)
        if where is not None:
            return f"{where} is not what it should be" if where else "it is no object"
        if summary["schema"] != SCHEMA:
            return f"its schema is {summary['schema']}, and {SCHEMA} is known"
        peers = self._experiment.peers
        if summary["peers"] != peers:
            return f"it speaks of {count(summary['peers'], 'peer')}, and {CONFIG} of {peers:,}"
        liars = [liar["peer"] for liar in summary["liars"]]
        named = [*summary["missing_peers"], *summary["absent_peers"], *liars]
        if not all(0 <= peer < peers for peer in named):
            return "it names peers that there are not"
        there = peers - len(set(summary["absent_peers"]))
        digests, data = summary["digests"], summary["data"]
        lists = {
            "digests.accumulator": (digests["accumulator"], there),
            "digests.model": (digests["model"], there),
            "entries.received_per_peer": (summary["entries"]["received_per_peer"], there),
            "data.rows_per_peer": (data and data["rows_per_peer"], peers),
        }
        for name, (items, wanted) in lists.items():
            if items is not None and len(items) != wanted:
                return f"{name} has {len(items):,} items, and {wanted:,} are wanted"
        return None

    def traffic(self, *, ended: bool) -> Traffic:
        """Return what was counted; of a launched run that has not ended, what its peers have."""
        members = sorted(self._folder.state("launch").glob("peer-*/links.csv"))
        folders = [self._folder]
        if not ended and members:
            folders = [RunFolder(path.parent) for path in members]
        elif not (self._path / LINKS).exists():
            self.damage.append(f"{LINKS} is missing, so what each link has carried is not known.")
        traffic = Traffic()
        for folder in folders:
            try:
                counted = list(folder.read_links().links())
            except UserError as error:
                self.damage.append(f"{self._told(error)}.")
                continue
            if not all(self._plausible(*link) for link in counted):
                place = (folder.path / LINKS).relative_to(self._path)
                self.damage.append(f"{place} is damaged: it holds numbers that cannot be.")
                continue
            for link in counted:
                traffic.add(*link)
        return traffic

    def _plausible(self, sender: int, receiver: int, sent: LinkCount) -> bool:
        ends = all(0 <= peer < self._experiment.peers for peer in (sender, receiver))
        return ends and all(
            0 <= number < _MOST_BYTES // self._experiment.peers
            for number in (sent.payload_bytes, sent.control_bytes, sent.wire_bytes)
        )

    def check_state(
        self, summary: Mapping[str, Any] | None, rounds: Sequence[Mapping[str, Any]]
    ) -> None:
        if summary is None:
            return
        name = WEIGHTS if self._experiment.averages else ACCUMULATOR
        try:
            digest = self._folder.read_state(self._experiment).digest()
        except UserError as error:
            missing = not (self._path / name).exists()
            self.damage.append(
                f"{name} is missing: the run cannot be exported."
                if missing
                else f"{self._told(error)}."
            )
            return
        digests, place = summary["digests"]["accumulator"], SUMMARY
        if self._experiment.averages:
            # The mean of what the peers have ended with, which none of them needs to have.
            digests, place = [record["accumulator"] for record in rounds[-1:]], ROUNDS
        if digest not in digests:
            self.damage.append(
                f"{name} is not of this run: its digest is none of those in {place}."
            )

    def check_pieces(
        self, summary: Mapping[str, Any], graph: topology.Topology | None, traffic: Traffic
    ) -> None:
        """Hold the other files of a run that has ended against its summary."""
        if summary["model"] is not None and not (self._path / LAYOUT).exists():
            self.damage.append(f"{LAYOUT} is missing: the run cannot be exported.")
        if not self.engine and not self._experiment.averages:
            self.damage.append("The logs of entries are missing: the run cannot be resumed.")
        if not (self._path / ROUNDS).is_file():
            self.damage.append(f"{ROUNDS} is missing, so there are no curves.")
        counted, total = traffic.total().wire_bytes, summary["bytes"]["wire_total"]
        if (self._path / LINKS).exists() and counted != total:
            self.damage.append(
                f"{LINKS} and {SUMMARY} differ: {counted:,} bytes over all links in the one, "
                f"{total:,} in the other."
            )
        if graph is not None:
            edges = set(graph.edges)
            foreign = [1 for i, j, _ in traffic.links() if (min(i, j), max(i, j)) not in edges]
            if foreign:
                self.damage.append(
                    f"{LINKS} has {count(len(foreign), 'link')} that the graph has not."
                )

    def _told(self, error: Exception) -> str:
        """Return an error without the folder that it happened in, which is the reader's own."""
        return str(error).replace(f"{self._path}/", "")
