"""Filter: which facts of the state this turn needs and has not been told yet."""

from agentmemory_sidecar.memory.filter.base import NOTHING, Selection
from agentmemory_sidecar.memory.ledger import replayed
from agentmemory_sidecar.memory.tool import POINTER
from agentmemory_sidecar.step.hydrate import Memory
from agentmemory_sidecar.step.inject import Injection, is_fresh
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services


def choose(services: Services, question: Question, memory: Memory, injection: Injection) -> Selection:
    """Find what must be repeated (into ``injection``) and select what is new, under both token budgets."""
    config, request = services.config, question.request
    injection.replay = replayed(request, memory.ledger, memory.item.replies)
    injection.fresh = is_fresh(question, memory, injection.replay)
    if injection.fresh:
        injection.replay = type(injection.replay)()
    if not memory.remembers or not request.starts_turn or injection.stands_at(request):
        return NOTHING
    left = config.injection.conversation_tokens - injection.replay.tokens
    budget = min(config.filter.budget_tokens, left)
    if budget <= 0 or not memory.state:
        return NOTHING
    return services.filter.select(
        memory.state,
        request.last_user_text,
        budget,
        pinned=config.filter.pinned,
        never=(*config.filter.never_in_prompt, POINTER),
        said=injection.replay.claims,
    )
