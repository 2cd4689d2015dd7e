"""A process of its own for what is measured, so that nothing from before is in its memory."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from peer.errors import RunFailed

_P = ParamSpec("_P")
_T = TypeVar("_T")


def in_a_process(
    what: str, function: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs
) -> _T:
    """Return what a function returns in a fresh process.

    Raises:
        RunFailed: the process was ended; `what` says whose it was.
    """
    try:
        # Ctrl-C reaches the process as well, and should end it without a word.
        quietly = (signal.SIGINT, signal.SIG_DFL)
        with ProcessPoolExecutor(1, get_context("spawn"), signal.signal, quietly) as pool:
            return pool.submit(function, *arguments, **named).result()
    except BrokenProcessPool:
        raise RunFailed(
            f"the process that measured the memory of {what} was ended, which a system does when "
            "it has none left"
        ) from None
