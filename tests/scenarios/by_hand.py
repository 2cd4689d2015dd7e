"""Three peers, each started with a file of its own; one is killed twice and comes back.

    python tests/scenarios/by_hand.py

Ends with status 0 if all come to the digest of the simulator.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from gate import Gate
from processes import Process, end_of, free_addresses, kseed, run, write_options, write_peer

PEERS = 3
OPTIONS = {"trainer": "synthetic", "method": "fedkseed-pro", "peers": PEERS, "rounds": 4}
KILLED_AT = ("trains 1 1", "stored 1 2")


def main() -> int:
    """Tell the story in a temporary folder; return the exit status."""
    with TemporaryDirectory() as name, Gate() as gate, ExitStack() as stack:
        folder = Path(name)

        def start(path: Path) -> Process:
            return stack.enter_context(
                kseed("peer", path, folder=folder, environment=gate.environment)
            )

        addresses = free_addresses(PEERS)
        paths = [write_peer(folder, peer, addresses, OPTIONS) for peer in range(PEERS)]
        print(paths[1].read_text())
        processes = [start(path) for path in paths]
        for point in KILLED_AT:
            [pid] = gate.hold(point)
            print(f"peer 1 has come to `{point}`: SIGKILL, and it is started again")
            os.kill(pid, signal.SIGKILL)
            end_of(processes[1])
            processes[1] = start(paths[1])
        gate.open()
        ends = [end_of(process) for process in processes]
        for path, end in zip(paths, ends, strict=True):
            print(f"{path.name}: status {end.status}, {end.out.strip()}")
        print(f"\nthe last life of peer 1:\n{ends[1].err}")
        write_options(folder / "experiment.toml", OPTIONS)
        simulated = run("sim", "experiment.toml", "--json", folder=folder).summary
    digests = simulated["digests"]["accumulator"]
    print(f"simulator:   accumulator {digests[0]}")
    return 0 if [end.out for end in ends] == [f"accumulator {d}\n" for d in digests] else 1


if __name__ == "__main__":
    sys.exit(main())
