"""The processes of a run: upstream, load generator and proxies, started, pinned, read and stopped."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import procs, stats
from bench.conversation import Workload
from bench.load import Result
from bench.procs import Cpus

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LITELLM = ROOT / ".venvs" / "litellm" / "bin" / "litellm"
READY_SECONDS = 90
_SETTLE_SECONDS = 0.1
"""Between the last reply and the reading of the clocks: work that a proxy does after the reply counts, too."""


class BenchError(Exception):
    """The run cannot go on; the text says why and what to do."""


@dataclass(slots=True)
class Proxy:
    """A proxy under test. ``process`` is None for direct, whose port is the upstream's."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    data: Path | None = None
    """Where its embedded stores keep their files."""
    idle_cpu: float = 0.0
    """CPU seconds used while others were measured, its stores' included."""

    def tree(self) -> procs.Tree:
        """Its processes now."""
        if self.process is None:
            return procs.Tree(frozenset(), frozenset())
        return procs.tree(self.process.pid, self.data)


@dataclass(frozen=True, slots=True)
class Clocks:
    """CPU seconds so far: of each proxy's own processes, of its stores, and of upstream and load generator."""

    own: dict[str, float]
    stores: dict[str, float]
    driver: float
    served: int
    """Messages that the upstream has answered."""


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(**more: str) -> dict[str, str]:
    """Nothing of the caller's but what a program needs to start: no keys, no proxies, no settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | more


def sidecar_script() -> Path:
    """The ``agentmemory`` command of this Python's environment. Raises :class:`BenchError` where it is missing."""
    script = Path(sys.executable).parent / "agentmemory"
    if not script.exists():
        raise BenchError(f"{script} is missing: install the project (`pip install -e '.[dev]'`)")
    return script


@dataclass(slots=True)
class Stand:
    """Everything that runs. Use as a context manager; ``folder`` is emptied first and keeps logs and store data.

    ``profile`` names the file for the sidecar's cProfile data; its numbers are then of no use but to compare functions.
    """

    folder: Path
    cpus: Cpus
    profile: Path | None = None
    proxies: dict[str, Proxy] = field(default_factory=dict)
    raised: bool = False
    """Whether all of them run before the machine's other work."""
    _upstream: subprocess.Popen[bytes] | None = None
    _load: subprocess.Popen[bytes] | None = None
    _port: int = 0
    _affinity: set[int] = field(default_factory=set)
    """The caller's own CPUs, given back at the end."""

    def __enter__(self) -> "Stand":
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cpus.rest)
        self._upstream = self._start("upstream", [sys.executable, "-m", "bench.upstream"], piped=True)
        assert self._upstream.stdout is not None
        self._port = int(self._upstream.stdout.readline() or 0)
        if not self._port:
            raise BenchError(f"the canned upstream did not start: see {self.folder / 'upstream.log'}")
        self._load = self._start("load", [sys.executable, "-m", "bench.load"], piped=True)
        self.raised = procs.raise_priority([self._upstream.pid, self._load.pid])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for proxy in reversed(self.proxies.values()):
            self._stop(proxy)
        for process in (self._load, self._upstream):
            if process is not None:
                with process:
                    process.kill()
        os.sched_setaffinity(0, self._affinity)

    def _start(
        self, name: str, command: list[str], *, piped: bool = False, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE if piped else subprocess.DEVNULL
        with (self.folder / f"{name}.log").open("wb") as log:
            out = pipe if piped else log
            own = _environment(HOME=str(self.folder)) if env is None else env
            # A session of its own: a kernel that shares the CPU among sessions must not set proxy against generator.
            return subprocess.Popen(
                command, stdin=pipe, stdout=out, stderr=log, cwd=ROOT, env=own, start_new_session=True
            )

    def _stop(self, proxy: Proxy) -> None:
        if proxy.process is None:
            return
        stores = proxy.tree().stores
        proxy.process.terminate()
        try:
            proxy.process.wait(30)
        except subprocess.TimeoutExpired:
            print(f"{proxy.name} did not stop within 30 s and was killed", file=sys.stderr)
            proxy.process.kill()
            proxy.process.wait()
        processes = procs.table()
        left = [pid for pid in stores & processes.keys() if processes[pid].name in procs.STORE_SERVERS]
        if left:
            print(f"{proxy.name} left store servers behind (pids {left}); they are told to stop", file=sys.stderr)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def launch(self, name: str) -> None:
        """Start a proxy, wait until it listens, and pin it and its stores. Raises :class:`BenchError`."""
        if name == stats.DIRECT:
            self.proxies[name] = Proxy(name, self._port)
            return
        port = free_port()
        proxy = Proxy(name, port)
        env = _environment(HOME=str(self.folder))
        if name == stats.BARE:
            command = [sys.executable, "-m", "bench.bare", str(port), self._url]
        elif name == stats.SIDECAR:
            proxy.data = self.folder / "data"
            up = ["up", "-f", str(HERE / "sidecar.yaml"), "--data", str(proxy.data)]
            start = [sys.executable, "-m", "cProfile", "-o", str(self.profile)] if self.profile else [sys.executable]
            listen = ["--listen", f"127.0.0.1:{port}", "--upstream", self._url]
            command = [*start, str(sidecar_script()), *up, *listen]
        else:
            if not LITELLM.exists():
                raise BenchError(
                    f"LiteLLM is not installed in {LITELLM.parent.parent.relative_to(ROOT)}: `make bench` does that, "
                    "or leave it out with --only direct,bare,sidecar"
                )
            config = ["--config", str(HERE / "litellm.yaml"), "--num_workers", "1"]
            command = [str(LITELLM), "--host", "127.0.0.1", "--port", str(port), *config]
            quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
            env |= {"BENCH_UPSTREAM": self._url, **quiet}
        proxy.process = self._start(name, command, env=env)
        self.proxies[name] = proxy
        self._wait(proxy)
        tree = proxy.tree()
        procs.pin(tree.own, self.cpus.proxy)
        procs.pin(tree.stores, self.cpus.rest)
        self.raised &= procs.raise_priority(tree.own | tree.stores)

    def _wait(self, proxy: Proxy) -> None:
        assert proxy.process is not None
        log = self.folder / f"{proxy.name}.log"
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if proxy.process.poll() is not None:
                last = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-3:]).strip()
                raise BenchError(f"{proxy.name} ended with exit code {proxy.process.returncode}: {last} (see {log})")
            try:
                socket.create_connection(("127.0.0.1", proxy.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise BenchError(f"{proxy.name} does not listen after {READY_SECONDS} s: see {log}")

    def clocks(self) -> Clocks:
        """Read all CPU clocks, and how much the upstream has served."""
        own, stores = {}, {}
        for name, proxy in self.proxies.items():
            tree = proxy.tree()
            own[name], stores[name] = procs.cpu_seconds(tree.own), procs.cpu_seconds(tree.stores)
        drivers = [process.pid for process in (self._load, self._upstream) if process is not None]
        with urllib.request.urlopen(f"{self._url}/stats", timeout=10) as reply:
            served: int = json.load(reply)["served"]
        return Clocks(own, stores, procs.cpu_seconds(drivers), served)

    def _answer(self) -> dict[str, Any]:
        assert self._load is not None
        assert self._load.stdout is not None
        line = self._load.stdout.readline()
        if not line:
            raise BenchError(f"the load generator ended: see {self.folder / 'load.log'}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def window(self, name: str, workload: Workload, concurrency: int, seconds: float) -> tuple[Result, Clocks, Clocks]:
        """Drive one proxy for a while; the result, and the clocks before and after. Raises :class:`BenchError`."""
        assert self._load is not None
        assert self._load.stdin is not None
        proxy = self.proxies[name]
        command = {"proxy": name, "port": proxy.port, "workload": workload.name}
        command |= {"concurrency": concurrency, "seconds": seconds}
        self._load.stdin.write(json.dumps(command).encode() + b"\n")
        self._load.stdin.flush()
        if "error" in (ready := self._answer()):
            raise BenchError(f"{name} takes no connections ({ready['error']}): see {self.folder / (name + '.log')}")
        before = self.clocks()
        self._load.stdin.write(b"go\n")
        self._load.stdin.flush()
        result = Result(**self._answer())
        time.sleep(_SETTLE_SECONDS)
        after = self.clocks()
        for other, idle in self.proxies.items():
            if other != name:
                idle.idle_cpu += after.own[other] - before.own[other] + after.stores[other] - before.stores[other]
        return result, before, after
