"""Two images beside each other: what differs, for whom, and what may not be seen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry.main import run
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.advisories import affects, record
from tests.kit.images import make_index
from tests.kit.matching import advise
from tests.kit.pagecontent import MARKUP, TURNED, VULNERABLE, fill
from tests.kit.pagereading import sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import Port, make_report, tiny_image, tiny_index

CVE = "CVE-2020-8203"
QUERIES_MAX = 6
API = "/repositories/team%2Fapp/comparison"
PAGE = "/r/team/app/-/compare"


async def tried(port: Port, worker: Any, tag: str, *packages: Any, **config: Any) -> str:
    digest = await port.push(tiny_image(**config), tag=tag)
    job = await worker.claim(mechanisms=SCANNING)
    assert (await worker.post("scan", make_scan(job, *packages))).status == 204
    assert (await worker.post("report", make_report(job))).status == 204
    return digest


def not_affected() -> dict[str, Any]:
    """A statement of VEX about that vulnerability."""
    statement = {
        "vulnerability": {"name": CVE},
        "products": [{"@id": "pkg:npm/lodash"}],
        "status": "not_affected",
        "justification": "component_not_present",
    }
    return {"@context": "https://openvex.dev/ns/v0.2.0", "author": "us", "statements": [statement]}


async def test_verdicts_configuration_layers_packages_and_findings(
    port: Port, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = await port.worker("w")
    npm = {"kind": "npm", "ecosystem": "npm"}
    old = await tried(
        port, worker, "1.0", make_package("a", "1", **npm), make_package("b", "1", **npm), User="1"
    )
    new = await tried(
        port, worker, "1.1", make_package("a", "2", **npm), make_package("c", "1", **npm), User="2"
    )
    found = await api(port.admin, "GET", f"{API}?before=1.0&after={new}")
    assert (found["before"]["digest"], found["after"]["digest"]) == (old, new)
    assert (found["before"]["state"], found["after"]["state"]) == ("pass", "pass")
    assert found["config"] == [{"part": "user", "before": "1", "after": "2"}]
    assert {one["standing"] for one in found["layers"]} == {"before", "after"}
    changes = [(one["name"], one["before"], one["after"]) for one in found["found"]["packages"]]
    assert changes == [("a", ["1"], ["2"]), ("b", ["1"], []), ("c", [], ["1"])]
    assert found["not_found_because"] == ""
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        listed = (await ask(person, "GET", "/r/team/app")).body.decode()
        assert listed.count('type="radio" name="before"') == listed.count('type="radio" name="after"') == 2
        shown = words_of(await ask(person, "GET", f"{PAGE}?before=1.0&after=1.1"))
        assert "From 1.0 to 1.1" in shown
        assert "user 1 2" in shown
        assert "a (npm) 1 2" in shown
        same = words_of(await ask(person, "GET", f"{PAGE}?before=1.0&after={old}"))
        assert "Both are the same image." in same
        for query, status in (
            ("before=1.0", 400),
            ("before=1.0&after=none", 404),
            ("before=1.0&after=-", 400),
            ("before=1.0&after=1.1&platform=linux/s390x", 404),
        ):
            assert (await ask(person, "GET", f"{PAGE}?{query}")).status == status, query
    token = tmp_path / "token"
    token.write_text(port.registry.token)
    capsys.readouterr()
    given = ["image", "compare", "team/app", "1.0", "1.1", "--server", port.registry.url]
    assert await asyncio.to_thread(run, [*given, "--token-file", str(token)]) == 0
    said = capsys.readouterr().out
    assert "user" in said
    assert "npm" in said


async def test_of_indexes_the_same_platform_is_compared(port: Port) -> None:
    first, _ = tiny_index("linux/amd64", "linux/arm64")
    second, _ = tiny_index("linux/arm64", "linux/s390x")
    await port.push(first, tag="1")
    await port.push(second, tag="2")
    one = await port.push(tiny_image(), tag="3")
    found = await api(port.admin, "GET", f"{API}?before=1&after=2")
    assert found["platforms"] == ["linux/arm64"]
    assert found["before"]["platform"] == found["after"]["platform"] == "linux/arm64"
    await api(port.admin, "GET", f"{API}?before=1&after=2&platform=linux/amd64", status=404)
    found = await api(port.admin, "GET", f"{API}?before=1&after=3")
    assert (found["before"]["platform"], found["after"]["digest"]) == ("linux/amd64", one)
    await api(port.admin, "GET", f"{API}?before=2&after=3", status=404)


async def test_who_may_see_what(port: Port) -> None:
    content = await fill(port)
    async with visitor(port.registry) as stranger, visitor(port.registry) as writer:
        refused = words_of(await ask(stranger, "GET", f"{PAGE}?before=1.0&after=1.1"))
        assert "What it is made of is not shown to those who may not pull it." in refused
        assert "for those who may push to the repository" in refused
        assert "failed" in refused
        await sign_in(writer, port.registry)
        answer = await ask(writer, "GET", f"{PAGE}?before=1.0&after=evil")
        text = answer.body.decode()
        assert answer.status == 200
        assert "<script>" not in text
        assert TURNED[0] not in text
        assert "\x1b" not in text
        assert len(text) < 200_000
        words = words_of(answer)
        assert MARKUP in words
        assert "GHSA-evil" in words
        waiting = words_of(await ask(writer, "GET", f"{PAGE}?before=1.0&after=1.2"))
        assert f"team/app@{content.waiting} was not scanned." in waiting


async def test_it_takes_six_queries_whatever_there_is(port: Port) -> None:
    worker = await port.worker("w")
    await advise(port, record(CVE, affects("npm", "lodash", "introduced=0", "fixed=4.17.19")), day=1)
    indexes, images = [], []
    for tag in ("1", "2"):
        index = make_index(tiny_image(User=tag), tiny_image("linux/arm64"))
        indexes.append(await port.push(index, tag=tag))
        job = await worker.claim(mechanisms=SCANNING)
        images.append(job["digest"])
        assert (await worker.post("scan", make_scan(job, VULNERABLE))).status == 204
        report = make_report(job, met=tag == "1", exit_code=0 if tag == "1" else 1)
        assert (await worker.post("report", report)).status == 204
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    async with visitor(port.registry) as writer, visitor(port.registry) as reader:
        await sign_in(writer, port.registry)
        await sign_in(reader, port.registry, name="reader", password=password)

        async def compared(client: Any) -> Any:
            both = "?before=1&after=2&platform=linux/amd64"
            path = API + both
            await api(client, "GET", path)  # whoever asks is then known
            with sent() as statements:
                found = await api(client, "GET", path)
            assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
            with sent() as statements:
                assert (await ask(client, "GET", PAGE + both)).status == 200
            assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
            assert [found[side]["digest"] for side in ("before", "after")] == images
            return found

        def told(found: Any) -> list[list[str]]:
            return [[one["id"] for one in found["found"][which]] for which in ("new", "gone", "same")]

        assert told(await compared(writer)) == [[], [], [CVE]]
        found = await compared(reader)
        assert (found["config"], found["found"]) == (None, None)
        assert [found[side]["size_bytes"] is None for side in ("before", "after")] == [False, True]
        # A statement of VEX excuses it in the one, a waiver of an index that lists it in the other.
        key = new_key()
        rule = {"on": "team/", "name": "ours", "public_pem": public_pem(key)}
        await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
        assert (await compared(writer))["before"]["state"] == "unsigned"
        bundle = signature_of(images[0], key, kind="https://openvex.dev/ns", predicate=not_affected())
        await attach(port.admin, "team/app", images[0], bundle)
        assert told(await compared(writer)) == [[CVE], [], []]
        ends = (datetime.now(UTC) + timedelta(days=7)).isoformat()
        for number, about in enumerate(({"finding": CVE}, {"states": ["fail"]}), start=1):
            waiver = {"image": f"team/app@{indexes[1]}", "reason": "r", "expires_at": ends, **about}
            await api(port.admin, "POST", "/waivers", status=201, json=waiver)
            await api(port.admin, "POST", f"/waivers/{number}/grant")
        assert told(await compared(writer)) == [[], [], []]
        # Both have the signature that is required, and the waiver of a state lets the second pass.
        for digest in images:
            await attach(port.admin, "team/app", digest, signature_of(digest, key))
        found = await compared(reader)
        assert [found[side]["state"] for side in ("before", "after")] == ["pass", "fail"]
        assert [one["part"] for one in found["config"]] == ["user"]
        assert found["before"]["size_bytes"] > 0
        assert found["after"]["size_bytes"] > 0
