"""Planned moves: a session is held still until another region has all of it.

While it waits the conversation's locks are taken, so that no step makes more of it; steps that come meanwhile are refused or
wait, as the resource says of a busy session. Nothing is changed: where the agent goes on is for whoever asked to see to.
"""

import asyncio
import secrets

import msgspec

from agentmemory_sidecar.admin.sessions import NoSuchSession
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import Busy, Claim, Conversation, StateStore, StoreUnavailable
from agentmemory_sidecar.wire.errors import ApiError

LOOK_EVERY_S = 0.2
LOCK_MS = 60_000


class Moved(msgspec.Struct, frozen=True):
    """A session that may go on elsewhere."""

    session: str
    to: str
    conversations: int
    waited_s: float


async def move(services: Services, session: str, to: str, timeout_s: float) -> Moved:
    """Wait until the region ``to`` shows all that this one does of the session. Raises ApiError, NoSuchSession,
    StoreUnavailable."""
    target = _endpoint(services, to)
    tenant = services.config.tenant
    agents = await services.state.agents(tenant, session)
    if not agents:
        raise NoSuchSession(session)
    conversations = [Conversation(tenant, session, agent) for agent in agents]
    begun = asyncio.get_running_loop().time()
    token = f"{services.pod}:move-{secrets.token_hex(8)}:move"
    try:
        async with asyncio.timeout(timeout_s):
            for conversation in conversations:
                await _hold(services, conversation, token)
            for conversation in conversations:
                await _until_there(services.state, target, conversation)
    except TimeoutError as error:
        said = (
            f"The session is not whole in {to} after {timeout_s:g} s: it is busy, or replication lags. Try again later."
        )
        raise ApiError(503, "api_error", said, "not_replicated") from error
    finally:
        for conversation in conversations:
            await _let_go(services, conversation, token)
    return Moved(session, to, len(conversations), round(asyncio.get_running_loop().time() - begun, 1))


def _endpoint(services: Services, to: str) -> StateStore:
    found = {each.state.head: each.state for each in services.elsewhere}
    if to not in found:
        known = ", ".join(sorted(found)) or "none: regions have heads of their own on an Eventual DynamoDB table only"
        raise ApiError(400, "invalid_request_error", f"There is no other region {to!r} to move to; known are {known}.")
    return found[to]


async def _hold(services: Services, conversation: Conversation, token: str) -> None:
    while True:
        try:
            if not isinstance(await services.hot.begin(conversation, Claim(token, "move", ttl_ms=LOCK_MS)), Busy):
                return
        except StoreUnavailable:
            return  # without the hot tier nobody can be held; what is written meanwhile is waited for, too
        await asyncio.sleep(LOOK_EVERY_S)


async def _until_there(here: StateStore, there: StateStore, conversation: Conversation) -> None:
    while True:
        ours, theirs = await here.read(conversation), await there.read(conversation)
        needed = {name: version for name, version in ours.versions.others if name != there.head}
        if ours.body:
            needed[here.head] = ours.versions.version
        shown = dict(theirs.versions.others)
        whole = all(shown.get(name, 0) >= version for name, version in needed.items())
        if whole and ours.ledger.keys() <= theirs.ledger.keys():
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _let_go(services: Services, conversation: Conversation, token: str) -> None:
    try:
        await services.hot.release(conversation, token, intact=True)
    except StoreUnavailable:
        services.hot_health.failed()
