"""The loop that drives one peer's `Gossip`: real time, sockets, a disk and a training thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from peer.events import Event, Finished, Output, RoundStarted
from peer.gossip import Gossip
from peer.recovery import remember
from peer.store import EntryStore
from peer.traffic import Traffic
from peer.trainer import LocalRound, Trainer
from peer.zeromq import Transport


async def drive(
    gossip: Gossip,
    transport: Transport,
    trainer: Trainer,
    store: EntryStore,
    traffic: Traffic,
    report: Callable[[Event], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Finished:
    """Let a peer take part in its run from its first HELLO to its last BYE.

    The transport is closed at the end, whatever the end is; the store stays open.

    Args:
        gossip: not started; its log holds what the store holds.
        transport: connected to the neighbours.
        trainer: makes this peer's histories, one at a time, in a thread of its own.
        store: takes all that is new, before a message leaves that could speak of it.
        traffic: counts what was handed to a socket.
        report: called with each event, in the event loop's thread.
        clock: the time in seconds, never going back.

    Raises:
        Exception: what the trainer, the store or `report` raised. The neighbours see silence.
    """
    loop = asyncio.get_running_loop()
    worker = ThreadPoolExecutor(max_workers=1)
    inbox = asyncio.ensure_future(transport.receive())
    trainings: dict[asyncio.Future[LocalRound], RoundStarted] = {}

    def follow(output: Output) -> None:
        remember(store, gossip.me, output.events)
        for neighbour, frame in output.messages:
            if transport.send(neighbour, frame):
                traffic.count(gossip.me, neighbour, frame)
        for event in output.events:
            report(event)
            if isinstance(event, RoundStarted) and event.indices is not None:
                task = partial(trainer.train, gossip.me, event.round, event.cut, event.indices)
                trainings[loop.run_in_executor(worker, task)] = event

    def publish(start: RoundStarted, made: LocalRound) -> None:
        assert start.indices is not None
        follow(gossip.publish(start.round, start.indices, made.gradients, clock()))

    try:
        follow(gossip.start(clock()))
        while (due := gossip.timer) is not None:
            waiting: set[asyncio.Future[Any]] = {inbox, *trainings}
            patience = max(0.0, due - clock())
            await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for training in [training for training in trainings if training.done()]:
                publish(trainings.pop(training), training.result())
            if inbox.done() and gossip.finished is None:
                neighbour, frame = inbox.result()
                inbox = asyncio.ensure_future(transport.receive())
                follow(gossip.receive(frame, neighbour, clock()))
            if (due := gossip.timer) is not None and clock() >= due:
                follow(gossip.advance(clock()))
        assert gossip.finished is not None
        return gossip.finished
    finally:
        inbox.cancel()
        for training in trainings:
            training.cancel()
        await transport.close()
        # Steps that are under way use the trainer, which is the caller's again after this.
        await asyncio.to_thread(worker.shutdown, cancel_futures=True)
