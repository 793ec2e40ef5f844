"""What `kubectl get agentmemory` shows, and the schema of the status that the operator writes."""

from typing import Any

_FREE = {"x-kubernetes-preserve-unknown-fields": True}


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


COLUMNS: list[dict[str, Any]] = [
    {"name": "Ready", "type": "string", "jsonPath": _condition("Ready")},
    {
        "name": "Regions",
        "type": "string",
        "jsonPath": ".status.regionsReady",
        "description": "How many of the regions are ready, such as 2/2.",
    },
    {"name": "Redis", "type": "string", "jsonPath": _condition("RedisReady")},
    {"name": "State", "type": "string", "jsonPath": _condition("StateReady")},
    {"name": "Archive", "type": "string", "jsonPath": _condition("ArchiveReady")},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Reason", "type": "string", "jsonPath": _condition("Ready", "reason"), "priority": 1},
    {"name": "Message", "type": "string", "jsonPath": _condition("Ready", "message"), "priority": 1},
]

_CONDITION = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": {
            "type": "string",
            "maxLength": 316,
            "pattern": r"^[A-Z][A-Za-z0-9]*$",
            "description": "What it is about: `Ready` sums up the others.",
        },
        "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
        "reason": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "pattern": r"^[A-Z][A-Za-z0-9]*$",
            "description": "Why, in one word; docs/conditions.md lists them.",
        },
        "message": {"type": "string", "maxLength": 32768, "description": "Why, and what to do next."},
        "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When `status` changed."},
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "The generation of the resource that this was found for.",
        },
    },
}

_REGION = {
    "type": "object",
    "required": ["region"],
    "properties": {
        "region": {"type": "string", "minLength": 1, "maxLength": 63, "description": "The region's name."},
        "ready": {"type": "boolean", "description": "Whether its sidecars have their configuration."},
    },
    **_FREE,
}

STATUS: dict[str, Any] = {
    "type": "object",
    "description": "Written by the operator; never read by the sidecar.",
    "properties": {
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "The generation of the resource that the operator has acted on.",
        },
        "regionsReady": {
            "type": "string",
            "maxLength": 32,
            "description": "How many of the regions are ready, such as `2/2`.",
        },
        "conditions": {
            "type": "array",
            "maxItems": 64,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": _CONDITION,
            "description": "What holds and what does not; docs/conditions.md explains each.",
        },
        "regions": {
            "type": "array",
            "maxItems": 32,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["region"],
            "items": _REGION,
            "description": "What there is in each region.",
        },
    },
    **_FREE,
}
"""Everything that only the operator reads (state of a plan, for one) may be there beside what is named."""
