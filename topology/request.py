"""One way to ask for a topology, for command lines and configuration: a family's name or a file."""

from __future__ import annotations

from pathlib import Path

from topology.families import FAMILIES, build
from topology.files import SUFFIXES, load
from topology.graph import Topology, TopologyError


def resolve(
    family_or_file: str, peers: int | None = None, *, degree: int = 4, seed: int = 0
) -> Topology:
    """Return the topology that a family's name, or the path of a file, stands for.

    Args:
        family_or_file: one of `FAMILIES`, or a path with one of the suffixes that `load` takes.
        peers: the number of peers; a family needs it, and a file's must agree where it is given.
        degree: as for `build`; a file ignores it.
        seed: as for `build`; a file ignores it.

    Raises:
        TopologyError: neither a family nor such a path, or as `build` and `load` do.
    """
    if family_or_file in FAMILIES:
        if peers is None:
            raise TopologyError(f"{family_or_file} needs a number of peers")
        return build(family_or_file, peers, degree=degree, seed=seed)
    if Path(family_or_file).suffix.lower() not in SUFFIXES:
        raise TopologyError(
            f"{family_or_file!r} is neither a family ({', '.join(FAMILIES)}) "
            f"nor a file ({', '.join(SUFFIXES)})"
        )
    topology = load(family_or_file)
    if peers is not None and peers != len(topology.nodes):
        raise TopologyError(
            f"{family_or_file} sets the number of peers to {len(topology.nodes)}; {peers} given"
        )
    return topology
