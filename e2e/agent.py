"""An agent in a pod: ``agent.py SESSION TEXT`` has one turn with Claude, on an empty history, and prints a line of JSON.

With several sessions, ``SESSION,SESSION``, it says the same in each, one after the other.

Where Claude is comes from the environment (``ANTHROPIC_BASE_URL``), and how often to try again (``AGENT_RETRIES``), which
is otherwise as often as the SDK does.
"""

import json
import os
import sys

import anthropic

RETRIES = int(os.environ.get("AGENT_RETRIES", anthropic.DEFAULT_MAX_RETRIES))


def main(sessions: str, text: str) -> None:
    client = anthropic.Anthropic(api_key="sk-ant-drill", max_retries=RETRIES)
    for session in sessions.split(","):
        raw = client.messages.with_raw_response.create(
            model="claude-haiku-5-5",
            max_tokens=512,
            messages=[{"role": "user", "content": text}],
            extra_headers={"X-Agent-Session": session},
        )
        answer = "".join(block.text for block in raw.parse().content if block.type == "text")
        receipt = {name: value for name, value in raw.headers.items() if name.startswith("x-agentmemory-")}
        print(json.dumps({"answer": answer, "receipt": receipt}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
