"""Twelve peers on a torus train while three are killed, one is stopped, and two come late.

    python tests/scenarios/torus.py [--repeats 20] [--first-seed 0] [--rounds 40]

Each repetition is a launched run with the model that comes along, and a scenario drawn from its
seed: three peers get SIGKILL at random moments and are started again some seconds later, one is
stopped for ten seconds, two join in random rounds. It has gone well if every peer ends with the
same digests of accumulator and model, and everything that a killed peer had on disk when it died is
in everybody's log.

Prints a line for each repetition; ends with status 0 if all have gone well. On a machine so fast
that a run is over before its incidents, more rounds are wanted, and it says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from processes import kseed

from peer.entry import Entry
from peer.experiment_file import write_toml
from peer.store import EntryStore

PEERS = 12
OPTIONS = {
    "topology": "torus",
    "peers": PEERS,
    "local_steps": 10,
    "candidate_seeds": 256,
    "learning_rate": 3e-4,
    "partition": "iid",
    "eval_rows": 20,
    "round_timeout": 240.0,
    "settle_timeout": 120.0,
}
KILLS, LATE = 3, 2
KILLS_WITHIN = 20.0
"""Seconds of training in which peers are killed."""

DOWN = (1.0, 5.0)
"""Seconds, at least and at most, until a killed peer is started again."""

STOPPED = 10.0
"""Seconds for which one peer is stopped."""

Incident = dict[str, Any]


def draw(dice: Random, rounds: int) -> list[Incident]:
    """Return the tables of a scenario."""
    *killed, stopped, first, second = dice.sample(range(PEERS), KILLS + 1 + LATE)
    incidents: list[Incident] = []
    for peer in killed:
        moment = dice.uniform(0.5, KILLS_WITHIN)
        again = moment + dice.uniform(*DOWN)
        incidents += [
            {"verb": "crash", "peer": peer, "time": moment},
            {"verb": "restart", "peer": peer, "time": again},
        ]
    moment = dice.uniform(1.0, KILLS_WITHIN / 2)
    incidents += [
        {"verb": "hold", "peer": stopped, "time": moment},
        {"verb": "release", "peer": stopped, "time": moment + STOPPED},
    ]
    for peer in (first, second):
        round_ = dice.randrange(1, rounds // 2)
        incidents.append({"verb": "join", "peer": peer, "round": round_})
    return incidents


def repeat(seed: int, rounds: int, folder: Path) -> tuple[bool, str]:
    """Run one repetition in a folder; return whether it has gone well, and what to say of it."""
    incidents = draw(Random(seed), rounds)
    options = OPTIONS | {"rounds": rounds, "seed": seed, "scenario": incidents}
    (folder / "experiment.toml").write_text(write_toml(options))
    state = folder / "run" / "launch"
    began = time.monotonic()
    said = []
    flags = ("--json", "--out", "run")
    with kseed("launch", "experiment.toml", *flags, folder=folder) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            said.append(line)
            # It is started again a second later at the earliest.
            if line.startswith("kseed: scenario: crash "):
                keep_log(state, int(line.split()[-1]), folder)
        out = process.stdout.read()
        status = process.wait()
    took = f"{time.monotonic() - began:.0f} s"
    if status != 0 and not out:
        return False, f"status {status} after {took}: {said[-1].strip() if said else 'no word'}"
    summary = json.loads(out)
    wrong = faults(summary) + lost(folder, state)
    if wrong:
        return False, f"{'; '.join(wrong)} ({took})"
    who = {verb: [i["peer"] for i in incidents if i["verb"] == verb] for verb in VERBS}
    return True, (
        f"killed {who['crash']}, stopped {who['hold']}, late {who['join']}: {PEERS} equal digests, "
        f"{summary['entries']['published']} entries, {summary['timeouts_fired']} time-outs, {took}"
    )


VERBS = ("crash", "hold", "join")


def faults(summary: dict[str, Any]) -> list[str]:
    """Return what is not as it should be in a run's summary."""
    wrong = []
    happened = summary["faults"]
    wanted = {"crashes": KILLS, "restarts": KILLS, "joins": LATE, "holds": 1}
    if any(happened[name] != count for name, count in wanted.items()):
        wrong.append(f"over before its incidents, so more --rounds are wanted: {happened}")
    if happened["exit_signals"] != [9] * KILLS:
        wrong.append(f"signals {happened['exit_signals']}")
    digests = summary["digests"]
    if not digests["all_equal"] or len(digests["accumulator"]) != PEERS:
        wrong.append(f"digests {digests['accumulator']}, {digests['model']}")
    names = ("absent_peers", "missing_peers")
    return wrong + [f"{name} {summary[name]}" for name in names if summary[name]]


def keep_log(state: Path, peer: int, folder: Path) -> None:
    """Copy what a killed peer has on disk."""
    copy = folder / f"dead-{peer}"
    copy.mkdir()
    for path in (state / f"peer-{peer}").glob("log.sqlite*"):
        shutil.copy(path, copy)


def lost(folder: Path, state: Path) -> list[str]:
    """Return which entries of a killed peer's disk somebody does not have at the end."""
    copies = sorted(folder.glob("dead-*"))
    held = {entry.content: entry for copy in copies for entry in read(copy)[0]}
    wrong = [] if len(copies) == KILLS else [f"{len(copies)} logs of killed peers"]
    for peer in range(PEERS):
        entries, floors = read(state / f"peer-{peer}")
        contents = {entry.content for entry in entries}
        for content, entry in held.items():
            # What somebody has begun with stands for the entries below its floor.
            below = entry.sequence < floors.get(entry.origin, 0)
            if content not in contents and not below:
                wrong.append(f"peer {peer} lacks entry {entry.sequence} of peer {entry.origin}")
    return wrong


def read(folder: Path) -> tuple[list[Entry], dict[int, int]]:
    """Return the entries on disk, and of how many the sums alone may be there, by origin."""
    with EntryStore(folder / "log.sqlite") as store:
        return store.load_archive(), store.floors


def main() -> int:
    """Run all repetitions; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    well = 0
    for seed in range(asked.first_seed, asked.first_seed + asked.repeats):
        with TemporaryDirectory(prefix="torus-") as name:
            good, words = repeat(seed, asked.rounds, Path(name))
        well += good
        print(f"seed {seed}: {'' if good else 'FAILED, '}{words}", flush=True)
    print(f"{well} of {asked.repeats} repetitions have gone well")
    return 0 if well == asked.repeats else 1


if __name__ == "__main__":
    sys.exit(main())
