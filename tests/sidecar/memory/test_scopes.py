"""Whose parts a request reads and changes: its own, what grants say, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.memory.scopes import ALL, Home, Homes, homes_of
from agentmemory_sidecar.resource import LocalValues, compile_resource
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.scope_config import GrantConfig, ScopeConfig
from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.stores.protocols import ROOT, Conversation
from agentmemory_sidecar.wire.identify import Identity, RequestClass
from tests.sidecar.resource.resources import resource

SESSION, USER, PROJECT = Scope.SESSION, Scope.USER, Scope.PROJECT
THREE = (
    ScopeConfig(scope=SESSION), ScopeConfig(scope=USER, pointers=("/preferences",)),
    ScopeConfig(scope=PROJECT, pointers=("/decisions",)),
)  # fmt: skip


PLAIN = compile_resource(resource(""), "local", values=LocalValues(Path()), data_dir=Path("/nowhere"))


def config(*scopes: ScopeConfig, grants: tuple[GrantConfig, ...] = ()) -> SidecarConfig:
    return PLAIN.model_copy(update={"scopes": scopes, "grants": grants})


def who(user: str = "anna", project: str = "apollo", agent: str = ROOT, **more: Any) -> Identity:
    return Identity("t", "s", agent, user, project, RequestClass.MAIN, compaction=False, turn_hint="", **more)


def owners(homes: Homes) -> list[str]:
    return [home.owner.owner for home in homes.homes]


def test_each_scope_is_a_home_in_its_order() -> None:
    homes = homes_of(config(*THREE), who())
    assert owners(homes) == ["session:s", "user:anna", "project:apollo"]
    assert [home.pointers for home in homes.homes] == [(), ("/preferences",), ("/decisions",)]
    assert not homes.missing
    assert homes_of(config(ScopeConfig(scope=SESSION)), who()) == Homes((Home(Conversation("t", "s")),))


def test_what_has_no_owner_stays_with_the_session() -> None:
    homes = homes_of(config(*THREE), who(user="", project=""))
    assert (owners(homes), homes.missing) == (["session:s"], ("user", "project"))
    nobody = homes_of(config(ScopeConfig(scope=USER), *THREE[2:]), who(user=""))
    assert (owners(nobody), nobody.missing) == (["session:s", "project:apollo"], ("user",))
    assert (nobody.of("/note"), nobody.of("/decisions")) == (0, 1)
    nowhere = homes_of(config(ScopeConfig(scope=USER), *THREE[2:]), who(project=""))
    assert (owners(nowhere), nowhere.missing) == (["session:s", "user:anna"], ("project",))
    assert (nowhere.of("/note"), nowhere.of("/decisions/3")) == (1, 0)


def test_a_reviewer_reads_the_project_and_cannot_change_it() -> None:
    scopes = (*THREE[:2], ScopeConfig(scope=PROJECT, pointers=("/decisions",), granted=True))
    grants = (
        GrantConfig(agents=("root", "architect"), write=True, scope=PROJECT),
        GrantConfig(agents=("reviewer",), scope=PROJECT),
    )
    made = config(*scopes, grants=grants)
    rights = {}
    for agent, kind in ((ROOT, ""), ("a1", "architect"), ("a2", "reviewer"), ("a3", "root"), ("reviewer", "")):
        home = homes_of(made, who(agent=agent, agent_type=kind)).homes[2]
        rights[agent] = (home.reads, home.writes)
    own = ("/decisions",)
    assert rights == {
        ROOT: (own, own), "a1": (own, own), "a2": (own, ()), "a3": ((), ()), "reviewer": (own, ())
    }  # fmt: skip


def test_a_user_shares_a_part_with_another_and_with_a_team() -> None:
    grant = GrantConfig(users=("ben",), scope=USER, of=("anna",), pointers=("/preferences/team",))
    team = GrantConfig(groups=("red",), write=True, scope=USER, of=("anna",), pointers=("/preferences/team/red",))
    made = config(*THREE, grants=(grant, team))
    assert owners(homes_of(made, who())) == ["session:s", "user:anna", "project:apollo"]
    ben = homes_of(made, who("ben")).homes[-1]
    assert (ben.owner.owner, ben.at) == ("user:anna", "/shared/user/anna")
    assert (ben.reads, ben.writes) == (("/preferences/team",), ())
    red = homes_of(made, who("ben", groups=("red",))).homes[-1]
    assert red.reads == ("/preferences/team", "/preferences/team/red")
    assert red.writes == ("/preferences/team/red",)
    assert "user:anna" not in owners(homes_of(made, who("carol", groups=("blue",))))
    assert "user:anna" not in owners(homes_of(made, who("", groups=())))


def test_all_that_a_grant_names_must_hold() -> None:
    grant = GrantConfig(users=("ben",), agents=("reviewer",), projects=("*",), scope=USER, of=("anna",))
    made = config(*THREE, grants=(grant,))

    def may(**said: Any) -> bool:
        return "user:anna" in owners(homes_of(made, who(**said)))

    assert may(user="ben", agent="a1", agent_type="reviewer")
    assert not may(user="ben")
    assert not may(user="carol", agent="a1", agent_type="reviewer")
    assert not may(user="ben", agent="a1", agent_type="reviewer", project="")


NAMES = st.sampled_from(["", "anna", "ben", "carol", "apollo", "red", "root", "*", "user:anna", "../anna"])


@given(st.data())
def test_without_a_grant_only_what_is_the_requests_own(data: st.DataObject) -> None:
    """Whatever a request says of itself: it has its session, the user and the project it names, and no other's."""
    user, project, agent, kind = (data.draw(NAMES) for _ in range(4))
    groups = tuple(data.draw(st.lists(NAMES, max_size=3)))
    said = who(user, project, agent or ROOT, agent_type=kind, groups=groups)
    strangers = GrantConfig(users=("dora",), write=True, scope=USER, of=("anna", "ben"))
    for grants in ((), (strangers,)):
        homes = homes_of(config(*THREE, grants=grants), said)
        allowed = {"session:s", f"user:{user}", f"project:{project}"}
        assert set(owners(homes)) <= allowed
        assert all(home.owner.tenant == "t" for home in homes.homes)
        assert all(home.reads == ALL for home in homes.homes)


@pytest.mark.parametrize("scope", [USER, PROJECT])
def test_a_scope_with_granted_access_is_nobodys_without_a_grant(scope: Scope) -> None:
    (home,) = homes_of(config(ScopeConfig(scope=scope, granted=True)), who()).homes
    assert (home.reads, home.writes) == ((), ())
