"""What is another owner's cannot be had within a tenant either: by no id, header, path, file, or grant for others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.memory.scopes import homes_of
from agentmemory_sidecar.memory.state import Operation, Patch, apply
from agentmemory_sidecar.memory.together import read, shared_out
from agentmemory_sidecar.resource import LocalValues, compile_resource
from agentmemory_sidecar.resource.scope_config import GrantConfig, ScopeConfig
from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.stores.protocols import ROOT, Conversation
from agentmemory_sidecar.wire.identify import Identity, RequestClass
from tests.claude import Match, Reply, StrictClaude
from tests.sidecar.agents import TOOLS, Agent
from tests.sidecar.conftest import Start
from tests.sidecar.memory_tool import MEMORY, create, hidden, memory
from tests.sidecar.resource.resources import resource
from tests.sidecar.stand import SESSION_HEADER, Json, Stand

SECRET = "the vault opens with 7301"
PLAN = "the launch is on friday"
SESSION = "s-of-anna"
SPEC: Json = {
    "session": {
        "identity": {
            "headers": [SESSION_HEADER], "userHeaders": ["X-User"], "projectHeaders": ["X-Project"],
            "groupHeaders": ["X-Groups"],
        }
    },
    "extraction": {
        "rules": [
            {"tools": ["look"], "from": "/secret", "to": "/preferences/vault"},
            {"tools": ["look"], "from": "/plan", "to": "/decisions/launch"},
            {"tools": ["look"], "from": "/steal", "to": "/shared/user/anna/preferences/vault"},
        ]
    },
    "filter": {"pinned": ["/preferences", "/decisions", "/shared", "/memories"]},
}  # fmt: skip
SCOPES: list[Json] = [
    {"scope": "Session"},
    {"scope": "User", "pointers": ["/preferences", "/memories"]},
    {"scope": "Project", "pointers": ["/decisions"]},
]
FOR_OTHERS: list[Json] = [
    {"scope": "User", "of": ["anna"], "access": "Write", "to": {"users": ["dora"]}, "pointers": ["/preferences"]},
    {"scope": "User", "of": ["anna"], "access": "Read", "to": {"groups": ["red"], "projects": ["apollo"]}},
    {"scope": "Project", "of": ["apollo"], "access": "Read", "to": {"agents": ["auditor"], "users": ["dora"]}},
]


@pytest.fixture(params=["no grants", "grants for others"])
async def stand(
    request: pytest.FixtureRequest, start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> Stand:
    """A sidecar on which anna has told a secret, a file, and project apollo its plan."""
    grants = FOR_OTHERS if request.param != "no grants" else []
    stand = await start(SPEC | {"state": {"scopes": SCOPES, "grants": grants}})
    headers = {"X-User": "anna", "X-Project": "apollo"}
    anna = connect(stand, session=SESSION, headers=headers, extra={"tools": [*TOOLS, MEMORY]})
    look = {"type": "tool_use", "name": "look", "input": {"secret": SECRET, "plan": PLAN}}
    claude.script(
        Reply(blocks=[create(SECRET)], match=Match(session=SESSION)),
        Reply(blocks=[look], match=Match(session=SESSION)),
    )
    await anna.results(await anna.good("Keep this."))
    await stand.settled()
    return stand


def strangers() -> list[tuple[str, Mapping[str, str]]]:
    """(path, headers) of requests that are not anna's and not her project's, whatever else they say."""
    names = ["", "ben", "anna/", "../anna", "user:anna", "users/anna", "Anna", "*", "anna%00", "%1fuser%1fanna"]
    projects = ["", "gemini", "apollo/", "../apollo", "project:apollo", "Apollo", "*", "user:anna"]
    found: list[tuple[str, Mapping[str, str]]] = [
        ("/v1/messages", {"X-User": user, "X-Project": project}) for user in names for project in projects[:2]
    ]
    found += [("/v1/messages", {"X-User": "ben", "X-Project": project}) for project in projects]
    for name in ("user:anna", "/shared/user/anna", "%1fuser%1fanna", "project:apollo"):
        found.append(("/v1/messages", {SESSION_HEADER: name, "X-User": "ben"}))
        found.append((f"/s/{name.replace('/', '%2F')}/v1/messages", {SESSION_HEADER: "", "X-User": "ben"}))
    for agent in ("root", "auditor", "anna", "user:anna", SESSION):
        more = {"X-Claude-Code-Agent-Id": agent, "X-Claude-Code-Agent-Type": "auditor"}
        found.append(("/v1/messages", {"X-User": "ben", "X-Project": "gemini", **more}))
    for groups in ("red", "blue,red", "anna", "*", "red, projects:apollo"):
        found.append(("/v1/messages", {"X-User": "ben", "X-Project": "gemini", "X-Groups": groups}))
    others = ("X-Agentmemory-User", "X-Forwarded-User", "X-Owner", "X-Scope", "X-Tenant", "Forwarded")
    found += [("/v1/messages", {"X-User": "ben", name: "anna"}) for name in others]
    return found


async def test_no_request_of_another_sees_or_changes_it(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    hers = await owned(stand)
    for number, (path, headers) in enumerate(strangers()):
        agent = connect(stand, session=f"other-{number}", headers=headers, stream=False)
        agent.path = path
        asked = len(claude.requests)
        answer = await agent.send(messages=[{"role": "user", "content": "What opens the vault? When is the launch?"}])
        for text in (SECRET.encode(), PLAN.encode()):
            assert text not in answer.body
            assert all(text not in request.body for request in claude.requests[asked:]), (path, headers)
    thief = connect(stand, session="thief", headers={"X-User": "ben", "X-Project": "gemini"})
    steal = {"type": "tool_use", "name": "look", "input": {"steal": "0000", "secret": "1", "plan": "never"}}
    claude.script(Reply(blocks=[steal], match=Match(session="thief")))
    await thief.results(await thief.good("Change it."))
    await stand.settled()
    assert await owned(stand) == hers


async def test_no_path_of_the_memory_tool_leads_there(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    ben = connect(stand, session="ben", headers={"X-User": "ben"}, extra={"tools": [*TOOLS, MEMORY]})
    paths = [
        "/memories", "/memories/notes.md", "/memories/../notes.md", "/memories/../../user/anna/notes.md",
        "/shared/user/anna/memories/notes.md", "/memories/%2e%2e/anna/notes.md", "/memories/user:anna/notes.md",
        "/memories/\x1fuser\x1fanna/notes.md", "//memories/notes.md", "/memories~1notes.md",
    ]  # fmt: skip
    calls = [memory("view", path=path) for path in paths]
    calls += [memory("rename", old_path=path, new_path="/memories/mine.md") for path in paths]
    calls += [memory("delete", path=path) for path in paths]
    hers = await owned(stand)
    claude.script(Reply(blocks=[*calls], match=Match(session="ben")), Reply(blocks=["No."], match=Match(session="ben")))
    await ben.good("Look for it.")
    seen = hidden(claude.requests[-1].messages)
    assert len(seen) == len(calls)
    assert all(SECRET not in str(result) for _, result in seen)
    assert await owned(stand) == hers


async def test_no_admin_answer_about_another_holds_it(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    ben = connect(stand, session="ben", headers={"X-User": "ben", "X-Project": "gemini"})
    look = {"type": "tool_use", "name": "look", "input": {"secret": "mine"}}
    claude.script(Reply(blocks=[look], match=Match(session="ben")))
    await ben.results(await ben.good("What opens the vault?"))
    await stand.settled()
    hers = await owned(stand)
    for path in ("/v1/sessions/ben", "/v1/sessions/ben/state", "/v1/sessions/ben/export", "/v1/sessions/ben/history",
                 "/v1/users/ben/state", "/v1/projects/gemini/state", "/v1/projects/anna/state",
                 "/v1/users/apollo/state", "/v1/users/ben%2F..%2Fanna/state"):  # fmt: skip
        status, _, body = await stand.admin("GET", path)
        assert status in (200, 404), path
        assert SECRET.encode() not in body, path
        assert PLAN.encode() not in body, path
    headers = {"if-match": "*", "content-type": "application/merge-patch+json"}
    stolen = {"shared": {"user": {"anna": {"preferences": {"vault": "0000"}}}}}
    await stand.admin("PATCH", "/v1/sessions/ben/state", headers=headers, data=stolen)
    await stand.remember("ben", {"preferences": None, "decisions": None, "memories": None})
    assert await owned(stand) == hers


async def owned(stand: Stand) -> list[Any]:
    """What anna and apollo have, byte for byte."""
    owners = (Conversation.shared("", "user", "anna"), Conversation.shared("", "project", "apollo"))
    found = [await stand.stored(owner.session) for owner in owners]
    assert all(one.body for one in found)
    return [(one.versions, one.body) for one in found]


# ------------------------------------------------------------------------------------------------- whatever anybody says


NAMES = st.sampled_from(["", "anna", "ben", "carol", "apollo", "gemini", "red", "root", "*"])
CLAIMS = st.builds(
    lambda user, project, agent, kind, groups: Identity(
        "t", "s", agent or ROOT, user, project, RequestClass.MAIN, compaction=False, turn_hint="", agent_type=kind,
        groups=tuple(groups),
    ),
    NAMES, NAMES, NAMES, NAMES, st.lists(NAMES, max_size=2),
)  # fmt: skip
WHO = st.lists(NAMES.filter(bool), max_size=2, unique=True).map(tuple)
GRANTS = st.builds(
    GrantConfig, agents=WHO, users=WHO, projects=WHO, groups=WHO, write=st.booleans(),
    scope=st.sampled_from([Scope.USER, Scope.PROJECT]),
    of=st.lists(st.sampled_from(["anna", "apollo"]), max_size=2, unique=True).map(tuple),
    pointers=st.sampled_from([(), ("/own",), ("/own/part",)]),
)  # fmt: skip
PLAIN = compile_resource(resource(""), "local", values=LocalValues(Path()), data_dir=Path("/nowhere"))
STATE = {"own": {"part": "secret", "rest": "secret"}, "other": "secret"}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CLAIMS, st.lists(GRANTS, max_size=3), st.booleans(), st.sampled_from(["/own/part", "/own/rest", "/other"]))
def test_only_what_a_grant_says_is_seen_or_changed(
    who: Identity, grants: list[GrantConfig], granted: bool, place: str
) -> None:
    """Against a reading of the grants that is written here once more, plainly."""
    scopes = (
        ScopeConfig(scope=Scope.SESSION), ScopeConfig(scope=Scope.USER, pointers=("/own", "/other"), granted=granted)
    )  # fmt: skip
    config = PLAIN.model_copy(update={"scopes": scopes, "grants": tuple(grants)})
    homes = homes_of(config, who)

    def right(owner: str, *, write: bool) -> bool:
        if who.user == owner and not granted:
            return True
        agents = {who.agent} | ({who.agent_type} - {ROOT, ""} if who.agent != ROOT else set())
        for grant in grants:
            said = ((grant.agents, agents), (grant.users, {who.user}), (grant.projects, {who.project}),
                    (grant.groups, set(who.groups)))  # fmt: skip
            meant = all(not named or any(n and (n in named or "*" in named) for n in claims) for named, claims in said)
            its = owner in grant.of or (not grant.of and who.user == owner)
            there = not grant.pointers or any(place == one or place.startswith(one + "/") for one in grant.pointers)
            if grant.scope is Scope.USER and meant and its and there and (grant.write or not write):
                return True
        return False

    for owner in ("anna", "apollo", "ben"):
        at = "" if who.user == owner else f"/shared/user/{owner}"
        parts = [STATE if home.owner.owner == f"user:{owner}" else {} for home in homes.homes]
        of = read(homes, parts, {})
        seen: Any = of.state
        for name in (at + place).split("/")[1:]:
            seen = seen.get(name, {}) if isinstance(seen, dict) else {}
        assert (seen == "secret") == right(owner, write=False)
        if not any(grant.of for grant in grants) and at:
            continue  # then /shared is a place like any other, of the session's own
        patches, wrong = shared_out(Patch("p", "", (Operation("set", at + place, "new"),)), of)
        changed = [
            apply(part, patch)
            for home, part, patch in zip(homes.homes, parts, patches, strict=True)
            if home.owner.owner == f"user:{owner}"
        ]
        assert bool(wrong) != right(owner, write=True)
        assert wrong or any(state != STATE for state in changed)
