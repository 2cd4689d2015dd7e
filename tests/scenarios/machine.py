"""A long search by the state machine of `test_state_machine`, for a sequence of moves that fails.

    python -m tests.scenarios.machine [--examples 2000] [--seed S]

Ends with status 1 and the shortest such sequence if there is one, which the same seed finds again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypothesis import seed as seeded
from test_state_machine import GossipMachine, search


def main() -> int:
    """Search; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    begun = time.monotonic()
    print(f"{given.examples} examples, seed {given.seed}", flush=True)
    seeded(given.seed)(GossipMachine)
    try:
        totals = search(given.examples, database=None)
    except Exception:
        traceback.print_exc()
        print(f"failed: seed {given.seed}")
        return 1
    print(", ".join(f"{totals[what]:,} {what}" for what in sorted(totals)))
    print(f"nothing found in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
