"""`python -m topology torus --peers 16`: the measures of a topology, and its picture."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import NoReturn

from topology import FAMILIES, TopologyError, describe, measure, resolve


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 2 for a mistake of the user's."""
    parser = _Parser(prog="python -m topology", description=__doc__)
    parser.add_argument(
        "topology",
        metavar="FAMILY|FILE",
        help=f"one of {', '.join(FAMILIES)}; or a .graphml, .edges or .json file",
    )
    parser.add_argument("--peers", type=int, metavar="N", help="how many; a file sets it itself")
    parser.add_argument(
        "--degree", type=int, default=4, metavar="D", help="for random families (default 4)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="for random families (default 0)"
    )
    parser.add_argument("--svg", metavar="FILE", help="draw the graph into this file")
    parser.add_argument("--json", action="store_true", help="print the measures as JSON")
    options = parser.parse_args(arguments)
    try:
        topology = resolve(
            options.topology, options.peers, degree=options.degree, seed=options.seed
        )
        if options.svg is not None:
            # matplotlib is slow to import, and only a picture needs it.
            from topology.drawing import draw

            draw(topology, options.svg)
    except TopologyError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    measures = measure(topology)
    if options.json:
        values = {"name": topology.name, **dataclasses.asdict(measures), "notes": topology.notes}
        print(json.dumps(values, indent=1))
    else:
        print(describe(topology, measures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
