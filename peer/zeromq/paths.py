"""Whether a path may become a socket: libzmq deletes what is there, whatever it is."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Final

from peer.errors import UserError

_IPC: Final = "ipc://"
_PATIENCE: Final = 1.0


def check_path(address: str) -> None:
    """Refuse an address whose path is a file of the user's, or a socket that somebody listens on.

    A socket that a killed peer has left behind is nobody's.

    Raises:
        UserError: it is that.
    """
    if not address.startswith(_IPC):
        return
    path = Path(address.removeprefix(_IPC))
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise UserError("there is a file that is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PATIENCE)
            probe.connect(str(path))
    except BlockingIOError:
        # Whoever listens is behind with accepting.
        pass
    except OSError:
        return
    raise UserError("Address already in use, maybe by another peer with this index")
