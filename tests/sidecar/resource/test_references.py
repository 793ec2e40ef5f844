from pathlib import Path

import pytest

from agentmemory_sidecar.resource.common import SecretKeyRef, ValueFrom
from agentmemory_sidecar.resource.references import LocalValues, Unresolved


def secret(name: str, key: str) -> ValueFrom:
    return ValueFrom(secretKeyRef=SecretKeyRef(name=name, key=key))


def test_values_come_from_where_they_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "password").write_text("one\n")
    (tmp_path / "dsn").write_text("two")
    values = LocalValues(tmp_path, tmp_path, {"KEY": "three"})
    assert values.resolve(secret("redis", "password")) == "one"
    assert values.resolve(ValueFrom(file="dsn")) == "two"
    assert values.resolve(ValueFrom(file=str(tmp_path / "dsn"))) == "two"
    assert values.resolve(ValueFrom(env="KEY")) == "three"
    assert "three" not in repr(values)


def test_only_one_line_break_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "pem").write_bytes(b"a\r\nb\n\r\n")
    assert LocalValues(tmp_path).resolve(ValueFrom(file="pem")) == "a\r\nb\n"


def test_what_cannot_be_had_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "huge").write_bytes(b"x" * ((1 << 20) + 1))
    values = LocalValues(tmp_path, None, {})
    for source, message in [
        (ValueFrom(env="KEY"), "the environment variable KEY is not set: export it first"),
        (ValueFrom(file="missing"), "cannot be read: No such file or directory"),
        (ValueFrom(file="empty"), "is empty"),
        (ValueFrom(file="binary"), "is not UTF-8 text"),
        (ValueFrom(file="huge"), "is larger than 1 MiB"),
        (secret("redis", "password"), "name a folder that holds redis/password with --secrets, or use env or file"),
    ]:
        with pytest.raises(Unresolved, match=message):
            values.resolve(source)


def test_a_key_cannot_leave_the_folder() -> None:
    with pytest.raises(ValueError, match="a key of a Secret"):
        secret("redis", "../x")
    with pytest.raises(ValueError, match="a Kubernetes name"):
        secret("../x", "key")
    with pytest.raises(ValueError, match="a key of a Secret"):
        secret("redis", "..")
