"""An agent on LangChain: ``ChatAnthropic`` with bound tools, thinking and ``cache_control``.

Reads and writes what ``sdk.py`` does. Ways: ``json`` calls ``invoke``, ``stream`` adds the chunks of ``stream`` up, as
LangChain's own agents do.
"""

# LangChain is only in the environment this runs in.
# mypy: disable-error-code="import-not-found,untyped-decorator"

import json
import os
import sys
from typing import Any

import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool


@tool
def lookup(key: str) -> str:
    """Looks a key up in the plan."""
    return f"value of {key}: " + " ".join(f"{key}-{number}" for number in range(40))


class Agent:
    """Keeps the conversation and what is to be reported about it."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        os.environ["ANTHROPIC_CUSTOM_HEADERS"] = f"X-Agent-Session: {scenario['session']}"
        model = ChatAnthropic(model=scenario["model"], max_tokens=4096, thinking={"type": "adaptive"}, max_retries=2)
        self.model = model.bind_tools([lookup, *scenario["tools"]])
        self.streamed = scenario["way"] == "stream"
        system = f"Conversation {scenario['session']}. {scenario['system']}"
        block = {"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}
        self.messages: list[Any] = [SystemMessage(content=[block])]
        self.summary: dict[str, Any] = {"replies": [], "errors": [], "usage": {}}

    def ask(self, text: str) -> None:
        """Begin a turn."""
        self.messages.append(HumanMessage(content=text))

    def finish(self) -> None:
        """Go on up to Claude's answer; again after an error that ended it halfway."""
        while True:
            reply = self._send()
            self.messages.append(reply)
            self.note(reply)
            if not reply.tool_calls:
                return
            for call in reply.tool_calls:
                self.messages.append(ToolMessage(content=lookup.invoke(call["args"]), tool_call_id=call["id"]))

    def _send(self) -> AIMessage:
        # Puts the breakpoint on the last message's last block, whose form changes with it.
        marker = {"cache_control": {"type": "ephemeral"}}
        if not self.streamed:
            return self.model.invoke(self.messages, **marker)
        whole = None
        for chunk in self.model.stream(self.messages, **marker):
            whole = chunk if whole is None else whole + chunk
        return whole

    def note(self, reply: AIMessage) -> None:
        """Put one reply into the summary."""
        blocks = [block for block in reply.content if isinstance(block, dict)]
        self.summary["replies"].append(
            {
                "text": str(reply.text),
                "thinking": sum(block.get("type") == "thinking" for block in blocks),
                "tools": [{"name": call["name"], "input": call["args"]} for call in reply.tool_calls],
                "stop_reason": reply.response_metadata.get("stop_reason"),
            }
        )
        # LangChain counts cached tokens as part of the input; the summary wants them apart, as Claude reports them.
        details = reply.usage_metadata.get("input_token_details", {})
        read = details.get("cache_read") or 0
        created = sum(value or 0 for name, value in details.items() if name != "cache_read")
        counted = {
            "input_tokens": reply.usage_metadata["input_tokens"] - read - created,
            "cache_creation_input_tokens": created,
            "cache_read_input_tokens": read,
            "output_tokens": reply.usage_metadata["output_tokens"],
        }
        usage = self.summary["usage"]
        for name, value in counted.items():
            usage[name] = usage.get(name, 0) + value


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
