"""Hosts of a network of their own: a network namespace each, and a switch between them.

Every host has one device (TUN), whose other end is the switch: a thread of this process that takes
each packet to whom it is addressed. What hosts send is late and lost by `tc netem`, where this
kernel has it, and by the switch itself where it has not: packets, not frames, so that TCP has to
send them again. A host may be cut off, which drops all that comes from it and goes to it.

Hosts know each other by name: each process finds its own /etc/hosts.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from peer.namespaces import enter_namespace

DEVICE = "kseed0"
TUN = Path("/dev/net/tun")
MTU = 1500

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_DESTINATION = slice(16, 20)
"""Where an IPv4 packet says whom it is for."""


class Hosts:
    """So many hosts, and the switch.

    Args:
        count: how many there are.
        latency: seconds that a packet takes.
        loss: share of the packets that are lost.
        folder: for the file with their names.

    Attributes:
        carried: packets that have come to their host.
        lost: packets that have not, by chance or because a host was cut off.
        by: what makes packets late and lost: "netem" or "switch".
    """

    def __init__(self, count: int, latency: float, loss: float, folder: Path) -> None:
        self.carried = self.lost = 0
        self._latency, self._loss = latency, loss
        self._random = random.Random(f"{count} {latency} {loss}")
        self._names = [f"kseed-test-{os.getpid()}-{host}" for host in range(count)]
        self._hosts_file = folder / "hosts"
        names = [f"{address(host)} {name(host)}\n" for host in range(count)]
        self._hosts_file.write_text("127.0.0.1 localhost\n" + "".join(names))
        self._cut: frozenset[int] = frozenset()
        self._ends: list[int] = []
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        try:
            for host, space in enumerate(self._names):
                _run("ip", "netns", "add", space)
                self._ends.append(_in_namespace(space))
                for line in (
                    f"addr add {address(host)}/24 dev {DEVICE}",
                    f"link set {DEVICE} mtu {MTU} up",
                    "link set lo up",
                ):
                    _run("ip", "-n", space, *line.split())
            self.by = "netem" if self._impair() else "switch"
        except BaseException:
            self.close()
            raise
        self._thread.start()

    def command(self, host: int, *command: str) -> list[str]:
        """Return the command that runs another one on a host."""
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        space = ["ip", "netns", "exec", self._names[host]]
        return [*space, "sh", "-c", mount, str(self._hosts_file), *command]

    def cut_off(self, *hosts: int) -> None:
        """Let nothing through from and to these hosts, and everything else."""
        self._cut = frozenset(hosts)

    def close(self) -> None:
        """End the switch, and remove all hosts; their processes have to be ended before."""
        os.close(self._wake)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._woken)
        for end in self._ends:
            os.close(end)
        for space in self._names:
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", space)

    def _impair(self) -> bool:
        """Have the kernel make packets late and lost; return False if it cannot."""
        for space in self._names:
            netem = f"delay {1000 * self._latency:g}ms loss {100 * self._loss:g}% limit 100000"
            line = f"qdisc add dev {DEVICE} root netem {netem}"
            try:
                _run("tc", "-n", space, *line.split())
            except (subprocess.CalledProcessError, FileNotFoundError):
                return False
        return True

    def _carry(self) -> None:
        ends = {_bytes(address(host)): host for host in range(len(self._names))}
        senders = {end: host for host, end in enumerate(self._ends)}
        poll = select.poll()
        for descriptor in (self._woken, *self._ends):
            poll.register(descriptor, select.POLLIN)
        late: list[tuple[float, int, int, int, bytes]] = []
        taken = 0
        while True:
            wait = None if not late else max(0.0, 1000 * (late[0][0] - time.monotonic()))
            for descriptor, _ in poll.poll(wait):
                if descriptor == self._woken:
                    return
                packet, sender = os.read(descriptor, MTU), senders[descriptor]
                receiver = ends.get(packet[_DESTINATION])
                if packet[0] >> 4 != 4 or receiver is None:
                    continue
                taken += 1
                by_chance = self.by == "switch" and self._random.random() < self._loss
                if by_chance or not self._cut.isdisjoint((sender, receiver)):
                    self.lost += 1
                    continue
                due = time.monotonic() + (self._latency if self.by == "switch" else 0.0)
                heapq.heappush(late, (due, taken, sender, receiver, packet))
            while late and late[0][0] <= time.monotonic():
                _, _, sender, receiver, packet = heapq.heappop(late)
                if self._cut.isdisjoint((sender, receiver)):
                    os.write(self._ends[receiver], packet)
                    self.carried += 1


def wanting() -> str:
    """Return why there can be no such hosts here; empty: there can."""
    if sys.platform != "linux":
        return "only Linux has network namespaces"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if not os.access(TUN, os.W_OK):
        return f"there is no {TUN} here"
    name = f"kseed-test-{os.getpid()}"
    try:
        _run("ip", "netns", "add", name)
        try:
            os.close(_in_namespace(name))
        finally:
            _run("ip", "netns", "del", name)
    except FileNotFoundError:
        return "there is no `ip` here, which comes with iproute2"
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces are not allowed here: {error}"
    return ""


@contextmanager
def hosts(count: int, latency: float, loss: float, folder: Path) -> Iterator[Hosts]:
    """Make hosts, and remove them at the end."""
    made = Hosts(count, latency, loss, folder)
    with ExitStack() as stack:
        stack.callback(made.close)
        yield made


def name(host: int) -> str:
    """Return a host's name."""
    return f"node{host}"


def address(host: int) -> str:
    """Return a host's address."""
    return f"10.77.0.{host + 1}"


def _bytes(address_: str) -> bytes:
    return bytes(map(int, address_.split(".")))


def _in_namespace(space: str) -> int:
    """Make the device of a namespace, and return the descriptor of its other end."""
    found: list[Any] = []

    def make() -> None:
        # Only this thread goes there.
        try:
            enter_namespace(space)
            end = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
            request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
            fcntl.ioctl(end, _TUNSETIFF, request)
            found.append(end)
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    [end] = found
    if isinstance(end, OSError):
        raise end
    assert isinstance(end, int)
    return end


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
