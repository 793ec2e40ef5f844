"""Filter: which facts of the state this turn needs and has not been told yet."""

from agentmemory_sidecar.memory.ledger import replayed
from agentmemory_sidecar.memory.tool import POINTER
from agentmemory_sidecar.step.hydrate import Memory
from agentmemory_sidecar.step.inject import Injection, is_fresh
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.selector import NOBODY, Chosen, Wanted
from agentmemory_sidecar.step.services import Services


async def choose(services: Services, question: Question, memory: Memory, injection: Injection) -> Chosen:
    """Find what must be repeated (into ``injection``) and select what is new, under both token budgets."""
    config, request = services.config, question.request
    injection.replay = replayed(request, memory.ledger, memory.item.replies)
    injection.fresh = is_fresh(question, memory, injection.replay)
    if injection.fresh:
        injection.replay = type(injection.replay)()
    if not memory.remembers or not memory.state:
        return NOBODY
    filtering = config.filter
    never = (*filtering.never_in_prompt, POINTER)
    if not request.starts_turn or injection.stands_at(request):
        services.filter.learn(Wanted(memory.state, "", 0, filtering.pinned, never))
        return NOBODY
    budget = min(filtering.budget_tokens, config.injection.conversation_tokens - injection.replay.tokens)
    if budget <= 0:
        return NOBODY
    said = injection.replay.claims
    spent = sum([len(entry.text) for entry in injection.replay.entries]) // 4
    return await services.filter.select(
        Wanted(memory.state, request.last_user_text, budget, filtering.pinned, never, said, spent)
    )
