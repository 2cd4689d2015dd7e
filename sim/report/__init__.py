"""`kseed report`: a run folder as one HTML file that needs nothing else, and no network.

folder.py -> troubles.py, tables.py, pictures.py -> page.py
"""

from __future__ import annotations

from pathlib import Path

from peer.whole_file import replacing

REPORT = "report.html"


def write_report(folder: Path, to: Path | None = None) -> Path:
    """Write the report of a run; the same folder gives the same bytes.

    Args:
        folder: of a run that has ended, is under way or was interrupted.
        to: the file to write; None: report.html in the folder.

    Returns:
        The file written.

    Raises:
        UserError: there is no run in the folder.
        OSError: the file cannot be written.
    """
    from sim.report.folder import read_run
    from sim.report.page import page

    text = page(read_run(folder))
    path = folder / REPORT if to is None else to
    with replacing(path) as new:
        # Names and reasons that came from outside may hold what UTF-8 has no bytes for.
        new.write_text(text, encoding="utf-8", errors="replace")
    return path
