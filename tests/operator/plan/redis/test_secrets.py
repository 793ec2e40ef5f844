"""When passwords and certificates are made, renewed and let go."""

from agentmemory_operator.act.redis_keys import authority, issue
from agentmemory_operator.plan.redis import secrets as s
from agentmemory_operator.plan.redis.pki import certificates
from tests.operator.plan.redis.sample import NOW, keys, place

DAY = s.DAY_S
MANIFEST = place().secret("support-redis-us-east-1-keys")


def test_keys_are_made_once() -> None:
    assert isinstance(s.keys_action(MANIFEST, None, "", NOW), s.MakeKeys)
    assert s.keys_action(MANIFEST, keys(), "", NOW) is None


def test_passwords_rotate_when_asked_and_the_old_ones_go_later() -> None:
    action = s.keys_action(MANIFEST, keys(), "monday", NOW)
    assert isinstance(action, s.RotatePasswords)
    rotated = keys(data={"sidecar-previous": "old", "rotated": "monday", "rotated-at": str(int(NOW))})
    assert rotated.passwords("sidecar") == ("sidecar-password", "old")
    assert s.keys_action(MANIFEST, rotated, "monday", NOW + 60) is None
    # A second wish waits for the first to end: a third password would lock somebody out.
    assert s.keys_action(MANIFEST, rotated, "tuesday", NOW + 60) is None
    later = NOW + s.PASSWORD_OVERLAP_S
    assert isinstance(s.keys_action(MANIFEST, rotated, "monday", later), s.RetirePasswords)


def test_an_authority_gets_a_successor_which_is_trusted_before_it_signs() -> None:
    end = NOW + s.AUTHORITY_DAYS * DAY
    late = end - s.AUTHORITY_LEFT_DAYS * DAY + 1
    assert isinstance(s.keys_action(MANIFEST, keys(), "", late), s.AddAuthority)
    text = authority(NOW) + authority(late)
    both = s.Keys({s.AUTHORITIES: text}, certificates(text))
    assert len(both.trusted(late)) == 2
    assert both.signer(late) == both.authorities[0]
    assert both.signer(late + 2 * DAY) == both.authorities[1]
    assert both.trusted(end + 1) == both.authorities[1:]
    assert s.keys_action(MANIFEST, keys(), "", end + 1) is not None


def test_a_certificate_is_renewed_in_time_and_when_something_about_it_changes() -> None:
    have, names = keys(), place().hostnames
    pem, _ = issue(have.data[s.AUTHORITIES], have.signer(NOW).serial, names, NOW)
    (leaf,) = certificates(pem)
    live = s.derived(have, NOW)
    assert s.stale(leaf, live, have, names, NOW) == ""
    assert s.stale(None, live, have, names, NOW) == "there is none"
    assert "soon" in s.stale(leaf, live, have, names, NOW + (s.LEAF_DAYS - s.LEAF_LEFT_DAYS) * DAY + 1)
    assert "names" in s.stale(leaf, live, have, ("other.svc",), NOW)
    assert "another authority" in s.stale(leaf, live, keys(), names, NOW)
    assert "trusted" in s.stale(leaf, live | {"ca.crt": ""}, have, names, NOW)


def test_nothing_secret_shows() -> None:
    have = keys()
    action = s.IssueCertificate({**MANIFEST, "data": {"replica": "c2VjcmV0"}}, have, ("a",), "it ends soon")
    for text in (repr(have), repr(action), action.describe()):
        assert "password" not in text.replace("Passwords", "")
        assert "PRIVATE" not in text
        assert "c2VjcmV0" not in text
