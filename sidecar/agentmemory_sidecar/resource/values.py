"""The scalar types of the resource: durations, sizes, JSON pointers, names, secrets.

Each has one canonical written form and a JSON Schema of one plain type, because the same models become a Kubernetes
CRD, which must be structural and bounded.
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

# ------------------------------------------------------------------------------------------------ durations and sizes


@total_ordering
class Amount:
    """A whole number of something, with a written form that has a unit. Immutable."""

    # Not a dataclass: pydantic would write the defaults in JSON Schemas as objects then.
    __slots__ = ("count",)
    count: int

    def __init__(self, count: int) -> None:
        object.__setattr__(self, "count", count)

    @classmethod
    def parse(cls, written: object) -> Self:
        """Read the written form. Raises ValueError saying what the right form is."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return self.count == other.count if type(self) is type(other) and isinstance(other, Amount) else NotImplemented

    def __lt__(self, other: Self) -> bool:
        return self.count < other.count

    def __hash__(self) -> int:
        return hash((type(self), self.count))

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self.count,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: object) -> Amount:
            return value if isinstance(value, cls) else cls.parse(value)

        return core_schema.no_info_plain_validator_function(read, serialization=core_schema.to_string_ser_schema())


_DURATION_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_DURATION_PATTERN = "^" + "".join(f"([0-9]{{1,9}}{unit})?" for unit, _ in _DURATION_UNITS) + "$"
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit, _ in _DURATION_UNITS))
_DURATION_LENGTH = 32
_DURATION_MAX_MS = 36_500 * 86_400_000


class Duration(Amount):
    """A length of time, written like `500ms`, `60s`, `15m`, `1h30m` or `7d`; kept in whole milliseconds."""

    __slots__ = ()

    @property
    def ms(self) -> int:
        return self.count

    @property
    def seconds(self) -> float:
        return self.count / 1000

    @classmethod
    def parse(cls, written: object) -> Self:
        fits = isinstance(written, str) and 0 < len(written) <= _DURATION_LENGTH
        match = _DURATION.fullmatch(written) if isinstance(written, str) and fits else None
        if match is None:
            raise ValueError("is not a duration: write a number with its unit, such as 500ms, 60s, 15m, 1h30m or 7d")
        counts = zip(match.groups(), _DURATION_UNITS, strict=True)
        ms = sum(int(count) * factor for count, (_, factor) in counts if count)
        if ms > _DURATION_MAX_MS:
            raise ValueError("is longer than 36500d, the longest duration there is")
        return cls(ms)

    def __str__(self) -> str:
        rest, parts = self.count, []
        for unit, factor in _DURATION_UNITS:
            count, rest = divmod(rest, factor)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": _DURATION_PATTERN, "minLength": 2, "maxLength": _DURATION_LENGTH}


_DECIMAL = {"T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3}
_SIZE_UNITS = {"Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10, **_DECIMAL, "": 1}
_SIZE_PATTERN = "^[0-9]{1,12}(k|M|G|T|Ki|Mi|Gi|Ti)?$"


class Size(Amount):
    """A number of bytes, written as a Kubernetes quantity (`16Ki`, `5Mi`, `1G`) or as a plain whole number."""

    __slots__ = ()

    @property
    def bytes(self) -> int:
        return self.count

    @classmethod
    def parse(cls, written: object) -> Self:
        text = str(written) if isinstance(written, int | str) and not isinstance(written, bool) else ""
        match = re.fullmatch(_SIZE_PATTERN, text)
        if match is None:
            raise ValueError("is not a size: write a whole number of bytes, or one with a unit: 16Ki, 5Mi, 1G")
        unit = match.group(1) or ""
        return cls(int(text.removesuffix(unit)) * _SIZE_UNITS[unit])

    def __str__(self) -> str:
        unit = next(u for u, factor in _SIZE_UNITS.items() if self.count % factor == 0 and (self.count or not u))
        return f"{self.count // _SIZE_UNITS[unit]}{unit}"

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _SIZE_PATTERN,
            "maxLength": 16,
        }


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds for a Duration or a Size, both inclusive, in their written form."""

    low: str
    high: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        low, high = source.parse(self.low), source.parse(self.high)

        def check(value: Any) -> Any:
            if not low <= value <= high:
                raise PydanticCustomError(
                    "bounds", "must be between {low} and {high}", {"low": self.low, "high": self.high}
                )
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


# -------------------------------------------------------------------------------------------------------------- texts


@dataclass(frozen=True, slots=True)
class Text:
    """Annotation of a string type: a bounded pattern for the schema, and a message that says it in words."""

    pattern: str
    """Anchored at both ends; the same in Python and in Go."""
    says: str
    """What the text must be, as the rest of a sentence."""
    longest: int
    shortest: int = 1
    kind: str = "text"
    """What the reference calls the type."""

    def check(self, value: str) -> str:
        if not (self.shortest <= len(value) <= self.longest and re.fullmatch(self.pattern, value)):
            raise PydanticCustomError("form", "must be {says}", {"says": self.says})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shortest = {"minLength": self.shortest} if self.shortest else {}
        return {"type": "string", "pattern": self.pattern, **shortest, "maxLength": self.longest}


def dsn_problem(dsn: str) -> str:
    """What is wrong with a Postgres DSN, without quoting it; empty for nothing."""
    if re.match(r"postgres(ql)?://", dsn) is None:
        return "must be a DSN that begins with postgresql://, such as postgresql://USER:PASSWORD@HOST/DATABASE"
    return ""


def _dsn(value: SecretStr) -> SecretStr:
    if problem := dsn_problem(value.get_secret_value()):
        raise PydanticCustomError("form", "{problem}", {"problem": problem})
    return value


Pointer = Annotated[
    str,
    Text(
        r"^(/([^/~]|~[01])*)*$",
        "a JSON pointer, such as /active_mission/goal (empty for the whole value; ~1 for / and ~0 for ~ in a key)",
        longest=512,
        shortest=0,
        kind="JSON pointer",
    ),
]
RegionName = Annotated[
    str,
    Text(
        r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        "a region's name: lower-case letters, digits and dashes, such as us-east-1",
        longest=63,
        kind="region",
    ),
]
TenantName = Annotated[
    str,
    Text(
        r"^[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$",
        "letters, digits, dashes, dots and underscores, beginning and ending with a letter or digit, at most 63",
        longest=63,
    ),
]
ObjectName = Annotated[
    str,
    Text(
        r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$",
        "a Kubernetes name: lower-case letters, digits, dashes and dots",
        longest=253,
        kind="Kubernetes name",
    ),
]
HeaderName = Annotated[
    str,
    Text(
        r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$",
        "the name of an HTTP header, such as X-Agent-Session",
        longest=128,
        kind="header name",
    ),
]
HttpUrl = Annotated[
    str,
    Text(
        r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$",
        "an http:// or https:// URL with no user, query or fragment, such as https://api.anthropic.com",
        longest=2048,
        kind="URL",
    ),
]
RedisUrl = Annotated[
    str,
    Text(
        r"^rediss?://[^/@?#\s]+(/[0-9]{1,3})?$",
        "redis://HOST:PORT or rediss://HOST:PORT (TLS); user and password go into username and passwordFrom",
        longest=512,
        kind="URL",
    ),
]
Arn = Annotated[
    str,
    Text(
        r"^arn:[^\s]+$",
        "an Amazon resource name, such as arn:aws:iam::123456789012:role/memory",
        longest=2048,
        kind="ARN",
    ),
]
Id = Annotated[str, Field(min_length=1, max_length=253)]
Line = Annotated[str, Field(min_length=1, max_length=1024)]
Labels = Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=64)]

_SECRET = {"type": "string", "format": "password", "minLength": 1, "maxLength": 4096}
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096), WithJsonSchema(_SECRET)]
Dsn = Annotated[SecretStr, Field(max_length=4096), AfterValidator(_dsn), WithJsonSchema(_SECRET)]
