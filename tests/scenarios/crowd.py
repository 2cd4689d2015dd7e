"""Many peers, each a process, on however many processors there are.

    python tests/scenarios/crowd.py [--peers 48 ...]

Takes the flags of `kseed launch`. Ends with status 0 if digests and payload are those of the
simulator.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from processes import run

CROWD = ["--trainer", "synthetic", "--topology", "watts-strogatz", "--peers", "24", "--json"]


def main(flags: list[str]) -> int:
    """Run the crowd in a temporary folder; return the exit status."""
    with TemporaryDirectory() as name:
        launched = run("launch", *CROWD, *flags, folder=Path(name))
        simulated = run("sim", *CROWD, *flags, folder=Path(name))
        if launched.status or simulated.status:
            print(launched.err, simulated.err, sep="\n")
            return 1
    real, expected = launched.summary, simulated.summary
    print(f"{len(real['processes'])} peers on {os.cpu_count()} processors, {real['rounds']} rounds")
    for engine, summary in (("launch", real), ("sim", expected)):
        seconds, bytes_ = summary["seconds"]["wall"], summary["bytes"]
        print(
            f"{engine:<8}{seconds:6.2f} s, payload {bytes_['payload_total']:,} bytes, "
            f"control {bytes_['control_total']:,}, {summary['digests']['accumulator'][0]}"
        )
    same_digests = real["digests"] == expected["digests"]
    same_payload = real["bytes"]["payload_total"] == expected["bytes"]["payload_total"]
    return 0 if same_digests and same_payload else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
