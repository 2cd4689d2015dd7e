"""Ctrl-C, put off while something is done that must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Hold Ctrl-C back; a process that is started meanwhile stays deaf to it.

    So no peer can be forgotten between its start and its entry in the list, and neither the server
    nor a peer in its first moments answers Ctrl-C with a traceback.
    """
    # When it starts, this lets SIGINT through again, so it has to run already.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # The mask is what a new process inherits. It is this thread's alone, and Python would hear of
    # a signal that another thread has got, so what answers it is put off as well.
    put_off: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        answer = signal.signal(signal.SIGINT, lambda number, _frame: put_off.append(number))
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, answer)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in put_off[:1]:
            signal.raise_signal(number)
