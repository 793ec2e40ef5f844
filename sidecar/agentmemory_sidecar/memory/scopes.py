"""Whose the parts of a state are: the homes of one request, in order of precedence, and what it may do in each.

A request without a user or project of its own keeps with its session what would be theirs: nothing is guessed. What others
share with it is a home as well, read below ``/shared``.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.memory.pointer import covers
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.scope_checks import SHARED
from agentmemory_sidecar.resource.scope_config import GrantConfig, ScopeConfig
from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.stores.protocols import ROOT, Conversation, Sharing
from agentmemory_sidecar.wire.identify import Identity, RequestClass

ALL = ("",)
"""Every place."""
ANY = "*"
"""In a grant: whoever says any name."""
SHARED_AT = f"/{SHARED}"
_KINDS: dict[Scope, Sharing] = {Scope.USER: "user", Scope.PROJECT: "project"}


class Home(NamedTuple):
    """One owner's part of a state, as one request may use it."""

    owner: Conversation
    """Where it lies."""
    pointers: tuple[str, ...] = ()
    """The places that are at home here; none where that is all that has no other home."""
    at: str = ""
    """Where in the state as it is read this part lies: at the top, or below ``/shared``."""
    reads: tuple[str, ...] = ALL
    """The places that the request may see, as pointers of the owner's own state."""
    writes: tuple[str, ...] = ALL
    """Likewise, that it may change."""

    @property
    def kind(self) -> str:
        return self.owner.owner.partition(":")[0]

    def may_write(self, place: str) -> bool:
        return any(covers(one, place) for one in self.writes)


class Homes(NamedTuple):
    """The homes of one request, the narrowest first and those of others last."""

    homes: tuple[Home, ...]
    missing: tuple[str, ...] = ()
    """What the resource has a scope for and the request does not name: ``user``, ``project``."""
    guarded: bool = False
    """Whether ``/shared`` is kept for what others share."""

    @property
    def rest(self) -> int:
        """Which home has all that no other is home to."""
        return next(index for index, home in enumerate(self.homes) if not home.pointers and not home.at)

    def of(self, place: str) -> int | None:
        """The home of a place of the state as it is read; None for a place below ``/shared`` that nobody shares."""
        if self.guarded and covers(SHARED_AT, place):
            return next((index for index, home in enumerate(self.homes) if home.at and covers(home.at, place)), None)
        for index, home in enumerate(self.homes):
            if not home.at and any(covers(one, place) for one in home.pointers):
                return index
        return self.rest

    def may_write(self, place: str) -> bool:
        """Whether the request may change a place of the state as it is read."""
        index = self.of(place)
        return index is not None and self.homes[index].may_write(place.removeprefix(self.homes[index].at))

    def inside(self, place: str) -> list[tuple[int, str]]:
        """(home, pointer) of what lies strictly within a place and is at home elsewhere."""
        return [
            (index, pointer)
            for index, home in enumerate(self.homes)
            if not home.at
            for pointer in home.pointers
            if pointer != place and covers(place, pointer)
        ]


def homes_of(config: SidecarConfig, who: Identity) -> Homes:
    """The homes of a request's state, and what it may do in each."""
    scopes, grants = config.scopes, config.grants
    session = Conversation(who.tenant, who.session, ROOT)
    if len(scopes) == 1 and scopes[0].scope is Scope.SESSION:
        return _alone(session)
    found: list[Home] = []
    missing: list[str] = []
    kept: list[str] = []
    for index, entry in enumerate(scopes):
        if entry.scope is Scope.SESSION:
            found.append(Home(session))
        elif not (name := _name(entry.scope, who)):
            missing.append(_KINDS[entry.scope])
            if index == 0:
                found.append(Home(session))
            kept += entry.pointers
        else:
            found.append(_own(entry, name, grants, who))
    if kept and found[0].owner != session:
        found.insert(0, Home(session, tuple(kept)))
    guarded = any(grant.of for grant in grants)
    if guarded:
        found += _others(scopes, grants, who)
    return Homes(tuple(found), tuple(missing), guarded)


def homes_of_item(config: SidecarConfig, conversation: Conversation, item: Item) -> Homes:
    """The homes of what is done in a conversation's name behind its requests, with the rights that its newest one had. Where
    a user's or project's state itself lies, that alone."""
    if not conversation.is_session:
        return _alone(conversation)
    tenant, session, agent = conversation
    kind = RequestClass.MAIN if agent == ROOT else RequestClass.SUBAGENT
    who = Identity(
        tenant, session, agent, item.user, item.project, kind, compaction=False, turn_hint="", agent_type=item.agent_type,
        groups=tuple(item.groups),
    )  # fmt: skip
    return homes_of(config, who)


def unbounded(homes: Homes) -> Homes:
    """The same, with every right in the parts that are the session's own owners': for administrators."""
    return homes._replace(
        homes=tuple(home if home.at else home._replace(reads=ALL, writes=ALL) for home in homes.homes)
    )


def names_of(who: Identity) -> frozenset[str]:
    """What an agent is called: a subagent has its id and its type, and never the name of the root agent."""
    if who.agent == ROOT:
        return frozenset((ROOT,))
    return frozenset(name for name in (who.agent, who.agent_type) if name and name != ROOT)


@lru_cache(maxsize=4096)
def _alone(owner: Conversation) -> Homes:
    return Homes((Home(owner),))


def _name(scope: Scope, who: Identity) -> str:
    return who.user if scope is Scope.USER else who.project


def _own(entry: ScopeConfig, name: str, grants: Sequence[GrantConfig], who: Identity) -> Home:
    """The part of the request's own user or project."""
    home = Home(Conversation.shared(who.tenant, _KINDS[entry.scope], name), entry.pointers)
    if not entry.granted:
        return home
    its = [
        grant
        for grant in grants
        if grant.scope is entry.scope and (not grant.of or name in grant.of) and _is_for(grant, who)
    ]
    return home._replace(reads=_places(its, entry), writes=_places((one for one in its if one.write), entry))


def _others(scopes: Sequence[ScopeConfig], grants: Sequence[GrantConfig], who: Identity) -> list[Home]:
    """The parts of users and projects that the request does not belong to."""
    found: list[Home] = []
    for entry in scopes:
        its = [grant for grant in grants if grant.scope is entry.scope and grant.of and _is_for(grant, who)]
        for name in dict.fromkeys(name for grant in its for name in grant.of):
            if name == _name(entry.scope, who):
                continue
            of_them = [grant for grant in its if name in grant.of]
            kind = _KINDS[entry.scope]
            found.append(Home(
                Conversation.shared(who.tenant, kind, name),
                at=ptr.build((SHARED, kind, name)),
                reads=_places(of_them, entry),
                writes=_places((one for one in of_them if one.write), entry),
            ))  # fmt: skip
    return found


def _is_for(grant: GrantConfig, who: Identity) -> bool:
    """Whether the request is meant by every member that the grant has."""
    claims: tuple[tuple[Sequence[str], Iterable[str]], ...] = (
        (grant.agents, names_of(who)),
        (grant.users, (who.user,)),
        (grant.projects, (who.project,)),
        (grant.groups, who.groups),
    )
    return all(
        not wanted or any(name and (name in wanted or ANY in wanted) for name in said) for wanted, said in claims
    )


def _places(grants: Iterable[GrantConfig], entry: ScopeConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place for grant in grants for place in grant.pointers or entry.pointers or ALL))
