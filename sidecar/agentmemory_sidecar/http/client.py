"""The client's side of one exchange, over aiohttp's server."""

from aiohttp import web
from multidict import CIMultiDict

from agentmemory_sidecar.step.exchange import ClientGone, Headers


class HttpClient:
    """Writes one answer. A streamed answer that is not ended is cut, so that no client takes it for whole."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._ended = False

    @property
    def begun(self) -> bool:
        return self._response is not None

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        response = web.Response(status=status, headers=CIMultiDict(headers), body=body)
        await self._send(response)
        await self.end()

    async def begin(self, status: int, headers: Headers) -> None:
        await self._send(web.StreamResponse(status=status, headers=CIMultiDict(headers)))

    async def _send(self, response: web.StreamResponse) -> None:
        self._response = response
        try:
            await response.prepare(self._request)
        except (ConnectionError, RuntimeError) as error:
            raise ClientGone from error

    async def write(self, data: bytes) -> None:
        assert self._response is not None
        try:
            await self._response.write(data)
        except (ConnectionError, RuntimeError) as error:
            raise ClientGone from error

    async def end(self, data: bytes = b"") -> None:
        assert self._response is not None
        try:
            await self._response.write_eof(data)  # in one piece with the stream's end
        except (ConnectionError, RuntimeError) as error:
            raise ClientGone from error
        self._ended = True

    def finished(self) -> web.StreamResponse:
        """What the handler returns. Cuts the connection of an answer that was begun and not ended."""
        if self._response is None:
            return web.Response(status=500)
        if not self._ended and self._request.transport is not None:
            self._request.transport.close()
        return self._response
