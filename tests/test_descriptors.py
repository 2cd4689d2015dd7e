"""Too few file descriptors are told, and none is kept."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.descriptors import need_descriptors
from peer.errors import UserError
from peer.zeromq.transport import DESCRIPTORS, DESCRIPTORS_PER_NEIGHBOUR, Transport

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


def open_descriptors() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()}


@pytest.fixture
def spare() -> Iterator[int]:
    """How many more descriptors this process may open, few."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = open_descriptors()
    most = max(held) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    yield most - len(held)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_as_many_as_there_are_and_no_more(spare: int) -> None:
    before = open_descriptors()
    need_descriptors(spare)
    with pytest.raises(UserError, match=rf"^{spare + 1} more open files are needed: Too many"):
        need_descriptors(spare + 1)
    assert open_descriptors() == before


def test_a_transport_says_what_its_neighbours_take(spare: int) -> None:
    neighbours = (spare - DESCRIPTORS) // DESCRIPTORS_PER_NEIGHBOUR + 4

    async def connect() -> None:
        transport = Transport(0)
        try:
            with pytest.raises(UserError, match=f"^{neighbours * DESCRIPTORS_PER_NEIGHBOUR} more"):
                transport.connect(dict.fromkeys(range(1, neighbours + 1), transport.endpoint))
        finally:
            await transport.close()

    asyncio.run(connect())


def test_a_transport_takes_no_more_than_it_asks_for() -> None:
    async def opened() -> tuple[int, int]:
        before = len(open_descriptors())
        transport, other = Transport(0), Transport(1)
        alone = len(open_descriptors())
        transport.connect({1: other.endpoint})
        other.connect({0: transport.endpoint})
        transport.send(1, b"frame")
        other.send(0, b"frame")
        await transport.receive()
        await other.receive()
        both = len(open_descriptors())
        await transport.close()
        await other.close()
        return alone - before, both - alone

    alone, connected = asyncio.run(opened())
    assert alone <= 2 * DESCRIPTORS
    assert connected <= 2 * DESCRIPTORS_PER_NEIGHBOUR
