"""Three ways for a run of real processes to end too early, and how each goes on.

    python tests/scenarios/interrupted.py [--peers 8 ...]

Takes the flags of `kseed launch`. Ends with status 0 if every resumed run comes to the digests of
one that nothing has happened to, and no process was left.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from gate import Gate
from processes import Process, ctrl_c, end_of, kseed, living, run, wait_until_all_ended

SMALL = ["--trainer", "synthetic", "--peers", "6", "--rounds", "4", "--json"]


def _kill_peer(_process: Process, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _kill_launcher(process: Process, _pid: int) -> None:
    process.kill()


def _press_ctrl_c(process: Process, _pid: int) -> None:
    ctrl_c(process)


CAUSES: dict[str, tuple[str, Callable[[Process, int], None]]] = {
    "peer 2 is killed before it can send what it has on disk": ("stored 2 1", _kill_peer),
    "Ctrl-C while peer 1 is about to train": ("trains 1 2", _press_ctrl_c),
    "the launcher is killed before the last round is sent": ("stored 0 3", _kill_launcher),
}


def main(flags: list[str]) -> int:
    """Tell the three stories, each in a temporary folder; return the exit status."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = run("sim", *SMALL, "--out", "sim", *flags, folder=folder)
        if undisturbed.status:
            print(undisturbed.err)
            return 1
        digests = undisturbed.summary["digests"]
        results = []
        for number, (cause, (point, act)) in enumerate(CAUSES.items()):
            print(f"{cause}:")
            launch = ["launch", *SMALL, "--out", f"run-{number}", *flags]
            _interrupt(launch, folder, point, act)
            resumed = run(*launch, "--resume", folder=folder)
            results.append(resumed.status == 0 and resumed.summary["digests"] == digests)
            print(f"    resumed, its digests are {'equal' if results[-1] else 'NOT EQUAL'}")
    return 0 if all(results) else 1


def _interrupt(
    launch: list[str], folder: Path, point: str, act: Callable[[Process, int], None]
) -> None:
    with Gate() as gate, kseed(*launch, folder=folder, environment=gate.environment) as process:
        [pid] = gate.hold(point)
        there = len(living(process))
        act(process, pid)
        end = end_of(process)
        wait_until_all_ended(process)
    print(
        f"    status {end.status}, {end.err.strip() or 'no message'}; {there} processes, all gone"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
