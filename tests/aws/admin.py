"""What can be set over HTTP where the front is a pod: the same as its methods, below ``/_aws/``."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from tests.aws.front import Front

Handler = Callable[[dict[str, Any]], Awaitable[object]]


def routes(front: "Front") -> list[web.RouteDef]:
    """``GET /_aws/state``; ``POST /_aws/<what>`` with a JSON object, for each function below."""

    async def state(body: dict[str, Any]) -> object:
        return {
            "regions": front.regions,
            "links": front.links.shown(),
            "pending": front.links.pending(),
            "dropped": front.items.dropped,
            "changes": front.changes,
        }

    async def creating(body: dict[str, Any]) -> object:
        front.tables.creating_s = float(body["seconds"])
        return {}

    async def hold(body: dict[str, Any]) -> object:
        front.tables.source_hold_s = float(body["seconds"])
        return {}

    async def reach(body: dict[str, Any]) -> object:
        front.reach(body["region"], body["mode"])
        return {}

    async def links(body: dict[str, Any]) -> object:
        lag = body.get("lag")
        front.links.set(
            body.get("from", "*"), body.get("to", "*"), lag_s=None if lag is None else float(lag), cut=body.get("cut")
        )
        return front.links.shown()

    async def isolate(body: dict[str, Any]) -> object:
        front.links.isolate(body["region"])
        return front.links.shown()

    async def heal(body: dict[str, Any]) -> object:
        front.links.heal()
        return front.links.shown()

    async def settle(body: dict[str, Any]) -> object:
        await front.links.settle()
        return {"pending": front.links.pending()}

    async def replica(body: dict[str, Any]) -> object:
        front.tables.force(body["table"], body["region"], body.get("status", ""))
        return {}

    async def fail(body: dict[str, Any]) -> object:
        front.tables.fail_next.add((body["table"], body["region"]))
        return {}

    async def foreign(body: dict[str, Any]) -> object:
        front.buckets.foreign(body["bucket"], body["region"])
        return {}

    async def reset(body: dict[str, Any]) -> object:
        await front.reset()
        return {}

    changing = (creating, hold, reach, links, isolate, heal, settle, replica, fail, foreign, reset)
    return [web.get("/_aws/state", _over_http(state))] + [
        web.post(f"/_aws/{handler.__name__}", _over_http(handler)) for handler in changing
    ]


def _over_http(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        try:
            return web.json_response(await handler(body))
        except (KeyError, ValueError, TypeError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    return answer
