"""`spec.memoryTool`: Claude's memory tool, run by the sidecar for agents that only declare it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentmemory_sidecar.resource.base import Model
from agentmemory_sidecar.resource.values import Between, Size


class Serve(StrEnum):
    """Who runs the memory tool."""

    AUTO = "Auto"
    NEVER = "Never"


class MemoryTool(Model):
    """Claude's memory tool (`memory_20250818`) for agents that declare it and have no code for it."""

    serve: Serve = Serve.AUTO
    """`Auto`: the sidecar runs the tool, except for an agent that is seen to run it itself (an SDK's tool runner, or a
    history with calls of it); `Never`: every agent runs it itself."""
    max_rounds: Annotated[int, Field(ge=1, le=100)] = 10
    """How often within one reply Claude is asked to go on after calls of the tool; then it must answer."""
    max_bytes: Annotated[Size, Between("1Ki", "256Ki")] = Size.parse("256Ki")
    """The most that calls and results within one reply may have together; then Claude must answer."""
    max_file_bytes: Annotated[Size, Between("1Ki", "256Ki")] = Size.parse("64Ki")
    """The longest file. In a shared state a file may not be longer than `archive.blobs.threshold`."""
