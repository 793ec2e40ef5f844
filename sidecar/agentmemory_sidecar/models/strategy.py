"""A resource's filter and its extraction, put together."""

import asyncio
import time
from pathlib import Path

from agentmemory_sidecar.memory.filter import make
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.models.embedder import Embedder, NoModel
from agentmemory_sidecar.models.learner import ClaudeLearner
from agentmemory_sidecar.models.picker import ClaudePicker
from agentmemory_sidecar.resource.config import FilterConfig, LearnerConfig, SidecarConfig
from agentmemory_sidecar.resource.prompt import Strategy
from agentmemory_sidecar.step.budget import Budget
from agentmemory_sidecar.step.extractor import Extractor
from agentmemory_sidecar.step.selector import Local, Selector
from agentmemory_sidecar.tasks import Tasks


def selector(config: FilterConfig, tasks: Tasks, metrics: Metrics) -> Selector:
    """The strategy of a configuration. Its model is loaded by ``open``, which raises NoModel."""
    hybrid, helped = config.strategy is Strategy.HYBRID, config.strategy in (Strategy.HYBRID, Strategy.SUB_AGENT)
    embeddings = config.embeddings if hybrid else None

    async def load() -> Local:
        assert embeddings is not None
        try:
            from agentmemory_sidecar.memory.filter.meaning import Meaning
        except ImportError as error:
            raise NoModel(f"{error.name} is missing: pip install 'agentmemory-operator[embeddings]'") from None
        return Local(await asyncio.to_thread(Embedder, Path(embeddings.model)), Meaning())

    return Selector(
        make(config.strategy),
        config.strategy,
        load=load if embeddings else None,
        deadline_s=embeddings.deadline_s if embeddings else 0,
        picker=ClaudePicker(config.sub_agent, metrics) if helped and config.sub_agent else None,
        tasks=tasks,
        metrics=metrics,
    )


def extractor(config: SidecarConfig, agent: LearnerConfig, metrics: Metrics) -> Extractor:
    """What reads finished turns. Its model is made ready by ``learner.open``."""
    budget = Budget(config.tenant, agent.tokens_per_day, time.time)
    return Extractor(agent, ClaudeLearner(agent, metrics), budget, metrics, time.time)
