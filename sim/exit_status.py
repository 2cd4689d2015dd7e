"""The exit statuses of `kseed` that are not 0."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
"""Something failed that was not the user's mistake."""

MISTAKE: Final = 2
"""A mistake of the user's, told in one line."""

INCOMPLETE: Final = 3
"""A run ended without everybody, or not all alike."""

INTERRUPTED: Final = 130
"""Ctrl-C."""
