"""What Linux alone offers to the processes of a run, through the C library."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

NAMESPACES: Final = Path("/run/netns")
"""Where `ip netns` keeps network namespaces by name."""

_PR_SET_PDEATHSIG: Final = 1
_CLONE_NEWNET: Final = 0x40000000


def end_with_parent() -> None:
    """Let this process be killed when its parent ends, as one that is stopped cannot end itself.

    Elsewhere than on Linux this does nothing.
    """
    if sys.platform == "linux":
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)


def enter_namespace(name: str) -> None:
    """Let all sockets that this thread and those it starts make live in a network namespace.

    Raises:
        OSError: there is no such namespace, or it may not be entered.
    """
    # os.setns came with Python 3.12.
    handle = os.open(NAMESPACES / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", handle, _CLONE_NEWNET)
    finally:
        os.close(handle)


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    # prctl takes what it is given as unsigned long.
    if function(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
