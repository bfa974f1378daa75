"""Packages of all images matched again when advisories change: who is told what, once, and by whom."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from registry.db.content import manifests
from registry.db.matchings import changed_images, component_findings, finding_changes, matchings, rejudgings
from registry.db.scans import components
from registry.db.scans import scans as scan_rows
from registry.db.trials import parts
from registry.db.types import db_time
from registry.storage.threads import Threads
from registry.trials import matching, rematching, scans
from registry.trials.matched import Known, known_of, report_of
from registry.trials.matching import match_arrived
from tests.kit.access import api, ask
from tests.kit.advisories import CVSS2, CVSS3, affects, record
from tests.kit.matching import caught_up, count, open_matcher, put_file, told
from tests.kit.porting import command, printed
from tests.kit.scans import DIFF_ID, SCANNING, make_found, make_package, make_scan, scan_next
from tests.kit.trials import Port, open_port, tiny_image

LODASH = make_package("lodash", "4.17.15", kind="npm", ecosystem="npm")
JINJA = make_package("Jinja2", "2.10", kind="python", ecosystem="PyPI")
TEXT = make_package("golang.org/x/text", "v0.3.5", kind="go", ecosystem="Go")
OF_LODASH = record("GHSA-p6mc-m468-83gw", affects("npm", "lodash", "introduced=0", "fixed=4.17.19"))
OF_JINJA = record(
    "CVE-2019-10906", affects("PyPI", "jinja2", "introduced=0", "fixed=2.10.1"), summary="out of the sandbox"
)
OF_TEXT = record("GO-2021-0113", affects("Go", "golang.org/x/text", "introduced=0", "fixed=0.3.7"))


async def scanned(port: Port, *held: tuple[str, tuple[dict[str, Any], ...]]) -> list[str]:
    """The digests of new images, each in a repository and with its packages."""
    worker = await port.worker("w")
    digests = []
    for repository, packages in held:
        digests.append(await port.push(tiny_image(), repository=repository))
        await scan_next(worker, *packages)
    return digests


async def manifest_of(port: Port, digest: str) -> int:
    async with port.database.read() as connection:
        query = select(manifests.c.id).where(manifests.c.digest == digest)
        return int((await connection.execute(query)).scalar_one())


async def known(port: Port, digest: str) -> Known:
    number = await manifest_of(port, digest)
    async with port.database.read() as connection:
        found = await known_of(connection, number)
    assert found is not None
    return found


async def ids(port: Port, digest: str) -> list[str]:
    found = await known(port, digest)
    return sorted(match.id for matches in found.matches.values() for match, _ in matches)


async def test_an_image_is_told_of_what_changed_in_it_and_no_other(port: Port, tmp_path: Path) -> None:
    database = port.database
    path = tmp_path / "advisories.sqlite"
    python, npm, go = await scanned(
        port, ("team/python", (JINJA,)), ("team/npm", (LODASH, TEXT)), ("team/go", (TEXT,))
    )
    jobs = await count(database, parts)
    assert await caught_up(database, path) == 0, "no file, no matching"
    nobody = await known(port, npm)
    assert (len(nobody.unmatched), nobody.advisories, nobody.matches) == (2, None, {})

    # The first file: what was not known of an image is told.
    put_file(path, OF_JINJA, OF_TEXT, day=1)
    assert await caught_up(database, path) == 3
    first = await told(database, "image.findings_changed")
    assert sorted((where, data["digest"], data["new"][0]["id"]) for where, data in first) == [
        ("team/go", go, "GO-2021-0113"),
        ("team/npm", npm, "GO-2021-0113"),
        ("team/python", python, "CVE-2019-10906"),
    ]
    assert await count(database, rejudgings) == 3
    looked = await known(port, npm)
    assert looked.unmatched == frozenset()
    assert looked.lines == {"PyPI", "Go"}
    assert looked.advisories is not None
    assert [one.name for one in looked.advisories.sources] == ["own"]

    # Nothing new: nothing written.
    before = await rows(port, matchings)
    assert await caught_up(database, path) == 0
    put_file(path, OF_JINJA, OF_TEXT, day=2)
    assert await caught_up(database, path) == 0, "fetched again without news"
    assert await rows(port, matchings) == before

    # One record more: one event, for the one image, and no job.
    await judge(port)
    put_file(path, OF_JINJA, OF_TEXT, OF_LODASH, day=3)
    assert await caught_up(database, path) == 1
    assert (await told(database, "image.findings_changed"))[3:] == [
        (
            "team/npm",
            {
                "digest": npm,
                "new": [
                    {
                        "id": "GHSA-p6mc-m468-83gw",
                        "package": "lodash",
                        "version": "4.17.15",
                        "severity": "unknown",
                        "fixed_version": "4.17.19",
                    }
                ],
                "new_count": 1,
                "gone": [],
                "gone_count": 0,
                "changed": [],
                "changed_count": 0,
            },
        )
    ]
    assert await rows(port, rejudgings.c.manifest_id) == [(await manifest_of(port, npm),)]
    assert await count(database, parts) == jobs
    assert [await count(database, one) for one in (changed_images, finding_changes)] == [0, 0]
    assert await ids(port, npm) == ["GHSA-p6mc-m468-83gw", "GO-2021-0113"]
    ended = await told(database, "matching.ended")
    assert [(data["matched"], data["changed"], data["images"]) for _, data in ended] == [(3, 2, 3), (3, 1, 1)]

    # It gets a CVE: no other vulnerability, and known since then.
    first_seen_at = await since(port, "GHSA-p6mc-m468-83gw")
    named = OF_LODASH | {"aliases": ["CVE-2020-8203"]}
    put_file(path, OF_JINJA, OF_TEXT, named, day=4)
    assert await caught_up(database, path) == 1
    (_, data) = (await told(database, "image.findings_changed"))[-1]
    assert [data[f"{sort}_count"] for sort in ("new", "gone", "changed")] == [0, 0, 1]
    assert data["changed"][0]["id"] == "CVE-2020-8203"
    assert await since(port, "CVE-2020-8203") == first_seen_at

    # What decides nothing is no event, but may decide by policy.
    await judge(port)
    put_file(path, OF_JINJA | {"summary": "other words"}, OF_TEXT, named, day=5)
    assert await caught_up(database, path) == 0
    assert len(await told(database, "image.findings_changed")) == 5
    assert await rows(port, rejudgings.c.manifest_id) == [(await manifest_of(port, python),)]

    # Withdrawn.
    put_file(path, OF_JINJA | {"summary": "other words"}, OF_TEXT, day=6)
    assert await caught_up(database, path) == 1
    (_, data) = (await told(database, "image.findings_changed"))[-1]
    assert (data["digest"], data["gone"][0]["id"], data["gone_count"]) == (npm, "CVE-2020-8203", 1)
    assert await ids(port, npm) == ["GO-2021-0113"]

    # With the image go its packages and what was known of them.
    for repository, digest in (("team%2Fnpm", npm), ("team%2Fgo", go), ("team%2Fpython", python)):
        gone = await ask(port.admin, "DELETE", f"/v2/{repository.replace('%2F', '/')}/manifests/{digest}")
        assert gone.status == 202
    assert await scans.sweep(database) == 3
    assert [await count(database, one) for one in (components, component_findings, rejudgings)] == [0, 0, 0]


async def test_a_package_of_red_hat_is_looked_up_in_all_products_of_its_release(
    port: Port, tmp_path: Path
) -> None:
    packages = [
        make_package(name, "1:3.0.7-24.el9", kind="rpm", ecosystem=f"Red Hat:enterprise_linux:{release}",
                     path=f"var/lib/rpm/{release}", source="openssl")
        for name, release in (("openssl-libs", 9), ("openssl-perl", 9), ("openssl-libs", 8))
    ]  # fmt: skip
    (digest,) = await scanned(port, ("team/app", tuple(packages)))
    fixed = ("introduced=0", "fixed=1:3.0.7-25.el9_3")
    put_file(
        tmp_path / "advisories.sqlite",
        record("RHSA-1", affects("Red Hat:enterprise_linux:9::baseos", "openssl", *fixed)),
        record("RHSA-2", affects("Red Hat:enterprise_linux:9::appstream", "openssl-perl", *fixed)),
        day=1,
    )
    assert await caught_up(port.database, tmp_path / "advisories.sqlite") == 1
    assert await ids(port, digest) == ["RHSA-1", "RHSA-1", "RHSA-2"]
    found = await known(port, digest)
    assert found.lines == {"Red Hat:enterprise_linux:9"}
    (view,) = await api(port.admin, "GET", f"/repositories/team%2Fapp/scans/{digest}")
    assert view["not_looked_up"] == {"Red Hat:enterprise_linux:8": 1}


async def test_what_comes_is_matched_before_it_is_judged(tmp_path: Path, database_url: str) -> None:
    data = tmp_path / "data"
    path = data / "advisories" / "advisories.sqlite"
    mixed = affects("npm", "lodash", "introduced=0")
    put_file(
        path,
        OF_LODASH | {"severity": [{"type": "CVSS_V3", "score": CVSS3}], "aliases": ["CVE-2020-8203"]},
        OF_JINJA,
        record("GHSA-none", mixed, severity=[{"type": "CVSS_V2", "score": CVSS2}]),
        record("GHSA-dark", mixed),
        record("MAL-2026-1", mixed),
        day=1,
    )
    owned = make_package(
        "jinja2", "2.10", kind="python", ecosystem="PyPI", path="b", owned_by="python3-jinja2"
    )
    async with open_port(data, database_url) as port:
        await ended(port)
        worker = await port.worker("w")
        digest = await port.push(tiny_image())
        job = await worker.claim(mechanisms=SCANNING)
        layers = [{"diff_id": DIFF_ID}, {"diff_id": DIFF_ID, "created_by": "RUN npm install"}]
        scan = make_scan(job, {**LODASH, "layer": 1}, owned, make_package(), found=[make_found()])
        assert (await worker.post("scan", {**scan, "layers": layers})).status == 204
        assert await ids(port, digest) == ["CVE-2020-8203", "GHSA-dark", "GHSA-none", "MAL-2026-1"]
        assert port.registry.services is not None
        number = await manifest_of(port, digest)
        parsers = Threads("parser", 1)
        async with port.database.read() as connection:
            found = await report_of(connection, port.registry.services.blobs, number, parsers=parsers)
        parsers.close()
        assert found is not None
        assert {one.package_index for one in found.matches} == {0}
        assert found.not_looked_up == {"Debian:12": 1}
        assert found.advisories is not None
        assert ("CVE-2020-8203", 0) in found.first_seen_at
        # The image itself is about to be judged: nobody is told, and nothing is asked for.
        assert [await count(port.database, one) for one in (changed_images, rejudgings)] == [0, 0]
        assert await told(port.database, "image.findings_changed") == []
        assert (await worker.report(job)).status == 204
        # Another version of the package that has them too is no news of them: five, four of them twice.
        async with port.database.write() as connection:
            long_ago = db_time(-timedelta(days=9))
            await connection.execute(update(component_findings).values(first_seen_at=long_ago))
        await port.push(tiny_image())
        job = await worker.claim(mechanisms=SCANNING)
        scan = make_scan(job, {**LODASH, "version": "4.17.16"})
        assert (await worker.post("scan", scan)).status == 204
        known = await rows(port, component_findings.c.advisory, component_findings.c.first_seen_at)
        assert (len(known), len(set(known))) == (9, 5)

        # The worst first, by pages; what distributions brought is their matter.
        base = f"/repositories/team%2Fapp/scans/{digest}"
        shown = await pages(port, f"{base}/vulnerabilities")
        assert [one["severity"] for one in shown] == ["critical", "critical", "high", "unknown"]
        worst = shown[0]
        assert (worst["id"], worst["aliases"]) == ("CVE-2020-8203", ["GHSA-p6mc-m468-83gw"])
        assert (worst["package"], worst["version"], worst["fixed_version"]) == (
            "lodash",
            "4.17.15",
            "4.17.19",
        )
        assert (worst["layer"], worst["created_by"], worst["state"]) == (1, "RUN npm install", "affected")
        for asked, wanted in (
            ({"severity": "critical"}, {"CVE-2020-8203", "GHSA-dark", "MAL-2026-1"}),
            ({"fixable": "true"}, {"CVE-2020-8203"}),
            ({"fixable": "false"}, {"GHSA-none", "GHSA-dark", "MAL-2026-1"}),
            ({"kind": "malicious"}, {"MAL-2026-1"}),
        ):
            assert {one["id"] for one in await pages(port, f"{base}/vulnerabilities", **asked)} == wanted, (
                asked
            )
        await api(port.admin, "GET", f"{base}/vulnerabilities", params={"cursor": "x"}, status=400)
        await api(port.admin, "GET", f"{base}/vulnerabilities", params={"severity": "bad"}, status=400)
        assert (await ask(port.reader, "GET", f"/api/v1{base}/vulnerabilities")).status == 403
        (view,) = await api(port.admin, "GET", base)
        assert (view["vulnerabilities"], view["not_looked_up"]) == (4, {"Debian:12": 1})
        assert view["advisories_as_of"] == "2026-11-24T00:00:00Z"

        # As a command.
        image = f"team/app@{digest}"
        listed = json.loads(await command(port, "image", "findings", image, "--json"))
        assert {one["id"] for one in listed} == {one["id"] for one in shown} | {"github-token"}
        only = ("image", "findings", image, "--json", "--kind")
        assert [one["id"] for one in json.loads(await command(port, *only, "secret"))] == ["github-token"]
        fixable = json.loads(await command(port, *only, "vulnerability", "--fixable"))
        assert [one["id"] for one in fixable] == ["CVE-2020-8203"]
        out, err = await printed(port, "image", "findings", image, "--severity", "critical")
        assert "CVE-2020-8203" in out
        assert "GHSA-none" not in out
        assert "say nothing, of 1 Debian:12" in err
        assert re.search(r"linux/amd64: the oldest advisories are of 2026-11-24, \d+ days old\n", err)
        assert {one.get("advisories_as_of") for one in listed} == {"2026-11-24T00:00:00Z", None}

        # By hand: the file that is there counts, though nothing in it is new.
        progress = json.loads(await command(port, "advisories", "rematch", "--json"))
        assert progress["generation"] == (await api(port.admin, "GET", "/advisories"))["generation"]
        await ended(port)
        shown_progress = await command(port, "advisories", "matching")
        assert "4 packages matched, 0 of them otherwise than before; 0 images told" in shown_progress
        assert len(await told(port.database, "matching.begun")) == 2


async def ended(port: Port) -> None:
    """Wait until the registry has matched all by itself."""
    async with asyncio.timeout(120):
        while True:
            progress = (await api(port.admin, "GET", "/advisories"))["matching"]
            if progress is not None and progress["ended_at"]:
                return
            await asyncio.sleep(0.05)


async def pages(port: Port, path: str, **query: str) -> list[Any]:
    """All of a list, three at a time."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    for _ in range(10):
        page = await api(port.admin, "GET", path, params={"limit": "3", **query, **cursor})
        found += page["items"]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}
    raise AssertionError("it has no end")


async def test_the_file_that_was_put_in_its_place_last_counts(port: Port, tmp_path: Path) -> None:
    database = port.database
    digests = await scanned(port, ("team/npm", (LODASH,)), ("team/python", (JINJA,)))
    old = put_file(tmp_path / "old.sqlite", OF_JINJA, day=1)
    new = put_file(tmp_path / "new.sqlite", OF_LODASH, day=2)
    assert await caught_up(database, new) == 1
    assert await caught_up(database, old) == 0
    assert [await ids(port, digest) for digest in digests] == [["GHSA-p6mc-m468-83gw"], []]

    # Nor does who has it match what comes, as long as it never counted.
    await scanned_at(port, old, "team/late", JINJA)
    assert await count(database, component_findings) == 1

    # Two that disagree about the time agree on one.
    put_file(old, OF_JINJA, day=3)
    assert await caught_up(database, old) == 3
    assert await caught_up(database, new) == 0
    assert [await ids(port, digest) for digest in digests] == [[], ["CVE-2019-10906"]]

    # One that did count once matches what nobody has matched, and overwrites nothing.
    late = await scanned_at(
        port, new, "team/later", make_package("lodash", "4.17.16", kind="npm", ecosystem="npm")
    )
    assert await ids(port, late) == ["GHSA-p6mc-m468-83gw"]
    assert await caught_up(database, old) == 1
    assert await ids(port, late) == []


async def scanned_at(port: Port, path: Path, repository: str, package: dict[str, Any]) -> str:
    """An image whose scan is taken by a replica with the file at ``path``."""
    worker = await port.worker(repository.replace("/", "-"))
    digest = await port.push(tiny_image(), repository=repository)
    await scan_next(worker, package)
    async with port.database.read() as connection:
        query = select(manifests.c.repository_id).where(manifests.c.digest == digest)
        repository_id = (await connection.execute(query)).scalar_one()
        of_image = select(scan_rows.c.document_digest).where(scan_rows.c.digest == digest)
        document = (await connection.execute(of_image)).scalar_one()
    async with open_matcher(path) as matcher:
        await match_arrived(
            port.database, matcher, document_digest=document, repository_id=repository_id, image=digest
        )
    return digest


class _KilledError(Exception):
    """In the place of a kill: nothing after it is done."""


@pytest.mark.parametrize("at", ["write", "tell_some", "forget_told", "_end"])
async def test_what_a_killed_replica_left_is_done_by_another(
    port: Port, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    database = port.database
    digests = await scanned(port, ("team/npm", (LODASH, TEXT)), ("team/other", (LODASH, JINJA)))
    path = put_file(tmp_path / "a.sqlite", OF_LODASH, OF_TEXT, OF_JINJA, day=1)
    monkeypatch.setattr(matching, "AT_ONCE", 1)
    calls = []
    done = getattr(rematching, at)

    async def killed(*arguments: Any) -> Any:
        calls.append(at)
        if at != "write" or len(calls) == 2:
            raise _KilledError
        return await done(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(rematching, at, killed)
        with pytest.raises(_KilledError):
            await caught_up(database, path)
    # However slow this machine is.
    await lease(port, timedelta(hours=1))
    assert await caught_up(database, path) == 0
    assert await count(database, matchings) == 1
    assert await told(database, "matching.ended") == [], "its lease lives"
    await lease(port, timedelta(0))
    # Two at once: one of them does it.
    await asyncio.gather(caught_up(database, path), caught_up(database, path))
    assert len(await told(database, "matching.ended")) == 1
    changed = await told(database, "image.findings_changed")
    assert sorted((data["digest"], data["new_count"]) for _, data in changed) == sorted(
        (digest, 2) for digest in digests
    )
    assert [await count(database, one) for one in (changed_images, finding_changes)] == [0, 0]
    assert await count(database, rejudgings) == 2


async def lease(port: Port, lives: timedelta) -> None:
    """Let the lease of whoever is at it live so long."""
    async with port.database.write() as connection:
        await connection.execute(update(matchings).values(leased_until=db_time(lives)))


async def rows(port: Port, *columns: Any) -> list[Any]:
    async with port.database.read() as connection:
        return [tuple(row) for row in await connection.execute(select(*columns))]


async def since(port: Port, advisory: str) -> Any:
    query = select(component_findings.c.first_seen_at).where(component_findings.c.advisory == advisory)
    async with port.database.read() as connection:
        return (await connection.execute(query)).scalar_one()


async def judge(port: Port) -> None:
    """As whoever decides by findings does: the rows that ask for it go."""
    async with port.database.write() as connection:
        await connection.execute(delete(rejudgings))
