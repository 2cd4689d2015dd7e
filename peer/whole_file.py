"""Files that are there whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".new"
"""Of the name of a file that is being written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what is there in the end takes the place of the file.

    If anything is raised meanwhile, the file stays as it was.
    """
    new = path.with_name(path.name + SUFFIX)
    try:
        yield new
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a file's text."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")
