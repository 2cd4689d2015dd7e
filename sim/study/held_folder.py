"""A folder that one command at a time works in, and that a mistake does not leave behind."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Final

from peer.errors import UserError

LOCK: Final = "lock"


@contextmanager
def held_folder(path: Path, command: str, in_use: Callable[[], bool]) -> Iterator[None]:
    """Make a folder; meanwhile nobody else can hold it.

    If what is done in it turns out to be a mistake, what was made for it is removed.

    Args:
        path: the folder.
        command: of `kseed`, that works in it.
        in_use: whether there is anything in it that has to stay.

    Raises:
        UserError: somebody else holds it, or it cannot be made.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("w")
    except OSError as error:
        raise UserError(f"out = {str(path)!r} cannot be made: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path} is in use by another `kseed {command}`") from None
        try:
            yield
        except UserError:
            if made and not in_use():
                rmtree(path)
                with suppress(OSError):
                    # Meanwhile there may be something else in them.
                    for folder in made[1:]:
                        folder.rmdir()
            raise
