"""Backups one after the other: what is new in each, what goes, what is damaged, and who is killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from registry.content import holds
from registry.content.backupreading import fetch_rows
from registry.content.backups import compressed, once, open_backups
from registry.content.collecting import delete_bytes
from registry.db.collections import byte_holds, dead_blobs
from registry.db.content import blobs as blob_rows
from registry.db.migrate import newest
from registry.db.types import db_time
from registry.oci.digest import digest_of
from registry.storage.age import Identity
from registry.storage.backuptarget import FolderTarget
from tests.integration.backup.conftest import Place, Places
from tests.kit.access import api, ask
from tests.kit.collecting import collect
from tests.kit.distribution import push_blob
from tests.kit.trials import Port, tiny_image

NAME = "team/app"
BLOBS = 120
"""So many that a backup takes longer than it takes to see that it has begun."""


@pytest.fixture
def place(places: Places) -> Place:
    """A registry on one machine, not started."""
    return places.make("registry", "sqlite+folder", schema=True)


@pytest.fixture
async def port(place: Place) -> AsyncIterator[Port]:
    """It serves."""
    async with place.open(collection_grace_seconds=0, collection_every_seconds=0) as opened:
        yield opened


def blobs(kept: Path) -> dict[str, Path]:
    """What the backups have, by the digits of its digest."""
    return {path.name.removesuffix(".age"): path for path in (kept / "blobs").glob("*/*")}


def empty(place: Place, folder: Path) -> Place:
    """Another place, with the secret key."""
    other = Place(folder, f"sqlite:///{folder / 'seatrial.db'}", f"file://{folder / 'blobs'}")
    folder.mkdir()
    shutil.copyfile(place.data / "secret.key", folder / "secret.key")
    return other


async def test_each_has_what_is_new_and_old_ones_go(place: Place, port: Port, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shared, old, new = (os.urandom(1000) for _ in range(3))
    for content in (shared, old):
        await push_blob(port.admin, NAME, content)
    first = await place.run("create", str(kept))
    assert (first["blobs"], first["new_blobs"], first["new_bytes"]) == (2, 2, 2000)
    assert (
        f"THE SECRET KEY IS NOT IN THIS BACKUP, as it is not encrypted. Keep a copy of\n  {place.data}"
        in (first["said"])
    )
    before = {path: path.stat().st_mtime_ns for path in blobs(kept).values()}
    gone = await ask(port.admin, "DELETE", f"/v2/{NAME}/blobs/{digest_of(old)}")
    assert gone.status == 202
    await collect(port.admin)
    # One under another locator than before.
    for content in (shared, new):
        await push_blob(port.admin, NAME, content)
    second = await place.run("create", str(kept))
    assert (second["blobs"], second["new_blobs"], second["new_bytes"]) == (2, 1, 1000)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    listed = await place.run("list", str(kept))
    assert [one["id"] for one in listed] == [second["id"], first["id"]]
    # The older one can be restored still, with what is gone from the registry.
    for number, backup in enumerate((first, second)):
        told = await place.run("verify", str(kept), "--backup", backup["id"])
        assert (told["blobs"], told["problems"]) == (2, {})
        other = empty(place, tmp_path / f"restored {number}")
        await other.run("restore", str(kept), "--backup", backup["id"])
        assert {path.read_bytes() for path in other.data.glob("blobs/blobs/*/*")} == {
            shared,
            new if number else old,
        }
    would = await place.run("prune", str(kept), "--keep", "1", "--dry-run")
    assert len(blobs(kept)) == 3
    done = await place.run("prune", str(kept), "--keep", "1")
    assert (would["removed"], would["blobs"]) == (done["removed"], done["blobs"]) == ([first["id"]], 1)
    assert set(blobs(kept)) == {digest_of(content).encoded for content in (shared, new)}
    assert [one["id"] for one in await place.run("list", str(kept))] == [second["id"]]
    left = sorted(path.name for path in kept.rglob("*") if first["id"] in path.name)
    assert left == []
    assert (await place.run("verify", str(kept)))["problems"] == {}
    assert (await place.run("prune", str(kept), "--keep", "3"))["removed"] == []
    audit = await api(port.admin, "GET", "/audit", params={"action": "backup.created"})
    assert [one["target"] for one in audit["items"]] == [second["id"], first["id"]]


async def test_a_backup_under_another_name_takes_no_file_elsewhere(
    place: Place, port: Port, tmp_path: Path
) -> None:
    """Files are called by what a backup says that its id is; who can write to the target writes that too."""
    kept, outside = tmp_path / "kept", tmp_path / "outside.json"
    outside.write_text("{}")
    await push_blob(port.admin, NAME, b"content")
    made = await place.run("create", str(kept))
    path = kept / f"backups/{made['id']}.json"
    path.write_text(path.read_text().replace(made["id"], "../../outside"))
    await place.run("create", str(kept))
    before = sorted(kept.rglob("*"))
    for command in (("list",), ("prune", "--keep", "1"), ("verify", "--backup", made["id"])):
        refused = await place.run(command[0], str(kept), *command[1:], code=2)
        assert f"backups/{made['id']}.json is damaged: it says that it is '../../outside'" in refused["said"]
    assert sorted(kept.rglob("*")) == before
    assert outside.read_text() == "{}"


async def test_no_bytes_go_while_somebody_holds_them(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    services = port.registry.services
    assert services is not None
    monkeypatch.setattr("registry.content.collecting._HELD_PAUSE_SECONDS", 0.01)
    database, store = services.database, services.blobs
    digest = await push_blob(port.admin, NAME, b"content")
    async with database.read() as connection:
        dead = (await connection.execute(select(func.count()).select_from(dead_blobs))).scalar_one()
    assert dead == 0
    async with holds.held_bytes(database) as hold:
        assert (await ask(port.admin, "DELETE", f"/v2/{NAME}/blobs/{digest}")).status == 202
        collecting = asyncio.create_task(collect(port.admin))
        async with asyncio.timeout(60):
            while True:
                async with database.read() as connection:
                    rows = (await connection.execute(select(dead_blobs.c.locator))).scalars().all()
                if rows:
                    break
                await asyncio.sleep(0.01)
        for _ in range(3):
            assert (await delete_bytes(database, store)).position == ""
        async with store.open_blob(rows[0]) as there:
            assert there.size == 7
        assert not collecting.done()
    assert hold.lapsed is False
    done = await collecting
    assert done["blobs_removed"] == 1
    assert list(place_blobs(services)) == []
    # What a killed holder has left ends by itself.
    async with database.write() as connection:
        await connection.execute(byte_holds.insert().values(id="old", held_until=holds.db_time()))
    assert await holds.ask(database) is False


def place_blobs(services: Any) -> list[Path]:
    return list((services.settings.data / "blobs" / "blobs").glob("*/*"))


async def test_killed_it_is_no_backup_and_goes_on(place: Place, port: Port, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for _ in range(BLOBS):
        await push_blob(port.admin, NAME, os.urandom(20_000))
    process = place.process("create", str(kept), "--parallel", "1", output=tmp_path / "output")
    async with asyncio.timeout(60):
        while len(blobs(kept)) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    process.kill()
    process.wait()
    there = len(blobs(kept))
    assert 3 <= there < BLOBS
    assert await place.run("list", str(kept)) == []
    assert "there is no backup here" in (await place.run("verify", str(kept), code=2))["said"]
    assert list(place.data.glob("backup-work-*"))
    made = await place.run("create", str(kept))
    assert (made["blobs"], made["new_blobs"]) == (BLOBS, BLOBS - there)
    assert list((kept / "unfinished").iterdir()) == []
    assert list(place.data.glob("backup-work-*")) == []
    assert (await place.run("verify", str(kept)))["problems"] == {}


async def test_a_restore_that_is_killed_is_run_again(place: Place, port: Port, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for _ in range(BLOBS):
        await push_blob(port.admin, NAME, os.urandom(20_000))
    await place.run("create", str(kept))
    other = empty(place, tmp_path / "other")
    process = other.process("restore", str(kept), "--parallel", "1", output=tmp_path / "output")
    async with asyncio.timeout(60):
        while len(list(other.data.glob("blobs/blobs/*/*"))) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    process.kill()
    process.wait()
    there = len(list(other.data.glob("blobs/blobs/*/*")))
    assert 3 <= there < BLOBS
    done = await other.run("restore", str(kept))
    assert done["blobs"] == BLOBS
    assert "there are rows in" in (await other.run("restore", str(kept), code=2))["said"]


async def test_what_was_damaged_since_comes_back_whole(place: Place, port: Port, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    digest, gone = [await push_blob(port.admin, NAME, content) for content in (b"content", b"gone")]
    services = port.registry.services
    assert services is not None
    for number, damaged in enumerate((digest, gone)):
        this = blob_rows.c.digest == damaged
        if not number:
            await place.run("create", str(kept))
        async with services.database.write() as connection:
            query = select(blob_rows.c.locator).where(this)
            locator = (await connection.execute(query)).scalar_one()
            await connection.execute(
                update(blob_rows).where(this).values(damage="missing", damaged_at=db_time())
            )
        (place.data / "blobs" / "blobs" / locator[-2:] / locator).unlink()
    blobs(kept)[gone.removeprefix("sha256:")].unlink()
    made = await place.run("create", str(kept), code=2)
    assert list(made["missing"]) == [gone]
    other = empty(place, tmp_path / "other")
    await other.run("restore", str(kept), code=2)
    shutil.copyfile(place.data / "admin.token", other.data / "admin.token")
    async with other.open() as restored:
        for wanted, status in ((digest, 200), (gone, 404)):
            assert (await ask(restored.admin, "GET", f"/v2/{NAME}/blobs/{wanted}")).status == status


async def test_what_the_store_lacks_is_named_and_all_else_is_kept(
    place: Place, port: Port, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    for content in (b"good", b"rotten", b"short", b"gone"):
        await push_blob(port.admin, NAME, content)
    for path in place.data.glob("blobs/blobs/*/*"):
        path.chmod(0o600)
        match path.read_bytes():
            case b"rotten":
                path.write_bytes(b"Rotten")
            case b"short":
                path.write_bytes(b"sho")
            case b"gone":
                path.unlink()
    made = await place.run("create", str(kept), code=2)
    reasons = made["missing"]
    assert f"has digest {digest_of(b'Rotten')}" in reasons[str(digest_of(b"rotten"))]
    assert "3 bytes of it, not 5" in reasons[str(digest_of(b"short"))]
    assert "not in the store" in reasons[str(digest_of(b"gone"))]
    assert len(reasons) == 3
    assert "3 blobs are not in the backup" in made["said"]
    assert set(blobs(kept)) == {digest_of(b"good").encoded}
    # It is a backup of what there was.
    assert (await place.run("verify", str(kept)))["problems"] == {}
    other = empty(place, tmp_path / "other")
    done = await other.run("restore", str(kept), code=2)
    assert (set(done["failed"]), done["blobs"]) == (set(reasons), 1)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {"gone": Path.unlink, "short": _truncate, "flipped": _flip}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
async def test_what_is_damaged_is_seen(
    place: Place, port: Port, tmp_path: Path, damage: str, *, encrypted: bool
) -> None:
    kept, key = tmp_path / "kept", tmp_path / "key"
    identity = Identity.make()
    key.write_text(identity.text())
    to, reads = [], []
    if encrypted:
        to, reads = ["--recipient", str(identity.recipient)], ["--identity", str(key)]
    digest = await push_blob(port.admin, NAME, b"content" * 20_000)
    await push_blob(port.admin, NAME, b"another")
    await place.run("create", str(kept), *to)
    whole = tmp_path / "whole"
    shutil.copytree(kept, whole)
    DAMAGES[damage](blobs(kept)[digest.removeprefix("sha256:")])
    told = await place.run("verify", str(kept), *reads, code=2)
    assert list(told["problems"]) == [digest]
    quick = await place.run("verify", str(kept), "--quick", code=0 if damage == "flipped" else 2)
    assert list(quick["problems"]) == ([] if damage == "flipped" else [digest])
    other = empty(place, tmp_path / "other")
    done = await other.run("restore", str(kept), *reads, code=2)
    assert (list(done["failed"]), done["blobs"]) == ([digest], 1)
    # The next backup mends what can be seen without reading it.
    if damage != "flipped":
        assert (await place.run("create", str(kept), *to))["new_blobs"] == 1
        assert (await place.run("verify", str(kept), *reads))["problems"] == {}
    if damage == "short":
        return
    # The rows, the list, the record, the head and the key.
    for number, name in enumerate(("rows/*", "lists/*", "backups/*", "seatrial-backups.json", "keys/*")):
        if name == "keys/*" and not encrypted:
            continue
        broken = tmp_path / f"broken {number}"
        shutil.copytree(whole, broken)
        (path,) = broken.glob(name)
        DAMAGES[damage](path)
        if damage == "flipped" and path.suffix == ".json":
            path.write_text("{}")
        said = await place.run("verify", str(broken), *reads, code=2)
        assert "Traceback" not in said["said"]
        place_of = empty(place, tmp_path / f"other {number}")
        if not name.startswith("lists"):  # of which a restore needs nothing
            said = await place_of.run("restore", str(broken), *reads, code=2)
            assert "Traceback" not in said["said"]
            assert not (place_of.data / "seatrial.db").exists()


async def test_what_cannot_be_done_changes_nothing(place: Place, port: Port, tmp_path: Path) -> None:
    kept, key = tmp_path / "kept", tmp_path / "key"
    identity, stranger = Identity.make(), Identity.make()
    key.write_text(identity.text())
    await push_blob(port.admin, NAME, b"content")

    async def refused(at: Place, why: str, command: str, *arguments: str, code: int = 2) -> None:
        said = await at.run(command, *arguments, code=code)
        assert why in said["said"]
        assert "Traceback" not in said["said"]

    # Targets.
    (tmp_path / "other things").mkdir()
    (tmp_path / "other things" / "letter").write_text("dear")
    await refused(place, "holds something else, as letter", "create", str(tmp_path / "other things"))
    await refused(place, "the target must be a folder", "create", "ftp://a/b", code=64)
    await refused(place, "cannot be written to", "create", "/dev/null/x")
    await refused(place, "no backups here", "list", str(tmp_path / "nowhere"))
    await refused(place, "no backups here", "prune", str(tmp_path / "nowhere"), "--keep", "1")
    assert not (tmp_path / "nowhere").exists()
    # Keys.
    await refused(place, "--recipient", "create", str(kept), "--recipient", "age1nonsense", code=64)
    private = identity.text()
    assert private not in (await place.run("create", str(kept), "--recipient", private, code=64))["said"]
    assert not kept.exists()
    made = await place.run("create", str(kept), "--recipient", str(identity.recipient))
    await refused(place, f"are encrypted for {identity.recipient}", "create", str(kept))
    theirs = str(stranger.recipient)
    await refused(place, "are encrypted for", "create", str(kept), "--recipient", theirs)
    await refused(place, "give the key that reads them", "verify", str(kept))
    key.write_text(stranger.text())
    for more in ((), ("--quick",)):
        await place.run("verify", str(kept), *more, "--identity", str(key), code=0 if more else 64)
    await refused(
        place, "for others than the given key", "verify", str(kept), "--identity", str(key), code=64
    )
    await refused(place, "cannot be read", "verify", str(kept), "--identity", "none", code=64)
    key.write_text("nonsense")
    await refused(place, "--identity", "verify", str(kept), "--identity", str(key), code=64)
    key.write_text(identity.text())
    reads = ("--identity", str(key))
    await refused(place, "there is no backup 1", "verify", str(kept), "--backup", "1", *reads)
    await refused(place, "there is no backup ../x", "verify", str(kept), "--backup", "../x", *reads)
    # Places to restore to.
    await refused(place, "the target is not empty", "restore", str(kept), *reads)
    other = empty(place, tmp_path / "other")
    (other.data / "secret.key").write_text("A" * 43 + "=\n")
    await refused(other, "another secret key", "restore", str(kept), *reads)
    (other.data / "secret.key").unlink()
    strange = other.data / "blobs" / "blobs" / "ff" / ("f" * 32)
    strange.parent.mkdir(parents=True)
    strange.touch()
    await refused(other, "the store is not empty", "restore", str(kept), *reads)
    strange.unlink()
    assert not (other.data / "seatrial.db").exists()
    clear = tmp_path / "clear"
    await place.run("create", str(clear))
    await refused(other, "the secret key is not in this backup", "restore", str(clear))
    (other.data / "secret.key").write_text("A" * 43 + "=\n")
    await refused(other, "was not wrapped with this secret key", "restore", str(clear), code=64)
    (other.data / "secret.key").unlink()
    # One at a time.
    target = FolderTarget(kept)
    async with target.alone():
        await refused(
            place, "another command writes", "create", str(kept), "--recipient", str(identity.recipient)
        )
        await refused(place, "another command writes", "prune", str(kept), "--keep", "1")
        assert [one["id"] for one in await place.run("list", str(kept))] == [made["id"]]
    await target.close()
    await other.run("restore", str(kept), *reads)


async def test_a_backup_of_an_older_version_is_brought_up_to_date(
    place: Place, port: Port, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    await push_blob(port.admin, NAME, b"content")
    await port.push(tiny_image(), tag="1")
    await place.run("create", str(kept))

    async def remake(change: str, version: str) -> None:
        """As that version made it."""
        target = FolderTarget(kept)
        backups = await open_backups(target)
        backup = await backups.find(None)
        path = tmp_path / f"{version}.sqlite"
        await fetch_rows(backups, backup, path)
        with sqlite3.connect(path) as connection:
            connection.executescript(f"{change}; UPDATE alembic_version SET version_num = '{version}'")
        connection.close()
        content = path.read_bytes()
        await backups.put(f"rows/{backup.id}.sqlite.zst", compressed(once(content)))
        told = {"database_digest": str(digest_of(content)), "database_bytes": len(content)}
        changed = backup.model_copy(update=told | {"schema_version": version})
        await target.put(f"backups/{backup.id}.json", once(changed.model_dump_json().encode()))
        await target.close()

    # What the newest migration has done, undone.
    await remake("DROP TABLE advisory_names", f"{int(newest()) - 1:04}")
    other = empty(place, tmp_path / "other")
    await other.run("restore", str(kept))
    shutil.copyfile(place.data / "admin.token", other.data / "admin.token")
    async with other.open() as restored:
        listed = await ask(restored.admin, "GET", f"/v2/{NAME}/tags/list")
        assert listed.json["tags"] == ["1"]
    await remake("SELECT 1", "9999")
    newer = empty(place, tmp_path / "newer")
    said = await newer.run("restore", str(kept), code=2)
    assert "of a newer version, with schema 9999" in said["said"]
