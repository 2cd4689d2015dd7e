"""One of six peers is killed in the middle of a round; the run ends, and is resumed.

    python tests/scenarios/killed_peer.py [--peers 8 ...]

Takes the flags of `kseed launch`. Ends with status 0 if the resumed run comes to the digests of one
that nothing has happened to.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from gate import Gate
from processes import end_of, kseed, living, run, wait_until_all_ended

SMALL = ["--trainer", "synthetic", "--peers", "6", "--rounds", "4", "--json"]
POINT = "stored 2 1"


def main(flags: list[str]) -> int:
    """Tell the story in a temporary folder; return the exit status."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        launch = ["launch", *SMALL, "--out", "run", *flags]
        with Gate() as gate, kseed(*launch, folder=folder, environment=gate.environment) as process:
            [pid] = gate.hold(POINT)
            print(f"{len(living(process))} processes run; peer 2 has its round 1 on disk: SIGKILL")
            os.kill(pid, signal.SIGKILL)
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
        return 0 if same and end.status == 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
