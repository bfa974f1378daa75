"""Scans as people read them: of one image, of an index, and which images hold a package."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sqlalchemy import insert, select, text

from registry.db.content import blobs
from registry.db.matchings import component_findings
from registry.db.scans import scans
from registry.formats.forms import FORMS
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.advisories import affects, filed, record
from tests.kit.matching import advise, caught_up
from tests.kit.plans import listening, plan_of, sent
from tests.kit.porting import command
from tests.kit.scans import make_found, make_package, scan_next
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import REPOSITORY, Port, tiny_image, tiny_index


async def items(client: Any, path: str, **query: Any) -> list[Any]:
    """All pages, two entries at a time."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        asked = {"limit": "2", **query} | ({} if cursor is None else {"cursor": cursor})
        page = await api(client, "GET", path, params=asked)
        assert len(page["items"]) <= int(asked["limit"])
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


async def test_images_are_found_by_each_name_of_an_advisory(port: Port) -> None:
    worker = await port.worker("w")
    for number in range(2):
        await port.push(tiny_image(), repository=f"team/app{number}")
    old = make_package("lodash", "4.17.15", kind="npm", ecosystem="npm")
    first = await scan_next(worker, old)
    second = await scan_next(worker, old, make_package("lodash", "4.17.21", kind="npm", ecosystem="npm"))
    affected = affects("npm", "lodash", "introduced=0", "fixed=4.17.19")
    told = record("GHSA-aaaa-bbbb-cccc", affected, aliases=["CVE-2026-0001", "SNYK-JS_x"])
    await advise(port, told, day=1)
    both = [(one["repository"], "4.17.15") for one in (second, first)]

    async def found(**asked: str) -> list[tuple[str, str]]:
        held = await items(port.admin, "/packages", **asked)
        return [(one["repository"], one["version"]) for one in held]

    for name in ("CVE-2026-0001", "GHSA-aaaa-bbbb-cccc", "SNYK-JS_x"):
        assert await found(advisory=name) == both
        assert await found(advisory=name, limit="1") == both
    for name in ("GHSA-aaaa-bbbb-ccc", "SNYK-JSax", "%", "CVE-2026-0002", "\N{SNOWMAN}"):
        assert await found(advisory=name) == []
    assert await found(advisory="GHSA-aaaa-bbbb-cccc", name="lodash", version="<4.17.16") == both
    assert await found(advisory="GHSA-aaaa-bbbb-cccc", name="other") == []
    assert await found(advisory="GHSA-aaaa-bbbb-cccc", ecosystem="PyPI") == []
    refused = await ask(port.admin, "GET", "/api/v1/packages")
    assert (refused.status, "or an advisory" in refused.json["detail"]) == (400, True)
    holding = ("image", "holding", "--advisory", "GHSA-aaaa-bbbb-cccc", "--json")
    assert [one["digest"] for one in json.loads(await command(port, *holding))] == [
        second["digest"],
        first["digest"],
    ]

    # Another file calls it otherwise: then it is found by its new names, and by the old ones no more.
    renamed = record("GHSA-aaaa-bbbb-cccc", affected, aliases=["CVE-2026-0001", "OTHER-1"])
    await advise(port, renamed, day=2)
    assert await found(advisory="OTHER-1") == both
    assert await found(advisory="SNYK-JS_x") == []

    # Of many matches not all are read.
    async with port.database.write() as connection:
        row = (await connection.execute(select(component_findings).limit(1))).one()._asdict()
        others = [row | {"advisory": f"CVE-2020-{n}", "aliases": f'["GHSA-{n}"]'} for n in range(5000)]
        await connection.execute(insert(component_findings), others)
        await connection.execute(text("ANALYZE"))
    with sent() as statements:
        assert await found(advisory="OTHER-1", limit="50") == both
    (reads,) = [one for one in statements if "component_findings" in one.text]
    plan = await plan_of(port.database, reads)
    assert "SCAN component_findings" not in plan, plan
    assert "Seq Scan on component_findings" not in plan, plan


async def test_what_was_found_is_read_by_those_who_may_push(port: Port) -> None:
    worker = await port.worker("w")
    images = [tiny_image(), tiny_image()]
    for number, image in enumerate(images):
        await port.push(image, repository=f"team/app{number}")
    names = ["libc6", "libssl3", "zlib1g"]
    packages = [make_package(name, source="openssl" if name == "libssl3" else None) for name in names]
    packages[0]["licences"] = ["LGPL-2.1+", "GPL-2"]
    packages[1]["licences"] = ["OpenSSL, as it stands"]
    first = await scan_next(
        worker,
        *packages,
        found=[make_found(), make_found(rule="eicar", kind="malware")],
        incomplete=[{"scanner": "rpm", "reason": "its database is of a form that is not read"}],
    )
    second = await scan_next(worker, packages[1], make_package("libssl3", "3.0.18", source="openssl"))

    # One image.
    repository, digest = first["repository"], first["digest"]
    base = f"/repositories/{repository.replace('/', '%2F')}/scans/{digest}"
    (scan,) = await api(port.admin, "GET", base)
    assert (scan["digest"], scan["platform"], scan["worker"]) == (digest, "linux/amd64", "w")
    assert (scan["packages"], scan["found"], scan["incomplete"]) == (3, 2, 1)
    assert [one["name"] for one in await items(port.admin, f"{base}/packages")] == names
    assert [one["rule"] for one in await items(port.admin, f"{base}/found")] == ["github-token", "eicar"]
    (incomplete,) = await items(port.admin, f"{base}/incomplete")
    assert incomplete["reason"] == "its database is of a form that is not read"
    assert (await api(port.admin, "GET", f"{base}/packages", params={"cursor": "9"}))["items"] == []
    await api(port.admin, "GET", f"{base}/packages", params={"cursor": "x"}, status=400)
    unscanned = await port.push(tiny_image(), repository="team/new")
    assert await api(port.admin, "GET", f"/repositories/team%2Fnew/scans/{unscanned}") == []
    missing = await ask(port.admin, "GET", f"/api/v1/repositories/team%2Fnew/scans/{unscanned}/packages")
    assert (missing.status, "there is no scan of" in missing.json["detail"]) == (404, True)

    # All of it, as other programs read it: with the vulnerabilities that advisories know now.
    asked = f"/api/v1{base}/report"
    unmatched = await ask(port.admin, "GET", asked)
    assert (unmatched.status, unmatched.json["advisories"]) == (200, None)
    affected = affects("Debian:12", "openssl", "introduced=0", "fixed=1:1.2.14")
    known = record("DEBIAN-CVE-2026-1", affected, upstream=["CVE-2026-1"])
    file = port.registry.services.settings.advisories_file
    file.parent.mkdir()
    filed(file, known)[0].close()
    # By this process, or by the server, whichever comes first.
    await caught_up(port.database, file)
    async with asyncio.timeout(60):
        while not (await ask(port.admin, "GET", asked)).json["vulnerabilities"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for form, one in FORMS.items():
        answer = await ask(port.admin, "GET", asked, params={"format": form})
        assert (answer.status, answer.headers["Content-Type"]) == (200, one.media_type)
        assert answer.body == (await ask(port.admin, "GET", asked, params={"format": form})).body
        assert (b"CVE-2026-1" in answer.body) == (form not in ("spdx", "openvex"))
    report = (await ask(port.admin, "GET", asked)).json
    assert report["image"].endswith(f"/{repository}@{digest}")
    assert [(one["package"], one["fixed_version"]) for one in report["vulnerabilities"]] == [
        ("libssl3", "1:1.2.14")
    ]
    await api(port.admin, "GET", f"{base}/report", params={"format": "xml"}, status=400)
    missing = await ask(port.admin, "GET", f"/api/v1/repositories/team%2Fnew/scans/{unscanned}/report")
    assert missing.status == 404
    assert (await ask(port.reader, "GET", asked)).status == 403

    # Whoever may only pull is told the counts, and nothing of what is in it.
    refused = await ask(port.reader, "GET", f"/api/v1{base}")
    assert (refused.status, "for those who may push" in refused.json["detail"]) == (403, True)

    # Which images hold a package: by its name or its source's, the last pushed first.
    assert [
        (one["repository"], one["name"], one["version"])
        for one in await items(port.admin, "/packages", name="openssl")
    ] == [
        (second["repository"], "libssl3", "3.0.18"),
        (second["repository"], "libssl3", "1:1.2.13"),
        (repository, "libssl3", "1:1.2.13"),
    ]
    asked = {"name": "libssl3", "ecosystem": "Debian:12", "version": "3.0.18"}
    assert [one["digest"] for one in await items(port.admin, "/packages", **asked)] == [second["digest"]]
    assert await items(port.admin, "/packages", name="libssl3", ecosystem="PyPI") == []
    # By the order of its ecosystem, on pages of one.
    both = [second["digest"], first["digest"]]
    for version, digests in (("<1:0", both[:1]), (">1:1,<2:0", both), ("<3", [])):
        held = await items(port.admin, "/packages", name="openssl", version=version, limit="1")
        assert [(one["digest"], one["version_known"]) for one in held] == [(one, True) for one in digests]
    texts: list[str] = []
    with listening(lambda text, _: texts.append(text)):
        assert await items(port.admin, "/packages", name="openssl", version="<0.1", limit="1") == []
    assert sum("JOIN scan_components" in one for one in texts) == 1, "not one for each that is outside of it"
    wrong = await ask(port.admin, "GET", "/api/v1/packages", params={"name": "openssl", "version": "<"})
    assert (wrong.status, "no bound of versions" in wrong.json["detail"]) == (400, True)
    await api(port.admin, "GET", "/packages", params={"name": "a", "cursor": "1"}, status=400)

    # Each sees those of the repositories that they may push to.
    for user, role, on, sees in (
        ("wren", "writer", second["repository"], [second["repository"]] * 2),
        ("ned", "writer", "team/", [second["repository"]] * 2 + [repository]),
        ("rea", "reader", "team/", []),
        ("none", None, "", []),
    ):
        password = await make_user(port.admin, user)
        if role is not None:
            await give_role(port.admin, on, f"user:{user}", role)
        client = port.registry.client(password, user=user)
        async with client:
            held = await items(client, "/packages", name="openssl")
        assert [one["repository"] for one in held] == sees, user

    # As a command.
    image = f"{repository}:1"
    assert [
        one["name"] for one in json.loads(await command(port, "image", "packages", image, "--json"))
    ] == names
    assert "github-token" in await command(port, "image", "findings", f"{repository}@{digest}")
    assert "not read" in await command(port, "image", "incomplete", image)
    assert "scripted 1.0" in await command(port, "image", "scans", image)
    licences = json.loads(await command(port, "image", "licences", image, "--json"))
    assert [(one["packages"], one["is_known"], one["licence"], one["names"]) for one in licences] == [
        (1, False, "", ["zlib1g"]),
        (1, True, "LGPL-2.1-or-later AND GPL-2.0-only", ["libc6"]),
        (1, False, "OpenSSL AND LicenseRef-as-it-stands", ["libssl3"]),
    ]
    holding = ("image", "holding", "openssl", "--version", "3.0.18", "--json")
    assert [one["digest"] for one in json.loads(await command(port, *holding))] == [second["digest"]]
    assert "fixed in 1:1.2.14" in await command(port, "image", "report", image)
    assert (
        json.loads(await command(port, "image", "report", image, "--format", "spdx"))["spdxVersion"]
        == "SPDX-2.3"
    )
    changed = await command(port, "image", "diff", image, f"{second['repository']}@{second['digest']}")
    assert "  ~ dpkg libssl3 1:1.2.13 -> 1:1.2.13, 3.0.18\n" in changed
    assert "was not scanned" in await command(port, "image", "packages", "team/new:1", code=2)
    wrong = ("image", "packages", image, "--platform", "linux/s390x")
    assert "not scanned for linux/s390x, but for linux/amd64" in await command(port, *wrong, code=64)
    shown = await command(port, "trial", "show", first["trial"])
    assert "scanned: 3 packages, 2 found; 1 could not be looked at" in shown


async def test_no_more_of_a_large_scan_is_read_than_a_page_needs(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    packages = [make_package(f"p{number}", path=f"a/{number}/{'x' * 100}") for number in range(2_200)]
    found = [make_found(title=f"{number}") for number in range(600)]
    await scan_next(worker, *packages, found=found)
    base = f"/repositories/{REPOSITORY.replace('/', '%2F')}/scans/{digest}"
    names = [one["name"] for one in packages]
    assert [one["name"] for one in await items(port.admin, f"{base}/packages", limit="900")] == names
    assert len(await items(port.admin, f"{base}/found", limit="250")) == 600
    assert await items(port.admin, f"{base}/reported") == await items(port.admin, f"{base}/incomplete") == []

    async def page(what: str, **query: str) -> list[Any]:
        return list((await api(port.admin, "GET", f"{base}/{what}", params=query))["items"])

    # Where other parts of it are gone from the disk, what is in the others is read all the same.
    async with port.database.read() as connection:
        query = select(scans.c.frames, blobs.c.locator).join(blobs, blobs.c.id == scans.c.blob_id)
        stored, locator = (await connection.execute(query)).one()
    frames = json.loads(stored)
    assert [first for first, _, _ in frames["packages"]] == [0, 500, 1000, 1500, 2000]
    assert port.registry.services is not None
    (file,) = [
        one
        for one in port.registry.services.settings.data.rglob("*")
        if one.is_file() and one.name in locator
    ]
    _, first, size = frames["packages"][1]
    file.chmod(0o600)
    content = bytearray(file.read_bytes())
    content[first : first + size] = bytes(size)
    file.write_bytes(content)
    assert [one["name"] for one in await page("packages", limit="499")] == names[:499]
    assert [one["name"] for one in await page("packages", cursor="1000")] == names[1000:1100]
    assert [one["title"] for one in await page("found", cursor="590")] == [str(at) for at in range(590, 600)]
    broken = await ask(port.admin, "GET", f"/api/v1{base}/packages", params={"cursor": "500"})
    assert broken.status == 500


async def test_who_has_an_answer_about_a_scan_is_told_that_it_stands(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await scan_next(worker, make_package("openssl"), found=[make_found()])
    base = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}/scans/{digest}"
    lists = ("packages", "found", "vulnerabilities", "reported", "incomplete", "licences", "report")
    tags = {}
    for path in (base, *(f"{base}/{what}" for what in lists)):
        answer = await ask(port.admin, "GET", path)
        tags[path] = tag = answer.headers["ETag"]
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, no-cache")
        again = await ask(port.admin, "GET", path, headers={"If-None-Match": f'"x", {tag}'})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
        other = await ask(port.admin, "GET", path, headers={"If-None-Match": '"x"'})
        assert (other.status, other.body) == (200, answer.body)
        assert (await ask(port.admin, "GET", path, headers={"If-Match": '"x"'})).status == 412
        # Whoever may not read it is told nothing, whatever he has.
        refused = await ask(port.reader, "GET", path, headers={"If-None-Match": tag})
        assert (refused.status, "ETag" in refused.headers) == (403, False)
    await advise(port, record("CVE-2026-1", affects("Debian:12", "openssl", "introduced=0")), day=1)
    async with asyncio.timeout(60):
        while True:
            answer = await ask(
                port.admin, "GET", f"{base}/vulnerabilities",
                headers={"If-None-Match": tags[f"{base}/vulnerabilities"]},
            )  # fmt: skip
            if answer.status == 200:
                break
            await asyncio.sleep(0.05)
    assert [one["id"] for one in answer.json["items"]] == ["CVE-2026-1"]
    assert answer.headers["ETag"] != tags[f"{base}/vulnerabilities"]


async def test_only_statements_by_trusted_keys_excuse(port: Port) -> None:
    worker, key, other = await port.worker("w"), new_key(), new_key()
    file = port.registry.services.settings.advisories_file
    file.parent.mkdir(exist_ok=True)
    filed(file, record("CVE-2026-1", affects("Debian:12", "bash", "introduced=0", "fixed=2")))[0].close()
    await port.push(tiny_image())
    job = await scan_next(worker, make_package("bash", "1"))
    repository, digest = job["repository"], job["digest"]
    statement = {
        "vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": f"pkg:oci/app@{digest}"}],
        "status": "not_affected",
        "justification": "component_not_present",
    }
    document = {"@context": "https://openvex.dev/ns/v0.2.0", "author": "us", "statements": [statement]}
    kind = "https://openvex.dev/ns"

    async def excused() -> tuple[Any, Any]:
        path = f"/repositories/{repository.replace('/', '%2F')}/scans/{digest}/report"
        report = await api(port.admin, "GET", path)
        (one,) = report["vulnerabilities"]
        return one["excused"], report["notes"]

    signed = signature_of(digest, key, kind=kind, predicate=document)
    referrer = await attach(port.admin, repository, digest, signed)
    # Nobody trusts the key yet.
    assert await excused() == (None, [])
    wanted = {"on": repository, "name": "ours", "public_pem": public_pem(key)}
    await api(port.admin, "POST", "/signature-rules", json=wanted, status=201)
    (one, notes) = await excused()
    assert (one["by"], one["status"], one["author"], notes) == ("vex", "not_affected", "us", [])
    # Taken away it counts no longer; by another key, about another image, or unsigned it never does.
    deleted = await ask(port.admin, "DELETE", f"/v2/{repository}/manifests/{referrer}")
    assert deleted.status == 202
    elsewhere = "sha256:" + "5" * 64
    for bundle in (
        signature_of(digest, other, kind=kind, predicate=document),
        signature_of(elsewhere, key, kind=kind, predicate=document),
        signature_of(digest, key, kind="https://example/other", predicate=document),
        signed.replace(b'"sig":"M', b'"sig":"N'),
        b'{"no": "bundle"}',
    ):
        await attach(port.admin, repository, digest, bundle)
    assert await excused() == (None, [])
    # Of those that are trusted it is told what makes no sense.
    senseless = document | {"statements": [{}]}
    referrer = await attach(
        port.admin, repository, digest, signature_of(digest, key, kind=kind, predicate=senseless)
    )
    (one, (note,)) = await excused()
    assert (one, note) == (
        None,
        f"{referrer}: 1 statements count for nothing: its status is none of OpenVEX",
    )
    await attach(port.admin, repository, digest, signature_of(digest, key, kind=kind, predicate={"a": 1}))
    assert len((await excused())[1]) == 2


async def test_an_index_is_scanned_by_its_platforms(port: Port) -> None:
    worker = await port.worker("w")
    index, _ = tiny_index("linux/amd64", "linux/amd64")
    digest = await port.push(index)
    jobs = [await scan_next(worker, make_package(name)) for name in ("one", "two")]
    scans = await api(port.admin, "GET", f"/repositories/team%2Fapp/scans/{digest}")
    assert {scan["digest"] for scan in scans} == {job["digest"] for job in jobs}
    answer = await ask(port.admin, "GET", f"/api/v1/repositories/team%2Fapp/scans/{digest}/packages")
    assert answer.status == 404
