"""The loop that drives one peer's protocol: real time, sockets, a disk and a training thread.

Each turn takes all frames that have come, up to a limit, and what else is due. What the protocol
makes of them is one output: its entries are stored in one transaction, and then its messages leave,
so a burst of entries costs one commit and nothing is sent before it is on disk (C9).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeAlias

from peer.clock import clock
from peer.events import Banned, Event, Finished, Output, RoundStarted
from peer.participant import Participant
from peer.recovery import remember
from peer.store import EntryStore
from peer.traffic import Traffic
from peer.trainer import LocalRound, LocalWeights, Trainer
from peer.zeromq import Transport

BATCH: Final = 64
"""Frames that one turn takes at most, so that what is due is not put off by a flood."""

BATCH_SIZE: Final = 2**22
"""Bytes of them after which no more are taken, so that no flood of large ones fills the memory."""

_Training: TypeAlias = "asyncio.Future[LocalRound | LocalWeights]"


async def drive(
    participant: Participant,
    transport: Transport,
    trainer: Trainer,
    store: EntryStore,
    traffic: Traffic,
    report: Callable[[Event], None],
    *,
    cut_off_from: Callable[[int], bool] = lambda _neighbour: False,
) -> Finished:
    """Let a peer take part in its run from its first HELLO to its last BYE.

    The transport is closed at the end, whatever the end is; the store stays open.

    Args:
        participant: not started; its log holds what the store holds.
        transport: connected to the neighbours.
        trainer: takes this peer's local steps, a round at a time, in a thread of its own.
        store: takes all that is new, before a message leaves that could speak of it.
        traffic: counts what was handed to a socket.
        report: called with each event, in the event loop's thread.
        cut_off_from: tells whether a partition lies between this peer and a neighbour, so that
            nothing comes through in either direction.

    Raises:
        Exception: what the trainer, the store or `report` raised. The neighbours see silence.
    """
    loop = asyncio.get_running_loop()
    worker = ThreadPoolExecutor(max_workers=1)
    inbox = _Inbox(transport)
    trainings: dict[_Training, RoundStarted] = {}

    def follow(output: Output) -> None:
        remember(store, participant.me, output.events)
        for neighbour, frame in output.messages:
            if not cut_off_from(neighbour) and transport.send(neighbour, frame):
                traffic.count(participant.me, neighbour, frame)
        for event in output.events:
            report(event)
            match event:
                case RoundStarted(indices=indices) if indices is not None:
                    train(event)
                case Banned(neighbour, reason):
                    transport.ban(neighbour, reason)

    def train(start: RoundStarted) -> None:
        assert start.indices is not None
        task = partial(trainer.train, participant.me, start.round, start.cut, start.indices)
        training = loop.run_in_executor(worker, task)
        training.add_done_callback(inbox.wake)
        trainings[training] = start

    def publish(training: _Training) -> Output:
        return participant.trained(trainings.pop(training), training.result(), clock())

    try:
        follow(participant.start(clock()))
        while (due := participant.timer) is not None:
            await inbox.wait(due - clock())
            turn = Output([], [])
            for training in [training for training in trainings if training.done()]:
                _append(turn, publish(training))
            for neighbour, frame in inbox.take():
                if participant.finished is None and not cut_off_from(neighbour):
                    _append(turn, participant.receive(frame, neighbour, clock()))
            if (due := participant.timer) is not None and clock() >= due:
                _append(turn, participant.advance(clock()))
            follow(turn)
        assert participant.finished is not None
        return participant.finished
    finally:
        inbox.close()
        for training in trainings:
            training.cancel()
        await transport.close()
        # Steps that are under way use the trainer, which is the caller's again after this.
        await asyncio.to_thread(worker.shutdown, cancel_futures=True)


def _append(turn: Output, output: Output) -> None:
    turn.messages += output.messages
    turn.events += output.events


class _Inbox:
    """Frames that have come and have not been looked at, and an alarm for whoever waits for more.

    Args:
        transport: brings them.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._frames: deque[tuple[int, bytes]] = deque()
        self._alarm = asyncio.Event()
        self._room = asyncio.Event()
        self._filling = asyncio.ensure_future(self._fill())
        self._filling.add_done_callback(self.wake)

    def wake(self, _done: object = None) -> None:
        """End a wait."""
        self._alarm.set()

    async def wait(self, seconds: float) -> None:
        """Wait for a frame, for `wake`, or so many seconds."""
        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self.wake)
        await self._alarm.wait()
        self._alarm.clear()
        timer.cancel()

    def take(self) -> list[tuple[int, bytes]]:
        """Return the frames that are here, each with the neighbour that it came from.

        Raises:
            Exception: what the transport raised.
        """
        if self._filling.done():
            self._filling.result()
        frames = [*self._frames]
        self._frames.clear()
        self._room.set()
        return frames

    def close(self) -> None:
        """Take no more."""
        self._filling.cancel()

    async def _fill(self) -> None:
        while True:
            self._frames.append(await self._transport.receive())
            self._alarm.set()
            size = sum(len(frame) for _, frame in self._frames)
            if len(self._frames) >= BATCH or size >= BATCH_SIZE:
                self._room.clear()
                await self._room.wait()
