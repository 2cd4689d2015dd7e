"""The loop of `kseed watch`: ask all, draw, wait, until nobody is left to be watched."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from rich.console import Console
from rich.live import Live

from peer.metrics_address import MetricsAddress
from sim.watch.asking import ask
from sim.watch.drawing import draw
from sim.watch.network import Network, Picture
from sim.watch.signs import replace_unknown_signs
from sim.watch.words import plain_line, troubles

AT_ONCE: Final = 128
"""Questions that are under way at a time: each takes a file descriptor."""


class Screen:
    """Shows pictures: drawn on a terminal, elsewhere in words; the last one stays."""

    def __init__(self) -> None:
        replace_unknown_signs()
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._told: frozenset[tuple[str, str]] = frozenset()

    @property
    def draws(self) -> bool:
        """Whether it is a terminal."""
        return self._console.is_terminal

    def __enter__(self) -> Screen:
        if self.draws:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def show(self, picture: Picture) -> None:
        """Show a picture in the place of the one before, or as a line after it."""
        if self.draws:
            size = self._console.size
            self._live.update(draw(picture, size.width, size.height), refresh=True)
        else:
            self._say(picture)

    def leave(self, picture: Picture) -> None:
        """Show a picture that stays."""
        if self.draws:
            size = self._console.size
            self._console.print(draw(picture, size.width, size.height - 2))
        else:
            self._say(picture)

    def _say(self, picture: Picture) -> None:
        print(plain_line(picture))
        # What goes on being wrong is not told again.
        for line in troubles(picture) if picture.concerns - self._told else ():
            print(f"  {line}")
        self._told = picture.concerns
        sys.stdout.flush()


def look_once(addresses: Sequence[MetricsAddress]) -> Picture:
    """Show the network as it is now; return that."""
    picture = asyncio.run(_look(addresses))
    Screen().leave(picture)
    return picture


def watch(addresses: Sequence[MetricsAddress], interval: float) -> Picture:
    """Show the network until all who were seen have ended or gone; return the last picture.

    Args:
        addresses: of the peers.
        interval: seconds from one picture to the next, and from one question to a peer to the next.
    """
    with Screen() as screen:
        picture = asyncio.run(_follow(screen, addresses, interval))
    screen.leave(picture)
    return picture


async def _look(addresses: Sequence[MetricsAddress]) -> Picture:
    network, room = _network(addresses), asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(_ask(network, address, room) for address in addresses))
    return network.picture(time.monotonic())


async def _follow(screen: Screen, addresses: Sequence[MetricsAddress], interval: float) -> Picture:
    network, room = _network(addresses), asyncio.Semaphore(AT_ONCE)
    asked: set[MetricsAddress] = set()
    all_asked = asyncio.Event()

    async def poll(address: MetricsAddress) -> None:
        """Ask one peer again and again, so that nobody who is silent holds up the others."""
        while True:
            began = time.monotonic()
            await _ask(network, address, room)
            asked.add(address)
            if len(asked) == len(addresses):
                all_asked.set()
            await asyncio.sleep(max(0.0, began + interval - time.monotonic()))

    try:
        async with asyncio.TaskGroup() as group:
            polls = [group.create_task(poll(address)) for address in addresses]
            try:
                # A first picture before the first answers would say nothing.
                with suppress(TimeoutError):
                    await asyncio.wait_for(all_asked.wait(), interval)
                while not (picture := network.picture(time.monotonic())).over:
                    screen.show(picture)
                    await asyncio.sleep(interval)
            finally:
                for one in polls:
                    one.cancel()
    except ExceptionGroup as errors:
        # Such as that nobody reads any more what is printed; the others come of it.
        raise errors.exceptions[0] from None
    return picture


def _network(addresses: Sequence[MetricsAddress]) -> Network:
    return Network([str(address) for address in addresses])


async def _ask(network: Network, address: MetricsAddress, room: asyncio.Semaphore) -> None:
    async with room:
        answer = await ask(address)
    network.take({str(address): answer}, time.monotonic())
