"""A Redis Cluster of real servers for tests: each "pod" has an address of loopback of its own, TLS, users, and the very
script that pods start with. A pod that comes back gets a new address, as on Kubernetes."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from agentmemory_operator.act import redis as act_redis
from agentmemory_operator.act.redis_keys import authority, issue
from agentmemory_operator.observe.redis import ask_all
from agentmemory_operator.observe.redis_nodes import Access, NodeLinks
from agentmemory_operator.plan.redis.manifests import files
from agentmemory_operator.plan.redis.pki import certificates
from agentmemory_operator.plan.redis.rolling import roll
from agentmemory_operator.plan.redis.topology import decide
from agentmemory_operator.plan.redis.users import USERS, acl_file, definitions
from agentmemory_operator.plan.redis.values import Cluster, Decision, NodeAction, Pod, Shape
from agentmemory_operator.plan.values import Action, Remove
from agentmemory_operator.tiers import TierFailed

DOMAIN = "redis.test.svc"
WRITER = "user writer on >writer ~* &* +@all\n"
"""For redis-py's cluster client, which asks for more than the sidecar's user may."""
PASSWORDS = {user: (f"{user}-password",) for user in USERS}


@dataclass(eq=False)
class Server:
    """A pod: its volume stays, its process and address come and go."""

    name: str
    shard: int
    ordinal: int
    directory: Path
    address: str = ""
    process: subprocess.Popen[bytes] | None = None
    generation: int = 0
    outdated: bool = False

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Servers:
    """The pods, and a small operator for them."""

    directory: Path
    network: int
    """The third number of the addresses: 127.1.<network>.x."""
    shape: Shape
    timeout_ms: int = 2000
    program: str = ""
    """A folder to find the server in first; empty for the distribution's."""
    servers: dict[str, Server] = field(default_factory=dict)
    links: NodeLinks = field(default_factory=NodeLinks)
    done: list[str] = field(default_factory=list)
    """What the operator did, in order."""
    _since: dict[str, float] = field(default_factory=dict)
    _used: int = 0

    def __post_init__(self) -> None:
        self.users = definitions(PASSWORDS)
        secrets, config = self.directory / "secrets", self.directory / "config"
        secrets.mkdir(parents=True)
        config.mkdir()
        authorities = authority(time.time())
        (found,) = certificates(authorities)
        self.ca_pem = found.pem
        certificate, key = issue(authorities, found.serial, (DOMAIN, f"*.{DOMAIN}"), time.time())
        written = {"ca.crt": found.pem, "tls.crt": certificate, "tls.key": key}
        written |= {"users.acl": acl_file(self.users) + WRITER, "replica": PASSWORDS["replica"][0]}
        for name, text in written.items():
            (secrets / name).write_text(text)
        for name, text in files().items():
            # What differs from a pod: where the secrets lie, that several share a machine, and that tests are in a hurry.
            text = text.replace("/etc/agentmemory/redis-secrets", str(secrets))
            text = text.replace("cluster-node-timeout 5000", f"cluster-node-timeout {self.timeout_ms}")
            (config / name).write_text(text)
        self.access = Access("operator", PASSWORDS["operator"], self.ca_pem)

    # ---------------------------------------------------------------------------------------------------------- pods

    def add(self, shard: int, ordinal: int) -> Server:
        name = f"redis-{shard}-{ordinal}"
        server = self.servers[name] = Server(name, shard, ordinal, self.directory / name)
        server.data.mkdir(parents=True, exist_ok=True)
        self.start(server)
        return server

    def start(self, server: Server) -> None:
        """Start it at an address that nobody has had before."""
        self._used += 1
        server.address = f"127.1.{self.network}.{self._used}"
        run = server.directory / f"run-{self._used}"
        run.mkdir()
        bind = self.directory / "config" / "redis.conf"
        config = server.directory / f"config-{self._used}"
        shutil.copytree(bind.parent, config)
        (config / "redis.conf").write_text(bind.read_text() + f"bind {server.address}\n")
        environment = {
            "PATH": f"{self.program}:{os.environ['PATH']}" if self.program else os.environ["PATH"],
            "DATA": str(server.data),
            "CONFIG": str(config),
            "SECRETS": str(self.directory / "secrets"),
            "RUN": str(run),
            "POD_IP": server.address,
            "POD_HOSTNAME": f"{server.name}.{DOMAIN}",
        }
        log = (server.directory / "log").open("ab")
        server.process = subprocess.Popen(
            ["/bin/sh", config / "start.sh"], env=environment, stdout=log, stderr=log, cwd=server.directory
        )
        log.close()
        server.generation += 1

    def environment(self, server: Server) -> dict[str, str]:
        """For the script that a pod asks of its own server."""
        secrets = str(self.directory / "secrets")
        return {"PATH": os.environ["PATH"], "SECRETS": secrets, "POD_IP": server.address}

    def kill(self, *servers: Server) -> None:
        """SIGKILL all of them, then wait."""
        self._end(servers, signal.SIGKILL)

    def stop(self, *servers: Server) -> None:
        self._end(servers, signal.SIGTERM)

    def _end(self, servers: Sequence[Server], number: int) -> None:
        processes = [server.process for server in servers if server.process is not None]
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)
        for process in processes:
            process.wait(30)

    def restart(self, *servers: Server) -> None:
        """Pods deleted and made anew: the same volumes, new addresses."""
        self.kill(*servers)
        for server in servers:
            self.start(server)

    def lose(self, server: Server) -> None:
        """Its volume with it."""
        self.kill(server)
        shutil.rmtree(server.data)
        server.data.mkdir()

    def close(self) -> None:
        self.kill(*self.servers.values())

    def memory(self) -> int:
        """Bytes that all of them take."""
        return sum(psutil.Process(s.process.pid).memory_info().rss for s in self.servers.values() if s.process)

    # ------------------------------------------------------------------------------------------------------ operator

    async def observe(self) -> Cluster:
        now = time.monotonic()
        pods = [
            Pod(s.name, s.shard, s.ordinal, str(s.generation), s.address if s.running else "", s.outdated)
            for s in self.servers.values()
        ]
        asked = await ask_all(self.links, self.access, pods, DOMAIN)
        wanted = self.shape.shards * (self.shape.replicas + 1)
        surplus = sum(1 for s in self.servers.values() if s.shard >= self.shape.shards)
        waited = {symptom: now - since for symptom, since in self._since.items()}
        return Cluster("local", "test", tuple(asked), wanted + surplus, waited)

    async def step(self) -> Decision | None:
        """One look and what it leads to; None when there is nothing left to do."""
        cluster = await self.observe()
        decision = decide(cluster, self.shape)
        if decision is None and self._drained():
            return Decision(reason="Scaling")  # type: ignore[arg-type]
        decision = decision or roll(cluster, self.shape)
        now = time.monotonic()
        symptoms = decision.symptoms if decision else frozenset()
        self._since = {symptom: self._since.get(symptom, now) for symptom in symptoms}
        self._since |= dict.fromkeys(decision.begins if decision else (), now)
        for action in decision.actions if decision else ():
            self.done.append(action.describe())
            await self.act(action)
        return decision

    def _drained(self) -> bool:
        """Take away shards that are not wanted; the topology had nothing left to do with them."""
        surplus = [server for server in self.servers.values() if server.shard >= self.shape.shards]
        self.stop(*surplus)
        for server in surplus:
            del self.servers[server.name]
        return bool(surplus)

    async def act(self, action: Action) -> None:
        match action:
            case Remove(name=name):
                server = self.servers[name]
                await asyncio.to_thread(self.hand_over, server)
                self.stop(server)
                self.start(server)
                server.outdated = False
            case NodeAction():
                await act_redis.act(self.links, action, self.users, PASSWORDS["replica"][0])

    def hand_over(self, server: Server) -> None:
        """What a pod does before it stops."""
        script = next(server.directory.glob("config-*")) / "node.sh"
        subprocess.run(["/bin/sh", script, "stop"], env=self.environment(server), check=False, timeout=30)

    async def until_whole(self, deadline_s: float = 90, watch: Callable[[Decision], None] | None = None) -> None:
        """Run the operator until it has nothing to do; its own errors are tried again, as they would be."""
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    decision = await self.step()
                except TierFailed as error:
                    self.done.append(str(error))
                    decision = Decision(reason="Failed")  # type: ignore[arg-type]
                if decision is None:
                    return
                if watch:
                    watch(decision)
                await asyncio.sleep(0.2)

    async def form(self) -> None:
        for shard in range(self.shape.shards):
            for ordinal in range(self.shape.replicas + 1):
                self.add(shard, ordinal)
        await self.until_whole()
