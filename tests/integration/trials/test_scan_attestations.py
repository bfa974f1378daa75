"""Scans that are signed and attached: an SBOM for good, and what advisories say as long as they say that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from registry.db.content import attestations
from registry.db.types import db_time
from registry.http.sweeps import sweep
from registry.oci.digest import parse_digest
from registry.storage.threads import Threads
from registry.trials.scanattesting import attest_missing_scans, forget_unwanted_scans
from registry.trials.signing import LEASE, Attester
from registry.trials.sigstore import parse_bundle, parse_statement
from registry.trials.statements import OF_SCANS, PREDICATES
from registry.trials.verifying import parse_keys, read_bundle
from tests.kit.access import api, ask, make_repository
from tests.kit.advisories import affects, record
from tests.kit.distribution import put_manifest
from tests.kit.matching import advise
from tests.kit.porting import command
from tests.kit.scans import make_package, scan_next
from tests.kit.trials import Port, ScriptedWorker, open_port, tiny_image

LODASH = make_package("lodash", "4.17.15", kind="npm", ecosystem="npm")
OF_LODASH = affects("npm", "lodash", "introduced=0", "fixed=4.17.19")
FIRST, SECOND = record("CVE-2020-8203", OF_LODASH), record("CVE-2021-23337", OF_LODASH)
SBOMS, MATCHES = {PREDICATES["cyclonedx"], PREDICATES["spdx"]}, PREDICATES["matches"]


async def scanned(port: Port, worker: ScriptedWorker, repository: str) -> str:
    """Push an image, and have a worker scan it and try it; the digest."""
    digest = await port.push(tiny_image(), repository=repository)
    await scan_next(worker, LODASH)
    return digest


async def listed(port: Port, digest: str, *, repository: str = "open/app") -> dict[str, Any]:
    """What is attested of an image, by the type of what is said."""
    path = f"/repositories/{repository.replace('/', '%2F')}/attestations"
    page = await api(port.admin, "GET", path, params={"digest": digest})
    found = {one["predicate"]: one for one in page["items"]}
    assert len(found) == len(page["items"])
    return found


async def signed(port: Port, digest: str, *types: str, repository: str = "open/app") -> dict[str, Any]:
    """All of it, once these are signed and nothing waits to be."""
    async with asyncio.timeout(60):
        while True:
            found = await listed(port, digest, repository=repository)
            if set(types) <= set(found) and all(one["signed_at"] for one in found.values()):
                return found
            await asyncio.sleep(0.05)


async def content_of(port: Port, referrer: str) -> tuple[bytes, bytes]:
    """A referrer's manifest, and its bundle."""
    manifest = await ask(port.reader, "GET", f"/v2/open/app/manifests/{referrer}")
    layer = manifest.json["layers"][0]["digest"]
    return manifest.body, (await ask(port.reader, "GET", f"/v2/open/app/blobs/{layer}")).body


async def public_keys(port: Port) -> str:
    async with port.registry.client(anonymous=True) as nobody:
        return "".join(one["public_pem"] for one in (await api(nobody, "GET", "/keys"))["items"])


async def predicate_of(port: Port, digest: str, referrer: str) -> Any:
    """What a statement says, for whoever has the keys that anybody gets."""
    trusted = parse_keys(await public_keys(port))
    _, bundle = await content_of(port, referrer)
    read = read_bundle("it", bundle, parse_digest(digest), trusted, repository="open/app")
    assert read.statement is not None, read.refused
    return read.statement.predicate


async def ids(port: Port, digest: str, referrer: str) -> list[str]:
    predicate = await predicate_of(port, digest, referrer)
    return sorted(one["id"] for one in predicate["scanner"]["result"]["vulnerabilities"])


@asynccontextmanager
async def opened(data: Path, database_url: str, wanted: str) -> AsyncIterator[Port]:
    async with open_port(data, database_url, attest_scans=wanted) as port:
        await make_repository(port.admin, "open/app", visibility="public")
        await make_repository(port.admin, "team/app", visibility="private")
        yield port


async def test_scans_of_public_images_travel_signed(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path / "data", database_url, "public") as port:
        worker = await port.worker("w")
        digest = await scanned(port, worker, "open/app")
        # Where there never were advisories nothing is said of vulnerabilities; the rest does not wait for it.
        before = await signed(port, digest, *SBOMS, PREDICATES["summary"])
        sboms = {one: before[one]["referrer"] for one in SBOMS}
        assert MATCHES not in before
        private = await scanned(port, worker, "team/app")
        assert not set(await signed(port, private, repository="team/app")) & {*SBOMS, MATCHES}

        await advise(port, FIRST, day=1)
        assert port.registry.services is not None
        await sweep(port.registry.services)
        found = await signed(port, digest, MATCHES)
        assert {one: found[one]["referrer"] for one in SBOMS} == sboms
        assert {found[one]["verdict"] for one in (*SBOMS, MATCHES)} == {None}
        cyclonedx = await predicate_of(port, digest, found[PREDICATES["cyclonedx"]]["referrer"])
        assert [one["name"] for one in cyclonedx["components"]] == ["lodash"]
        assert "vulnerabilities" not in cyclonedx
        spdx = await predicate_of(port, digest, found[PREDICATES["spdx"]]["referrer"])
        assert spdx["spdxVersion"] == "SPDX-2.3"
        first = found[MATCHES]["referrer"]
        assert await ids(port, digest, first) == ["CVE-2020-8203"]
        manifest, _ = await content_of(port, first)

        # Anybody finds them by their type; nobody takes them away.
        async with port.registry.client(anonymous=True) as nobody:
            answer = await ask(nobody, "GET", f"/v2/open/app/referrers/{digest}")
        types = {one["annotations"]["dev.sigstore.bundle.predicateType"] for one in answer.json["manifests"]}
        assert {*SBOMS, MATCHES} <= types
        for one in (*SBOMS, MATCHES):
            refused = await ask(port.admin, "DELETE", f"/v2/open/app/manifests/{found[one]['referrer']}")
            assert refused.status == 403
        shown = json.loads(await command(port, "verify", f"open/app@{digest}", "--json"))
        assert [one["predicate"] for one in shown["scans"]] == [PREDICATES[kind] for kind in OF_SCANS]
        file, key = tmp_path / "evidence.tar", tmp_path / "keys.pem"
        key.write_text(await public_keys(port))
        exported = ("export", f"open/app@{digest}", "--with-evidence", str(file), "--json")
        assert json.loads(await command(port, *exported))["statements"] == 5
        assert MATCHES in await command(port, "verify", "--bundle", str(file), "--key", str(key))

        # Other words of an advisory are no other vulnerability, another vulnerability is.
        await advise(port, {**FIRST, "summary": "in other words"}, day=2)
        assert (await signed(port, digest))[MATCHES]["referrer"] == first
        await advise(port, FIRST, SECOND, day=3)
        async with asyncio.timeout(60):
            while (await signed(port, digest))[MATCHES]["referrer"] == first:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        after = await signed(port, digest)
        assert await ids(port, digest, after[MATCHES]["referrer"]) == ["CVE-2020-8203", "CVE-2021-23337"]
        assert {one: after[one]["referrer"] for one in SBOMS} == sboms
        # The old word is gone, and nobody brings it back.
        assert (await ask(port.admin, "GET", f"/v2/open/app/manifests/{first}")).status == 404
        assert (await put_manifest(port.admin, "open/app", first, manifest)).status == 403
        assert "all as the database says" in await command(port, "verify", "--all", "open/app")

        # What was private when it was scanned is said once it is public.
        await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"visibility": "public"})
        await sweep(port.registry.services)
        await signed(port, private, *SBOMS, MATCHES, repository="team/app")
        assert await attest_missing_scans(port.database, "public") == 0

        # They go with the image.
        assert (await ask(port.admin, "DELETE", f"/v2/open/app/manifests/{digest}")).status == 202
        assert await listed(port, digest) == {}
        gone = await ask(port.admin, "GET", f"/v2/open/app/manifests/{after[MATCHES]['referrer']}")
        assert gone.status == 404


async def test_nothing_is_signed_that_changed_meanwhile_or_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    async with opened(tmp_path / "data", database_url, "all") as port:
        await advise(port, FIRST, day=1)
        worker = await port.worker("w")
        digest = await scanned(port, worker, "team/app")
        await signed(port, digest, *SBOMS, MATCHES, repository="team/app")
        services = port.registry.services
        assert services is not None
        parsers = Threads("parser", 1)
        attester = Attester(
            services.database, services.blobs, services.settings, services.secret_key, parsers
        )
        this = attestations.c.kind == "matches"
        async with port.database.write() as connection:
            # Claimed by another, whose lease is not over.
            unsigned = {"signed_at": None, "run_after": db_time(LEASE)}
            await connection.execute(update(attestations).where(this).values(unsigned))
        async with port.database.read() as connection:
            claimed = (await connection.execute(select(attestations).where(this))).one()
        async with port.database.write() as connection:
            # What advisories say changed after it was read.
            await connection.execute(update(attestations).where(this).values(run_after=db_time(2 * LEASE)))
        uploads = [await attester._upload(claimed.repository_id, one) for one in (b"config", b"layer")]
        assert await attester._store(claimed, "team/app", uploads, kid="k") == (
            False,
            [one.locator for one in uploads],
        )
        for one in uploads:
            assert one.locator is not None
            await services.blobs.delete(one.locator)

        # One that is too large is not signed, and that is said; what was signed before goes.
        monkeypatch.setattr("registry.trials.scanattesting.PACKAGES_MAX", 0)
        referrer = (await listed(port, digest, repository="team/app"))[MATCHES]["referrer"]
        assert referrer is not None
        async with port.database.write() as connection:
            await connection.execute(update(attestations).where(this).values(run_after=db_time()))
        async with asyncio.timeout(60):
            await attester.sign_all()
            while (await listed(port, digest, repository="team/app"))[MATCHES]["left_out"] is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        found = (await listed(port, digest, repository="team/app"))[MATCHES]
        assert found["left_out"] == "its scan has 1 packages; 0 are the limit"
        assert (found["referrer"], found["signed_at"]) == (None, None)
        assert (await ask(port.admin, "GET", f"/v2/team/app/manifests/{referrer}")).status == 404
        assert await attester.sign_all() == 0
        parsers.close()

        # Where it is not wanted any more, what is not signed is not left to be; what is signed stands.
        assert await forget_unwanted_scans(port.database, "all") == 0
        assert await forget_unwanted_scans(port.database, "none") == 1
        assert set(await listed(port, digest, repository="team/app")) & {*SBOMS, MATCHES} == SBOMS


async def test_by_default_no_scan_is_attested(port: Port) -> None:
    await make_repository(port.admin, "open/app", visibility="public")
    digest = await scanned(port, await port.worker("w"), "open/app")
    found = await signed(port, digest, PREDICATES["summary"])
    assert set(found) == {PREDICATES["result"], PREDICATES["summary"]}
    raw = await content_of(port, found[PREDICATES["result"]]["referrer"])
    assert b"lodash" not in parse_bundle(raw[1]).payload
    assert parse_statement(parse_bundle(raw[1]).payload).predicate_type == PREDICATES["result"]
