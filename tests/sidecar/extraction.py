"""What tests of extraction share: a resource that has it, and answers of the model that extracts."""

import json
from typing import Any

from tests.claude import Match, Recorded, Reply, StrictClaude
from tests.sidecar.stand import Json, Stand, merged

KEY = "sk-ant-the-extractions"
SENT = {"authorization": f"Bearer {KEY}"}
MATCH = Match(headers=SENT)
"""The requests of that model, among those of agents."""


def spec(*, more: Json | None = None, **sub_agent: Any) -> Json:
    """A resource with extraction after each turn."""
    agent = {"apiKey": KEY, "everyTurns": 1, "deadline": "30s", **sub_agent}
    return merged({"extraction": {"subAgent": agent}}, more or {})


def change(pointer: str, value: Any, turn: int = 1, confidence: str = "high") -> Json:
    return {"pointer": pointer, "value": value, "turn": turn, "confidence": confidence}


def learns(*changes: Json, **more: Any) -> Reply:
    """A scripted answer."""
    return Reply(**({"blocks": json.dumps({"changes": changes}), "think": False, "match": MATCH} | more))


def asked(claude: StrictClaude) -> list[Recorded]:
    """The requests that the model got."""
    return [one for one in claude.requests if one.headers.items() >= SENT.items()]


def agents_turns(claude: StrictClaude) -> list[Recorded]:
    """The requests that agents made."""
    return [one for one in claude.turns if not one.headers.items() >= SENT.items()]


def told(request: Recorded) -> str:
    """What one of them says."""
    return "\n".join(block["text"] for block in request.messages[-1]["content"])


async def extracted(stand: Stand) -> None:
    """Wait until all that is due was read."""
    await stand.settled()
    assert stand.services.extractor is not None
    await stand.services.extractor.settled()
    await stand.settled()
