"""What the launcher and a peer's process say to each other, over a pipe of their own.

    launcher                          peer process
       | -- forkserver, experiment ----> |   torch is imported once, in the server
       | <----- {"listens": address} --- |   it is ready to begin
       | -- {"addresses", "cut"} ------> |   all that begin together are ready
       | <----- {"round", "sent"} ------ |   at the start of each round
       | <----- {"trained": report} ---- |   after each local round
       | -- {"cut": neighbours} -------> |   a partition: from now on nothing goes to
       |                                 |   these neighbours, or is taken from them
       | <----- {"done": result} ------- |   the accumulator is in its folder
       | <----- {"failed": reason} ----- |   instead of that

A message is a JSON object. The end of the pipe is the end of the process at its other side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

Message = Mapping[str, Any]


def send(channel: Connection, message: Message) -> None:
    """Say something.

    Raises:
        OSError: nobody is there to hear it.
    """
    channel.send_bytes(json.dumps(message).encode())


def receive(channel: Connection) -> Message:
    """Wait for what the other side says next.

    Raises:
        EOFError, OSError: it has ended. A reset instead of an end tells of a message from here that
            it has not read.
    """
    message: Message = json.loads(channel.recv_bytes())
    return message
