"""What a launched run has come to: its rounds evaluated, and its peers' results summed up."""

from __future__ import annotations

from typing import Any

from peer.chronicle import Chronicle
from peer.entry import Entry
from peer.fleet import Fleet, Member
from peer.places import Places
from peer.progress import RunProgress
from peer.records import RunFolder
from peer.rounds import SyncRounds
from peer.setup import Prepared
from peer.store import EntryStore
from peer.summary import Outcome
from peer.supervisor import Supervisor
from peer.traffic import Traffic


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
    joined = {p for i in prepared.experiment.scenario if i.verb == "join" for p in i.peers}
    # Who has come late may know the sum of the entries before, and not each of them.
    entries = read_log(min(there, key=lambda member: member.peer in joined))
    _close_rounds(prepared, entries, supervisor, chronicle, progress)
    accumulators = [RunFolder(member.folder).read_accumulator() for member in there]
    traffic = Traffic()
    for member in fleet.members:
        for sender, receiver, count in RunFolder(member.folder).read_links().links():
            traffic.add(sender, receiver, count)
    # What somebody had on disk and could not send any more has been published as well.
    published = {(e.origin, e.sequence): e for m in absent for e in read_log(m)}
    published |= {(entry.origin, entry.sequence): entry for entry in entries}
    results = [member.result for member in there if member.result is not None]
    ended = [member.result for member in fleet.members if member.result is not None]
    outcome = Outcome(
        accumulator_digests=[accumulator.digest() for accumulator in accumulators],
        model_digests=[result["model_digest"] for result in results if result["model_digest"]],
        entries=[published[key] for key in sorted(published)],
        received=[result["received"] for result in results],
        timeouts=sum(result["timeouts"] for result in ended),
        missing=tuple(sorted({peer for result in results for peer in result["missing"]})),
        traffic=traffic,
        peak_memory_bytes=max(result["peak_memory_bytes"] for result in ended),
        rejected=sum(result["rejected"] + result["garbage"] for result in ended),
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
    return chronicle.finish(engine, accumulators, outcome)


def read_log(member: Member) -> list[Entry]:
    """Return what a peer has on disk, nothing if it has never been there."""
    path = member.folder / "log.sqlite"
    if not path.exists():
        return []
    with EntryStore(path) as store:
        return store.load()


def _close_rounds(
    prepared: Prepared,
    entries: list[Entry],
    supervisor: Supervisor,
    chronicle: Chronicle,
    progress: RunProgress,
) -> None:
    rounds = SyncRounds(prepared.protocol)
    for entry in entries:
        if not entry.is_end:
            rounds.add(entry)
    for done in range(prepared.protocol.rounds + 1):
        if not chronicle.knows(done):
            reports = list(supervisor.reports[done - 1].values())
            sent = supervisor.sent(done)
            progress.closed(done, chronicle.close(done, rounds.accumulator, reports, sent))
        if not rounds.over:
            rounds.close()
