"""``seatrial fsck --from`` backups: what a registry lost comes back out of them, however they are kept."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from registry.db.content import blob_links, manifest_contents
from registry.db.content import blobs as blob_rows
from registry.storage.age import Identity
from tests.integration.backup.conftest import Place, Places
from tests.kit.access import ask
from tests.kit.images import Image, digest_of
from tests.kit.s3 import S3Server
from tests.kit.server import inherited
from tests.kit.trials import Port, tiny_image
from tests.kit.warm import start_seatrial

ROTTEN = b'{"rotten": true}'


def key(folder: Path) -> tuple[str, str]:
    """A key's file, and who is meant by it."""
    identity = Identity.make()
    path = folder / f"{os.urandom(4).hex()}.key"
    path.write_text(identity.text())
    return str(path), str(identity.recipient)


async def lose(port: Port, image: Image) -> None:
    """Rot its manifest, delete the bytes of its config, and take its first layer out of the repository."""
    services = port.registry.services
    assert services is not None
    config = digest_of(image.config)
    layers = [one for one in image.blobs() if one not in (config, image.digest)]
    at = select(blob_rows.c.locator).where(blob_rows.c.digest == config)
    layer = select(blob_rows.c.id).where(blob_rows.c.digest.in_(layers)).scalar_subquery()
    rot = update(manifest_contents).where(manifest_contents.c.digest == image.digest).values(raw=ROTTEN)
    async with services.database.write() as connection:
        locator = (await connection.execute(at)).scalar_one()
        await connection.execute(delete(blob_links).where(blob_links.c.blob_id.in_(layer)))
        await connection.execute(rot)
    await services.blobs.delete(locator)


def wrong(told: Any) -> dict[str, str]:
    """What is wrong, and what would be done about it."""
    return {f"{one['check']} {one['what']}": one["mend"] for one in told["problems"] if not one["is_note"]}


@pytest.mark.parametrize(
    ("kind", "bucket", "encrypted"),
    [("sqlite+folder", False, False), ("sqlite+folder", False, True), ("postgresql+s3", True, True)],
)
async def test_backups_repair(
    places: Places,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
    *,
    bucket: bool,
    encrypted: bool,
) -> None:
    place, kept, own = places.make("registry", kind, schema=True), str(tmp_path / "kept"), ()
    if bucket:
        s3: S3Server = request.getfixturevalue("s3")
        kept, own = s3.url(), ("--credentials", str(s3.credentials))
    file, recipient = key(tmp_path)
    towards = ("--recipient", recipient) if encrypted else ()
    reading = ("--identity", file) if encrypted else ()
    images = [tiny_image(), tiny_image()]
    async with place.open(collection_every_seconds=0, scrub_every_seconds=0) as port:
        for number, image in enumerate(images):
            await port.push(image, tag=f"{number}")
            await place.run("create", kept, *own, *towards)
        for image in images:
            await lose(port, image)
        # The newest has the rotten manifests: an older one has them as they were.
        await place.run("create", kept, *own, *towards)
        source = ("--from", kept, *own, *reading)
        told = await place.fsck(*source, code=1)
        name = f"take it from the backups in {kept.partition('?')[0]}"
        assert len(wrong(told)) >= 2 * 2
        assert set(wrong(told).values()) == {name}, told["problems"]
        assert not list(place.data.glob("backup-work-*"))
        for _ in range(2):  # that a layer is missing is seen once the manifest can be read
            await place.fsck(*source, "--mend")
        assert wrong(await place.fsck("--hash")) == {}
        for image in images:
            for digest, content in image.blobs().items():
                route = "manifests" if digest == image.digest else "blobs"
                answer = await ask(port.admin, "GET", f"/v2/team/app/{route}/{digest}")
                assert (answer.status, answer.body) == (200, content)


async def test_a_copy_of_the_store_in_a_bucket_repairs(places: Places, s3: S3Server, tmp_path: Path) -> None:
    """What lies in a bucket may be backups, or a copy of the store: it is looked at."""
    place = places.make("registry", "sqlite+folder", schema=True)
    image, copy, credentials = tiny_image(), s3.url(), ("--credentials", str(s3.credentials))
    async with place.open(collection_every_seconds=0, scrub_every_seconds=0) as port:
        await port.push(image)
        environment = {**place.environment, "SEATRIAL_STORAGE_CREDENTIALS_FILE": str(s3.credentials)}
        words = ["storage", "copy", "--data", str(place.data), "--to", copy]
        with (tmp_path / "said").open("wb") as said:
            copying = start_seatrial(words, environment={**inherited(), **environment}, output=said.fileno())
            assert await asyncio.to_thread(copying.wait) == 0, (tmp_path / "said").read_text()
        services = port.registry.services
        assert services is not None
        at = select(blob_rows.c.locator).where(blob_rows.c.digest == digest_of(image.config))
        async with services.database.read() as connection:
            await services.blobs.delete((await connection.execute(at)).scalar_one())
        told = await place.fsck("--from", copy, *credentials, "--mend")
        assert [one["mend"].partition("s3:")[0] for one in told["problems"]] == ["take it from the store "]
        answer = await ask(port.admin, "GET", f"/v2/team/app/blobs/{digest_of(image.config)}")
        assert (answer.status, answer.body) == (200, image.config)


async def test_backups_that_cannot_be_read(places: Places, tmp_path: Path) -> None:
    place: Place = places.make("registry", "sqlite+folder", schema=True)
    (file, recipient), (others, _) = key(tmp_path), key(tmp_path)
    kept = tmp_path / "kept"
    image = tiny_image()
    async with place.open(collection_every_seconds=0, scrub_every_seconds=0) as port:
        await port.push(image)
        await place.run("create", str(kept), "--recipient", recipient)
        await lose(port, image)
        before = {path: path.read_bytes() for path in place.data.glob("blobs/**/*") if path.is_file()}
        for given, code, why in (
            ((), 2, "give the key that reads them, with --identity"),
            (("--identity", others), 64, "encrypted for others than the given key"),
            (("--identity", str(tmp_path / "none")), 64, "cannot be read"),
        ):
            said = (await place.fsck("--from", str(kept), *given, "--mend", code=code))["said"]
            assert why in said
        for path in (kept / "blobs").glob("*/*"):
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        told = await place.fsck("--from", f"file://{kept}", "--identity", file, "--mend", code=1)
        assert told["left"]
        assert any("cannot be decrypted" in one["why"] for one in told["problems"]), told["problems"]
        after = {path: path.read_bytes() for path in place.data.glob("blobs/**/*") if path.is_file()}
        assert after == before, "nothing of what was damaged there too is kept"
        for path in (kept / "backups").iterdir():
            path.unlink()
        none = await place.fsck("--from", str(kept), "--identity", file, code=2)
        assert "there is no backup here" in none["said"]
