"""One step of a turn, from the request to the last byte of the reply.

    identify → admit → hydrate → filter → inject → forward → commit → release → acknowledge

Each word is one call below, and each lives in the module of its name under ``step/`` (identify in ``wire/``, called by
``proxy.py`` to tell a turn from what only passes through). What may fail raises ``ApiError``, which the client gets in the
API's own shape after the lock is free: an agent's next request comes within a millisecond.
"""

from agentmemory_sidecar.archive.keys import KeyUnavailable
from agentmemory_sidecar.memory.ledger import Replay
from agentmemory_sidecar.step.acknowledge import acknowledge, refuse
from agentmemory_sidecar.step.admit import admit
from agentmemory_sidecar.step.choose import choose
from agentmemory_sidecar.step.commit import commit
from agentmemory_sidecar.step.exchange import Client, ClientGone
from agentmemory_sidecar.step.hydrate import StateAway, hydrate
from agentmemory_sidecar.step.inject import Injection, inject
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.release import release
from agentmemory_sidecar.step.repeat import repeat
from agentmemory_sidecar.step.rounds import converse
from agentmemory_sidecar.step.services import Flight, Services
from agentmemory_sidecar.wire.errors import ApiError, memory_unavailable


async def run(services: Services, question: Question, client: Client, flight: Flight) -> None:
    """Take one identified step to its end; the client has its answer or its error when this returns."""
    try:
        try:
            await _step(services, question, client, flight)
        except StateAway as away:
            await _step(away.instead, question, client, flight)
    except ApiError as error:
        services.metrics.failed.labels(error.code or error.type).inc()
        await refuse(client, error)
    except ClientGone:
        flight.left = True
    finally:
        services.metrics.seconds.observe(question.elapsed_ms() / 1000)


async def _step(services: Services, question: Question, client: Client, flight: Flight) -> None:
    lease = await admit(services, question)
    injection = Injection(Replay())
    try:
        memory = await hydrate(services, question, lease)
        answer = await repeat(services, question, memory)
        if answer is None:
            chosen = await choose(services, question, memory, injection)
            prompt = await inject(services, question, memory, injection, chosen, lease)
            answer = await converse(services, question, memory, injection, prompt, client, lease)
            flight.saving = True
            await commit(services, question, memory, injection, answer, lease, client)
        lease.outcome = answer.outcome.get("commit", f"upstream {answer.status}")
    except ApiError as error:
        lease.outcome = error.code or error.type
        raise
    except KeyUnavailable as error:
        lease.outcome = "key_store"
        raise memory_unavailable("key store", sent=flight.saving) from error
    finally:
        flight.saving = True
        await release(services, question, injection, lease, client)
    await acknowledge(services, question, answer, client)
