"""`python -m peer FILE` runs one peer by hand, as `kseed peer FILE` does."""

import logging
import sys
from pathlib import Path

from peer.by_hand import run_by_hand
from peer.errors import UserError
from topology import TopologyError


def main(arguments: list[str]) -> int:
    """Return the exit status: 0, 2 for a mistake, 3 for an end without all or among unlike logs."""
    logging.basicConfig(format="kseed: %(message)s", stream=sys.stderr, force=True)
    try:
        if len(arguments) != 1:
            raise UserError("one TOML file is wanted: the experiment, with id, bind and addresses")
        return 0 if run_by_hand(Path(arguments[0])) else 3
    except (UserError, TopologyError) as error:
        print(f"kseed: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
