"""A run as it was after some of its rounds, in a folder of its own, to be exported or resumed.

The state after R rounds is the set of the entries of rounds 0 to R - 1 (C7), so it is there as
long as the logs are, and no accumulator has to be kept. An END closes rounds and starts none: one
after R rounds or fewer belongs to it too. As rounds ascend in a log, that is the beginning of each.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import topology
from peer.accumulator import Accumulator
from peer.agreement import build_protocol
from peer.archive import Archive, read_archive
from peer.base import Base
from peer.blocks import block_offsets
from peer.config import Experiment
from peer.entry import Entry, Kind
from peer.errors import NeighbourError, RefusedEntry, UserError
from peer.methods import METHODS
from peer.protocol import Protocol
from peer.records import CONFIG, LAYOUT, TOPOLOGY, RunFolder
from peer.seeding import BLOCKS
from peer.store import EntryStore
from peer.wire import encode

ENGINES = ("sim", "launch", "peer")


@dataclass(frozen=True)
class RolledBack:
    """What a new run folder holds.

    Attributes:
        engine: what made the run, and can resume it.
        absent: the peers without whom some of its rounds were closed.
    """

    engine: str
    absent: tuple[int, ...]


def rollback(run: Path, rounds_done: int, to: Path) -> RolledBack:
    """Make a run folder that holds a run as it was after so many rounds.

    Every log in it has all the entries of these rounds. What the run has sent by then is known per
    round only, so rounds.jsonl has it and links.csv begins anew.

    Args:
        run: the folder of a run that is over or interrupted; its logs are not changed.
        rounds_done: R, from 0 to the rounds of the run.
        to: a new folder.

    Raises:
        UserError, TopologyError: there is no such run, it has not come so far, or began later with
            a snapshot; `to` exists already. Nothing has been written.
    """
    folder = RunFolder(run)
    experiment = folder.experiment()
    if not 0 <= rounds_done <= experiment.rounds:
        raise UserError(
            f"round = {rounds_done} is not allowed: must be at least 0 and at most "
            f"{experiment.rounds}, the number of rounds of {run}"
        )
    if experiment.averages:
        raise UserError(f"{run} cannot be rolled back: {experiment.method} keeps no log of entries")
    if to.exists():
        raise UserError(f"{to} exists already, a new folder is wanted")
    paths = [
        path.relative_to(run)
        for engine in ENGINES
        for path in sorted(folder.state(engine).glob("**/log.sqlite"))
    ]
    if not paths:
        raise UserError(f"{run} holds no logs of entries")
    protocol = _protocol(folder, experiment)
    archive = read_archive([run / path for path in paths], protocol)
    start = archive.base.round if archive.base is not None else 0
    if rounds_done < start:
        raise UserError(
            f"round = {rounds_done} is not allowed: {run} begins with a snapshot of round {start}"
        )
    absent = _absent(archive, rounds_done, protocol, run)
    kept = cut(archive.entries, rounds_done)
    accumulator = _accumulated(archive.base, kept, protocol, run)
    try:
        to.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{to} cannot be made: {error.strerror}") from None
    try:
        for path in paths:
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            with EntryStore(to / path) as store:
                if archive.base is not None:
                    store.save_base(archive.base.pack(), archive.base.versions)
                for proof in archive.proofs:
                    store.save_proof(encode(proof))
                store.append(kept, durable=True)
        made = RunFolder(to)
        made.write_accumulator(accumulator, with_probabilities=experiment.is_pro)
        lines = folder.read_rounds()
        made.write_rounds(line for line in lines if line["round"] <= rounds_done)
        samples = [line for line in folder.read_samples() if line["round"] <= rounds_done]
        if samples:
            made.write_samples(samples)
        shutil.copyfile(run / TOPOLOGY, to / TOPOLOGY)
        with suppress(FileNotFoundError):
            shutil.copyfile(run / LAYOUT, to / LAYOUT)
        # The last, as a folder without it is no run's.
        shutil.copyfile(run / CONFIG, to / CONFIG)
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)
        raise
    return RolledBack(paths[0].parts[0], absent)


def cut(entries: Iterable[Entry], rounds_done: int) -> list[Entry]:
    """Return the entries that belong to the state after so many rounds."""
    return [entry for entry in entries if entry.round < rounds_done + entry.is_end]


def _protocol(folder: RunFolder, experiment: Experiment) -> Protocol:
    """Return the agreement of a run, without what is needed to train alone."""
    # Weights travel in the entries, so neither rows nor model are needed to add them up.
    protocol = build_protocol(experiment, topology.load(folder.path / TOPOLOGY), None, None)
    sizes = folder.tensor_sizes()
    if METHODS[experiment.method].seeding != BLOCKS or sizes is None:
        return protocol
    return replace(protocol, blocks=len(block_offsets(sizes, experiment.blocks)) - 1)


def _absent(archive: Archive, rounds_done: int, protocol: Protocol, run: Path) -> tuple[int, ...]:
    """Return who has no entry in a round of the first ones, though it was that peer's to train.

    Raises:
        UserError: it is not too late for such an entry, as nobody has gone past these rounds.
    """
    entries = archive.entries
    histories = {(entry.round, entry.origin) for entry in entries if entry.kind is Kind.HISTORY}
    first = archive.base.round if archive.base is not None else 0
    missing = [
        (round_, peer)
        for round_ in range(first, rounds_done)
        for peer in protocol.roster.active(round_)
        if (round_, peer) not in histories
    ]
    convicted = {proof.first.origin for proof in archive.proofs}
    awaited = [(round_, peer) for round_, peer in missing if peer not in convicted]
    if awaited and all(entry.round < rounds_done for entry in entries):
        round_, peer = awaited[0]
        raise UserError(
            f"round = {rounds_done} is not allowed: {run} has come to round {round_} only, "
            f"where the entry of peer {peer} is missing"
        )
    return tuple(sorted({peer for _, peer in missing}))


def _accumulated(
    base: Base | None, entries: Sequence[Entry], protocol: Protocol, run: Path
) -> Accumulator:
    """Return the accumulator of a base and these entries."""
    accumulator = protocol.empty_accumulator()
    if base is not None:
        accumulator = base.cut(protocol.units).accumulator.copy()
    try:
        for previous, entry in pairwise(entries):
            if previous.origin == entry.origin:
                protocol.check_order(entry, previous)
        for entry in entries:
            if entry.kind is Kind.HISTORY:
                if not protocol.roster.is_active(entry.origin, entry.round):
                    raise RefusedEntry(f"peer {entry.origin} is not active in round {entry.round}")
                protocol.add(accumulator, entry)
    # The ways in which entries that were made with other options show.
    except (NeighbourError, ValueError, IndexError) as error:
        raise UserError(f"a log of {run} does not belong to its experiment: {error}") from None
    return accumulator
