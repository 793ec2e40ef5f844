"""One request: found out what it is, then taken through a turn, replayed aside, or passed on."""

import asyncio
import logging
import traceback

from agentmemory_sidecar.memory.scopes import homes_of
from agentmemory_sidecar.resource.agentmemory import OnDisconnect
from agentmemory_sidecar.shadow import shadow
from agentmemory_sidecar.step.acknowledge import refuse
from agentmemory_sidecar.step.aside import aside, pass_through
from agentmemory_sidecar.step.exchange import Client, ClientGone, Inbound
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Flight, Services
from agentmemory_sidecar.turn import run
from agentmemory_sidecar.wire.errors import ApiError, internal, too_large
from agentmemory_sidecar.wire.identify import (
    CLAUDE_CODE_AGENT,
    CLAUDE_CODE_SESSION,
    Endpoint,
    Identity,
    RequestClass,
    Route,
    identify,
    route,
)
from agentmemory_sidecar.wire.request import LIMIT, MessagesRequest, Unreadable, decode_body

log = logging.getLogger(__name__)


async def handle(services: Services, inbound: Inbound, client: Client) -> None:
    """Answer one request. Every error of ours reaches the client here, in the API's shape."""
    where = route(inbound.path)
    task = asyncio.current_task()
    assert task is not None
    client.when_gone(task.cancel)
    try:
        if where.endpoint is Endpoint.OTHER or inbound.method != "POST":
            services.metrics.requests.labels(RequestClass.PASSTHROUGH.value).inc()
            await pass_through(services, inbound, where.path, client)
            return
        await _messages(services, inbound, where, client)
    except ApiError as error:
        await refuse(client, error)
    except ClientGone:
        services.metrics.disconnected.inc()
    except Exception as error:
        # Where it was, not what it says: an exception's text may quote what a user wrote.
        where_it_was = "".join(traceback.format_tb(error.__traceback__))
        log.error("a request failed: %s\n%s", type(error).__name__, where_it_was)
        await refuse(client, internal())


async def _messages(services: Services, inbound: Inbound, where: Route, client: Client) -> None:
    assert isinstance(inbound.body, bytes)
    services = services.at_hand()
    if len(inbound.body) > LIMIT:
        raise too_large(LIMIT)
    body = decode_body(inbound.body, inbound.headers.get("content-encoding", ""))
    try:
        request = services.newest.parse(_hint(services, inbound, where), body)
    except Unreadable:
        services.metrics.unreadable.inc()
        await pass_through(services, inbound, where.path, client)
        return
    who = identify_request(services, inbound, where, request)
    services.metrics.count(services.metrics.requests, who.request_class.value)
    if who.request_class is RequestClass.PASSTHROUGH:
        services.metrics.no_identity.inc()
        await pass_through(services, inbound, where.path, client)
        return
    try:
        question = Question(inbound, who, request, where.path, homes_of(services.config, who))
    except RecursionError:  # a system prompt or a tool that is nested deeper than we read
        services.metrics.unreadable.inc()
        await pass_through(services, inbound, where.path, client)
        return
    if services.config.shadow:
        await (
            shadow(services, question, client) if who.is_turn else pass_through(services, inbound, where.path, client)
        )
    elif who.is_turn:
        await _take_off(services, question, client)
    else:
        await aside(services, question, client)


def _hint(services: Services, inbound: Inbound, where: Route) -> str:
    """What most likely is the conversation, before the body is read: only ever used to compare bytes with."""
    headers = inbound.headers
    names = (*services.rules.session_headers, CLAUDE_CODE_SESSION)
    session = next((headers[name] for name in names if name in headers), where.session)
    return f"{session} {headers.get(CLAUDE_CODE_AGENT, '')}" if session else ""


def identify_request(services: Services, inbound: Inbound, where: Route, request: MessagesRequest) -> Identity:
    return identify(
        services.rules,
        inbound.method,
        where,
        inbound.headers,
        request.fields,
        has_tools=len(request.sides[1]) > len(b"[ ]"),
        single_user_message=len(request) < 8
        and [one.role for one in request.sketches if one.role != "system"] == ["user"],
    )


async def _take_off(services: Services, question: Question, client: Client) -> None:
    """Run the step, in the request's own task. A client that leaves cancels it, unless it is being saved (then it ends by
    itself in a moment) or the resource wants it completed."""
    flight = Flight(asyncio.current_task(), stays=services.config.on_disconnect is OnDisconnect.COMPLETE)
    services.flights.add(flight)
    client.when_gone(flight.leave)
    try:
        await run(services, question, client, flight)
    finally:
        services.flights.discard(flight)
        if flight.left:
            services.metrics.disconnected.inc()
