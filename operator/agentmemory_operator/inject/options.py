"""What a pod's annotations may say: every ``agentmemory.io/…`` annotation there is, in one model."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agentmemory_operator.inject.session import Template, TemplateError
from agentmemory_operator.names import GROUP, INJECT
from agentmemory_sidecar.resource.base import invalid
from agentmemory_sidecar.resource.common import Quantity
from agentmemory_sidecar.resource.values import Arn, Line, ObjectName, RegionName

PREFIX = f"{GROUP}/"
LONGEST_ID = 200
"""Bytes that the sidecar allows an id, percent-encoded."""
_CONTAINER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class OptionsError(Exception):
    """Annotations that cannot be followed. Each problem names the annotation, what is wrong and the fix."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _flag(text: Any) -> Any:
    if text not in ("true", "false"):
        raise invalid('must be "true" or "false"')
    return text == "true"


def _identifier(text: Any) -> Any:
    if not text:
        raise invalid("must not be empty: leave the annotation out")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise invalid("must have no control characters")
    if (size := len(quote(text, safe=""))) > LONGEST_ID:
        raise invalid(f"has {size} bytes, percent-encoded; at most {LONGEST_ID} are allowed")
    return text


def _template(text: Any) -> Any:
    try:
        return Template.parse(text)
    except TemplateError as error:
        raise invalid(str(error)) from None


def _names(text: Any) -> Any:
    names = tuple(name.strip() for name in str(text).split(","))
    if not all(_CONTAINER.fullmatch(name) for name in names):
        raise invalid("must be names of containers with commas between them, such as agent,worker")
    return names


def _seconds(text: Any) -> Any:
    if not (isinstance(text, str) and re.fullmatch(r"[0-9]{1,5}", text)):
        raise invalid("must be a whole number of seconds, such as 60")
    return int(text)


def _one_of(*words: str) -> Callable[[Any], Any]:
    def check(text: Any) -> Any:
        if text not in words:
            raise invalid(f"must be one of {', '.join(words)}")
        return text

    return check


Flag = Annotated[bool, BeforeValidator(_flag)]
Identifier = Annotated[str, BeforeValidator(_identifier)]


class Options(BaseModel):
    """One pod's choices. A field's annotation is ``agentmemory.io/`` and its name with dashes; its value is a text."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        alias_generator=lambda name: name.replace("_", "-"),
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    memory: ObjectName | None = None
    """The AgentMemory to use, by its name in the pod's namespace. Without it, that namespace must have exactly one."""
    session: Annotated[Template, BeforeValidator(_template)] | None = None
    """The session of this pod's requests that name none themselves: a literal, or a template (see below)."""
    region: RegionName | None = None
    """The pod's region, before its `topology.kubernetes.io/region` label and the installation's default."""
    user: Identifier | None = None
    """Whose data the sessions are, where a request's headers do not say so."""
    project: Identifier | None = None
    """The project, where a request's headers do not say so."""
    containers: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """Only these containers talk through the sidecar, with commas between the names. Without it, all do."""
    readiness: Flag = False
    """`"true"`: the pod is not ready while the sidecar is not. Mind that an outage of a region then unreadies all."""
    require_backend: Flag = False
    """`"true"`: the agent is not started before the sidecar has reached its stores. Otherwise it starts degraded."""
    image: Line | None = None
    """The sidecar's image, instead of the installation's."""
    image_pull_policy: Annotated[str, BeforeValidator(_one_of("Always", "IfNotPresent", "Never"))] | None = None
    """`Always`, `IfNotPresent` or `Never`."""
    cpu_request: Quantity | None = None
    """The sidecar's CPU request, such as `100m`."""
    cpu_limit: Quantity | None = None
    """The sidecar's CPU limit; without it, there is none."""
    memory_request: Quantity | None = None
    """The sidecar's memory request, such as `128Mi`."""
    memory_limit: Quantity | None = None
    """The sidecar's memory limit, such as `512Mi`."""
    role_arn: Arn | None = None
    """The AWS role of the sidecar's own identity, where the installation uses IRSA."""
    grace_period_seconds: Annotated[int, BeforeValidator(_seconds), Field(ge=1, le=86_400)] | None = None
    """Raises the pod's `terminationGracePeriodSeconds` to this, if it is shorter."""
    log_level: Annotated[str, BeforeValidator(_one_of("DEBUG", "INFO", "WARNING", "ERROR"))] | None = None
    """How much the sidecar logs: `DEBUG`, `INFO` (the default), `WARNING` or `ERROR`."""

    @classmethod
    def read(cls, annotations: Mapping[str, str]) -> Self:
        """Read a pod's annotations. Those of others are not looked at. Raises OptionsError with every problem."""
        ours = {key.removeprefix(PREFIX): value for key, value in annotations.items() if key.startswith(PREFIX)}
        try:
            return cls.model_validate(ours)
        except ValidationError as error:
            raise OptionsError(
                [_problem(found["type"], found["loc"], found["msg"]) for found in error.errors()]
            ) from None


def known() -> tuple[str, ...]:
    """The names of all annotations, without their prefix."""
    return tuple(str(field.alias) for field in Options.model_fields.values())


def _problem(kind: str, where: tuple[int | str, ...], message: str) -> str:
    name = str(where[0])
    if kind != "extra_forbidden":
        return f"annotation {PREFIX}{name}: {message[0].lower()}{message[1:]}"
    if name == INJECT.removeprefix(PREFIX):
        return f"annotation {INJECT}: is a label, not an annotation: move it to the pod's labels"
    close = difflib.get_close_matches(name, known(), 1)
    hint = f"did you mean {PREFIX}{close[0]}?" if close else f"known are: {', '.join(known())}"
    return f"annotation {PREFIX}{name}: is not known; {hint}"
