"""The most private memory that this process takes while something is done.

What counts is anonymous memory (RssAnon in /proc/self/status): pages that belong to this process
alone and that the system cannot drop, because no file holds them. Weights that are mapped from a
file and only read are not among them: such pages are shared by all processes that map the file,
and are read again if memory was short and they were dropped. They become anonymous when they are
written to. A thread looks about every millisecond, so what is freed sooner may be missed.

On a GPU it is what torch has allocated there.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

import torch

_STATUS: Final = Path("/proc/self/status")
_ANONYMOUS: Final = "RssAnon"
_LARGEST_RESIDENT: Final = "VmHWM"
_INTERVAL: Final = 0.001
_LONGEST: Final = 65536


class PrivateMemory:
    """Watches while it is entered.

    Args:
        device: whose memory.

    Attributes:
        peak: the most, in bytes, from entering to leaving.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.peak = 0

    def __enter__(self) -> PrivateMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device)
            return
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        status = os.open(_STATUS, os.O_RDONLY)
        try:
            over = False
            while not over:
                over = self._over.wait(_INTERVAL)
                text = os.pread(status, _LONGEST, 0).decode()
                self.peak = max(self.peak, bytes_in(text, _ANONYMOUS))
        finally:
            os.close(status)


def is_told() -> bool:
    """Tell whether the system tells a process its anonymous memory."""
    return _STATUS.exists() and f"\n{_ANONYMOUS}:" in _STATUS.read_text(encoding="utf-8")


def private_now(device: torch.device) -> int:
    """Return the private memory of this moment, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return bytes_in(_STATUS.read_text(encoding="utf-8"), _ANONYMOUS)


def largest_resident() -> int:
    """Return the largest resident set so far in bytes, mapped files included; for information.

    It is the system's own count, not that of getrusage, which a new process takes over from the one
    that has started it.
    """
    return bytes_in(_STATUS.read_text(encoding="utf-8"), _LARGEST_RESIDENT)


def bytes_in(status: str, name: str) -> int:
    """Return a size in bytes out of the text of /proc/PID/status, where it is in kibibytes."""
    found = next(line for line in status.splitlines() if line.startswith(name + ":"))
    return int(found.split()[1]) * 1024
