"""A Secret as the kubelet mounts it."""

import os
from pathlib import Path


class Mount:
    """A Secret as the kubelet mounts it: ``<key>`` → ``..data/<key>``, ``..data`` → a directory for each version."""

    def __init__(self, directory: Path, key: str = "v1.json") -> None:
        self.directory, self._key, self._version = directory, key, 0
        directory.mkdir(exist_ok=True)

    def write(self, content: bytes | str) -> None:
        self._version += 1
        made = self.directory / f"..version_{self._version}"
        made.mkdir()
        (made / self._key).write_bytes(content.encode() if isinstance(content, str) else content)
        self._swap(made)
        if not (self.directory / self._key).is_symlink():
            (self.directory / self._key).symlink_to(f"..data/{self._key}")

    def remove(self) -> None:
        """The Secret was deleted: an ``optional`` volume becomes empty."""
        self._version += 1
        made = self.directory / f"..version_{self._version}"
        made.mkdir()
        self._swap(made)
        (self.directory / self._key).unlink()

    def _swap(self, made: Path) -> None:
        (self.directory / "..data_tmp").symlink_to(made.name)
        os.replace(self.directory / "..data_tmp", self.directory / "..data")
