"""The local key store: one key for each subject, the same for every process, for its owner alone."""

import asyncio
import stat
from pathlib import Path

import pytest

from agentmemory_sidecar.archive.keys import KeyUnavailable, LocalKeyStore


def files(directory: Path, suffix: str = "") -> list[Path]:
    return [file for file in directory.iterdir() if file.name.endswith(suffix)]


async def test_each_subject_of_each_tenant_has_its_own(tmp_path: Path) -> None:
    store = LocalKeyStore(tmp_path / "keys")

    found = [await store.key(*who) for who in (("t", "a"), ("t", "b"), ("u", "a"))]

    assert len({key.secret for key in found}) == 3
    assert {key.generation for key in found} == {1}
    assert all(len(key.secret) == 32 for key in found)


async def test_other_processes_find_the_same(tmp_path: Path) -> None:
    stores = [LocalKeyStore(tmp_path) for _ in range(8)]

    keys = await asyncio.gather(*(store.key("t", "a") for store in stores))

    assert len({key.secret for key in keys}) == 1
    assert (await LocalKeyStore(tmp_path).find("t", "a", 1)) == keys[0]


async def test_key_that_was_never_made_is_not_found(tmp_path: Path) -> None:
    store = LocalKeyStore(tmp_path)
    await store.key("t", "a")

    assert await store.find("t", "nobody", 1) is None
    assert await store.find("t", "a", 2) is None
    assert len(files(tmp_path)) == 2


async def test_files_are_the_owners_and_hold_no_key_in_clear(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    key = await LocalKeyStore(directory).key("t", "a")

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in files(directory):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert key.secret not in file.read_bytes()


@pytest.mark.parametrize("damage", ["rubbish", '{"subject":"a"}', "another master"])
async def test_damaged_store_gives_no_key_and_makes_no_other(tmp_path: Path, damage: str) -> None:
    await LocalKeyStore(tmp_path).key("t", "a")
    (wrapped,) = files(tmp_path, ".json")
    if damage == "another master":
        (tmp_path / "master.key").write_bytes(b"m" * 32)
    else:
        wrapped.write_text(damage)
    before = wrapped.read_bytes()

    with pytest.raises(KeyUnavailable):
        await LocalKeyStore(tmp_path).key("t", "a")
    assert wrapped.read_bytes() == before


async def test_key_of_another_subject_in_its_place_is_no_key(tmp_path: Path) -> None:
    store = LocalKeyStore(tmp_path)
    await store.key("t", "a")
    (first,) = files(tmp_path, ".json")
    await store.key("t", "b")
    second = next(file for file in files(tmp_path, ".json") if file != first)
    second.write_bytes(first.read_bytes())

    with pytest.raises(KeyUnavailable):
        await LocalKeyStore(tmp_path).key("t", "b")
