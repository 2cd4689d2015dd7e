"""Ctrl-C in the middle of a run of six peers, and how it goes on.

    python tests/scenarios/ctrl_c.py [--peers 8 ...]

Takes the flags of `kseed launch`. Ends with status 0 if the resumed run comes to the digests of one
that nothing has happened to.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from gate import Gate
from processes import ctrl_c, end_of, kseed, run, wait_until_all_ended

SMALL = ["--trainer", "synthetic", "--peers", "6", "--rounds", "4", "--json"]


def main(flags: list[str]) -> int:
    """Tell the story in a temporary folder; return the exit status."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        launch = ["launch", *SMALL, "--out", "run", *flags]
        with Gate() as gate, kseed(*launch, folder=folder, environment=gate.environment) as process:
            gate.hold("trains 0 2", "trains 1 2")
            print("peers 0 and 1 are about to train in round 2: Ctrl-C")
            ctrl_c(process)
            end = end_of(process)
            wait_until_all_ended(process)
        print(f"the launcher ends with status {end.status}: {end.err.strip()}")
        print("no process is left; now with --resume")
        resumed = run(*launch, "--resume", folder=folder)
        simulated = run("sim", *SMALL, "--out", "simulated", *flags, folder=folder)
        if resumed.status or simulated.status:
            print(resumed.err, simulated.err, sep="\n")
            return 1
        same = resumed.summary["digests"] == simulated.summary["digests"]
        print("digests of resumed run and simulator:", "equal" if same else "DIFFERENT")
        return 0 if same and end.status == 130 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
