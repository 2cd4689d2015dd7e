"""What a launched run has come to: its rounds evaluated, and its peers' results summed up."""

from __future__ import annotations

from typing import Any

from peer.accumulator import Accumulator
from peer.chronicle import Chronicle
from peer.fleet import Fleet
from peer.progress import RunProgress
from peer.records import RunFolder
from peer.rounds import Rounds
from peer.setup import Prepared
from peer.store import EntryStore
from peer.summary import Outcome
from peer.supervisor import Supervisor
from peer.traffic import LinkCount, Traffic


def conclude(
    engine: str,
    prepared: Prepared,
    fleet: Fleet,
    supervisor: Supervisor,
    chronicle: Chronicle,
    progress: RunProgress,
) -> dict[str, Any]:
    """Evaluate every round from the log of the first peer, and sum the run up."""
    protocol = prepared.protocol
    with EntryStore(fleet.children[0].folder / "log.sqlite") as store:
        entries = store.load()
    rounds = Rounds(protocol)
    for entry in entries:
        if not entry.is_end:
            rounds.add(entry)
    sent = LinkCount()
    for done in range(protocol.rounds + 1):
        sent = supervisor.sent.get(done, sent)
        if not chronicle.knows(done):
            reports = supervisor.reports[done - 1]
            progress.closed(done, chronicle.close(done, rounds.accumulator, reports, sent))
        if not rounds.over:
            rounds.close()
    results = [child.result or {} for child in fleet.children]
    traffic = Traffic()
    accumulators: list[Accumulator] = []
    for child in fleet.children:
        folder = RunFolder(child.folder)
        accumulators.append(folder.read_accumulator())
        for sender, receiver, count in folder.read_links().links():
            traffic.add(sender, receiver, count)
    outcome = Outcome(
        accumulator_digests=[accumulator.digest() for accumulator in accumulators],
        model_digests=[result["model_digest"] for result in results if result["model_digest"]],
        entries=entries,
        received=[result["received"] for result in results],
        timeouts=sum(result["timeouts"] for result in results),
        missing=tuple(sorted({peer for result in results for peer in result["missing"]})),
        traffic=traffic,
        peak_memory_bytes=max(result["peak_memory_bytes"] for result in results),
        rejected=sum(result["rejected"] + result["garbage"] for result in results),
        processes=[
            {"peer": child.peer, "pid": child.process.pid, "address": child.endpoint}
            for child in fleet.children
        ],
    )
    return chronicle.finish(engine, accumulators, outcome)
