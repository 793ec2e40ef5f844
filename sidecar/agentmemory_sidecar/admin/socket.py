"""A unix socket that only its owner can open: who may connect may do everything."""

import os
import socket
import stat
from pathlib import Path


def unix_socket(path: Path) -> socket.socket:
    """Bind it, mode 0600 from the first moment on. One that a killed process left is replaced. Raises OSError."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            path.unlink()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(before)
    bound.setblocking(False)
    return bound
