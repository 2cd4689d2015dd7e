"""What is printed where a terminal or a file has no sign for it."""

from __future__ import annotations

import sys


def replace_unknown_signs() -> None:
    """Have another sign printed in place of each that standard output cannot show."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
