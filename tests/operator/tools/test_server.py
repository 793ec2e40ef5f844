"""The tools service over HTTP: who is let in, to what, and that what answers is what a sidecar's own admin API answers."""

import json
import logging
from collections.abc import Awaitable, Callable

import pytest

from agentmemory_operator.names import TOOLS_AUDIENCE
from agentmemory_operator.settings import Settings
from agentmemory_sidecar.pod.reader import Reader
from agentmemory_sidecar.resource import Mounted
from tests.operator.tools.api_server import ApiServer
from tests.operator.tools.conftest import Asking, Remembered, mounted, shared
from tests.sidecar.conftest import Configure

Serve = Callable[..., Awaitable[Asking]]
ALL = ("get", "list", "update")


def grant(api: ApiServer, user: str, *verbs: str, namespace: str = "agents", name: str = "") -> None:
    api.rights |= {(user, namespace, verb, name) for verb in verbs}


# ------------------------------------------------------------------------------------------------------------- answers


async def test_who_may_sees_what_the_sidecar_kept(
    api: ApiServer, serve: Serve, remembered: Remembered, reader: Reader
) -> None:
    asking, token = await serve(), api.user("anna")
    grant(api, "anna", *ALL)

    _, page = await asking.ask(token, "/v1/sessions?limit=10")
    _, shown = await asking.ask(token, f"/v1/sessions/{remembered.quoted}")
    _, history = await asking.ask(token, f"/v1/sessions/{remembered.quoted}/history")
    status, named = await asking.ask(token, "/v1/sessions", memory="test")

    assert [row["session"] for row in page["sessions"]] == [remembered.session]
    assert shown["conversations"][0]["window"][0]["lines"][0]["text"] == "Plan the party."
    assert [json.loads(line)["payload"]["response"]["stop_reason"] for line in history] == ["end_turn"]
    assert (status, named) == (200, page)
    assert len(reader._open) == 1  # one content, however it is named


async def test_a_state_is_changed_under_its_version(api: ApiServer, serve: Serve, remembered: Remembered) -> None:
    asking, token = await serve(), api.user("anna")
    grant(api, "anna", "update")
    path, merge = f"/v1/sessions/{remembered.quoted}/state", "application/merge-patch+json"

    status, state = await asking.ask(
        token, path, "PATCH", data=b'{"active_mission":{"goal":"party"}}',
        headers={"content-type": merge, "if-match": '"1"'},
    )  # fmt: skip
    again = await asking.refusal(
        token, path, method="PATCH", data=b"{}", headers={"content-type": merge, "if-match": '"1"'}
    )

    assert (status, state["active_mission"]["goal"]) == (200, "party")
    assert (again[0], again[1].startswith("Not changed: the state is at version 2")) == (412, True)


async def test_what_the_admin_api_refuses_comes_back_as_it_is(
    api: ApiServer, serve: Serve, remembered: Remembered
) -> None:
    asking, token = await serve(), api.user("anna")
    grant(api, "anna", *ALL)

    assert await asking.refusal(token, "/v1/sessions/nobody") == (404, "There is no such session.")
    assert (await asking.refusal(token, "/v1/sessions?limit=0"))[0] == 400
    assert (await asking.refusal(token, "/v1/sessions", method="POST"))[0] == 404
    assert (await asking.refusal(token, "/../v1/metrics"))[0] == 404


# -------------------------------------------------------------------------------------------------------------- access


@pytest.mark.parametrize("token", ["", "wrong", "token-99"])
async def test_a_bearer_nobody_knows_is_refused(
    api: ApiServer, serve: Serve, remembered: Remembered, token: str
) -> None:
    asking = await serve()
    status, said = await asking.refusal(token, "/v1/sessions")
    assert status == 401
    assert TOOLS_AUDIENCE in said
    assert api.reviews == []


async def test_each_verb_is_a_right_of_its_own(api: ApiServer, serve: Serve, remembered: Remembered) -> None:
    asking, token = await serve(), api.user("anna")
    one = f"/v1/sessions/{remembered.quoted}"
    grant(api, "anna", "list")

    assert (await asking.ask(token, "/v1/sessions"))[0] == 200
    status, said = await asking.refusal(token, one, memory="test")
    assert status == 403
    assert "anna may not get agentmemories/sessions of AgentMemory test in namespace agents" in said
    grant(api, "anna", "get")
    assert (await asking.ask(token, one))[0] == 200
    status, said = await asking.refusal(token, f"{one}/conflicts", method="POST", data=b'{"settle":[]}')
    assert status == 403
    assert "anna may not update agentmemories/sessions" in said


async def test_rights_end_at_the_namespace_and_at_the_name(
    api: ApiServer, serve: Serve, remembered: Remembered, configure: Configure
) -> None:
    asking, anna, ben = await serve(), api.user("anna"), api.user("ben")
    api.secrets["other", "agentmemory-config"] = mounted(shared(configure()))
    grant(api, "anna", *ALL, namespace="other")
    grant(api, "ben", *ALL, name="test")

    assert (await asking.refusal(anna, "/v1/sessions"))[0] == 403
    assert (await asking.ask(anna, "/v1/sessions", namespace="other")) == (200, {"sessions": [], "next": ""})
    status, said = await asking.refusal(ben, "/v1/sessions")
    assert (status, "--memory" in said) == (403, True)
    assert (await asking.ask(ben, "/v1/sessions", memory="test"))[0] == 200
    assert (await asking.refusal(ben, "/v1/sessions", memory="tests"))[0] == 403


async def test_rbac_gets_the_whole_user(api: ApiServer, serve: Serve, remembered: Remembered) -> None:
    asking, token = await serve(), api.user("anna")
    await asking.ask(token, "/v1/sessions")
    (review,) = api.reviews
    assert review["groups"] == ["system:authenticated"]
    assert review["extra"] == {"authentication.kubernetes.io/credential-id": [f"JTI={token}"]}


async def test_tokens_for_the_api_server_can_be_ruled_out(api: ApiServer, serve: Serve, remembered: Remembered) -> None:
    strict, own, general = await serve(api_tokens=False), api.user("sa", audience=TOOLS_AUDIENCE), api.user("sa")
    grant(api, "sa", *ALL)

    assert (await strict.ask(own, "/v1/sessions"))[0] == 200
    status, said = await strict.refusal(general, "/v1/sessions")
    assert (status, "for the API server" in said) == (401, False)
    assert (await (await serve()).ask(general, "/v1/sessions"))[0] == 200
    api.audience_blind = True  # it says "authenticated", and of no audience
    assert (await strict.refusal(general, "/v1/sessions"))[0] == 401


async def test_tokens_for_others_are_refused(api: ApiServer, serve: Serve, remembered: Remembered) -> None:
    asking, token = await serve(), api.user("anna", audience="sts.amazonaws.com")
    grant(api, "anna", *ALL)
    assert (await asking.refusal(token, "/v1/sessions"))[0] == 401


async def test_without_the_api_server_nobody_is_let_in(
    api: ApiServer, serve: Serve, remembered: Remembered, caplog: pytest.LogCaptureFixture
) -> None:
    asking, token = await serve(), api.user("anna")
    grant(api, "anna", *ALL)
    assert (await asking.ask(token, "/v1/sessions"))[0] == 200
    api.down = True
    assert (await asking.refusal(token, "/v1/sessions"))[0] == 503
    assert token not in caplog.text


async def test_every_request_is_in_the_log_without_what_was_said(
    api: ApiServer, serve: Serve, remembered: Remembered, caplog: pytest.LogCaptureFixture
) -> None:
    asking, token, evil = await serve(), api.user("anna"), api.user("eve\nstatus=200 user=anna")
    grant(api, "anna", *ALL)
    with caplog.at_level(logging.INFO, "agentmemory.access"):
        await asking.ask(token, f"/v1/sessions/{remembered.quoted}/history?agent=root")
        await asking.ask(evil, "/v1/sessions")
        await asking.ask("wrong", "/v1/sessions")
    lines = [record.getMessage() for record in caplog.records if record.name == "agentmemory.access"]

    assert lines == [
        f"status=200 user=anna credential=JTI={token} verb=get memory=agents/- session={remembered.quoted} part=history",
        f"status=403 user=eve%0Astatus%3D200%20user%3Danna credential=JTI={evil} verb=list memory=agents/- session=- part=-",
        "status=401 user=- credential=- verb=- memory=- session=- part=-",
    ]
    assert "Plan the party" not in caplog.text
    counted = asking.tools.registry.get_sample_value(
        "agentmemory_tools_requests_total", {"verb": "get", "status": "200"}
    )
    assert counted == 1


# ------------------------------------------------------------------------------------------------------- which memory


async def test_what_is_not_there_is_told(api: ApiServer, serve: Serve, remembered: Remembered) -> None:
    asking, token = await serve(settings=Settings(namespaces=("agents", "empty", "two"))), api.user("anna")
    for namespace in ("agents", "empty", "two", "elsewhere"):
        grant(api, "anna", *ALL, namespace=namespace)
    api.secrets["two", "agentmemory-config"] = Mounted(candidates=("a", "b")).files()

    async def said(namespace: str, memory: str = "-") -> tuple[int, str]:
        return await asking.refusal(token, "/v1/sessions", namespace=namespace, memory=memory)

    assert (await said("empty"))[0] == 404
    assert (await said("agents", "nobody"))[1].startswith("There is no AgentMemory nobody in namespace agents")
    assert await said("two") == (400, "Namespace two has several AgentMemories: name one (a, b).")
    assert await said("elsewhere") == (404, "This installation does not serve the namespace elsewhere.")


async def test_the_region_is_named_or_the_installations(
    api: ApiServer, serve: Serve, configure: Configure, reader: Reader
) -> None:
    asking, token = await serve(settings=Settings(default_region="r2")), api.user("anna")
    grant(api, "anna", *ALL)
    one = shared(configure({"regions": ["r1", "r2"]}))
    api.secrets["agents", "agentmemory-config"] = mounted(one, one.model_copy(update={"region": "r2"}))

    for header in ({}, {"agentmemory-region": "r1"}):
        assert (await asking.ask(token, "/v1/sessions", headers=header))[0] == 200
    status, said = await asking.refusal(token, "/v1/sessions", headers={"agentmemory-region": "r3"})

    assert {each.engine.config.region for each in reader._open.values()} == {"r1", "r2"}
    assert (status, "no region r3 here, but r1, r2" in said) == (400, True)


async def test_a_changed_configuration_is_used_at_once(
    api: ApiServer, serve: Serve, remembered: Remembered, configure: Configure
) -> None:
    asking, token = await serve(), api.user("anna")
    grant(api, "anna", *ALL)
    assert len((await asking.ask(token, "/v1/sessions"))[1]["sessions"]) == 1
    api.secrets["agents", "agentmemory-config"] = mounted(shared(configure()))  # of another tenant
    assert (await asking.ask(token, "/v1/sessions"))[1]["sessions"] == []


async def test_a_reader_that_is_away_is_told(
    api: ApiServer, serve: Serve, remembered: Remembered, reader: Reader
) -> None:
    asking, token = await serve(), api.user("anna")
    grant(api, "anna", *ALL)
    await reader.stop()
    status, said = await asking.refusal(token, "/v1/sessions")
    assert (status, said.startswith("The reader does not answer")) == (503, True)
