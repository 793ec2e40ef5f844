"""A small Claude model that is asked for one structured answer, with a key of its own and a deadline.

Everything that it is reached with is the resource's. The client library would also take headers, credentials, proxies,
tracing and a log level from the environment, which on a laptop is the agent's: it is given none of them.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from prometheus_client import Counter

from agentmemory_sidecar.resource.config import SubAgentConfig

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic
    from anthropic.types import Message, TextBlockParam

T = TypeVar("T")


class NoAnswer(Exception):
    """There is no answer that can be used.

    ``reason``: ``deadline``, ``unreachable``, ``overloaded`` (429 and 5xx), ``refused`` (any other error of the API),
    ``declined`` (the model did not want to), ``cut`` (it is longer than allowed) or ``unreadable``.
    """

    def __init__(self, reason: str, *, tokens: int = 0, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.tokens, self.after_s = reason, tokens, after_s
        """``tokens``: what it took all the same. ``after_s``: when the API says that it may be asked again (seconds)."""


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """An answer, and what it took."""

    value: T
    usage: dict[str, Any]
    tokens: int


class SmallClaude:
    """One such model. ``open`` it before the first question."""

    def __init__(self, config: SubAgentConfig, counted: Counter) -> None:
        """``counted`` has the label ``kind``."""
        self._config, self._counted = config, counted
        self._client: AsyncAnthropic | None = None

    async def open(self) -> None:
        """Import the library, which takes a second, without holding up the loop."""
        self._client = await asyncio.to_thread(self._made)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def ask(
        self, instructions: str, content: "Sequence[TextBlockParam]", schema: Mapping[str, Any], form: type[T]
    ) -> Answered[T]:
        """One answer of that schema, as that type. One try: what comes later is for the caller to decide. Raises
        NoAnswer."""
        import anthropic

        try:
            async with asyncio.timeout(self._config.deadline_s):
                message = await self._sent(instructions, content, schema)
        except (TimeoutError, anthropic.APITimeoutError) as error:
            raise NoAnswer("deadline") from error
        except anthropic.APIStatusError as error:
            late = error.status_code in (408, 429) or error.status_code >= 500
            raise NoAnswer("overloaded" if late else "refused", after_s=_after(error)) from error
        except anthropic.APIError as error:
            raise NoAnswer("unreachable") from error
        tokens = self._count(message)
        if message.stop_reason != "end_turn":
            reasons = {"refusal": "declined", "max_tokens": "cut"}
            raise NoAnswer(reasons.get(message.stop_reason or "", "unreadable"), tokens=tokens)
        text = "".join(block.text for block in message.content if block.type == "text")
        try:
            value = msgspec.json.decode(text, type=form)
        except msgspec.DecodeError as error:
            raise NoAnswer("unreadable", tokens=tokens) from error
        return Answered(value, message.usage.model_dump(mode="json", exclude_none=True), tokens)

    async def _sent(
        self, instructions: str, content: "Sequence[TextBlockParam]", schema: Mapping[str, Any]
    ) -> "Message":
        assert self._client is not None, "open it first"
        return await self._client.messages.create(
            model=self._config.model,
            max_tokens=self._config.max_tokens,
            system=instructions,
            messages=[{"role": "user", "content": list(content)}],
            output_config={"format": {"type": "json_schema", "schema": dict(schema)}},
        )

    def _made(self) -> "AsyncAnthropic":
        import httpx2
        from anthropic import AsyncAnthropic

        client = AsyncAnthropic(
            api_key=self._config.api_key.get_secret_value(),
            base_url=self._config.url,
            timeout=self._config.deadline_s,
            max_retries=0,
            open_telemetry=False,
            http_client=httpx2.AsyncClient(trust_env=False, follow_redirects=False),
        )
        client._custom_headers = {}  # ANTHROPIC_CUSTOM_HEADERS, for which the library has no other way out
        logging.getLogger("anthropic").setLevel(logging.WARNING)  # ANTHROPIC_LOG would log what users say
        return client

    def _count(self, message: "Message") -> int:
        usage = message.usage
        kinds = {
            "input": usage.input_tokens, "output": usage.output_tokens,
            "cache_read": usage.cache_read_input_tokens or 0, "cache_write": usage.cache_creation_input_tokens or 0,
        }  # fmt: skip
        for kind, tokens in kinds.items():
            self._counted.labels(kind).inc(tokens)
        return sum(kinds.values())


def _after(error: "APIStatusError") -> float:
    """The ``retry-after`` of an error (seconds); 0 for none."""
    given = error.response.headers.get("retry-after", "")
    return min(float(given), 3600.0) if given.replace(".", "", 1).isdigit() else 0.0
