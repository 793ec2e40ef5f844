import copy
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agentmemory_sidecar.resource.values import (
    Dsn,
    Duration,
    HeaderName,
    HttpUrl,
    Pointer,
    RedisUrl,
    RegionName,
    Size,
    dsn_problem,
)


@given(st.integers(min_value=0, max_value=36_500 * 86_400_000))
def test_a_duration_is_read_back_from_its_written_form(ms: int) -> None:
    duration = Duration(ms)
    assert Duration.parse(str(duration)) == duration
    schema = TypeAdapter(Duration).json_schema()
    assert re.fullmatch(schema["pattern"], str(duration))
    assert schema["minLength"] <= len(str(duration)) <= schema["maxLength"]


@given(st.integers(min_value=0, max_value=10**12 - 1))
def test_a_size_is_read_back_from_its_written_form(count: int) -> None:
    assert Size.parse(str(Size(count))) == Size(count) == Size.parse(count)
    assert re.fullmatch(TypeAdapter(Size).json_schema()["pattern"], str(Size(count)))


@pytest.mark.parametrize(
    ("written", "ms", "canonical"),
    [
        ("15m", 900_000, "15m"),
        ("60s", 60_000, "1m"),
        ("500ms", 500, "500ms"),
        ("1h30m", 5_400_000, "1h30m"),
        ("7d", 604_800_000, "7d"),
        ("0s", 0, "0s"),
        ("1d2h3m4s5ms", 93_784_005, "1d2h3m4s5ms"),
    ],
)
def test_durations_as_people_write_them(written: str, ms: int, canonical: str) -> None:
    duration = Duration.parse(written)
    assert duration.ms == ms
    assert duration.seconds == ms / 1000
    assert str(duration) == canonical


@pytest.mark.parametrize(
    "written", ["", "15", "15 m", "m", "1.5h", "-1s", "30m1h", "15min", "1s\n", 60, None, "\u0661s"]
)
def test_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: write a number with its unit, such as 500ms"):
        Duration.parse(written)


def test_a_duration_has_an_end() -> None:
    assert Duration.parse("36500d").ms > 0
    with pytest.raises(ValueError, match="longer than 36500d"):
        Duration.parse("36500d1ms")


@pytest.mark.parametrize(
    ("written", "count"), [("16Ki", 16384), ("1G", 10**9), ("5Mi", 5 << 20), ("100", 100), (100, 100), ("0", 0)]
)
def test_sizes_as_people_write_them(written: object, count: int) -> None:
    assert Size.parse(written).bytes == count


@pytest.mark.parametrize("written", ["", "16kb", "1.5Ki", "-1", -1, True, 1.5, None, "16 Ki"])
def test_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        Size.parse(written)


def test_amounts_are_values() -> None:
    hour = Duration.parse("1h")
    assert hour == Duration.parse("60m")
    assert hash(hour) == hash(Duration.parse("60m"))
    assert Duration.parse("1s") < hour
    assert max(hour, Duration.parse("1d")) == Duration.parse("1d")
    assert hour != Size(hour.ms)
    assert copy.deepcopy(hour) == hour == pickle.loads(pickle.dumps(hour))
    assert repr(hour) == "Duration.parse('1h')"
    with pytest.raises(AttributeError, match="immutable"):
        hour.count = 1


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        (Pointer, ["", "/a", "/a/0/b~1c~0d", "/"], ["a", "/a~2", "a/b"]),
        (RegionName, ["us-east-1", "local", "a"], ["US", "-a", "a-", "a.b", ""]),
        (HeaderName, ["X-Agent-Session"], ["X Agent", "X:", ""]),
        (
            HttpUrl,
            ["https://api.anthropic.com", "http://127.0.0.1:80/s/x", "http://[::1]:8080"],
            ["api.anthropic.com", "https://u:p@host", "https://host?x=1", "ftp://host", "https://host\n"],
        ),
        (RedisUrl, ["redis://h:6379", "rediss://h", "redis://h/3"], ["redis://:pw@h", "h:6379", "redis://h/x"]),
    ],
)
def test_texts(type_: Any, good: list[str], bad: list[str]) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(type_)
    pattern = adapter.json_schema()["pattern"]
    for text in good:
        assert adapter.validate_python(text) == text
        assert re.search(pattern, text)
    for text in bad:
        with pytest.raises(ValidationError, match="must be"):
            adapter.validate_python(text)


def test_a_dsn_is_never_quoted() -> None:
    assert dsn_problem("postgresql://postgres:@/postgres?host=/run/pg") == ""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Dsn).validate_python("mysql://hunter2")
    assert "must be a DSN that begins with postgresql://" in caught.value.errors()[0]["msg"]
    assert "hunter2" not in caught.value.errors()[0]["msg"]
