"""A pod's sidecar before it has a configuration, with one, and over a change of it."""

import asyncio
import stat
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from agentmemory_sidecar.engine import Engine
from agentmemory_sidecar.pod import life
from agentmemory_sidecar.resource import Mounted
from agentmemory_sidecar.resource.store_config import PostgresStore, RedisHot
from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import Reply, StrictClaude
from tests.servers import KillablePostgres, KillableValkey
from tests.sidecar.agents import Agent, unharmed
from tests.sidecar.conftest import Configure
from tests.sidecar.pod.conftest import Live, Living, secret, with_tenant
from tests.sidecar.raw import RawUpstream
from tests.sidecar.stand import SESSION_HEADER, Json

QUESTION: list[Json] = [{"role": "user", "content": "Go."}]
UNNAMED = {SESSION_HEADER: ""}
"""For a client that names no session."""
Connect = Callable[..., Agent]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def refusal(agent: Agent) -> str:
    """What an agent is told by a sidecar without a configuration."""
    answer = await agent.send(messages=QUESTION)
    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (503, "memory_not_configured", "true")
    return str(answer.error["message"])


# ------------------------------------------------------------------------------------------------- no configuration yet


async def test_agent_is_told_what_is_missing_until_it_comes(
    live: Live, connect: Connect, configure: Configure, claude: StrictClaude
) -> None:
    pod = await live(
        POD_NAMESPACE="agents", AGENTMEMORY_MEMORY="support", AGENTMEMORY_CONFIG_SECRET="agentmemory-config-support"
    )
    agent = connect(pod)
    before, admin = await refusal(agent), await pod.admin("/v1/sessions")
    probed = await pod.probe("/readyz")
    await pod.changed(secret(configure()))
    after = await agent.good("Go.")

    assert "the Secret agentmemory-config-support in namespace agents is missing, or has no key v1.json" in before
    assert before.endswith("Nothing was sent to Claude.")
    assert admin[0] == 503
    assert "remembers nothing: the Secret" in admin[1][0]["error"]["message"]
    assert probed[1]["status"] == "not configured"
    assert probed[1]["detail"] in before
    assert after.commit == "committed"
    assert (await pod.probe("/readyz"))[1] == {
        "status": "ok", "ready": True, "resource": "test", "region": "local", "generation": 1,
        "stores": {"hot": True, "state": True, "archive": True}, "detail": "",
    }  # fmt: skip
    assert (pod.metric("configured"), pod.metric("config_generation")) == (1, 1)
    assert len(claude.requests) == 1


async def test_other_paths_are_refused_too(live: Live, connect: Connect) -> None:
    agent = connect(await live())
    async with agent.http.get(f"{agent.url}/v1/models") as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (503, "api_error")


async def test_candidates_are_named(live: Live, connect: Connect) -> None:
    assert "several AgentMemories (a, b)" in await refusal(connect(await live(Mounted(candidates=("a", "b")).dumps())))


@pytest.mark.parametrize(
    ("region", "says"), [("", "the region of this pod is not known"), ("r3", "this pod is in the region r3, and")]
)
async def test_region_that_is_not_the_resources_is_told_and_ends_nothing(
    live: Live, connect: Connect, configure: Configure, caplog: pytest.LogCaptureFixture, region: str, says: str
) -> None:
    config = configure({"regions": ["r1", "r2"]})
    pod = await live(secret(config), AGENTMEMORY_REGION_DEFAULT=region)

    assert says in await refusal(connect(pod))
    assert says in (await pod.probe("/readyz"))[1]["detail"]
    assert [says in line.getMessage() for line in caplog.records if line.name == life.__name__] == [True]
    assert (await pod.probe("/livez"))[0] == 200


@pytest.mark.parametrize(("required", "status"), [("true", 503), ("", 200)])
async def test_agent_may_start_without_a_configuration_unless_the_pod_asks_for_one(
    live: Live, required: str, status: int
) -> None:
    pod = await live(AGENTMEMORY_REQUIRE_BACKEND=required)
    assert (await pod.probe("/readyz"))[0] == status


async def test_nobody_starts_at_once_without_a_configuration(live: Live, configure: Configure) -> None:
    pod = await live(ready_after_s=3600)
    assert (await pod.probe("/readyz"))[0] == 503
    await pod.changed(secret(configure()))
    assert (await pod.probe("/readyz"))[0] == 200


async def test_store_that_is_away_is_no_reason_to_unready_a_pod(
    live: Live, configure: Configure, killable_valkey: Callable[[], Awaitable[KillableValkey]]
) -> None:
    valkey = await killable_valkey()
    lenient = await live(secret(configure(redis=valkey.url)), ready_after_s=3600)
    strict = await live(secret(configure(redis=valkey.url)), AGENTMEMORY_REQUIRE_BACKEND="true")
    assert [(await pod.probe("/readyz"))[0] for pod in (lenient, strict)] == [200, 200]
    await valkey.kill()
    for pod in (lenient, strict):
        pod.pod.probes._answers = (float("-inf"), {}, None)  # what was true a moment ago is not asked again
    assert [(await pod.probe("/readyz"))[0] for pod in (lenient, strict)] == [200, 503]
    assert (await lenient.probe("/readyz"))[1]["stores"] == {"hot": False, "state": True, "archive": True}


# ------------------------------------------------------------------------------------------------------------- a change


async def test_running_step_ends_where_it_began_and_the_next_one_is_the_new_ones(
    live: Live, connect: Connect, configure: Configure, claude: StrictClaude
) -> None:
    config = configure()
    pod = await live(secret(config))
    agent, other = connect(pod), connect(pod)
    await other.good("Hello.")  # its connection stays open over the change
    claude.script(Reply(first_byte_ms=500))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.good("Go."))
        await claude.received(2)
        first = engine(pod)
        await pod.changed(secret(with_tenant(config, f"{config.tenant}-new"), 2))
        second = engine(pod)
        fresh = await other.good("Go on.")

    assert asking.result().commit == "committed"
    assert first is not second
    assert first.shared is second.shared
    assert await turns(first, agent.session) == 1
    assert await turns(second, agent.session) == 0
    assert (fresh.receipt["turn"], await turns(second, other.session)) == ("1", 1)
    await until(lambda: not pod.pod._retired)
    assert (await other.good("And on.")).commit == "committed"
    assert pod.metric("config_reloads_total", outcome="applied") == 2
    assert unharmed(claude)


def engine(pod: Living) -> Engine:
    assert pod.pod.engine is not None
    return pod.pod.engine


async def turns(of: Engine, session: str) -> int:
    return (await of.shared.stores.state.read(Conversation(of.config.tenant, session))).versions.turn


async def test_changed_stores_are_opened_before_the_old_ones_are_left(
    live: Live, connect: Connect, configure: Configure, claude: StrictClaude, database: str,
    killable_valkey: Callable[[], Awaitable[KillableValkey]],
) -> None:  # fmt: skip
    valkey = await killable_valkey()
    config = configure()
    moved = config.model_copy(
        update={
            "hot": RedisHot(urls=(valkey.url,)),
            "state": PostgresStore.model_validate({"dsn": database}),
            "archive": PostgresStore.model_validate({"dsn": database}),
        }
    )
    pod = await live(secret(config))
    agent, other = connect(pod), connect(pod)
    claude.script(Reply(first_byte_ms=500))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.good("Go."))
        await claude.received(1)
        former = engine(pod)
        await pod.changed(secret(moved, 2))
        assert engine(pod).shared is not former.shared
        there = await other.good("Go.")

    assert (asking.result().commit, there.commit) == ("committed", "committed")
    await until(lambda: not pod.pod._retired)
    assert await turns(engine(pod), other.session) == 1
    assert await turns(engine(pod), agent.session) == 0
    await pod.changed(secret(config, 3))
    assert await turns(engine(pod), agent.session) == 1


@pytest.mark.parametrize("bad", ["{", "candidates", "gone", "unopenable"])
async def test_bad_configuration_leaves_the_last_good_one_in_use(
    live: Live, connect: Connect, configure: Configure, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    config = configure()
    pod = await live(secret(config))
    agent = connect(pod)
    await agent.good("Go.")
    if bad == "gone":
        pod.mount.remove()
        await pod.pod.look()
    elif bad == "candidates":
        await pod.changed(Mounted(candidates=("a", "b")).dumps())
    elif bad == "unopenable":
        assert isinstance(config.state, PostgresStore)
        dsn = config.state.dsn.get_secret_value().replace("agentmemory@", "nobody-here@")
        await pod.changed(secret(config.model_copy(update={"state": PostgresStore.model_validate({"dsn": dsn})})))
    else:
        await pod.changed(bad)
    lines = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]

    assert (await agent.good("Go on.")).receipt["turn"] == "2"
    assert len(lines) == 1
    assert lines[0].endswith("; the last good configuration stays in use")
    status, told = await pod.probe("/readyz")
    assert (status, told["status"], told["generation"]) == (200, "ok", 1)
    assert lines[0].startswith(told["detail"])
    assert pod.metric("config_reloads_total", outcome="refused") == 1
    await pod.changed(secret(config, 2))
    assert (await pod.probe("/readyz"))[1]["detail"] == ""
    assert (await pod.probe("/readyz"))[1]["generation"] == 2
    assert pod.metric("config_reloads_total", outcome="unchanged") == 1


async def test_stores_that_cannot_be_opened_yet_are_tried_again(
    live: Live, connect: Connect, configure: Configure, monkeypatch: pytest.MonkeyPatch,
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> None:  # fmt: skip
    """The role of a configuration may be made a moment after it."""
    monkeypatch.setattr(life, "TRY_AGAIN_S", 0.0)
    postgres = await killable_postgres()
    config = configure(postgres=postgres.dsn.replace("agentmemory@", "later@"))
    pod = await live(secret(config))
    agent = connect(pod)
    told = await refusal(agent)
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("CREATE ROLE later LOGIN SUPERUSER")
    await connection.close()
    await pod.pod.look()

    assert "the configuration cannot be put to work: postgres: the server refuses the connection" in told
    assert (await agent.good("Go.")).commit == "committed"


async def test_value_that_no_store_takes_ends_nothing_and_is_not_quoted(
    live: Live, connect: Connect, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure()
    bad = PostgresStore.model_validate({"dsn": "mysql://u:hunter2@h/d"})
    pod = await live(secret(config.model_copy(update={"state": bad})))
    told = await refusal(connect(pod))
    await pod.changed(secret(config, 2))

    assert "the configuration cannot be put to work: ValueError; the log says where" in told
    assert "hunter2" not in caplog.text
    assert "in open_stores" in caplog.text
    assert (await connect(pod).good("Go.")).commit == "committed"


async def test_pod_follows_by_itself(
    live: Live, connect: Connect, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "POLL_S", 0.01)
    pod = await live()
    pod.mount.write("{")
    await until(lambda: "mounted configuration" in pod.pod._problem)
    pod.mount.write(secret(configure()))
    await until(lambda: pod.pod.engine is not None)
    assert (await connect(pod).good("Go.")).commit == "committed"


# --------------------------------------------------------------------------------------------- whose requests they are


async def test_containers_keep_the_base_url_they_had(
    live: Live, connect: Connect, configure: Configure, raw: RawUpstream, claude: StrictClaude
) -> None:
    upstreams = f'{{"agent": "{claude.url}/", "other": "{raw.url}/gateway"}}'
    nowhere = configure(upstream="http://127.0.0.1:9")
    pod = await live(secret(nowhere), AGENTMEMORY_UPSTREAMS=upstreams)
    agent = connect(pod, headers=UNNAMED)
    agent.url = f"{pod.url}/u/agent/s/{agent.session}"
    first = await agent.good("The word is heliotrope.")
    told = await agent.fresh().good("What is the word?")
    async with agent.http.get(f"{pod.url}/u/other/v1/models?limit=3") as answer:
        assert answer.status == 200
    async with agent.http.get(f"{pod.url}/u/stranger/v1/models") as answer:
        refused = await answer.json()
        assert answer.status == 404

    assert (first.commit, first.receipt["turn"]) == ("committed", "1")
    assert "heliotrope" in told.text
    assert [seen.path for seen in raw.seen] == ["/gateway/v1/models?limit=3"]
    assert (
        "knows no base URL of a container 'stranger' (AGENTMEMORY_UPSTREAMS has: agent, other)"
        in (refused["error"]["message"])
    )
    assert [request.path for request in claude.requests] == ["/v1/messages"] * 2


async def test_annotations_say_whose_requests_are_that_say_nothing(
    live: Live, connect: Connect, configure: Configure
) -> None:
    pod = await live(secret(configure()), AGENTMEMORY_SESSION="nightly", AGENTMEMORY_USER="ann")
    assert (await connect(pod, headers=UNNAMED).good("Go.")).commit == "committed"
    _, (found,) = await pod.admin("/v1/sessions/nightly")
    assert found["subject"] == "user:ann"


async def test_traffic_without_a_session_is_warned_of_once(
    live: Live, configure: Configure, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    pod = await live(secret(configure()))
    for _ in range(2):
        await connect(pod, headers=UNNAMED).send(messages=QUESTION)
        pod.pod._mind_sessions()
    assert pod.metric("requests_without_session_total") == 2
    warnings = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "set the annotation agentmemory.io/session" in warnings[0]


# ------------------------------------------------------------------------------------------------------- several pods


async def test_pods_open_what_another_pod_sealed(
    live: Live, connect: Connect, configure: Configure, claude: StrictClaude
) -> None:
    content = secret(configure())
    one, two = await live(content), await live(content)
    agent = connect(one)
    await agent.good("The word is heliotrope. " + "x" * 50_000)
    await one.pod.stop(5)
    agent.url = two.url
    await agent.good("What is the word?")
    status, records = await two.admin(f"/v1/sessions/{agent.session}/export")

    assert status == 200
    assert [record["seq"] for record in records] == [1, 2]
    assert all(record["payload"] is not None for record in records)
    assert "heliotrope" in str(records[0]["payload"]["messages"])
    assert unharmed(claude)


# ---------------------------------------------------------------------------------------------------------- the sockets


async def test_admin_socket_is_its_owners_and_replaces_one_that_was_left(live: Live, configure: Configure) -> None:
    pod = await live(secret(configure()))
    mode = pod.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert (await pod.admin("/v1/sessions"))[0] == 200
    again = Living(pod.socket.parent, {}, 0, None)
    await again.start()  # as after a kill: the file is there, and nobody behind it
    assert (await again.admin("/healthz"))[0] == 200
    await again.pod.stop(0)
    assert not pod.socket.exists()


async def test_probes_say_that_it_stops(
    live: Live, connect: Connect, configure: Configure, claude: StrictClaude
) -> None:
    pod = await live(secret(configure()))
    agent = connect(pod)
    claude.script(Reply(first_byte_ms=500))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.good("Go."))
        await claude.received(1)
        stopping = group.create_task(pod.pod.stop(30))
        await until(lambda: pod.pod.probes.stopping)
        status, told = await pod.probe("/readyz")
    assert stopping.done()
    assert (status, told["status"]) == (503, "stopping")
    assert asking.result().commit == "committed"


async def test_metrics_are_on_the_probes_port(live: Live, connect: Connect, configure: Configure) -> None:
    pod = await live(secret(configure()))
    await connect(pod).good("Go.")
    async with connect(pod).http.get(f"http://{pod.pod.probes_address}/metrics") as answer:
        text = await answer.text()
    assert 'agentmemory_steps_total{outcome="committed"} 1.0' in text
    assert "agentmemory_configured 1.0" in text
    assert "agentmemory_loop_lag_seconds " in text
