"""What a launched run has come to: its rounds evaluated, and its peers' results summed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peer.archive import Archive, read_archive
from peer.chronicle import Chronicle
from peer.consensus import mean_of
from peer.entry import Kind
from peer.fleet import Fleet, Member
from peer.log import runs_of
from peer.places import Places
from peer.progress import RunProgress
from peer.records import WEIGHTS, RunFolder, weights_after
from peer.rounds import SyncRounds
from peer.setup import Prepared
from peer.summary import Outcome, lower_bound_payload
from peer.supervisor import Supervisor
from peer.traffic import Traffic
from peer.weights import Weights
from peer.weights_volume import weights_volume


def conclude(
    engine: str,
    prepared: Prepared,
    fleet: Fleet,
    places: Places,
    supervisor: Supervisor,
    chronicle: Chronicle,
    progress: RunProgress,
) -> dict[str, Any]:
    """Evaluate every round from the log of a peer that is there to the end, and sum the run up."""
    removed = supervisor.incidents.removed
    there = [m for m in fleet.members if m.result is not None and m.peer not in removed]
    absent = [member for member in fleet.members if member not in there]
    # What somebody had on disk and could not send any more has been published as well.
    stores = [path for m in fleet.members if (path := m.folder / "log.sqlite").exists()]
    if prepared.protocol.averaging is None:
        archive = read_archive(stores, prepared.protocol)
        _close_rounds(prepared, archive, supervisor, chronicle, progress)
        states: list[Any] = [RunFolder(member.folder).read_accumulator() for member in there]
        final, published = states[0], len(archive.entries)
        lower_bound = lower_bound_payload(archive.entries, prepared.experiment.peers)
    else:
        states = [RunFolder(member.folder).read_weights() for member in there]
        final = _close_averages(prepared, there, supervisor, chronicle, progress)
        volume = weights_volume(prepared.protocol)
        published, lower_bound = volume.published, volume.bytes
    traffic = Traffic()
    for member in fleet.members:
        for sender, receiver, count in RunFolder(member.folder).read_links().links():
            traffic.add(sender, receiver, count)
    results = [member.result for member in there if member.result is not None]
    ended = [member.result for member in fleet.members if member.result is not None]
    outcome = Outcome(
        accumulator_digests=[state.digest() for state in states],
        model_digests=[result["model_digest"] for result in results if result["model_digest"]],
        published=published,
        lower_bound=lower_bound,
        received=[result["received"] for result in results],
        timeouts=sum(result["timeouts"] for result in ended),
        missing=tuple(sorted({peer for result in results for peer in result["missing"]})),
        traffic=traffic,
        peak_memory_bytes=max(result["peak_memory_bytes"] for result in ended),
        rejected=sum(result["rejected"] + result["garbage"] for result in ended),
        accused={
            member.peer: {int(peer): how for peer, how in member.result["accused"].items()}
            for member in fleet.members
            if member.result is not None
        },
        processes=[
            {
                "peer": member.peer,
                "pid": member.pids[-1],
                "address": places.addresses[member.peer],
                "lives": len(member.pids),
            }
            for member in fleet.members
            if member.pids
        ],
        exit_signals=[signal for member in fleet.members for signal in member.exit_signals],
        befallen=supervisor.incidents.befallen,
        absent=tuple(member.peer for member in absent),
    )
    return chronicle.finish(engine, final, outcome)


def _close_rounds(
    prepared: Prepared,
    archive: Archive,
    supervisor: Supervisor,
    chronicle: Chronicle,
    progress: RunProgress,
) -> None:
    rounds = SyncRounds(prepared.protocol)
    histories = [run for run in runs_of(archive.entries) if run.entry.kind is Kind.HISTORY]
    base = archive.base
    cut = rounds.cut if base is None else base.cut(prepared.protocol.units)
    rounds.restart(0 if base is None else base.round, cut, histories)
    for done in range(rounds.current, prepared.protocol.rounds + 1):
        if not chronicle.knows(done):
            reports = list(supervisor.reports[done - 1].values())
            sent = supervisor.sent(done)
            progress.closed(done, chronicle.close(done, rounds.accumulator, reports, sent))
        if not rounds.over:
            rounds.close()


def _close_averages(
    prepared: Prepared,
    there: Sequence[Member],
    supervisor: Supervisor,
    chronicle: Chronicle,
    progress: RunProgress,
) -> Weights:
    """Evaluate the mean of the peers' weights after every round; return the last."""
    protocol = prepared.protocol
    assert protocol.averaging is not None
    folders = {member.peer: RunFolder(member.folder) for member in there}
    for done in range(protocol.rounds + 1):
        name = WEIGHTS if done == protocol.rounds else weights_after(done)
        states = {peer: folder.read_weights(name) for peer, folder in folders.items()}
        apart = mean_of(states, protocol.roster.rows, protocol.averaging.initial)
        reports = list(supervisor.reports[done - 1].values())
        sent = supervisor.sent(done)
        progress.closed(done, chronicle.close(done, apart.mean, reports, sent, apart))
        if done < protocol.rounds:
            for folder in folders.values():
                (folder.path / name).unlink()
    return apart.mean
