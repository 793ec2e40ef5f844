"""What the stand-in knows of each model: the differences that decide whether a request is valid."""

import re
from dataclasses import dataclass

from tests.claude.errors import ApiError


@dataclass(frozen=True)
class Model:
    """One model's rules. ``minimum`` is the shortest cacheable prefix in tokens."""

    id: str
    minimum: int
    mid_system: bool
    """Takes ``role: system`` inside messages."""
    prefill: bool
    """Takes an assistant message at the end."""
    max_tokens: int = 128_000


_MODELS = {
    model.id: model
    for model in (
        *(Model(f"claude-{name}", 512, True, False) for name in ("fable-5-2", "mythos-5-2", "fable-5-1", "mythos-5-1")),
        *(Model(f"claude-{name}", 512, True, False) for name in ("haiku-5-5", "sonnet-5-5", "opus-5-5", "opus-5")),
        *(Model(f"claude-{name}", 512, True, False) for name in ("fable-5", "mythos-5")),
        Model("claude-opus-4-8", 1024, True, False),
        Model("claude-sonnet-5", 1024, False, False),
        Model("claude-opus-4-7", 2048, False, False),
        Model("claude-mythos-preview", 2048, False, False),
        Model("claude-opus-4-6", 4096, False, False),
        Model("claude-sonnet-4-6", 1024, False, False),
        Model("claude-haiku-4-5", 4096, False, True, 64_000),
        Model("claude-opus-4-5", 4096, False, True, 64_000),
        Model("claude-sonnet-4-5", 1024, False, True, 64_000),
        *(Model(f"claude-{name}", 1024, False, True, 64_000) for name in ("opus-4-1", "opus-4", "sonnet-4")),
        Model("claude-3-7-sonnet", 1024, False, True, 64_000),
        Model("claude-3-5-haiku", 2048, False, True, 8_192),
    )
}

_SUFFIX = re.compile(r"(-\d{8}|-latest|-0)?(\[1m\])?$")


def find(name: str) -> Model:
    """The model of this name or alias; raises the API's 404 for any other."""
    model = _MODELS.get(name) or _MODELS.get(_SUFFIX.sub("", name))
    if model is None:
        raise ApiError(404, f"model: {name}", rule="unknown_model")
    return model


def names() -> list[str]:
    return list(_MODELS)
