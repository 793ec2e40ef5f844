"""A mounted file changes the way the kubelet changes it: a link to another directory is put in the place of the old one."""

from pathlib import Path

from agentmemory_sidecar.pod.file import WatchedFile
from tests.sidecar.pod.mount import Mount


def test_each_version_is_seen_once(tmp_path: Path) -> None:
    mount, file = Mount(tmp_path / "config"), WatchedFile(tmp_path / "config" / "v1.json")
    assert file.changed()
    assert file.read() is None
    assert not file.changed()
    for content in (b"one", b"two"):
        mount.write(content)
        assert file.changed()
        assert not file.changed()
        assert file.read() == content
    mount.remove()
    assert file.changed()
    assert file.read() is None
    assert not file.changed()


def test_plain_file_is_seen_too(tmp_path: Path) -> None:
    (tmp_path / "v1.json").write_bytes(b"one")
    file = WatchedFile(tmp_path / "v1.json")
    assert file.changed()
    (tmp_path / "new").write_bytes(b"two")
    (tmp_path / "new").replace(tmp_path / "v1.json")
    assert file.changed()
    assert not file.changed()


def test_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "v1.json").mkdir()
    assert WatchedFile(tmp_path / "v1.json").read() is None
