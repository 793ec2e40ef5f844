"""Options of the PostgreSQL stores."""

import re
import ssl
from typing import Any

import pytest

from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresTls


def test_secrets_are_not_shown() -> None:
    options = PostgresOptions("postgresql://user:hunter2@host/db", password="hunter3")
    assert "hunter" not in repr(options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dsn": "host=localhost password=hunter2"}, "must be a URI"),
        ({"dsn": "mysql://u:hunter2@host/db"}, "must be a URI"),
        ({"pool_size": 0}, "pool_size is 0"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"connect_timeout_s": -1}, "connect_timeout_s"),
    ],
)
def test_a_wrong_value_is_named_but_no_secret(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        PostgresOptions(**({"dsn": "postgresql://host/db"} | wrong))
    assert "hunter2" not in str(refused.value)


def test_a_statement_ends_with_its_callers_patience() -> None:
    settings = PostgresOptions("postgresql://host/db", timeout_s=2.5, settings={"search_path": "x"}).session_settings()
    assert settings["statement_timeout"] == "2500"
    assert settings["search_path"] == "x"
    assert not {"fsync", "synchronous_commit"} & settings.keys()


@pytest.mark.parametrize(
    ("mode", "hostname", "verify"),
    [
        ("require", False, ssl.CERT_NONE),
        ("verify-ca", False, ssl.CERT_REQUIRED),
        ("verify-full", True, ssl.CERT_REQUIRED),
    ],
)
def test_tls_modes(mode: Any, hostname: bool, verify: ssl.VerifyMode) -> None:
    context = PostgresTls(mode).context()
    assert context
    assert (context.check_hostname, context.verify_mode) == (hostname, verify)


def test_no_tls() -> None:
    assert PostgresTls("disable").context() is False
