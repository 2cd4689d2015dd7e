"""Something is tried that may fail: what came of it, with all that it said in a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peer.errors import RunFailed, UserError
from sim.study.workers import WorkerDied
from topology import TopologyError

DONE: Final = "done"
IMPOSSIBLE: Final = "impossible"
FAILED: Final = "failed"

_DIED: Final = "its process was ended twice, which a system does when it has no memory left"


@dataclass(frozen=True)
class Outcome:
    """What came of a setting or a run.

    Attributes:
        status: DONE, IMPOSSIBLE (there is no such experiment) or FAILED.
        reason: why it is not done, else empty.
        row: what was measured, if it is done.
    """

    status: str
    reason: str = ""
    row: dict[str, Any] | None = None


def attempt(work: Callable[[], dict[str, Any]], log: Path) -> Outcome:
    """Do something and return what came of it.

    Args:
        work: returns what was measured.
        log: for what it logs and shows; it stays if there is anything in it.
    """
    try:
        with _quiet(log):
            return Outcome(DONE, row=work())
    except (UserError, TopologyError) as error:
        return Outcome(IMPOSSIBLE, str(error))
    except RunFailed as error:
        return Outcome(FAILED, str(error))
    except MemoryError:
        return Outcome(FAILED, "there is not enough memory")
    except Exception as error:
        # One that meets a defect must not take the others with it.
        return Outcome(FAILED, f"{type(error).__name__}: {error}".splitlines()[0])


def outcome_of(found: Outcome | WorkerDied) -> Outcome:
    """Return what came of an attempt in a process that may have died."""
    return Outcome(FAILED, _DIED) if isinstance(found, WorkerDied) else found


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Write what a run logs and shows to a file of its own; it stays if there is anything in it."""
    with path.open("w", encoding="utf-8") as file, redirect_stderr(file):
        handler = logging.StreamHandler(file)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            file.flush()
            if not file.tell():
                path.unlink()
