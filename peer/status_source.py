"""The way from the threads of a server to the status of a peer, which lives in an event loop.

However many ask, the loop is asked a few times a second at most, and nobody waits for it for long.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from peer.accumulator import Accumulator
from peer.status import PeerStatus
from peer.teller import Look
from peer.weights import Weights

KEPT: Final = 0.25
"""Seconds for which an answer is given again."""

PATIENCE: Final = 5.0
"""Seconds that the event loop has to answer."""


class NoStatus(Exception):
    """There is none now; why, in one line."""


class StatusSource:
    """What a peer tells of itself, to be asked from any thread."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._ask: Callable[[], Look] = _is_starting
        self._outcome: PeerStatus | NoStatus = NoStatus("the peer is starting")
        self._asked_at = -float("inf")
        self._digested: tuple[weakref.ref[Accumulator | Weights], str] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, look: Callable[[], Look]) -> None:
        """From now on have `look` called in the thread of a loop."""

        def ask() -> Look:
            future: Future[Look] = Future()

            def answer() -> None:
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(look())
                    except Exception as error:
                        future.set_exception(error)

            try:
                loop.call_soon_threadsafe(answer)
            except RuntimeError:
                raise NoStatus("the peer is ending") from None
            try:
                return future.result(PATIENCE)
            except TimeoutError:
                future.cancel()
                raise NoStatus("the peer is busy") from None

        self._ask = ask

    def end(self, look: Look) -> None:
        """From now on tell what was last seen."""
        with self._asking:
            self._ask = lambda: look
            self._asked_at = -float("inf")

    def status(self) -> PeerStatus:
        """Return how the peer is, or was a moment ago.

        Raises:
            NoStatus: nobody can tell.
        """
        with self._asking:
            if time.monotonic() >= self._asked_at + KEPT:
                try:
                    self._outcome = self._whole(self._ask())
                except NoStatus as error:
                    self._outcome = error
                # From here, so that who has waited does not make the next one wait as long.
                self._asked_at = time.monotonic()
            if isinstance(self._outcome, NoStatus):
                raise NoStatus(*self._outcome.args)
            return self._outcome

    def _whole(self, look: Look) -> PeerStatus:
        """Return a status with its digest, which takes long where weights are averaged."""
        if self._digested is not None and self._digested[0]() is look.state:
            return look.digested(self._digested[1])
        status = look.digested()
        # Not the state itself: it may be gigabytes that nobody else holds any more.
        self._digested = weakref.ref(look.state), status.digest
        return status


def _is_starting() -> Look:
    raise NoStatus("the peer is starting")
