"""The `kseed` command in processes of its own, for scenarios and tests: begun, ended, counted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from select import POLLIN, poll
from socket import create_server
from typing import Any, NamedTuple, TypeAlias

PATIENCE = 120.0
"""Seconds after which what is waited for will not come any more."""

COMMAND = (sys.executable, str(Path(__file__).with_name("gate.py")))
"""`kseed`, with gates for who asks for them."""

Process: TypeAlias = "subprocess.Popen[str]"


class End(NamedTuple):
    """How a command has ended."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """What `kseed launch --json` has printed."""
        summary: dict[str, Any] = json.loads(self.out)
        return summary


@contextmanager
def kseed(
    *arguments: str | Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    pictures: bool = False,
) -> Iterator[Process]:
    """Run the command in a folder, as the leader of a session; nothing is left of it afterwards.

    Args:
        arguments: of the command.
        folder: where it runs.
        environment: variables that it has beside those of this process.
        pictures: let a run draw them at its end.
    """
    drawing = {} if pictures else {"KSEED_NO_PICTURES": "1"}
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **drawing, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in {*living(process), process.pid} if process.returncode is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process.returncode is None:
            process.communicate(timeout=PATIENCE)


def end_of(process: Process) -> End:
    """Wait until a command and everything that it has started have ended.

    Raises:
        subprocess.TimeoutExpired: something holds the command's output open still.
    """
    out, err = process.communicate(timeout=PATIENCE)
    return End(process.returncode, out, err)


def run(*arguments: str | Path, folder: Path, pictures: bool = False) -> End:
    """Run the command to its end."""
    with kseed(*arguments, folder=folder, pictures=pictures) as process:
        return end_of(process)


def ctrl_c(process: Process) -> None:
    """Do what a terminal does: interrupt the command and everything that it has started."""
    os.killpg(process.pid, signal.SIGINT)


def living(process: Process) -> list[int]:
    """Return which processes of a command's session live, itself included; Linux only."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name before the last parenthesis may hold anything.
            state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == process.pid and state not in "ZX":
                found.append(int(folder.name))
    return found


def wait_until_all_ended(process: Process) -> None:
    """Wait until nothing lives of a command's session; Linux only.

    Raises:
        TimeoutError: something lives on.
    """
    for pid in living(process):
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                watch = poll()
                watch.register(handle, POLLIN)
                if not watch.poll(1000 * PATIENCE):
                    raise TimeoutError(f"process {pid} lives on")
            finally:
                os.close(handle)


def flags(options: Mapping[str, Any]) -> list[str]:
    """Return options as flags of the command."""
    words = []
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return words


def free_addresses(count: int) -> list[str]:
    """Return TCP addresses of this machine whose ports nobody listens on."""
    with ExitStack() as stack:
        servers = [stack.enter_context(create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"tcp://127.0.0.1:{server.getsockname()[1]}" for server in servers]


def loopback_hosts(count: int) -> list[str]:
    """Return addresses of this machine, as of so many hosts, with free usual ports; Linux only."""
    for _ in range(100):
        # Any of 16 million will do, so that tests side by side do not meet.
        net = ".".join(["127", *(str(random.SystemRandom().randint(1, 254)) for _ in range(2))])
        hosts = [f"{net}.{number}" for number in range(count)]
        with ExitStack() as stack, suppress(OSError):
            for host in hosts:
                stack.enter_context(create_server((host, 5555)))
                stack.enter_context(create_server((host, 9464)))
            return hosts
    raise OSError("no address of this machine is free")


def free_range(count: int) -> int:
    """Return the first of so many ports of this machine, one after another, that are free."""
    for first in range(20000, 30000, count):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(create_server(("127.0.0.1", port)))
            return first
    raise OSError("no range of ports is free")


def write_peer(
    folder: Path, id_: int, addresses: Sequence[str], options: Mapping[str, Any]
) -> Path:
    """Write the file of a peer to be started by hand, with a run folder beside it."""
    values = {
        "id": id_,
        "bind": addresses[id_],
        "addresses": list(addresses),
        "out": str(folder / f"run-{id_}"),
        **options,
    }
    path = folder / f"peer-{id_}.toml"
    write_options(path, values)
    return path


def write_options(path: Path, values: Mapping[str, Any]) -> None:
    """Write a TOML file; what numbers, texts and lists of them look like in JSON is TOML too."""
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
