"""The same request again, after its answer was saved but may not have arrived: it is told again, not paid again."""

import msgspec

from agentmemory_sidecar.archive.blobs import BlobReader
from agentmemory_sidecar.memory import links
from agentmemory_sidecar.step.acknowledge import told_again
from agentmemory_sidecar.step.forward import Answer
from agentmemory_sidecar.step.hydrate import Memory
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.wire.events import Reply


async def repeat(services: Services, question: Question, memory: Memory) -> Answer | None:
    """The stored reply where this is the request it answered; None where Claude must be asked."""
    last = memory.repeat(question, services.now())
    if last is None:
        return None
    message = msgspec.json.decode(last.reply)
    if names := links.keys(message):
        reader = BlobReader(question.identity.tenant, services.keys, services.blobs, services.state)
        message = links.resolve(message, await reader.read(question.conversation, memory.item.subject, names))
        if links.keys(message):
            return None  # a part of it cannot be read now: better paid twice than told with a hole
    services.metrics.repeated.inc()
    outcome = {"commit": "repeated", "turn": str(memory.versions.turn), "version": str(memory.versions.version)}
    return told_again(Reply(message), last.step, outcome, streaming=question.request.streaming)
