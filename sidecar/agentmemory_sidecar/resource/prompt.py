"""`spec.hydration`, `filter`, `injection` and `extraction`: what goes into the prompt, and what comes back."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from agentmemory_sidecar.resource.base import Choice, Model, invalid
from agentmemory_sidecar.resource.common import ValueFrom
from agentmemory_sidecar.resource.values import Between, Duration, HttpUrl, Id, Line, Pointer, Secret

Tokens = Annotated[int, Field(ge=0, le=1_000_000)]
Pointers = Annotated[tuple[Pointer, ...], Field(max_length=64)]


class OnFresh(StrEnum):
    """What a fresh conversation on a known session gets."""

    PREPEND = "Prepend"
    NONE = "None"


class Hydration(Model):
    """What a client without history gets on a session that has some (from the laptop to the phone)."""

    on_fresh: OnFresh = OnFresh.PREPEND
    """`Prepend` puts the last finished turns before the request, as plain user and assistant text; `None` does not."""
    turns: Annotated[int, Field(ge=1, le=100)] | None = None
    """How many of the last finished turns; without it, all that the window keeps (`ephemeral.turns`)."""
    budget_tokens: Tokens = 4000
    """The most that the prepended turns may take together (tokens); older turns go first."""


class Strategy(StrEnum):
    """How the filter chooses from the state."""

    LEXICAL = "Lexical"
    SUB_AGENT = "SubAgent"
    HYBRID = "Hybrid"
    NONE = "None"


class SubAgent(Model):
    """A small Claude model that works for the sidecar. Its key is a secret of the resource, never the agent's own."""

    choices = (Choice(("apiKey", "apiKeyFrom"), "the sub-agent has one key of its own"),)

    model: Id = "claude-haiku-5-5"
    """The model's name."""
    api_key: Secret | None = None
    """The key itself: for laptops only, because everybody who reads the YAML reads it."""
    api_key_from: ValueFrom | None = None
    """Where the Anthropic API key comes from."""
    url: HttpUrl | None = None
    """The API's base URL; without it, `spec.upstream.url`."""
    deadline: Annotated[Duration, Between("100ms", "5m")] = Duration.parse("2s")
    """The longest one answer may take; the filter then falls back to `Lexical`, extraction tries again later."""
    max_tokens: Annotated[int, Field(ge=64, le=16384)] = 1024
    """The longest answer (tokens)."""


class Embeddings(Model):
    """An embedding model that runs in the sidecar, on its CPU. Nothing is downloaded, and nothing leaves the machine."""

    model: Annotated[str, Field(pattern=r"^/", max_length=1024)]
    """The absolute path of the folder that holds the model in the sidecar: `tokenizer.json` and `model.onnx`."""
    deadline: Annotated[Duration, Between("5ms", "5s")] = Duration.parse("100ms")
    """The longest that the meaning of one query may take; the filter then goes by words."""


class Filter(Model):
    """What of the state goes into a prompt."""

    cel = (
        (
            "self.strategy != 'SubAgent' || has(self.subAgent)",
            "strategy SubAgent needs filter.subAgent: at least its apiKeyFrom",
        ),
        (
            "self.strategy != 'Hybrid' || has(self.embeddings) || has(self.subAgent)",
            "strategy Hybrid needs filter.embeddings, filter.subAgent or both",
        ),
    )

    strategy: Strategy = Strategy.LEXICAL
    """`Lexical` ranks by words, in process; `SubAgent` takes what a small model picks; `Hybrid` ranks by words and what
    else it has: by meaning (`embeddings`), with what the model picks first (`subAgent`); `None` looks for nothing, so that
    only pinned fields go in."""
    budget_tokens: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """The most one injection may take (tokens)."""
    pinned: Pointers = ("/active_mission/goal", "/active_mission/blocked_by")
    """Parts of the state that always go in first, in this order, as JSON pointers."""
    never_in_prompt: Pointers = ()
    """Parts of the state that never go in, as JSON pointers."""
    sub_agent: SubAgent | None = None
    """The model that picks, for `SubAgent` and `Hybrid`."""
    embeddings: Embeddings | None = None
    """The model that tells what facts mean, for `Hybrid`; needs the extra `embeddings` where the sidecar is installed."""

    @model_validator(mode="after")
    def _has_its_model(self) -> Self:
        if self.strategy is Strategy.SUB_AGENT and self.sub_agent is None:
            raise invalid("strategy SubAgent needs filter.subAgent: at least its apiKeyFrom")
        if self.strategy is Strategy.HYBRID and self.sub_agent is None and self.embeddings is None:
            raise invalid("strategy Hybrid needs filter.embeddings, filter.subAgent or both")
        return self


class Role(StrEnum):
    """The role of the message that carries an injection."""

    USER = "User"
    SYSTEM = "System"


class Injection(Model):
    """How the chosen part of the state goes into a prompt."""

    role: Role = Role.USER
    """`User` adds a text block to the last user message; `System` a system message behind it, where the model takes
    one and the client sends none there."""
    conversation_tokens: Tokens = 20_000
    """The most that all injections of one conversation may take together (tokens), since each is sent again."""


class When(StrEnum):
    """What of a tool's use a rule looks at."""

    CALL = "Call"
    RESULT = "Result"


class Op(StrEnum):
    """What a rule does at its place in the state."""

    REPLACE = "Replace"
    APPEND = "Append"
    MERGE = "Merge"
    REMOVE = "Remove"


_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(?P<pointer>(?:/(?:[^/~{}]|~[01])*)*)\}")


class Rule(Model):
    """One way from a tool's use into the state."""

    cel = (
        ("self.to != ''", "to must not be empty: a rule never replaces the whole state"),
        (
            "self.to != '/metadata' && !self.to.startsWith('/metadata/')",
            "to must not lie in /metadata: the sidecar itself writes it",
        ),
        (
            "!has(self.template) || !has(self.op) || self.op != 'Remove'",
            "template has no use with op Remove: leave it out",
        ),
    )

    tools: Annotated[tuple[Id, ...], Field(min_length=1, max_length=64)]
    """Names of the tools it is for, exactly as the agent declares them."""
    when: When = When.CALL
    """`Call` reads the tool's input, `Result` its result (parsed where it is JSON, else one string)."""
    from_: Pointer = Field(default="", alias="from")
    """Where in the input or result the value is; empty for all of it. A pointer that leads nowhere changes nothing."""
    to: Pointer
    """Where in the state it goes; missing objects on the way are made."""
    op: Op = Op.REPLACE
    """`Replace` sets the value, `Append` adds to a list, `Merge` is a JSON Merge Patch, `Remove` takes it away."""
    template: Line | None = None
    """For a list: what each element becomes, with JSON pointers into it in braces: `[{/status}] {/content}`. A
    doubled brace stands for itself."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.to == "":
            raise invalid("to must not be empty: a rule never replaces the whole state")
        if self.to.split("/")[1] == "metadata":
            raise invalid("to must not lie in /metadata: the sidecar itself writes it")
        if self.template is not None:
            if self.op is Op.REMOVE:
                raise invalid("template has no use with op Remove: leave it out")
            if any(brace in _PLACEHOLDER.sub("", self.template) for brace in "{}"):
                raise invalid("template has a brace that is no {/json/pointer}: double it to mean itself")
        return self


class ExtractionLimits(Model):
    """The most that extraction may cost. What is over a limit is not lost: its turns wait for the next day (UTC)."""

    session_tokens_per_day: Annotated[int, Field(ge=50_000, le=1_000_000_000)] = 200_000
    """Tokens that one conversation's turns may take in a day, the model's input and output together."""
    tokens_per_day: Annotated[int, Field(ge=50_000, le=1_000_000_000_000)] = 5_000_000
    """Likewise all conversations of the resource, in all its sidecars."""


class ExtractionSubAgent(SubAgent):
    """A small Claude model that turns finished turns into patches of the state, off the hot path."""

    cel = (
        (
            "!has(self.writes) || self.writes.all(place, place != '' && place != '/metadata' && "
            "!place.startsWith('/metadata/') && place != '/memories' && !place.startsWith('/memories/'))",
            "writes must not name the whole state, /metadata or /memories: those are not a model's to change",
        ),
    )

    deadline: Annotated[Duration, Between("100ms", "5m")] = Duration.parse("30s")
    """The longest one answer may take; its turns are then read again later. Nobody waits for it."""
    max_tokens: Annotated[int, Field(ge=64, le=16384)] = 4096
    """The longest answer (tokens)."""
    every_turns: Annotated[int, Field(ge=1, le=20)] = 4
    """How many finished turns of a conversation are read at once (turns)."""
    idle: Annotated[Duration, Between("1s", "24h")] = Duration.parse("1m")
    """Fewer turns are read after so long without another one."""
    writes: Annotated[tuple[Pointer, ...], Field(min_length=1, max_length=64)] = ("/extracted_context",)
    """Parts of the state that the model may write, as JSON pointers. What is pinned, archived or never in prompts within
    them is left alone, unless it is named here itself."""
    tool_results: bool = False
    """Whether the model also reads what tools answered, which others may have written; else only what user and Claude said,
    and which tools were called."""
    limits: ExtractionLimits = Field(default_factory=ExtractionLimits)
    """What it may cost."""

    @model_validator(mode="after")
    def _may_be_written(self) -> Self:
        for pointer in self.writes:
            if pointer == "" or pointer.split("/")[1] in ("metadata", "memories"):
                raise invalid(
                    "writes must not name the whole state, /metadata or /memories: those are not a model's to change"
                )
        return self


class Extraction(Model):
    """What of a conversation becomes state."""

    builtin: bool = True
    """Whether the to-do tools of Claude Code are mapped to `/active_mission/sub_tasks`."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=64)] = ()
    """Rules of your own, applied in order, after the built-in ones."""
    sub_agent: ExtractionSubAgent | None = None
    """A model that reads finished turns; without it, only rules change the state."""
