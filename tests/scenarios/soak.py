"""A million things that happen to networks of `Gossip` machines, all drawn from one seed.

    python -m tests.scenarios.soak [--events 1000000] [--seed 0]

Runs are drawn one after the other, each goes on for some thousand moves and is then left in peace
until it ends. Whatever a peer does is checked at once, as `gossip_checks` says. Ends with status 1
on a violation, naming the run and the move; the same seed leads to it again, and `--run` to that
run alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gossip_machine import Network
from gossip_plan import draw_plan

EVENTS = ("delivered", "trained", "timers", "lost", "doubled", "crashes", "starts", "restarts")
"""What counts as an event: all that happens to a peer or to a frame."""

MOST_MOVES = 6000


def events_of(figures: Counter[str]) -> int:
    """Return how many events there have been."""
    return sum(figures[what] for what in EVENTS)


def run(seed: int, number: int, figures: Counter[str]) -> None:
    """Draw a run, let it go on, and bring it to its end; add to `figures`.

    Raises:
        Exception: what the network or a peer raised; a note says where.
    """
    source = random.Random(f"{seed}/{number}")
    plan = draw_plan(source)
    network = Network(plan)
    try:
        for peer in range(plan.peers):
            if not plan.first[peer]:
                network.start(peer)
        mishaps = source.choice([0.001, 0.005, 0.03])
        for _ in range(source.randint(100, MOST_MOVES)):
            network.move(source, mishaps)
            if len(network.ended) == plan.peers:
                break
        network.calm(source.sample(range(plan.peers), source.choice([0, 0, 1])))
    except Exception as error:
        error.add_note(f"--seed {seed} --run {number}: {plan}")
        raise
    finally:
        figures.update(network.figures)
        figures["runs"] += 1


def main() -> int:
    """Soak; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=int, help="this run alone")
    given = parser.parse_args()
    figures: Counter[str] = Counter()
    begun = told = time.monotonic()
    number = given.run or 0
    try:
        while events_of(figures) < given.events:
            run(given.seed, number, figures)
            if given.run is not None:
                break
            number += 1
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"{events_of(figures):,} events in {number} runs", flush=True)
    except Exception:
        traceback.print_exc()
        print(f"failed at event {events_of(figures):,}: --seed {given.seed} --run {number}")
        return 1
    print(f"{events_of(figures):,} events in {time.monotonic() - begun:.0f} s, nothing found")
    print(", ".join(f"{count:,} {what}" for what, count in sorted(figures.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
