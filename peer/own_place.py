"""A peer speaks to nobody before it has looked whether the place in the roster is its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final, TypeVar

from peer.zeromq import Transport

PATIENCE: Final = 10.0
"""Seconds after which a peer that cannot reach itself begins all the same: names may not be known
yet, and some networks lead nobody back to himself."""

LOG = logging.getLogger("kseed")

_T = TypeVar("_T")


async def find_itself(transport: Transport, me: int, address: str) -> asyncio.Future[None]:
    """Look who listens at a peer's own address, before it says anything.

    Meanwhile nothing is heard: who greets now will be greeted, and says it again.

    Returns:
        See `Transport.look_for_itself`.

    Raises:
        UserError: another peer of this number does.
    """
    itself = transport.look_for_itself(address)
    listening = asyncio.ensure_future(_listen(transport))
    try:
        await asyncio.wait(
            {itself, listening}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    if itself.done():
        itself.result()
    else:
        what = "peer %d does not reach itself at %s: if others do not either, see to port and name"
        LOG.warning(what, me, address)
    return itself


async def unless_one_fails(
    futures: Iterable[asyncio.Future[None]], work: Coroutine[Any, Any, _T]
) -> _T:
    """Do a work to its end, or until one of some futures fails, whose error is raised then."""
    futures, working = [*futures], asyncio.ensure_future(work)

    def end(known: asyncio.Future[None]) -> None:
        if known.exception() is not None:
            working.cancel()

    for future in futures:
        future.add_done_callback(end)
    try:
        return await working
    except asyncio.CancelledError:
        for future in futures:
            if future.done():
                future.result()
        raise
    finally:
        for future in futures:
            future.remove_done_callback(end)


async def _listen(transport: Transport) -> None:
    while True:
        await transport.receive()
