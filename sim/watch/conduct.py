"""The loop of `kseed watch`: ask all, draw, wait, until nobody is left to be watched."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live

from peer.metrics_address import MetricsAddress
from sim.watch.asking import ask
from sim.watch.drawing import draw
from sim.watch.network import Network, Picture
from sim.watch.words import plain_line, troubles


class Screen:
    """Shows pictures: drawn on a terminal, elsewhere in words; the last one stays."""

    def __init__(self) -> None:
        # A terminal that cannot show a sign shows another in its place.
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._said: list[str] = []

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
        found = troubles(picture)
        for line in found:
            # What is still wrong is not told again, but how long somebody is silent by now is new.
            if line.partition(" for ")[0] not in self._said:
                print(f"  {line}")
        self._said = [line.partition(" for ")[0] for line in found]
        sys.stdout.flush()


async def look(network: Network, addresses: Sequence[MetricsAddress]) -> Picture:
    """Ask all at once, and return what is known then."""
    answers = await asyncio.gather(*map(ask, addresses))
    now = time.monotonic()
    network.take({str(a): answer for a, answer in zip(addresses, answers, strict=True)}, now)
    return network.picture(now)


def look_once(addresses: Sequence[MetricsAddress]) -> Picture:
    """Show the network as it is now; return that."""
    picture = asyncio.run(look(Network([str(a) for a in addresses]), addresses))
    Screen().leave(picture)
    return picture


def watch(addresses: Sequence[MetricsAddress], interval: float) -> Picture:
    """Show the network until all who were seen have ended or gone; return the last picture.

    Args:
        addresses: of the peers.
        interval: seconds from one look to the next.
    """
    screen = Screen()
    with screen:
        picture = asyncio.run(_follow(screen, addresses, interval))
    if screen.draws:
        screen.leave(picture)
    return picture


async def _follow(screen: Screen, addresses: Sequence[MetricsAddress], interval: float) -> Picture:
    network = Network([str(address) for address in addresses])
    while True:
        began = time.monotonic()
        picture = await look(network, addresses)
        screen.show(picture)
        if picture.over:
            return picture
        await asyncio.sleep(max(0.0, began + interval - time.monotonic()))
