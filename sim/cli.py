"""The `kseed` command: thin doors to what the packages do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

import topology
from peer.errors import RunFailed, UserError
from sim.commands import (
    benches,
    compare,
    figures,
    folders,
    graphs,
    hosts,
    init,
    peers,
    report,
    runs,
    study,
    volume,
    watch,
)
from sim.commands.parsing import Parser
from sim.exit_status import FAILED, INTERRUPTED, MISTAKE
from sim.words import printable

COMMANDS: Final = (
    runs,
    peers,
    hosts,
    watch,
    report,
    volume,
    study,
    compare,
    figures,
    graphs,
    folders,
    benches,
    init,
)
"""In the order in which `--help` tells them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    Returns:
        0: done. 2: a mistake of the user's, told in one line. 3: a run ended without everybody, or
        not all alike. 1: something failed that was not the user's mistake. 130: interrupted.
    """
    try:
        parsed = _parser().parse_args(arguments)
        status: int = parsed.run(parsed)
    except (UserError, topology.TopologyError) as error:
        print(f"kseed: {printable(str(error))}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:
        # Whoever read what was printed wants no more of it; Python would try once more to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"kseed: {printable(str(error))}", file=sys.stderr)
        return MISTAKE if error.filename else FAILED
    except RunFailed as error:
        print(f"kseed: {printable(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("kseed: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="kseed", description="Tune a language model by gossip, without a server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser
