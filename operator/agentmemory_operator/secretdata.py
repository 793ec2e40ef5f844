"""A Secret's data, as Kubernetes has it and as we do. Pure."""

import base64
from collections.abc import Mapping
from typing import Any


def encoded(data: Mapping[str, str]) -> dict[str, str]:
    """For a manifest's ``data``."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def decoded(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """What a Secret holds; empty for one without data."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def texts(secret: Mapping[str, Any]) -> dict[str, str]:
    """The same for a Secret of ours, whose values are all text."""
    return {key: value.decode() for key, value in decoded(secret).items()}
