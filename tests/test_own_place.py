"""Whether a peer is where the roster says: itself, another of its number, or nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from mesh import agreement
from scenarios.processes import free_addresses

from peer import own_place
from peer.addresses import LOOPBACK
from peer.entry import make_end
from peer.errors import UserError
from peer.events import LinkRefused, RoundStarted
from peer.gossip import Gossip
from peer.keys import Security, make_keys
from peer.log import EntryLog
from peer.own_place import find_itself, unless_one_fails
from peer.refusals import Refusals
from peer.wire import Hello, encode
from peer.zeromq import Transport, itself, sockets
from peer.zeromq.transport import DROPS

PATIENCE = 10.0
PEERS = 3

pytestmark = pytest.mark.usefixtures("_impatient")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itself, "GRACE", 0.3)
    monkeypatch.setattr(own_place, "PATIENCE", 1.0)
    monkeypatch.setattr(sockets, "LINGER", 0.2)
    monkeypatch.setattr(sockets, "RECONNECT", (0.05, 0.1))


@pytest.fixture(params=["null", "curve"])
def securities(request: pytest.FixtureRequest, tmp_path: Path) -> list[Security] | list[None]:
    return roster(tmp_path) if request.param == "curve" else [None] * PEERS


def roster(folder: Path) -> list[Security]:
    make_keys(PEERS, folder / "keys")
    return [Security.read(folder / "keys", peer, PEERS) for peer in range(PEERS)]


@asynccontextmanager
async def opened(
    me: int, address: str = LOOPBACK, security: Security | None = None
) -> AsyncIterator[Transport]:
    transport = Transport(me, address, security)
    try:
        yield transport
    finally:
        await asyncio.wait_for(transport.close(), PATIENCE)


@asynccontextmanager
async def listening(transport: Transport) -> AsyncIterator[None]:
    """Take what comes, as a peer that is under way does."""

    async def listen() -> None:
        while True:
            await transport.receive()

    task = asyncio.ensure_future(listen())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_peer_finds_itself(securities: list[Security]) -> None:
    async def main() -> None:
        async with opened(1, security=securities[1]) as transport:
            found = await find_itself(transport, 1, transport.endpoint)
            assert found.done()
            assert (transport.garbage, transport.banned) == (0, {})

    asyncio.run(main())


def test_neighbours_that_greet_meanwhile_are_no_hindrance(securities: list[Security]) -> None:
    async def main() -> None:
        async with (
            opened(1, security=securities[1]) as transport,
            opened(2, security=securities[2]) as two,
        ):
            two.connect({1: transport.endpoint})
            for _ in range(500):
                assert two.send(1, b"hello")
            transport.connect({2: two.endpoint})
            assert (await find_itself(transport, 1, transport.endpoint)).done()
            two.send(1, b"again")
            while await asyncio.wait_for(transport.receive(), PATIENCE) != (2, b"again"):
                pass
            assert transport.garbage == 0

    asyncio.run(main())


def test_who_finds_another_in_its_place_ends(
    securities: list[Security], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            opened(1, security=securities[1]) as there,
            opened(1, security=securities[1]) as elsewhere,
        ):
            assert (await find_itself(there, 1, there.endpoint)).done()
            async with listening(there):
                with pytest.raises(UserError, match=r"is peer 1 running already, on another host"):
                    await find_itself(elsewhere, 1, there.endpoint)
            assert there.garbage == 0

    asyncio.run(main())
    assert caplog.messages == ["another process was started as peer 1: it is not heard"]


def test_who_was_first_but_in_the_wrong_place_ends_when_the_other_comes(
    securities: list[Security], caplog: pytest.LogCaptureFixture
) -> None:
    [address] = free_addresses(1)

    async def main() -> None:
        async with opened(1, security=securities[1]) as elsewhere:
            found = await find_itself(elsewhere, 1, address)
            assert not found.done()
            working = unless_one_fails([found], asyncio.sleep(PATIENCE))
            async with opened(1, address, securities[1]) as there, listening(there):
                assert there.look_for_itself(address) is not None
                with pytest.raises(UserError, match="is peer 1 running already"):
                    await working

    asyncio.run(main())
    told = (
        f"peer 1 does not reach itself at {address}: if others do not either, see to port and name"
    )
    assert caplog.messages[0] == told


def test_who_was_about_to_end_in_its_place_is_no_hindrance(
    securities: list[Security], caplog: pytest.LogCaptureFixture
) -> None:
    [address] = free_addresses(1)

    async def main() -> None:
        async with opened(1, security=securities[1]) as next_:
            async with opened(1, address, securities[1]) as ending, listening(ending):
                ending.look_for_itself(address)
                looking = asyncio.ensure_future(find_itself(next_, 1, address))
                await until(lambda: "another process was started" in caplog.text)
            found = await looking
            assert not found.done()

    asyncio.run(main())


def test_who_has_no_keys_of_the_roster_is_no_other_of_that_number(tmp_path: Path) -> None:
    async def main() -> None:
        mine, theirs = roster(tmp_path), roster(tmp_path / "others")
        async with (
            opened(1, security=theirs[1]) as another,
            opened(1, security=mine[1]) as transport,
        ):
            found = await find_itself(transport, 1, another.endpoint)
            assert not found.done()

    asyncio.run(main())


@pytest.mark.parametrize("who", ["another roster", "an unknown key"])
def test_a_neighbour_whose_keys_were_wrong_is_dialled_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    [address] = free_addresses(1)
    told = [
        "peer 0 and peer 1 have other keys of one another",
        "peer 1 and peer 0 have other keys of one another",
    ]
    right, wrong = roster(tmp_path), roster(tmp_path / "others")[1]
    if who == "an unknown key":
        wrong = Security(wrong.secret, right[1].public)

    async def main() -> None:
        async with opened(0, security=right[0]) as transport:
            transport.connect({1: address})
            async with opened(1, address, wrong) as mistaken:
                mistaken.connect({0: transport.endpoint})
                await until(lambda: sorted(caplog.messages) == told)
            async with opened(1, address, right[1]) as mended:
                mended.connect({0: transport.endpoint})
                receiving = asyncio.ensure_future(mended.receive())
                while not receiving.done():
                    # What the sockets before had in their queues may be lost.
                    transport.send(1, b"hello")
                    await asyncio.wait({receiving}, timeout=0.05)
                assert receiving.result() == (0, b"hello")

    asyncio.run(main())
    assert sorted(caplog.messages) == told


def test_who_is_not_there_at_the_end_of_a_tunnel_has_no_other_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A tunnel takes a connection and ends it when there is nobody to lead it to."""
    ended = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        ended += 1
        writer.close()

    async def main() -> None:
        tunnel = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        host, port = tunnel.sockets[0].getsockname()
        async with opened(0, security=roster(tmp_path)[0]) as transport, tunnel:
            transport.connect({1: f"tcp://{host}:{port}"})
            await until(lambda: ended > 2 * DROPS)

    asyncio.run(main())
    assert caplog.messages == []


def a_peer(*neighbours: int) -> Gossip:
    return Gossip(0, neighbours, agreement(PEERS))


def test_a_peer_whose_neighbours_all_differ_ends() -> None:
    async def main() -> None:
        refusals = Refusals(a_peer(1, 2), set())
        refusals.happened(LinkRefused(1, ("rounds", "eta")))
        refusals.happened(LinkRefused(1, ("rounds", "eta")))
        assert not refusals.by_all.done()
        refusals.happened(LinkRefused(2, ("eta", "tick")))
        with pytest.raises(UserError) as caught:
            await unless_one_fails([refusals.by_all], asyncio.sleep(PATIENCE))
        assert str(caught.value) == (
            "peer 0 is refused by all its neighbours (1, 2), which differ from it in: eta, rounds, "
            "tick"
        )

    asyncio.run(main())


def test_who_is_refused_for_its_keys_ends_when_it_would_begin_alone() -> None:
    """Whoever is between can have said so, and by then it makes no difference."""

    async def main() -> None:
        other_keys: set[int] = set()
        refusals = Refusals(a_peer(1, 2), other_keys)
        other_keys |= {1, 2}
        refusals.happened(LinkRefused(1, ("eta",)))
        assert not refusals.by_all.done()
        refusals.happened(RoundStarted(0, None, None))
        with pytest.raises(UserError, match=r"\(1, 2\), which differ from it in: eta, keys$"):
            refusals.by_all.result()

    asyncio.run(main())


def test_who_begins_without_any_neighbour_that_has_other_keys_goes_on() -> None:
    async def main() -> None:
        refusals = Refusals(a_peer(1, 2), {1})
        refusals.happened(RoundStarted(0, None, None))
        assert not refusals.by_all.done()

    asyncio.run(main())


def test_a_peer_that_has_heard_of_others_goes_on() -> None:
    async def main() -> None:
        log = EntryLog()
        log.add(make_end(2, 0, 1))
        # What an earlier life has heard counts, too.
        peer = Gossip(0, [1], agreement(PEERS), log)
        refusals = Refusals(peer, set())
        refusals.happened(LinkRefused(1, ("eta",)))
        assert not refusals.by_all.done()

    asyncio.run(main())


def test_a_neighbour_that_has_been_mended_refuses_no_more() -> None:
    async def main() -> None:
        peer = a_peer(1, 2)
        refusals = Refusals(peer, set())
        refusals.happened(LinkRefused(1, ("eta",)))
        peer.receive(encode(Hello(1, peer.protocol.digest, peer.log.digest(), True, 0.0)), 1, 0.0)
        refusals.happened(LinkRefused(2, ("eta",)))
        assert not refusals.by_all.done()

    asyncio.run(main())


def test_a_work_ends_as_it_does_while_nothing_fails() -> None:
    async def work() -> str:
        return "done"

    async def fails() -> None:
        raise KeyError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        open_, found = loop.create_future(), loop.create_future()
        found.set_result(None)
        assert await unless_one_fails([open_, found], work()) == "done"
        with pytest.raises(KeyError):
            await unless_one_fails([open_, found], fails())

    asyncio.run(main())
