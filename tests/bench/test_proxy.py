import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import canned, procs
from bench.conversation import WORKLOADS, Workload
from bench.proxy import main, names, parser, plan_of, rotated, sample, window_seconds
from bench.stand import BenchError, Stand


def test_each_round_begins_with_another_proxy_in_the_same_order() -> None:
    assert [rotated("abcd", by) for by in range(5)] == [list(each) for each in ("abcd", "bcda", "cdab", "dabc", "abcd")]


def test_lone_paced_workers_get_longer_windows() -> None:
    assert [window_seconds(1.5, workload, 1) for workload in WORKLOADS] == [1.5, 1.5, 3.0]
    assert {window_seconds(1.5, workload, 16) for workload in WORKLOADS} == {1.5}


def test_the_default_measures_everything_and_quick_leaves_litellm_out() -> None:
    assert plan_of(parser().parse_args([])).proxies == ["direct", "bare", "sidecar", "litellm"]
    assert plan_of(parser().parse_args(["--quick"])).proxies == ["direct", "bare", "sidecar"]
    asked = plan_of(
        parser().parse_args(["--quick", "--only", "litellm,bare", "--concurrency", "4", "--workloads", "json"])
    )
    assert (asked.proxies, asked.concurrencies, asked.rounds) == (["bare", "litellm"], [4], 2)
    assert asked.workloads == [WORKLOADS[0]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "nginx"],
        ["--only", ","],
        ["--workloads", "xml"],
        ["--concurrency", "many"],
        ["--concurrency", "0"],
        ["--rounds", "0"],
        ["--seconds", "0"],
    ],
)
def test_bad_options_end_with_code_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("bench: ")
    assert said.err.count("\n") == 1


def test_names_come_in_the_known_order() -> None:
    assert names("b, a", ["a", "b", "c"]) == ["a", "b"]
    with pytest.raises(BenchError, match="d is not one of a, b"):
        names("d", ["a", "b"])


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.name)
def test_measures_the_bare_proxy_and_direct_without_errors(workload: Workload, tmp_path: Path) -> None:
    """The whole stand with real processes: every request is answered, reaches the upstream once, and costs CPU."""
    with Stand(tmp_path / "bench", procs.divide(os.sched_getaffinity(0))) as stand:
        for name in ("direct", "bare"):
            stand.launch(name)
        direct, bare = (sample(stand, name, workload, 3, 1, 0.3) for name in ("direct", "bare"))
    for row in (direct, bare):
        assert row.errors == {}
        assert row.requests >= 3
        assert row.upstream_ratio == 1
        assert (row.first_ms is not None) is workload.stream
    assert direct.cpu_ms is None
    assert direct.resident_mb is None
    assert bare.cpu_ms is not None
    assert bare.cpu_ms > 0
    assert bare.resident_mb is not None
    assert bare.resident_mb > 10
    assert bare.store_cpu_ms is None


def test_a_proxy_that_answers_wrongly_is_found_out(tmp_path: Path) -> None:
    """A server that says 404 to everything stands where the proxy should."""
    with Stand(tmp_path / "bench", procs.divide(os.sched_getaffinity(0))) as stand:
        stand.launch("bare")
        proxy = stand.proxies["bare"]
        assert proxy.process is not None
        code = "from http.server import *; s = HTTPServer(('127.0.0.1', 0), BaseHTTPRequestHandler)\n"
        code += "print(s.server_port, flush=True); s.serve_forever()"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as wrong:
            assert wrong.stdout is not None
            proxy.port = int(wrong.stdout.readline())
            row = sample(stand, "bare", WORKLOADS[0], 1, 1, 0.2)
            wrong.kill()
    assert row.requests == 0
    assert sum(row.errors.values()) > 0
    assert row.p50_ms is None
    assert row.upstream_ratio == 0


def test_the_upstream_ends_with_its_stdin() -> None:
    async def talk() -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.upstream", stdin=pipe, stdout=pipe)
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(await process.stdout.readline())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        writer.write(b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        text = await reader.readuntil(canned.message_id(1).encode())
        assert b"HTTP/1.1 200 OK" in text
        writer.close()
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0

    asyncio.run(talk())
