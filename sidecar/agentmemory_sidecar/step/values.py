"""What an item links to is written before the item: nothing ever points at what is not there."""

from agentmemory_sidecar.archive.blobs import Drafts
from agentmemory_sidecar.memory.item import Item, Outgoing, pack
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import Conversation


async def write_values(
    services: Services, conversation: Conversation, item: Item, body: bytes, drafts: Drafts, spilled: list[Outgoing]
) -> bytes:
    """Write blobs and spilled records; returns the item's bytes, packed again where blobs must wait in chunk items.

    ``spilled`` is emptied as it is written, so that a second try writes only what is left. Raises StoreUnavailable.
    """
    await drafts.write(services.blobs, services.blob_health, services.state, conversation)
    while spilled:
        await services.state.put_chunks(conversation, spilled[-1].chunks, spilled[-1].data)
        spilled.pop()
    if not drafts.waiting:
        return body
    item.blobs = [*item.blobs, *(name for name in drafts.waiting if name not in item.blobs)]
    return pack(item)
