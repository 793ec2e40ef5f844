import os
import subprocess
import sys
import time
from pathlib import Path

from bench.procs import Process, cpu_seconds, descendants, divide, pin, resident_bytes, table, tree

BUSY = "import time\nwhile time.process_time() < 0.2: pass\nprint('spent', flush=True)\ninput()"


def test_descendants_are_found_through_all_generations() -> None:
    processes = {pid: Process(pid, parent, "x", 0.0) for pid, parent in [(1, 0), (2, 1), (3, 2), (4, 1), (9, 0)]}
    assert descendants(processes, [2]) == {2, 3}
    assert descendants(processes, [1]) == {1, 2, 3, 4}
    assert descendants(processes, [77]) == set()


def test_reads_cpu_time_memory_and_place_of_a_process_and_keeps_it_on_a_cpu() -> None:
    cpu = frozenset({min(os.sched_getaffinity(0))})
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"spent\n"
        assert 0.15 <= cpu_seconds([process.pid]) < 1
        assert resident_bytes([process.pid]) > 1_000_000
        assert process.pid in descendants(table(), [os.getpid()])
        assert tree(process.pid).own == {process.pid}
        pin([process.pid], cpu)
        assert os.sched_getaffinity(process.pid) == cpu
        process.communicate(b"\n")
    assert cpu_seconds([process.pid]) == 0
    assert resident_bytes([process.pid]) == 0


def test_the_time_of_children_that_ended_counts() -> None:
    before = cpu_seconds([os.getpid()]) - time.process_time()
    subprocess.run([sys.executable, "-c", BUSY], input=b"\n", capture_output=True, check=True)
    # Each of the kernel's four counts is cut to a tick of 10 ms, before and after.
    assert cpu_seconds([os.getpid()]) - time.process_time() - before >= 0.15


def test_store_servers_are_told_apart_by_name_and_by_folder(tmp_path: Path) -> None:
    """A script's process is named after its file; here one that has left its starter's tree, known by its folder."""
    server = tmp_path / "valkey-server"
    server.symlink_to("/bin/cat")
    with subprocess.Popen([server], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 5
        while table()[process.pid].name != "valkey-server" and time.monotonic() < deadline:
            time.sleep(0.01)
        below = tree(os.getpid())
        assert process.pid in below.stores
        assert process.pid not in below.own
        far = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            assert tree(far.pid, tmp_path).stores == {process.pid}
            assert tree(far.pid, tmp_path / "other").stores == frozenset()
        finally:
            far.communicate(b"\n")
        process.communicate(b"")


def test_one_cpu_is_for_the_proxies_the_others_for_the_rest() -> None:
    assert divide({3, 1, 2}).proxy == {1}
    assert divide({3, 1, 2}).rest == {2, 3}
    assert divide({5}).proxy == divide({5}).rest == {5}
    assert "share" in divide({5}).note
