"""`kseed report`: a run folder as one HTML file that needs nothing else, and no network.

folder.py -> troubles.py, tables.py, pictures.py -> page.py
"""

from __future__ import annotations

from pathlib import Path

from peer.errors import UserError
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
        UserError: there is no run in the folder, or the file is to be of another kind.
        OSError: the file cannot be written.
    """
    from sim.report.folder import read_run
    from sim.report.page import page

    path = folder / REPORT if to is None else to
    # Whatever else is in the folder is of the run, and not to be lost.
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UserError(f"a report is saved as a file whose name ends in .html; {path} given")
    text = page(read_run(folder))
    with replacing(path) as new:
        # Names and reasons that came from outside may hold what UTF-8 has no bytes for.
        new.write_text(text, encoding="utf-8", errors="replace")
    return path
