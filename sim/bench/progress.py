"""How far a bench has come."""

from __future__ import annotations

from peer.live_line import LiveLine


class BenchProgress(LiveLine):
    """Counts samples.

    Args:
        title: what is measured.
        total: how many samples there will be.
    """

    def __init__(self, title: str, total: int) -> None:
        # A thread of its own would draw, and take time, while something is measured.
        super().__init__(title, "samples", total, plainly=f"measuring {title}", by_thread=False)
