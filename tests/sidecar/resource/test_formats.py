"""What older and newer sidecars make of one configuration."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import to_jsonable_python

from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.formats import FORMAT, WRITTEN, Config, Secret, Since, Writing, key
from agentmemory_sidecar.resource.mounted import Mounted
from tests.sidecar.resource.test_mounted import DSN, two_regions

FIELDS = Path(__file__).parent / "formats"
REQUIRED = "(required)"


class Older(Config):
    """What an older sidecar knows."""

    turns: int
    password: Secret = SecretStr("")


class Newer(Older):
    """The same with a field that every format may carry, and one that began with a format."""

    pause_s: float = 1.0
    words: Annotated[tuple[str, ...], Since(FORMAT + 1)] = ()


def written(config: Config, version: int = FORMAT) -> Any:
    return json.loads(config.model_dump_json(context=Writing(version)))


def test_an_older_reader_takes_what_says_no_more_than_it_knows() -> None:
    assert Older.model_validate(written(Newer(turns=5))) == Older(turns=5)


def test_an_older_format_is_without_what_came_later() -> None:
    newer = Newer(turns=5, words=("one",))
    assert Older.model_validate(written(newer)) == Older(turns=5)
    assert Newer.model_validate(written(newer, FORMAT + 1)) == newer


def test_what_an_older_reader_would_leave_out_is_refused_by_it() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Older.model_validate(written(Newer(turns=5, pause_s=2)))


def test_secrets_are_written_and_shown_nowhere_else() -> None:
    config = Older(turns=5, password=SecretStr("hunter2"))
    assert written(config) == {"turns": 5, "password": "hunter2"}
    assert "hunter2" not in config.model_dump_json()


def test_what_has_its_default_is_not_written_but_for_what_tells_the_form() -> None:
    text = json.loads(two_regions().dumps())
    assert text["format"] == FORMAT
    assert "candidates" not in text
    region = text["regions"]["us-east-1"]
    assert (region["format"], region["state"]) == (FORMAT, {"kind": "postgres", "dsn": DSN})


def test_a_secret_holds_the_last_two_formats() -> None:
    files = two_regions().files()
    assert list(files) == [key(version) for version in WRITTEN]
    assert WRITTEN[-1] == FORMAT
    assert len(WRITTEN) == min(2, FORMAT)
    assert Mounted.loads(files[key(FORMAT)]) == two_regions()
    assert [json.loads(text)["format"] for text in files.values()] == list(WRITTEN)


# ---------------------------------------------------------------------------------------------------- what stays for ever


def below(model: type[BaseModel], known: dict[str, type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """A model and every model within it."""
    known[model.__name__] = model
    for field in model.model_fields.values():
        for kind in inner(field.annotation):
            if kind.__name__ not in known:
                below(kind, known)
    return known


def inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from inner(part)


def fields(version: int) -> dict[str, dict[str, Any]]:
    """The fields of a format with their defaults, by model."""
    return {
        name: {
            field: REQUIRED if info.is_required() else plain(info.get_default(call_default_factory=True))
            for field, info in model.model_fields.items()
            if not any(isinstance(mark, Since) and mark.version > version for mark in info.metadata)
        }
        for name, model in sorted(below(Mounted, {}).items())
    }


def plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else to_jsonable_python(value)


@pytest.mark.parametrize("version", WRITTEN)
def test_a_format_keeps_its_fields_and_their_defaults(version: int) -> None:
    """``formats/v<n>.json`` is what sidecars that are out there know. After a release nothing in it changes and nothing is
    added to it: a new field is marked ``Since`` the next format, which gets a file of its own."""
    known: Mapping[str, Mapping[str, Any]] = json.loads((FIELDS / key(version)).read_text())
    assert fields(version) == known, "see agentmemory_sidecar/resource/formats.py for how a configuration may change"


def test_all_of_the_configuration_is_looked_at() -> None:
    assert {"Mounted", "SidecarConfig", "TlsConfig", "RuleConfig"} <= fields(FORMAT).keys()
    assert set(fields(FORMAT)["SidecarConfig"]) == set(SidecarConfig.model_fields)
