"""An agent on the Anthropic Python SDK: the loop its documentation shows, with tools, thinking and prompt caching.

Reads scenarios from standard input and writes summaries to standard output, both as ``tests.clients.driving`` says.
Base URL, key and headers come from the environment alone, as in an agent that knows of no sidecar. Runs on every major
of the SDK, in an environment that has nothing but it.

Ways (``scenario["way"]``): ``json`` and ``stream`` send the whole history with a cache breakpoint that moves to the
last message; ``runner`` and ``runner-stream`` leave the loop to the SDK's tool runner, which since 2.2 uses Message
Threads.
"""

import json
import os
import sys
from typing import Any

import anthropic

LOOKUP: dict[str, Any] = {
    "name": "lookup",
    "description": "Looks a key up in the plan.",
    "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
}


def lookup(key: str) -> str:
    """What every driver's tool answers: the same for the same key, so that two runs can be compared."""
    return f"value of {key}: " + " ".join(f"{key}-{number}" for number in range(40))


class Agent:
    """Keeps the conversation and what is to be reported about it."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        os.environ["ANTHROPIC_CUSTOM_HEADERS"] = f"X-Agent-Session: {scenario['session']}"
        self.client: Any = anthropic.Anthropic()  # its types differ from major to major
        self.way: str = scenario["way"]
        self.tools: list[Any] = scenario["tools"]
        system = f"Conversation {scenario['session']}. {scenario['system']}"
        self.parameters = {
            "model": scenario["model"],
            "max_tokens": 4096,
            "thinking": {"type": "adaptive"},
            "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
        }
        self.messages: list[Any] = []
        self.summary: dict[str, Any] = {"replies": [], "errors": [], "usage": {}}

    def ask(self, text: str) -> None:
        """Begin a turn."""
        self.messages.append({"role": "user", "content": text})

    def finish(self) -> None:
        """Go on up to Claude's answer; again after an error that ended it halfway."""
        if self.way.startswith("runner"):
            self._run_by_runner()
        else:
            self._run_by_hand()

    def _run_by_hand(self) -> None:
        while True:
            reply = self._send()
            self.messages.append({"role": "assistant", "content": reply.content})
            self.note(reply)
            if reply.stop_reason != "tool_use":
                return
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": lookup(**block.input)}
                for block in reply.content
                if block.type == "tool_use"
            ]
            self.messages.append({"role": "user", "content": results})

    def _send(self) -> Any:
        messages = [*self.messages[:-1], marked(self.messages[-1])]
        request = {**self.parameters, "tools": [LOOKUP, *self.tools], "messages": messages}
        if self.way == "json":
            return self.client.messages.create(**request)
        with self.client.messages.stream(**request) as stream:
            for _ in stream:
                pass
            return stream.get_final_message()

    def _run_by_runner(self) -> None:
        tool = anthropic.beta_tool(lookup, name="lookup", description=LOOKUP["description"])
        runner = self.client.beta.messages.tool_runner(
            **self.parameters, tools=[tool], messages=list(self.messages), stream=self.way == "runner-stream"
        )
        for item in runner:
            reply = item.get_final_message() if self.way == "runner-stream" else item
            self.note(reply)
            self.messages.append({"role": "assistant", "content": reply.content})
            results = runner.generate_tool_call_response()
            if results is not None:
                self.messages.append(results)

    def note(self, reply: Any) -> None:
        """Put one reply into the summary."""
        self.summary["replies"].append(
            {
                "text": "".join(block.text for block in reply.content if block.type == "text"),
                "thinking": sum(block.type == "thinking" for block in reply.content),
                "tools": [{"name": b.name, "input": b.input} for b in reply.content if b.type == "tool_use"],
                "stop_reason": reply.stop_reason,
            }
        )
        usage = self.summary["usage"]
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"):
            usage[name] = usage.get(name, 0) + (getattr(reply.usage, name) or 0)


def marked(message: dict[str, Any]) -> dict[str, Any]:
    """The message with the cache breakpoint on its last block, which turns a string into a block."""
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**message, "content": [*blocks[:-1], {**blocks[-1], "cache_control": {"type": "ephemeral"}}]}


def hold(scenario: dict[str, Any]) -> dict[str, Any]:
    """Hold one conversation. API errors are part of the summary; any other error is the driver's own."""
    agent = Agent(scenario)
    for text in scenario["turns"]:
        agent.ask(text)
        for attempt in range(scenario["attempts"]):
            try:
                agent.finish()
                break
            except anthropic.AnthropicError as error:
                status = getattr(error, "status_code", None)
                agent.summary["errors"].append({"type": type(error).__name__, "status": status, "message": str(error)})
                if attempt + 1 == scenario["attempts"]:
                    return agent.summary
    return agent.summary


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(hold(json.loads(line))), flush=True)
