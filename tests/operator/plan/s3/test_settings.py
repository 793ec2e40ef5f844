"""Settings beside somebody else's: ours come to be, theirs stay, and then there is nothing more to do."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentmemory_operator.plan.s3 import settings as s
from agentmemory_operator.plan.s3.settings import Destination, Setting, Value

KEYS = {Setting.TAGS: ("TagSet", "Key"), Setting.LIFECYCLE: ("Rules", "ID"), Setting.REPLICATION: ("Rules", "ID")}
KEYS[Setting.POLICY] = ("Statement", "Sid")
WANTED: dict[Setting, Value] = {
    Setting.TAGS: s.tags({"team": "a", "agentmemory.io/tenant": "t"}),
    Setting.VERSIONING: s.versioning(),
    Setting.OWNERSHIP: s.ownership(),
    Setting.PUBLIC_ACCESS: s.public_access(),
    Setting.ENCRYPTION: s.encryption("arn:aws:kms:us-east-1:1:key/a"),
    Setting.OBJECT_LOCK: s.object_lock("Governance", 30),
    Setting.LIFECYCLE: s.lifecycle(),
    Setting.POLICY: s.policy("bucket"),
    Setting.REPLICATION: s.replication("role", "p/", "", (Destination("b", "b-bucket"), Destination("a", "a-bucket"))),
}
names = st.sampled_from(["theirs", "other", "team", "agentmemory", "agentmemory-gone", s.TLS_ONLY])


@st.composite
def lives(draw: st.DrawFn, setting: Setting) -> Value | None:
    """What a bucket may have: nothing, ours, ours changed, and entries of any name."""
    found = draw(st.sampled_from((None, {}, WANTED[setting])))
    if found is None or setting not in KEYS:
        return found
    name, key = KEYS[setting]
    theirs = [{key: entry, "Value": draw(st.text("ab", max_size=1))} for entry in draw(st.lists(names, unique=True))]
    ours = [entry for entry in found.get(name, ()) if entry[key] not in {each[key] for each in theirs}]
    order: list[Any] = draw(st.permutations([*theirs, *ours]))
    return {**found, name: order}


@given(st.data(), st.sampled_from(sorted(WANTED)))
def test_what_is_put_is_all_that_is_missing(data: st.DataObject, setting: Setting) -> None:
    live = data.draw(lives(setting))
    put = s.changed(setting, WANTED[setting], live)
    after = live if put is None else put
    assert s.changed(setting, WANTED[setting], after) is None
    if setting not in KEYS:
        return
    name, key = KEYS[setting]
    mine = {entry[key] for entry in WANTED[setting][name]}
    before = [entry for entry in (live or {}).get(name, ()) if entry[key] not in mine]
    kept = [entry for entry in (after or {}).get(name, ()) if entry[key] not in mine]
    rules = key == "ID"
    assert kept == [entry for entry in before if not (rules and entry[key].startswith("agentmemory"))]


def test_what_s3_adds_to_an_answer_is_no_difference() -> None:
    live = {"Rules": [{**s.lifecycle()["Rules"][0], "Prefix": ""}], "TransitionDefaultMinimumObjectSize": "varies"}
    assert s.changed(Setting.LIFECYCLE, s.lifecycle(), live) is None


def test_keys_of_both_ends_are_named_for_encrypted_objects() -> None:
    (rule,) = s.replication("role", "", "arn:east", (Destination("us-west-2", "west", "arn:west"),))["Rules"]
    assert rule["SourceSelectionCriteria"]["SseKmsEncryptedObjects"] == {"Status": "Enabled"}
    assert rule["Destination"]["EncryptionConfiguration"] == {"ReplicaKmsKeyID": "arn:west"}


def test_a_shared_list_loses_only_what_is_named() -> None:
    live = s.tags({"a": "1", "b": "2"})
    assert s.without(Setting.TAGS, live, frozenset({"b"})) == s.tags({"a": "1"})
    assert s.without(Setting.TAGS, live, frozenset({"c"})) is None
