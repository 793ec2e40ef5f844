"""A small Claude model that reads finished turns and says what is to be remembered of them."""

from agentmemory_sidecar.memory.extraction.changes import Answer
from agentmemory_sidecar.memory.extraction.prompt import INSTRUCTIONS, SCHEMA, Batch
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.models.client import NoAnswer, SmallClaude
from agentmemory_sidecar.resource.config import LearnerConfig
from agentmemory_sidecar.step.extract import Learnt, NotLearnt

_OF_THE_TURNS = frozenset({"declined", "cut", "unreadable"})
"""Reasons that may lie in what was read."""


class ClaudeLearner:
    """See ``step.extract.Learner``."""

    def __init__(self, config: LearnerConfig, metrics: Metrics) -> None:
        self._claude = SmallClaude(config, metrics.extraction_model_tokens)

    async def open(self) -> None:
        await self._claude.open()

    async def learn(self, batch: Batch) -> Learnt:
        try:
            answer = await self._claude.ask(INSTRUCTIONS, [{"type": "text", "text": batch.text}], SCHEMA, Answer)
        except NoAnswer as error:
            of_the_turns = error.reason in _OF_THE_TURNS
            raise NotLearnt(
                error.reason, of_the_turns=of_the_turns, tokens=error.tokens, after_s=error.after_s
            ) from error
        return Learnt(answer.value.changes, answer.usage, answer.tokens)

    async def close(self) -> None:
        await self._claude.close()
