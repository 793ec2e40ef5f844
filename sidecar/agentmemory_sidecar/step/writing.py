"""A write of a state item that is no step's: an administrator's, a migration's, an extraction's. Each has its record."""

from agentmemory_sidecar.archive.blobs import Drafts
from agentmemory_sidecar.archive.record import Payload
from agentmemory_sidecar.memory.item import KEPT_STEPS, Item, Outgoing
from agentmemory_sidecar.memory.state import Patch, State
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.step.values import write_values
from agentmemory_sidecar.stores.protocols import Conversation, StoreUnavailable, Versions


async def place_of(services: Services, conversation: Conversation, item: Item) -> tuple[build.Place, Drafts]:
    """What such a write needs to be sealed. Raises KeyUnavailable."""
    key = await services.keys.key(conversation.tenant, item.subject or conversation.owner)
    place = build.Place(conversation, services.writer, key, services.now(), services.state.head)
    return place, Drafts(conversation.tenant, key)


def change(services: Services, place: build.Place, drafts: Drafts, item: Item, state: State, patch: Patch) -> bool:
    """Put a changed state, and the patch that made it, into the item; False where the state is too large."""
    config = services.config
    threshold = config.blob_threshold_bytes
    if not build.set_state(item, state, threshold, drafts, limit=build.state_limit(config)):
        return False
    heads.record(config, place.head, item, build.linked_patch(patch, threshold, drafts))
    return True


async def save(
    services: Services, place: build.Place, drafts: Drafts, item: Item, read: Versions, payload: Payload
) -> Versions:
    """Write the changed item with its record; returns its new versions. Raises StaleWrite, StoreUnavailable."""
    conversation = place.conversation
    new = Versions(read.turn, read.version + 1)
    if not item.subject and conversation.is_session:
        await services.state.index(conversation.tenant, place.key.subject, conversation.session)
    item.subject, item.updated_at, item.created_at = place.key.subject, place.now, item.created_at or place.now
    item.steps = [*item.steps, payload.step][-KEPT_STEPS:]
    build.add_record(item, place, "patch", payload, new, drafts.keys)
    spilled: list[Outgoing] = []
    body = build.shrink(item, spilled.append, drafts)
    body = await write_values(services, conversation, item, body, drafts, spilled)
    await services.state.write(
        conversation, body, expect=read, new=new, pending=item.pending, ttl_s=services.state_ttl_s
    )
    services.archiver.submit(conversation, item.outbox)
    try:
        await services.hot.drop(conversation)
    except StoreUnavailable:
        services.hot_health.failed()
    return new
