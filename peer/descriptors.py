"""File descriptors: whether there are enough left, asked before a library finds out by aborting."""

from __future__ import annotations

import os
from contextlib import suppress

from peer.errors import UserError


def need_descriptors(number: int) -> None:
    """Make sure that so many more descriptors can be opened by this process.

    Raises:
        UserError: they cannot.
    """
    held: list[int] = []
    try:
        held.append(os.open(os.devnull, os.O_RDONLY))
        while len(held) < number:
            held.append(os.dup(held[0]))
    except OSError as error:
        raise UserError(
            f"{number} more open files are needed: {error.strerror} (see ulimit -n)"
        ) from None
    finally:
        for descriptor in held:
            with suppress(OSError):
                os.close(descriptor)
