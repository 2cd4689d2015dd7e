"""A TCP relay between two peers, which counts bytes and can cut what it carries."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class Relay:
    """Stands before an endpoint, in the running event loop.

    Each direction goes on until its sender ends it, even if nobody takes its bytes any more: so all
    that was sent is counted, though the other side may have left first.

    Attributes:
        endpoint: where to dial.
        dialled: bytes that have come from who dials.
        answered: bytes that have come from who is dialled.
        connections: how many were made.
    """

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("tcp://").split(":")
        self._far = (host, int(port))
        self._near: list[asyncio.StreamWriter] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._carrying: set[asyncio.Task[None]] = set()
        self.dialled = self.answered = self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"tcp://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._carrying)

    async def drained(self) -> None:
        """Wait until both sides have ended all connections."""
        await asyncio.gather(*self._carrying)

    def cut(self) -> None:
        """End all connections on the side that has dialled; the other side does not learn of it."""
        for writer in self._near:
            writer.transport.abort()
        self._near.clear()

    async def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        self._near.append(near)
        self._writers.append(near)
        self.connections += 1
        with suppress(OSError):
            far_reader, far = await asyncio.open_connection(*self._far)
            self._writers.append(far)
            if not self._server.is_serving():
                # The relay has been left meanwhile, and with it all that was connected by then.
                far.transport.abort()
            await asyncio.gather(
                self._carry(reader, far, True), self._carry(far_reader, near, False)
            )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialled: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if dialled:
                    self.dialled += len(data)
                else:
                    self.answered += len(data)
                if not writer.transport.is_closing():
                    writer.write(data)
