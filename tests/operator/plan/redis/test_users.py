from agentmemory_operator.plan.redis.users import (
    REPLICA,
    RULES,
    SIDECAR,
    STAMP,
    USERS,
    acl_file,
    definitions,
    hashed,
    stamp,
)
from agentmemory_sidecar.stores.redis import ACL_RULE

PASSWORDS = {user: (f"{user}-one",) for user in USERS}


def test_the_sidecar_may_do_what_its_own_page_asks_for_and_nothing_else() -> None:
    assert RULES[SIDECAR].replace("-@all ", "") == ACL_RULE


def test_nobody_may_empty_a_node() -> None:
    for rule in RULES.values():
        assert "-@all" in rule
        granted = {word.removeprefix("+") for word in rule.split() if word.startswith("+")}
        assert not granted & {
            "@all",
            "flushall",
            "flushdb",
            "cluster",
            "cluster|reset",
            "debug",
            "shutdown",
            "@dangerous",
        }
    assert "~" not in RULES[REPLICA]


def test_passwords_are_hashes_and_two_may_be_valid() -> None:
    lines = definitions(PASSWORDS | {SIDECAR: ("new", "old")})
    text = acl_file(lines)
    assert "-one" not in text
    assert f"user sidecar on #{hashed('new')} #{hashed('old')} " in text
    assert text.startswith("user default off ~* &* +@all\n"), "off for everybody but the server reading its own file"


def test_the_stamp_tells_one_set_of_users_from_another() -> None:
    lines = definitions(PASSWORDS)
    assert lines[-1] == f"{STAMP} reset off #{stamp(lines)}"
    assert stamp(lines) != stamp(definitions(PASSWORDS | {SIDECAR: ("two",)}))
