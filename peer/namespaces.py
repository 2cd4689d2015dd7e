"""Network namespaces: each peer of a launched run alone with the cables to its neighbours.

A link of the topology is a pair of virtual devices, one in the namespace of each end, so that a
peer reaches nobody but its neighbours. Latency and loss are netem's, on what leaves a device: a
packet is lost, and TCP sends it again, where the simulator loses a frame for good. A partition
takes down the cables that it cuts; TCP then tries ever more seldom, so what was under way may need
as long again after the repair as the cut has lasted.

The launcher stays where it is and speaks with the peers through their pipes. Namespaces are named
`kseed-<pid of the launcher>-<peer>`. What a launcher has left behind that was killed, the next one
removes.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from peer.errors import UserError
from peer.interrupts import interrupts_put_off
from peer.places import Link

_FOLDER: Final = Path("/run/netns")
"""Where `ip netns` keeps namespaces by name."""

_CLONE_NEWNET: Final = 0x40000000
_NETWORK: Final = IPv4Address("10.0.0.0")
_PORT: Final = 9000
_NAME: Final = re.compile(r"kseed-([0-9]+)-[0-9]+")


class Namespaces:
    """A namespace for each peer.

    Args:
        peers: who needs one.
        links: their cables.
        latencies: seconds that a packet takes, for both directions (from, to) of each link.
        loss: share of the packets that are lost.

    Raises:
        UserError: it cannot be done here, or not by this user; nothing is left.
    """

    def __init__(
        self,
        peers: Iterable[int],
        links: Iterable[Link],
        latencies: Mapping[Link, float],
        loss: float,
    ) -> None:
        peers, links = list(peers), list(links)
        impaired = loss > 0 or any(latencies.values())
        _check_means("ip", *(["tc"] if impaired else []))
        self._cut: AbstractSet[Link] = frozenset()
        self._peers = peers
        self.addresses = {peer: f"tcp://{_address(peer)}:{_PORT}" for peer in peers}
        try:
            with interrupts_put_off():
                _remove(_leftovers())
                self._lay_cables(links)
                if impaired:
                    self._impair(links, latencies, loss)
        except BaseException:
            self.close()
            raise

    def namespace(self, peer: int) -> str:
        """Return the name of a peer's namespace."""
        return f"kseed-{os.getpid()}-{peer}"

    def cut(self, links: AbstractSet[Link]) -> bool:
        """Take these cables down, and put all others up."""
        orders = defaultdict(list)
        for a, b in sorted(links ^ self._cut):
            orders[a].append(f"link set {_device(b)} {'down' if (a, b) in links else 'up'}")
        with interrupts_put_off():
            for peer, lines in orders.items():
                _batch(["ip", "-n", self.namespace(peer)], lines)
        self._cut = links
        return True

    def close(self) -> None:
        """Remove all namespaces, and with them the cables."""
        with interrupts_put_off():
            _remove(self.namespace(peer) for peer in self._peers)

    def _lay_cables(self, links: list[Link]) -> None:
        name = self.namespace
        devices = [
            f"link add {_device(b)} netns {name(a)} type veth peer {_device(a)} netns {name(b)}"
            for a, b in links
        ]
        _batch(["ip"], [f"netns add {name(peer)}" for peer in self._peers] + devices)
        inside = {
            peer: [f"addr add {_address(peer)}/32 dev lo", "link set lo up"] for peer in self._peers
        }
        for link in links:
            for here, there in (link, link[::-1]):
                # The route to the neighbour comes and goes with the cable.
                ends = f"{_address(here)} peer {_address(there)}/32"
                inside[here] += [
                    f"addr add {ends} dev {_device(there)}",
                    f"link set {_device(there)} up",
                ]
        for peer, lines in inside.items():
            _batch(["ip", "-n", name(peer)], lines)

    def _impair(self, links: list[Link], latencies: Mapping[Link, float], loss: float) -> None:
        inside = defaultdict(list)
        for link in links:
            for here, there in (link, link[::-1]):
                microseconds = round(1e6 * latencies.get((here, there), 0.0))
                inside[here].append(
                    f"qdisc add dev {_device(there)} root netem limit 100000 "
                    f"delay {microseconds}us loss {100 * loss:.6f}%"
                )
        for peer, lines in inside.items():
            try:
                _batch(["tc", "-n", self.namespace(peer)], lines)
            except UserError as error:
                if "qdisc kind is unknown" not in str(error):
                    raise
                raise UserError(
                    "isolate = 'netns': this kernel has no netem, so there can be neither latency "
                    "nor loss here (--latency 0 --loss 0 goes without)"
                ) from None


def enter_namespace(name: str) -> None:
    """Let all sockets live in a namespace that this thread makes, and those that it starts.

    Raises:
        OSError: there is no such namespace, or it may not be entered.
    """
    # os.setns came with Python 3.12.
    library = ctypes.CDLL(None, use_errno=True)
    handle = os.open(_FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if library.setns(handle, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), name)
    finally:
        os.close(handle)


def _device(neighbour: int) -> str:
    """Return the name of the device that leads to a neighbour."""
    return f"to-{neighbour}"


def _address(peer: int) -> IPv4Address:
    return _NETWORK + peer + 1


def _check_means(*tools: str) -> None:
    wanting = ""
    if sys.platform != "linux":
        wanting = "only Linux has network namespaces"
    elif os.geteuid() != 0:
        wanting = "only root may make network namespaces"
    else:
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            wanting = f"there is no `{missing[0]}` here, which comes with iproute2"
    if wanting:
        raise UserError(f"isolate = 'netns' is not possible: {wanting}")


def _leftovers() -> list[str]:
    """Return the namespaces of launchers that are not there any more."""
    found = []
    for path in _FOLDER.glob("kseed-*") if _FOLDER.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        # One with this process's own number is another's, from before: this one has none yet.
        if match and (int(match[1]) == os.getpid() or not Path("/proc", match[1]).exists()):
            found.append(path.name)
    return found


def _remove(names: Iterable[str]) -> None:
    there = [name for name in names if (_FOLDER / name).exists()]
    if there:
        try:
            _batch(["ip", "-force"], [f"netns del {name}" for name in there])
        except UserError:
            # Another launcher may be removing the same leftovers.
            if any((_FOLDER / name).exists() for name in there):
                raise


def _batch(command: list[str], lines: list[str]) -> None:
    """Let `ip` or `tc` carry out some lines.

    Raises:
        UserError: it could not.
    """
    text = "\n".join(lines) + "\n"
    done = subprocess.run(
        [*command, "-batch", "-"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().partition("\n")[0]
        raise UserError(f"isolate = 'netns': `{' '.join(command)}` failed: {said}")
