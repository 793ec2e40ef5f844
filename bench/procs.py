"""What processes cost, read from the kernel: CPU clocks, memory, process trees, and pinning to CPUs. Linux only."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STORE_SERVERS = frozenset({"valkey-server", "redis-server", "postgres"})
"""Names of the store servers' executables; their CPU and memory are shown in a column of their own."""
_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
MB = 1_000_000
_NICE = -10


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the process table."""

    pid: int
    parent: int
    name: str
    """The executable's name, cut by the kernel after 15 characters."""
    reaped: float
    """CPU seconds, user and system, of its children that have ended."""


def _read(pid: int) -> Process | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, rest = stat.rpartition(")")
    fields = rest.split()
    return Process(pid, int(fields[1]), head.partition("(")[2], (int(fields[13]) + int(fields[14])) / _TICKS)


def table() -> dict[int, Process]:
    """All processes by pid."""
    found = (_read(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    return {process.pid: process for process in found if process is not None}


def descendants(processes: dict[int, Process], roots: Iterable[int]) -> set[int]:
    """The roots that live and everything below them."""
    members = {pid for pid in roots if pid in processes}
    grew = True
    while grew:
        more = {pid for pid, process in processes.items() if process.parent in members} - members
        members |= more
        grew = bool(more)
    return members


@dataclass(frozen=True, slots=True)
class Tree:
    """A proxy's processes, and the store servers that it started."""

    own: frozenset[int]
    stores: frozenset[int]


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return (_PROC / str(pid) / "cwd").resolve().is_relative_to(folder)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def tree(root: int, data: Path | None = None) -> Tree:
    """The processes below ``root``; store servers that have left it are known by a working folder in ``data``."""
    processes = table()
    below = descendants(processes, [root])
    servers = {pid for pid in below if processes[pid].name in STORE_SERVERS}
    if data is not None:
        folder = data.resolve()
        named = (pid for pid, process in processes.items() if process.name in STORE_SERVERS)
        servers |= {pid for pid in named if _works_in(pid, folder)}
    stores = descendants(processes, servers)
    return Tree(frozenset(below - stores), frozenset(stores))


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds, user and system, of these processes and of their children that have ended.

    A process's own time is read from its CPU clock: the counters of ``/proc/PID/stat``, but in nanoseconds instead of
    ticks of 10 ms, which are too coarse for windows of seconds.
    """
    total = 0.0
    for pid in pids:
        process = _read(pid)
        if process is not None:
            try:
                total += time.clock_gettime((~pid << 3) | 2) + process.reaped
            except OSError:
                continue
    return total


def _rollup(pid: int, field: str) -> int:
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory, summed; pages that two of the processes share count twice."""
    return sum(_rollup(pid, "Rss") for pid in pids)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Resident memory with shared pages divided among their users: honest for Postgres, whose backends share much."""
    return sum(_rollup(pid, "Pss") for pid in pids)


def raise_priority(pids: Iterable[int]) -> bool:
    """Put these processes before the machine's other work (nice -10); False where the user may not.

    The kernel may also group processes by session and share the CPU among the groups first: the group's own nice value
    is set as well.
    """
    try:
        for pid in pids:
            os.setpriority(os.PRIO_PROCESS, pid, _NICE)
            group = _PROC / str(pid) / "autogroup"
            if group.exists():
                group.write_text(str(_NICE))
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Cpus:
    """Which CPUs the measured proxy has, and which everything else (upstream, load generator, stores) has."""

    proxy: frozenset[int]
    rest: frozenset[int]

    @property
    def note(self) -> str:
        """One line for the report."""
        if self.proxy == self.rest:
            return "one CPU only: proxies, stores, upstream and load generator share it"
        return (
            f"each proxy pinned to CPU {min(self.proxy)}; "
            f"stores, upstream and load generator to CPU {', '.join(map(str, sorted(self.rest)))}"
        )


def divide(available: Iterable[int]) -> Cpus:
    """One CPU for the proxies, the others for the rest; one CPU alone is shared."""
    cpus = sorted(available)
    if len(cpus) < 2:
        return Cpus(frozenset(cpus), frozenset(cpus))
    return Cpus(frozenset(cpus[:1]), frozenset(cpus[1:]))


def pin(pids: Iterable[int], cpus: frozenset[int]) -> None:
    """Keep these processes, with all their threads, on these CPUs; what they start later inherits it."""
    for pid in pids:
        try:
            threads = [int(entry.name) for entry in (_PROC / str(pid) / "task").iterdir()]
            for thread in threads:
                os.sched_setaffinity(thread, cpus)
        except (FileNotFoundError, ProcessLookupError):
            continue
