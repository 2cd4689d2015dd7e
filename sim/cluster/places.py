"""What has to be the same wherever a run is computed: this program, the model, and files.

The program is known by a digest of its source, which says more than a version.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from peer.choices import BUILTIN
from peer.errors import UserError
from topology import FAMILIES

_NAMING: Final = ("topology", "latency", "data", "model")
"""Options that may name a file or a folder."""

PACKAGES: Final = ("peer", "topology", "sim")

CLOCKS_APART: Final = 3600.0
"""Seconds by which two clocks may differ before it is told."""


@dataclass(frozen=True)
class Facts:
    """What is known of a place where local steps are taken.

    Attributes:
        node: the machine's name.
        place: what the cluster knows it by; on one machine there may be several nodes.
        kseed: digest of this program.
        torch: its version, on whose kernels the last bits hang.
        device: cpu or cuda.
        clock: seconds since 1970.
        layout: see `GlobalModel.layout`; its w0 is the digest of the weights.
    """

    node: str
    place: str
    kseed: str
    torch: str
    device: str
    clock: float
    layout: Mapping[str, Any]


def facts(place: str, device: str, layout: Mapping[str, Any]) -> Facts:
    """Return the facts of this process, on a device and with a model's layout."""
    import torch

    return Facts(
        node=platform.node(),
        place=place,
        kseed=program_digest(),
        torch=torch.__version__,
        device=device,
        clock=time.time(),
        layout=layout,
    )


def check(here: Facts, there: Facts, model: str) -> list[str]:
    """Hold another place against this one; return what is worth a warning.

    Args:
        here: of this process, now.
        there: of the other one.
        model: as the user gave it.

    Raises:
        UserError: nothing computed there would be of this run.
    """
    check_program(there.node, there.kseed)
    if there.layout != here.layout:
        raise UserError(f"model = {model!r} on node {there.node} is not the one that is here")
    notes = []
    if abs(there.clock - here.clock) > CLOCKS_APART:
        hours = (there.clock - here.clock) / 3600
        ahead = "ahead of" if hours > 0 else "behind"
        notes.append(
            f"the clock of node {there.node} is {abs(hours):.1f} hours {ahead} the one here"
        )
    for what, mine, theirs in (
        ("torch", here.torch, there.torch),
        ("device", here.device, there.device),
    ):
        if mine != theirs:
            notes.append(
                f"{what} is {theirs} on node {there.node} and {mine} here: "
                "digests may differ from those of a run on one machine"
            )
    return notes


def check_program(node: str, digest: str) -> None:
    """Refuse a node that has another kseed.

    Raises:
        UserError: it has.
    """
    if digest != program_digest():
        raise UserError(f"kseed on node {node} is not the one that is here: install the same")


@cache
def program_digest() -> str:
    """Return 32 hexadecimal digits over the source of this program."""
    root = Path(__file__).parents[2]
    return _digest(root, (path for name in PACKAGES for path in (root / name).rglob("*.py")))


def paths_named(options: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of the files and folders that options of an experiment name, by option."""
    found = {}
    for key in _NAMING:
        name = str(options[key])
        path = Path(name).expanduser()
        if name == BUILTIN or name in FAMILIES:
            continue
        if path.is_file():
            found[key] = _digest(path.parent, [path])
        elif path.is_dir():
            found[key] = _digest(path, (inner for inner in path.rglob("*") if inner.is_file()))
    return found


def check_paths(node: str, options: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    """Hold the files that options name, as they are here, against those of a node that has asked.

    Args:
        node: the name of this one.
        options: of an experiment.
        wanted: what `paths_named` has returned there.

    Raises:
        UserError: one is missing here, or another one.
    """
    found = paths_named(options) if wanted else {}
    for key, digest in wanted.items():
        if found.get(key) != digest:
            what = "is not there" if key not in found else "is not the same"
            raise UserError(f"{key} = {options[key]!r} {what} on node {node}")


def _digest(root: Path, paths: Iterable[Path]) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        about = path.stat()
        content = _content(path.absolute(), about.st_size, about.st_mtime_ns)
        hasher.update(f"{path.relative_to(root).as_posix()}\0".encode() + content)
    return hasher.hexdigest()


@lru_cache(maxsize=2**16)
def _content(path: Path, _size: int, _changed: int) -> bytes:
    """Return the digest of a file, which is read again if it has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
