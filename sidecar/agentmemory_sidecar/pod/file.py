"""A file that others replace: Kubernetes swaps the link that a mounted Secret's keys are reached by."""

import os
from pathlib import Path


class WatchedFile:
    """Tells when the content is another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int, int] | None = None
        self._looked = False

    def changed(self) -> bool:
        """Whether it is another file, or of another time or size, than at the last call; True at the first."""
        try:
            found = os.stat(self._path)
            now = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            now = None
        changed = now != self._seen or not self._looked
        self._seen, self._looked = now, True
        return changed

    def read(self) -> bytes | None:
        """The content; None where there is no such file, or it cannot be read."""
        try:
            return self._path.read_bytes()
        except OSError:
            return None
