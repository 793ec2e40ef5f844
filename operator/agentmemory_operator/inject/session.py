"""The session annotation: a literal or a template, and the piece of a base URL that it becomes.

What admission knows is written out, percent-encoded: a namespace, a workload, an ordinal, a pod name that is already
given. What only the running pod knows (a generated name, a label's final value) is left to Kubernetes' own ``$(VAR)``
expansion from downward-API variables. Nothing can encode those values, and nothing needs to: names and label values
consist of letters, digits, ``-``, ``_`` and ``.``. A literal cannot be taken for a variable, for its ``$`` is encoded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from agentmemory_operator.pods import controller, workload

LONGEST = 200
"""Bytes that a session id may have, percent-encoded; the sidecar refuses longer ones."""
LONGEST_GENERATED_NAME = 63
LONGEST_LABEL_VALUE = 63
FIELDS = ("namespace", "workload", "pod", "ordinal")
VARIABLE = "AGENTMEMORY_SESSION_"
"""Prefix of the variables that a container gets for a template's run-time fields; a number from 1 follows."""
INDEX_LABELS = ("apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index")
SET_BY_KUBERNETES = frozenset({"topology.kubernetes.io/region", "topology.kubernetes.io/zone"})
"""Labels that a pod gets only when it is bound to a node."""
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_LABEL_KEY = re.compile(r"([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_HELP = "write {namespace}, {workload}, {pod}, {ordinal} or {label:KEY}, and {{ or }} for a brace"


class TemplateError(Exception):
    """A session annotation that cannot be used, for any pod or for this one. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Field:
    """A piece that each pod fills in. ``name`` is one of FIELDS, or ``label`` with the label's ``key``."""

    name: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A session id, and the variables it refers to: name to downward-API field path, in order."""

    encoded: str
    """As a piece of a URL, for a variable's value."""
    value: str
    """Itself, for a variable's value: Kubernetes makes one dollar of two."""
    variables: Mapping[str, str]


NO_SESSION = Session("", "", {})


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and fields, in order."""

    parts: tuple[str | Field, ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Raises TemplateError for what is no template."""
        parts: list[str | Field] = []
        for match in _TOKEN.finditer(text):
            piece = match[0]
            if match[1] is not None:
                parts.append(_field(match[1].strip()))
            elif piece in "{}":
                raise TemplateError(f"has a brace that nothing closes or opens: {_HELP}")
            else:
                parts.append(piece[0] if piece in ("{{", "}}") else piece)
        if not parts:
            raise TemplateError("must not be empty: leave the annotation out")
        literal = "".join(part for part in parts if isinstance(part, str))
        if any(ord(character) < 32 or ord(character) == 127 for character in literal):
            raise TemplateError("must have no control characters")
        return cls(tuple(parts))

    def render(self, pod: Mapping[str, Any], namespace: str) -> Session:
        """The session of a pod (raw, as admission sees it). Raises TemplateError for a field that it does not have."""
        variables: dict[str, str] = {}
        encoded, value, longest = "", "", 0
        for part in self.parts:
            known, path, most = (part, "", 0) if isinstance(part, str) else _value(part, pod, namespace)
            if path:
                name = next((name for name, taken in variables.items() if taken == path), "")
                name = name or f"{VARIABLE}{len(variables) + 1}"
                variables[name] = path
                encoded, value, longest = f"{encoded}$({name})", f"{value}$({name})", longest + most
            else:
                piece = quote(known, safe="")
                encoded, value, longest = encoded + piece, value + known.replace("$", "$$"), longest + len(piece)
        if longest > LONGEST:
            raise TemplateError(f"gives an id of up to {longest} bytes, percent-encoded; at most {LONGEST} are allowed")
        if encoded in (".", ".."):
            raise TemplateError('must not be "." or "..": clients drop them from a URL')
        return Session(encoded, value, variables)


def _field(text: str) -> Field:
    name, _, key = text.partition(":")
    if name in FIELDS and not key:
        return Field(name)
    if name == "label" and _LABEL_KEY.fullmatch(key):
        return Field(name, key)
    raise TemplateError(f"has a field that is not known: {_HELP}")


def _value(field: Field, pod: Mapping[str, Any], namespace: str) -> tuple[str, str, int]:
    """What is known now, or else where the running pod finds it and how many bytes that has at most."""
    metadata = pod.get("metadata") or {}
    labels: Mapping[str, str] = metadata.get("labels") or {}
    name = metadata.get("name") or ""
    match field.name:
        case "namespace":
            return namespace, "", 0
        case "pod":
            return (name, "", 0) if name else ("", "metadata.name", LONGEST_GENERATED_NAME)
        case "workload":
            return _workload(metadata, name), "", 0
        case "ordinal":
            return _ordinal(metadata, labels, name), "", 0
    if not labels.get(field.key) and field.key not in SET_BY_KUBERNETES:
        raise TemplateError(f"uses the label {field.key}, which the pod does not have: add it to the pod template")
    return "", f"metadata.labels['{field.key}']", LONGEST_LABEL_VALUE


def _workload(metadata: Mapping[str, Any], name: str) -> str:
    found = workload(metadata)[1] or name
    if not found:
        raise TemplateError("uses {workload}, but the pod has no owner and no name: write the name itself")
    return found


def _ordinal(metadata: Mapping[str, Any], labels: Mapping[str, str], name: str) -> str:
    for label in INDEX_LABELS:
        if index := labels.get(label):
            return index
    if controller(metadata).get("kind") == "StatefulSet" and (match := re.search(r"-([0-9]+)$", name)):
        return match[1]
    raise TemplateError("uses {ordinal}, which only pods of a StatefulSet or of an indexed Job have: use {pod}")
