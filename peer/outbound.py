"""Weights that this peer sends, a window at a time, and sends again to whoever asks.

Whoever is to have them gets the first parts unasked and asks for the rest as they come, so what is
on its way to a neighbour is a window of parts, however large the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from peer.errors import RefusedEntry
from peer.inbound import WINDOW
from peer.outbox import Outbox
from peer.weights import Weights
from peer.wire import Part

KEPT_ROUNDS: Final = 2
"""Rounds whose own weights are kept, for neighbours that ask for them again."""

PARTS_ASKED: Final = WINDOW
"""Parts that one question asks for at most."""

PARTS_ANSWERED: Final = 4 * WINDOW
"""Parts that a neighbour is sent in a tick because it asks: more would have to wait in memory."""


class _Sent(NamedTuple):
    """Weights of one exchange, who is to have them, and when they were first sent."""

    weights: Weights
    receivers: tuple[int, ...]
    at: float


class Outbound:
    """What has been sent and may be asked for again.

    Args:
        outbox: takes the messages.
        parts: how many make the weights.
        exchanges: of the run.
        kept: of so many exchanges the weights are kept, the last in which any were sent.
        tick: in seconds.
    """

    def __init__(
        self, outbox: Outbox, *, parts: int, exchanges: int, kept: int, tick: float
    ) -> None:
        self._outbox = outbox
        self._parts = parts
        self._exchanges = exchanges
        self._kept = kept
        self._tick = tick
        self._sent: dict[int, _Sent] = {}
        self._answers: dict[int, tuple[float, int]] = {}

    def publish(
        self, exchange: int, weights: Weights, receivers: tuple[int, ...], now: float
    ) -> None:
        """Send weights in an exchange to neighbours, the first window of them."""
        if not receivers:
            return
        self._sent[exchange] = _Sent(weights, receivers, now)
        # By how many, not by their numbers: an idle peer runs ahead of who still asks for its last.
        for old in sorted(self._sent)[: -self._kept]:
            del self._sent[old]
        for part in range(min(WINDOW, self._parts)):
            self._send(receivers, exchange, part)

    def answer(self, neighbour: int, exchange: int, parts: Sequence[int], now: float) -> None:
        """Send the parts that a neighbour asks for, if it is to have them and they are kept.

        Raises:
            RefusedEntry: no honest peer asks so.
        """
        if exchange >= self._exchanges:
            raise RefusedEntry(f"exchange {exchange}, the run has {self._exchanges}")
        if len(parts) > PARTS_ASKED or any(part >= self._parts for part in parts):
            raise RefusedEntry(f"{len(parts)} parts asked for, up to {parts[-1]} of {self._parts}")
        sent = self._sent.get(exchange)
        if sent is None or neighbour not in sent.receivers:
            return
        if now < sent.at + self._tick:
            # What was asked for while it was on its way unasked would come twice.
            parts = [part for part in parts if part >= WINDOW]
        since, answered = self._answers.get(neighbour, (now, 0))
        if now >= since + self._tick:
            since, answered = now, 0
        granted = parts[: PARTS_ANSWERED - answered]
        self._answers[neighbour] = since, answered + len(granted)
        for part in granted:
            self._send((neighbour,), exchange, part)

    def _send(self, neighbours: Iterable[int], exchange: int, part: int) -> None:
        data = self._sent[exchange].weights.part(part)
        self._outbox.spread(neighbours, Part(exchange, part, data))
