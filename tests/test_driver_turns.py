"""What the driver makes of much that comes at once, and of what the protocol wants done."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from test_driver import PATIENCE, ROOT_SEED, agreement

from peer.driver import drive
from peer.entry import Entry
from peer.events import Banned, Finished, Output, RoundStarted
from peer.gossip import Gossip
from peer.protocol import Protocol
from peer.store import EntryStore
from peer.traffic import Traffic
from peer.trainer import SyntheticTrainer

TRAINER = SyntheticTrainer(ROOT_SEED)


class Leaves:
    """A transport to neighbours that live in this process and answer as soon as they are sent to.

    Peer 0 is the one that is driven; all others of the roster have a link to it and to nobody else.
    """

    def __init__(self, protocol: Protocol) -> None:
        count = len(protocol.roster.rows)
        self.leaves = {n: Gossip(n, [0], protocol) for n in range(1, count)}
        self.banned: list[tuple[int, str]] = []
        self._frames: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    def send(self, neighbour: int, frame: bytes) -> bool:
        self.follow(neighbour, self.leaves[neighbour].receive(frame, 0, time.monotonic()))
        return True

    def follow(self, leaf: int, output: Output) -> None:
        for _, frame in output.messages:
            self._frames.put_nowait((leaf, frame))
        for event in output.events:
            if isinstance(event, RoundStarted) and event.indices is not None:
                made = TRAINER.train(leaf, event.round, event.cut, event.indices)
                gossip, now = self.leaves[leaf], time.monotonic()
                self.follow(leaf, gossip.publish(event.round, event.indices, made.gradients, now))

    async def receive(self) -> tuple[int, bytes]:
        return await self._frames.get()

    def ban(self, neighbour: int, reason: str) -> None:
        self.banned.append((neighbour, reason))

    async def close(self) -> None:
        pass


class CountingStore(EntryStore):
    """Counts the transactions that entries come in."""

    transactions = 0

    def append(self, entries: Iterable[Entry], *, durable: bool = False) -> None:
        self.transactions += 1
        super().append(entries, durable=durable)


async def drive_hub(leaves: Leaves, protocol: Protocol, store: EntryStore) -> Gossip:
    for leaf, gossip in leaves.leaves.items():
        leaves.follow(leaf, gossip.start(time.monotonic()))
    hub = Gossip(0, list(leaves.leaves), protocol)
    doors: Any = (leaves, TRAINER, store, Traffic())
    await asyncio.wait_for(drive(hub, *doors, lambda _event: None), PATIENCE)
    return hub


def test_a_burst_of_entries_is_stored_in_one_transaction(tmp_path: Path) -> None:
    protocol = agreement(12)

    async def main() -> None:
        with CountingStore(tmp_path / "0.log") as store:
            hub = await drive_hub(Leaves(protocol), protocol, store)
            assert hub.finished == Finished(())
            entries = len(store.load())
            assert entries == 12 * (3 + 1)
            # The leaves answer one another's rounds at once, so theirs come together.
            assert store.transactions <= 4 * (3 + 1)

    asyncio.run(main())


def test_whom_the_protocol_bans_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, leaves = agreement(3), []
    start = Gossip.start

    def accusing(gossip: Gossip, now: float) -> Output:
        output = start(gossip, now)
        accused = [Banned(2, "it lies")] if gossip.me == 0 else []
        return Output(output.messages, [*output.events, *accused])

    monkeypatch.setattr(Gossip, "start", accusing)

    async def main() -> None:
        leaves.append(Leaves(protocol))
        with EntryStore(tmp_path / "0.log") as store:
            await drive_hub(leaves[0], protocol, store)

    asyncio.run(main())
    assert leaves[0].banned == [(2, "it lies")]
