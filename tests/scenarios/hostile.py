"""An honest pair trains over real sockets, beside a neighbour that has a key and has gone bad.

    python tests/scenarios/hostile.py [--attacks rubbish endless ...] [--rounds 600]
        [--rate 1000] [--messages 0] [--without-defence]

For each attack the pair runs once, until its rounds are over; the attacker, a neighbour of the
first peer with a key of the roster, sends as many messages a second as it is told (0: all it can)
from the moment when the pair has found its pace. With the defence a neighbour that lies is
disconnected; without it the parser is what is tried.

Passes if the victim lives to its end with the accumulator of a run without attacker, its memory
grows by less than 50 MB, at least --messages were sent where nobody was disconnected, and training
went on at half its speed or more. Prints a line for each attack; status 0 if all have passed.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag
from threading import Thread

import numpy as np
from attacks import ATTACKS, Means
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from zmtp_client import Client, Credentials

from peer import wire
from peer.accumulator import Accumulator
from peer.driver import drive
from peer.events import Event, RoundStarted
from peer.gossip import Gossip
from peer.keys import Security, make_keys
from peer.log import EntryLog
from peer.protocol import Protocol, field_digest
from peer.roster import Roster
from peer.signatures import signer
from peer.store import EntryStore
from peer.traffic import Traffic
from peer.trainer import LocalRound, SyntheticTrainer
from peer.units import choose_units
from peer.wire import FRAME_LIMIT
from peer.zeromq import Transport

VICTIM, HONEST, BAD = range(3)
NEIGHBOURS = {VICTIM: [HONEST, BAD], HONEST: [VICTIM]}
WARM_UP = 50
"""Rounds after which the pair has found its pace and its memory its size."""

ENDLESS = {"endless-small": 0, "endless-large": FRAME_LIMIT}
"""Attacks that only a client of our own can make: frames of one message that never ends."""

BEYOND = "beyond-limit"
"""A frame past the limit on each of ever new connections."""

BAD_ROUND = 10
"""The one round in which the attacker is a member. It is waited for in vain, before the attack."""

MEMORY = 50e6
SPEED = 0.5
PATIENCE = 60.0
ROUND_TIMEOUT = 5.0


def agreement(rounds: int, public: tuple[bytes, ...], defence: bool) -> Protocol:
    """Two peers train; the third has a key, and was evicted after a round."""
    first, last = (0, 0, BAD_ROUND), (None, None, BAD_ROUND + 1)
    roster = Roster((5, 7, 9), 1.0, 7, first=first, last=last, evicted=frozenset({BAD}))
    steps, bound = 50, 1024.0
    return Protocol(
        roster,
        rounds=rounds,
        local_steps=steps,
        candidate_seeds=1024,
        gradient_bytes=4,
        gradient_bound=bound,
        seeding="uniform",
        learning_rate=1e-4,
        units=choose_units(1e-4, rounds, steps, bound, len(roster.rows)),
        fields={"scenario": field_digest("hostile")},
        public_keys=public,
        round_timeout=ROUND_TIMEOUT,
        settle_timeout=PATIENCE,
        tick=0.2,
        disconnects=defence,
    )


class WorkingTrainer:
    """Makes histories without a model, and some milliseconds' work of each."""

    def train(
        self, peer: int, round_: int, cut: Accumulator, indices: NDArray[np.int64]
    ) -> LocalRound:
        for _ in range(4):
            # As kernels do, this leaves the interpreter to others.
            sha256(bytes(2**20)).digest()
        return SyntheticTrainer(7).train(peer, round_, cut, indices)


def be_peer(me: int, folder: Path, channel: Connection, rounds: int, defence: bool) -> None:
    """Be one of the pair: the main function of a process."""
    security = Security.read(folder / "keys", me, 3)
    protocol = agreement(rounds, security.public.ed25519, defence)

    def report(event: Event) -> None:
        # Of the other one nobody reads before its end, so it would wait for room.
        if isinstance(event, RoundStarted) and me == VICTIM:
            channel.send(("round", event.round, time.monotonic()))

    async def main() -> None:
        transport = Transport(me, security=security, largest=protocol.sizes.largest)
        channel.send(("listens", transport.endpoint))
        addresses: dict[int, str] = await asyncio.to_thread(channel.recv)
        transport.connect({other: addresses[other] for other in NEIGHBOURS[me]})
        with EntryStore(folder / f"{me}.sqlite") as store:
            sign = signer(security.secret.ed25519)
            gossip = Gossip(me, NEIGHBOURS[me], protocol, EntryLog(), sign=sign)
            doors = (transport, WorkingTrainer(), store, Traffic(curve=True))
            await drive(gossip, *doors, report)
        banned = {**transport.banned, **gossip.accused}.get(BAD, "")
        rejected = sum(gossip.rejections.values()) + transport.garbage
        channel.send(("done", gossip.rounds.accumulator.digest(), banned, rejected))

    asyncio.run(main())


@dataclass
class Member:
    """A process of the pair, as the script sees it."""

    process: multiprocessing.Process
    channel: Connection
    endpoint: str = ""
    digest: str = ""
    banned: str = ""
    rejected: int = 0

    @property
    def memory(self) -> int:
        """Its resident size in bytes, 0 when it has ended."""
        with suppress(OSError, ValueError):
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return 0


class Attacker:
    """The third peer, in a thread of its own with an event loop of its own."""

    def __init__(self, name: str, folder: Path, rate: float) -> None:
        self._name, self._rate = name, rate
        self._security = Security.read(folder / "keys", BAD, 3)
        self._greeting = wire.encode(
            wire.Hello(
                BAD,
                agreement(1, (), True).digest,
                bytes(8),
                answer=True,
                clock=0.0,
            )
        )
        self._listening, self._addressed = Flag(), Flag()
        self.began, self._over = Flag(), Flag()
        self.endpoint = self._victim = ""
        self.sent = 0
        self._thread = Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._listening.wait(PATIENCE)

    def meet(self, victim: str) -> None:
        """Greet the victim, as an honest neighbour would."""
        self._victim = victim
        self._addressed.set()

    def stop(self) -> None:
        """End the attack, if it has not ended itself."""
        self.began.set()
        self._over.set()
        self._thread.join(PATIENCE)

    async def _main(self) -> None:
        transport = Transport(BAD, security=self._security)
        self.endpoint = transport.endpoint
        self._listening.set()
        await asyncio.to_thread(self._addressed.wait)
        transport.connect({VICTIM: self._victim})
        transport.send(VICTIM, self._greeting)
        public, secret = self._security.public, self._security.secret
        protocol, sign = agreement(1000, public.ed25519, True), signer(secret.ed25519)
        means = Means(BAD, protocol, lambda body: sign(protocol.signed(body)), BAD_ROUND)
        hearing = asyncio.ensure_future(self._hear(transport, means.heard))
        await asyncio.to_thread(self.began.wait)
        try:
            if self._name in ATTACKS:
                await self._flood(transport, means)
            else:
                await asyncio.to_thread(self._insist)
        finally:
            hearing.cancel()
            await transport.close()

    async def _hear(self, transport: Transport, heard: list[bytes]) -> None:
        while True:
            _, frame = await transport.receive()
            if len(heard) < 1000:
                heard.append(frame)

    async def _flood(self, transport: Transport, means: Means) -> None:
        frames = ATTACKS[self._name](means)
        began = time.monotonic()
        while not self._over.is_set():
            due = (time.monotonic() - began) * self._rate if self._rate else self.sent + 100
            while self.sent < due and transport.send(VICTIM, next(frames)):
                self.sent += 1
            # Not to wait for anything: this is the attack's pace.
            await asyncio.sleep(0.001)

    def _insist(self) -> None:
        """Dial again and again, and begin a message each time that is never to end."""
        keys = Credentials.of(self._security, VICTIM)
        size = ENDLESS.get(self._name)
        while not self._over.is_set():
            try:
                with Client(self._victim, b"%06d/x" % BAD, keys) as client:
                    if size is None:
                        client.socket.sendall(client.frame(bytes(FRAME_LIMIT + 1)))
                        self.sent += 1
                    while size is not None and not self._over.is_set():
                        number = max(1, 2**16 // (size + 35))
                        frames = [client.frame(bytes(size), more=True) for _ in range(number)]
                        client.socket.sendall(b"".join(frames))
                        self.sent += number
            except OSError:
                self._over.wait(0.01)


@dataclass(frozen=True)
class Story:
    """What came of one run."""

    digest: str
    speed: float
    growth: float
    sent: int
    rejected: int
    banned: str


def tell(name: str, rounds: int, rate: float, defence: bool) -> Story:
    """Run the pair beside one attacker, `none` for one that keeps still; speed in rounds/s."""
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        make_keys(3, folder / "keys")
        members = []
        for me in (VICTIM, HONEST):
            mine, theirs = context.Pipe()
            arguments = (me, folder, theirs, rounds, defence)
            process = context.Process(target=be_peer, args=arguments, daemon=True)
            process.start()
            members.append(Member(process, mine))
        attacker = Attacker(name, folder, rate)
        for member in members:
            _, member.endpoint = _next(member)
        attacker.meet(members[VICTIM].endpoint)
        endpoints = [*(member.endpoint for member in members), attacker.endpoint]
        for member in members:
            member.channel.send(dict(enumerate(endpoints)))
        try:
            return _watch(members, attacker, name, rounds)
        finally:
            attacker.stop()
            for member in members:
                member.process.kill()
                member.process.join()


def _watch(members: list[Member], attacker: Attacker, name: str, rounds: int) -> Story:
    victim, honest = members
    began = ended = 0.0
    before = peak = sent = 0
    while not victim.digest:
        if victim.channel.poll(0.01):
            match _next(victim):
                case ("round", round_, moment):
                    ended = moment
                    if round_ == WARM_UP:
                        began, before = moment, victim.memory
                        if name != "none":
                            attacker.began.set()
                    sent = attacker.sent
                case ("done", digest, banned, rejected):
                    victim.digest, victim.banned, victim.rejected = digest, banned, rejected
        peak = max(peak, victim.memory)
    while not honest.digest:
        match _next(honest):
            case ("done", digest, *_):
                honest.digest = digest
    assert honest.digest == victim.digest, "the pair has come apart"
    speed = (rounds - 1 - WARM_UP) / (ended - began)
    return Story(victim.digest, speed, peak - before, sent, victim.rejected, victim.banned)


def _next(member: Member) -> tuple[object, ...]:
    if not member.channel.poll(PATIENCE):
        raise TimeoutError("a peer of the pair has stopped")
    message: tuple[object, ...] = member.channel.recv()
    return message


def main(arguments: list[str]) -> int:
    """Tell all stories; return the exit status."""
    parser = argparse.ArgumentParser(description="Train beside a neighbour gone bad.")
    every = [*ATTACKS, *ENDLESS, BEYOND]
    parser.add_argument("--attacks", nargs="+", choices=every, default=every)
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second; 0: all")
    parser.add_argument("--messages", type=int, default=0, help="that must have been sent")
    parser.add_argument("--without-defence", action="store_true")
    options = parser.parse_args(arguments)
    defence = not options.without_defence
    alone = tell("none", options.rounds, 0.0, defence)
    print(f"alone: {alone.speed:.1f} rounds/s, memory {alone.growth / 1e6:+.1f} MB", flush=True)
    passed = True
    for name in options.attacks:
        story = tell(name, options.rounds, options.rate, defence)
        faults = []
        if story.digest != alone.digest:
            faults.append("the state is another")
        if story.growth >= MEMORY:
            faults.append("too much memory")
        # An attack at full speed shows what breaks; only one at a rate has a speed to keep.
        if options.rate and story.speed < SPEED * alone.speed:
            faults.append("too slow")
        if not defence and story.sent < options.messages:
            faults.append("too few messages: more --rounds are wanted")
        passed &= not faults
        print(
            f"{name}: {story.sent:,} sent, {story.rejected:,} refused, {story.speed:.1f} rounds/s, "
            f"memory {story.growth / 1e6:+.1f} MB, {story.banned or 'nobody banned'}: "
            f"{', '.join(faults) or 'passed'}",
            flush=True,
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
