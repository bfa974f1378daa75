"""What is signed of verdicts: what the database says and nothing else, by the registry and nobody else."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from registry.auth.keyring import SETTLE
from registry.db.accounts import keys as key_rows
from registry.db.content import attestation_marks, attestations, manifests, upload_sessions
from registry.db.engine import move_epoch
from registry.db.events import events
from registry.db.trials import parts
from registry.db.types import db_time
from registry.http.sweeps import sweep
from registry.oci.digest import parse_digest
from registry.storage.threads import Threads
from registry.trials.signing import Attester
from registry.trials.sigstore import BUNDLE
from registry.trials.unattested import attest_missing
from registry.trials.verifying import Word, parse_keys, read_bundle, word_of
from tests.kit.access import api, ask, make_repository
from tests.kit.distribution import push_blob, put_manifest
from tests.kit.images import to_json
from tests.kit.plans import recorded, require_ranges
from tests.kit.trials import REPOSITORY, Port, make_report, open_port, tiny_image, tiny_index

PLACE = "/repositories/team%2Fapp"
NONE = {"items": [], "next": None}


async def attested(port: Port, digest: str | None = None, *, repository: str = REPOSITORY) -> list[Any]:
    """All that the registry attests, once nothing of it waits to be signed."""
    path = f"/repositories/{repository.replace('/', '%2F')}/attestations"
    parameters = {} if digest is None else {"digest": digest}
    async with asyncio.timeout(60):
        while True:
            page = await api(port.admin, "GET", path, params=parameters)
            listed: list[Any] = page["items"]
            if all(one["signed_at"] for one in listed):
                return listed
            await asyncio.sleep(0.05)


async def by_pages(port: Port, rest: str) -> list[Any]:
    """All of a list, one on each page."""
    found, cursor = [], {}
    while True:
        asked = {"limit": "1", **cursor}
        page = await api(port.reader, "GET", f"{PLACE}/attestations{rest}", params=asked)
        found += page["items"]
        assert len(page["items"]) == 1
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


async def bundle_of(port: Port, referrer: str, *, repository: str = REPOSITORY) -> bytes:
    raw = (await ask(port.reader, "GET", f"/v2/{repository}/manifests/{referrer}")).json
    assert raw["artifactType"] == BUNDLE
    (layer,) = raw["layers"]
    return (await ask(port.reader, "GET", f"/v2/{repository}/blobs/{layer['digest']}")).body


async def word(port: Port, digest: str, *, repository: str = REPOSITORY) -> Word:
    """What a reader finds and verifies, with the keys that anybody gets."""
    own = {one["referrer"] for one in await attested(port, digest, repository=repository)}
    async with port.registry.client(anonymous=True) as nobody:
        listed = (await api(nobody, "GET", "/keys"))["items"]
    assert {key["ring"] for key in listed} == {"attestation"}
    trusted = parse_keys("".join(key["public_pem"] for key in listed if key["retired_at"] is None))
    found = await ask(port.reader, "GET", f"/v2/{repository}/referrers/{digest}")
    assert own <= {one["digest"] for one in found.json["manifests"]}
    bundles = [await bundle_of(port, referrer, repository=repository) for referrer in sorted(own)]
    read = [read_bundle("it", raw, parse_digest(digest), trusted, repository=repository) for raw in bundles]
    assert [one.refused for one in read if one.refused] == []
    return word_of(read)


async def tried(port: Port, worker: Any, **members: Any) -> str:
    digest = await port.push(tiny_image())
    assert (await worker.report(await worker.claim(), **members)).status == 204
    return digest


async def test_a_verdict_is_signed_and_nobody_takes_it_away(port: Port) -> None:
    worker = await port.worker("one")
    mechanisms = [
        {"name": "seccomp", "applied": True},
        {"name": "AppArmor", "applied": False, "detail": "the kernel has none"},
    ]
    digest = await tried(port, worker, mechanisms=mechanisms, downgrades=["AppArmor"])
    found = await word(port, digest)
    assert found.summary is not None
    assert found.summary["verificationResult"] == "PASSED"
    assert found.summary["verifiedLevels"] == ["SEATRIAL_WARN"]
    (result,) = found.results
    own = result["seatrial"]
    assert isinstance(own, dict)
    assert {name: own[name] for name in ("verdict", "worker", "runtime", "mechanisms", "downgrades")} == {
        "verdict": "warn",
        "worker": "one",
        "runtime": "scripted 1.0",
        "mechanisms": ["seccomp"],
        "downgrades": ["AppArmor"],
    }
    # The verdict only: what was seen may be secret.
    assert "reason" not in own
    assert "passedTests" not in result
    (policy,) = [one["digest"]["sha256"] for one in result["configuration"] if one["name"] == "policy"]  # type: ignore[attr-defined]
    kept = await api(port.reader, "GET", f"{PLACE}/documents/sha256:{policy}")
    assert kept == {"image_spec_allowed": False, "policy_version": 1, "run_spec": "image"}
    missing = await api(port.reader, "GET", f"{PLACE}/documents/sha256:{'0' * 64}", status=404)
    assert "names a document" in missing["detail"]
    # The summary rests on what stands beside it.
    listed = await attested(port, digest)
    assert [one["predicate"].rpartition("/")[0] for one in listed] == [
        "https://in-toto.io/attestation/test-result",
        "https://slsa.dev/verification_summary",
    ]
    inputs = found.summary["inputAttestations"]
    bundle = (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/{listed[0]['referrer']}")).json
    assert inputs == [{"digest": {"sha256": bundle["layers"][0]["digest"][7:]}}]

    for kind, gone in (
        ("manifests", listed[0]["referrer"]),
        ("blobs", bundle["layers"][0]["digest"]),
        ("blobs", bundle["config"]["digest"]),
    ):
        refused = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/{kind}/{gone}")
        assert (refused.status, digest in refused.body.decode()) == (403, True)
    # It goes when there is another, so no tag names it.
    own_word = await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/{listed[0]['referrer']}")
    tagged = await put_manifest(port.admin, REPOSITORY, "mine", own_word.body)
    assert (tagged.status, "no tag can name it" in tagged.body.decode()) == (403, True)
    assert (await put_manifest(port.admin, REPOSITORY, listed[0]["referrer"], own_word.body)).status == 201
    # What looks the same and another signed is content like any.
    forged = dict(bundle["layers"][0])
    raw = json.loads(await bundle_of(port, listed[0]["referrer"]))
    raw["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(b"forged").decode()
    content = to_json(raw)
    forged |= {"digest": await push_blob(port.admin, REPOSITORY, content), "size": len(content)}
    pushed = await put_manifest(port.admin, REPOSITORY, "forged", to_json(bundle | {"layers": [forged]}))
    assert pushed.status == 201
    # The same again stays the registry's own.
    own_again = await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/{listed[0]['referrer']}")
    again = await put_manifest(port.admin, REPOSITORY, listed[0]["referrer"], own_again.body)
    assert again.status == 201
    assert await attested(port, digest) == listed
    assert await api(port.reader, "GET", f"{PLACE}/attestations/differences") == NONE
    refused = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{listed[0]['referrer']}")
    assert refused.status == 403
    # They go with the image, and are back with it.
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 202
    assert await attested(port) == []
    answer = await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/{listed[1]['referrer']}")
    assert answer.status == 404


async def test_an_image_that_comes_back_is_attested_again(port: Port) -> None:
    worker = await port.worker("one")
    image = tiny_image()
    digest = await port.push(image)
    await worker.report(await worker.claim())
    before = await word(port, digest)
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 202
    await port.push(image)
    after = await word(port, digest)
    assert after.results == before.results
    assert after.summary is not None


async def test_no_older_word_stands_beside_a_newer_verdict(port: Port) -> None:
    worker = await port.worker("one")
    digest = await tried(port, worker)
    old = await attested(port, digest)
    assert [one["verdict"] for one in old] == ["pass", "pass"]
    body = {"image": f"{REPOSITORY}@{digest}"}
    await make_repository(port.admin, "team/other")
    kept = {}
    for one in old:
        path = f"/v2/{REPOSITORY}/manifests/{one['referrer']}"
        kept[one["referrer"]] = (await ask(port.admin, "GET", path)).body
        for blob in (b"{}", await bundle_of(port, one["referrer"])):
            await push_blob(port.admin, "team/other", blob)
    await api(port.admin, "POST", "/trials", status=201, json=body)
    # While it is tried again the last word stands.
    assert await attested(port, digest) == old
    assert (await worker.report(await worker.claim(), met=False, exit_code=1)).status == 204
    listed = (await api(port.admin, "GET", f"{PLACE}/attestations", params={"digest": digest}))["items"]
    assert [one["verdict"] for one in listed] == ["fail", "fail"]
    # From the moment of the verdict, signed or not yet.
    referrers = (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/referrers/{digest}")).json["manifests"]
    assert not {one["digest"] for one in referrers} & {one["referrer"] for one in old}
    # Nor is it pushed back; elsewhere it is content like any, and names this place.
    for referrer, manifest in kept.items():
        back = await put_manifest(port.admin, REPOSITORY, referrer, manifest)
        assert (back.status, "does not any more" in back.body.decode()) == (403, True)
        assert (await put_manifest(port.admin, "team/other", referrer, manifest)).status == 201
    found = await word(port, digest)
    assert found.summary is not None
    assert (found.summary["verificationResult"], found.summary["verifiedLevels"]) == ("FAILED", ["FAILED"])
    assert [one["result"] for one in found.results] == ["FAILED"]
    # A person's word is above it, and goes as it came.
    for action, state in (("block", "blocked"), ("unblock", "fail")):
        reason = {"reason": "why"} if action == "block" else {}
        await api(port.admin, "POST", f"/gate/{action}", status=204, json=body | reason)
        assert [one["verdict"] for one in await attested(port, digest)][-1] == state


async def test_an_image_that_is_moved_to_where_it_is_blocked_keeps_no_good_word(port: Port) -> None:
    worker = await port.worker("one")
    digest = await tried(port, worker)
    assert [one["verdict"] for one in await attested(port, digest)] == ["pass", "pass"]
    await make_repository(port.admin, "other/app")
    blocked = {"on": "other/", "digest": digest, "reason": "it leaks"}
    made = await api(port.admin, "POST", "/gate/blocks", status=201, json=blocked)
    await api(port.admin, "POST", f"{PLACE}/rename", json={"name": "other/moved"})
    moved = "/repositories/other%2Fmoved/attestations"
    listed = (await api(port.admin, "GET", moved, params={"digest": digest}))["items"]
    assert [one["verdict"] for one in listed] == ["pass", "blocked"]
    async with port.database.read() as connection:
        query = select(events.c.repository, events.c.data).where(
            events.c.kind == "image.blocked", events.c.actor == "registry"
        )
        told = [(row.repository, json.loads(row.data)) for row in await connection.execute(query)]
    assert told == [("other/moved", {"block": made["id"], "digest": digest, "reason": "it leaks"})]


async def test_what_is_renamed_is_signed_by_its_new_name(port: Port) -> None:
    digest = await tried(port, await port.worker("one"))
    assert len((await word(port, digest)).results) == 1
    async with port.database.read() as connection:
        (row,) = await connection.execute(select(attestations).where(attestations.c.kind == "summary"))
    renamed = [
        (f"{PLACE}/rename", "team/moved", "team/moved"),
        ("/namespaces/team/rename", "crew", "crew/moved"),
    ]
    for path, to, repository in renamed:
        await api(port.admin, "POST", path, json={"name": to})
        found = await word(port, digest, repository=repository)
        assert found.summary is not None
        assert found.summary["resourceUri"] == f"pkg:oci/moved@{digest}?repository_url={repository}"
        assert len(found.results) == 1
    # One was about to be stored when its repository got another name.
    async with port.database.write() as connection:
        await connection.execute(delete(manifests).where(manifests.c.attestation_id == row.id))
        later = update(attestations).where(attestations.c.id == row.id)
        await connection.execute(later.values(signed_at=None, run_after=db_time(SETTLE)))
    uploads = [await attester(port)._upload(row.repository_id, one) for one in (b"config", b"layer")]
    stored, unused = await attester(port)._store(row, "team/moved", uploads, kid="k")
    assert (stored, unused) == (False, [one.locator for one in uploads])


async def test_an_index_is_attested_and_each_image_in_it(port: Port) -> None:
    worker = await port.worker("one")
    index, images = tiny_index("linux/amd64", "linux/amd64", "linux/arm64")
    digest = await port.push(index)
    good = (await worker.claim(), await worker.claim())
    await worker.report(good[0])
    await worker.report(good[1], met=False, exit_code=1)
    found = await word(port, digest)
    (result,) = found.results
    assert result["result"] == "FAILED"
    parts = result["seatrial"]["parts"]  # type: ignore[index]
    assert {one["digest"]: one["verdict"] for one in parts} == {
        good[0]["digest"]: "pass",
        good[1]["digest"]: "fail",
        images[2].digest: "unsupported",
    }
    for job, verdict in zip(good, ("PASSED", "FAILED"), strict=True):
        child = await word(port, job["digest"])
        assert [one["result"] for one in child.results] == [verdict]
    # Nothing was run of it, so nothing is said.
    assert await attested(port, images[2].digest) == []
    assert await api(port.reader, "GET", f"{PLACE}/attestations/differences") == NONE


async def test_keys_are_replaced_and_stolen_ones_sign_nothing_that_counts(port: Port) -> None:
    worker = await port.worker("one")
    digest = await tried(port, worker)
    first = {one["kid"] for one in await attested(port, digest)}
    made = await api(port.admin, "POST", "/keys/rotate", status=201, json={"ring": "attestation"})
    async with port.database.write() as connection:
        aged = update(key_rows).where(key_rows.c.kid == made["kid"])
        await connection.execute(aged.values(created_at=db_time(-SETTLE)))
        # The one before is older still.
        older = update(key_rows).where(key_rows.c.kid.in_(first))
        await connection.execute(older.values(created_at=db_time(-2 * SETTLE)))
        await move_epoch(connection, "access")
    other = await tried(port, worker)
    assert {one["kid"] for one in await attested(port, other)} == {made["kid"]}
    # The old one is published on, and what it signed stands.
    assert {one["kid"] for one in await attested(port, digest)} == first
    assert (await word(port, digest)).summary is not None
    asked = {"ring": "attestation", "at_once": True}
    newest = await api(port.admin, "POST", "/keys/rotate", status=201, json=asked)
    async with asyncio.timeout(60):
        while {one["kid"] for one in await attested(port)} != {newest["kid"]}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await word(port, digest)).summary is not None
    refused = asked | {"algorithm": "EdDSA"}
    await api(port.admin, "POST", "/keys/rotate", status=400, json=refused)
    await api(port.reader, "POST", "/keys/rotate", status=403, json=asked)


def attester(port: Port) -> Attester:
    services = port.registry.services
    assert services is not None
    parsers = Threads("parser", 1)
    port.stack.callback(parsers.close)
    return Attester(services.database, services.blobs, services.settings, services.secret_key, parsers)


async def test_many_sign_at_once_and_each_statement_is_stored_once(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    url = make_postgres_url()
    async with open_port(tmp_path / "data", url) as port:
        worker = await port.worker("one")
        for _ in range(6):
            await tried(port, worker)
        await attested(port)
        async with port.database.write() as connection:
            await connection.execute(delete(manifests).where(manifests.c.attestation_id.is_not(None)))
            await connection.execute(update(attestations).values(signed_at=None, run_after=db_time()))
        await asyncio.gather(*(attester(port).sign_all() for _ in range(4)))
        await attested(port)
        async with port.database.read() as connection:
            query = select(manifests.c.attestation_id, func.count()).group_by(manifests.c.attestation_id)
            rows = (await connection.execute(query.where(manifests.c.attestation_id.is_not(None)))).all()
            assert [count for _, count in rows] == [1] * 12
            signed = select(func.count()).where(events.c.kind == "verdict.attested")
            assert (await connection.execute(signed)).scalar_one() == 12 + 12
        assert await api(port.reader, "GET", f"{PLACE}/attestations/differences") == NONE


async def test_what_a_kill_leaves_is_signed_later_and_its_bytes_go(port: Port) -> None:
    worker = await port.worker("one")
    digest = await tried(port, worker)
    await attested(port)
    async with port.database.write() as connection:
        await connection.execute(delete(manifests).where(manifests.c.attestation_id.is_not(None)))
        # Claimed, its bytes uploaded, and then no more.
        later = db_time(SETTLE)
        await connection.execute(update(attestations).values(signed_at=None, run_after=later))
        repository_id = (await connection.execute(select(attestations.c.repository_id))).scalars().first()
    assert repository_id is not None
    left = await attester(port)._upload(repository_id, b"half done")
    assert await api(port.admin, "GET", f"{PLACE}/attestations/differences") == NONE
    async with port.database.write() as connection:
        await connection.execute(update(attestations).values(run_after=db_time()))
        ended = update(upload_sessions).where(upload_sessions.c.id == left.session)
        await connection.execute(ended.values(expires_at=db_time()))
        await move_epoch(connection, "gate")
    assert (await word(port, digest)).summary is not None
    services = port.registry.services
    assert services is not None
    await sweep(services)
    async with port.database.read() as connection:
        assert (await connection.execute(select(upload_sessions.c.id))).all() == []


async def test_verdicts_of_an_older_version_are_attested_by_the_sweep(port: Port) -> None:
    worker = await port.worker("one")
    index, images = tiny_index("linux/amd64")
    digest = await port.push(index)
    await worker.report(await worker.claim())
    assert await attested(port) == await by_pages(port, "")
    async with port.database.write() as connection:
        await connection.execute(delete(manifests).where(manifests.c.attestation_id.is_not(None)))
        await connection.execute(delete(attestations))
    found = await by_pages(port, "/differences")
    assert {(one["digest"], one["what"]) for one in found} == {
        (about, what)
        for about in (digest, images[0].digest)
        for what in ("the verdict is not attested", "the summary is not what the gate makes of the image")
    }
    services = port.registry.services
    assert services is not None
    await sweep(services)
    assert (await word(port, digest)).summary is not None
    assert (await word(port, images[0].digest)).summary is not None
    assert await api(port.reader, "GET", f"{PLACE}/attestations/differences") == NONE
    for wrong in ("x", f"{digest}.7", "1"):
        asked = {"cursor": wrong}
        await api(port.reader, "GET", f"{PLACE}/attestations/differences", status=400, params=asked)
    async with port.database.write() as connection:
        await connection.execute(delete(manifests).where(manifests.c.attestation_id.is_not(None)))
    found = await by_pages(port, "/differences")
    assert {one["what"] for one in found} == {"it was signed, and its referrer is gone or not whole"}


async def test_the_sweep_looks_only_at_what_was_finished_lately(port: Port) -> None:
    digest = await tried(port, await port.worker("one"))
    await attested(port)
    async with port.database.write() as connection:
        part = (await connection.execute(select(parts))).one()._asdict()
        finished_at = part["finished_at"] - timedelta(days=2)
        old = {"lease": None, "finished_at": finished_at}
        rows = [part | old | {"id": f"old-{n}", "digest": f"sha256:{n:064x}"} for n in range(3000)]
        await connection.execute(insert(parts), rows)
    if not port.database.is_sqlite:
        async with port.database.write() as connection:
            await connection.exec_driver_sql("ANALYZE parts")
    assert await attest_missing(port.database) == 0
    before = await port.database.epochs()
    with recorded("parts") as statements:
        assert await attest_missing(port.database) == 0
    assert len(statements) == 2  # the last hour, and nothing after it
    await require_ranges(port.database, statements)
    # Judged again within the same second to the same end, it is said already: nothing is done.
    async with port.database.write() as connection:
        this = update(parts).where(parts.c.digest == digest)
        await connection.execute(this.values(finished_at=part["finished_at"] + timedelta(milliseconds=900)))
    assert await attest_missing(port.database) == 0
    assert await api(port.reader, "GET", f"{PLACE}/attestations/differences") == NONE
    assert await port.database.epochs() == before
    # Later, or where the marks are lost, it is found.
    async with port.database.write() as connection:
        await connection.execute(this.values(finished_at=part["finished_at"] + timedelta(seconds=2)))
        await connection.execute(delete(attestation_marks))
    assert await attest_missing(port.database) == 1
    assert (await word(port, digest)).summary is not None


async def test_a_summary_that_is_not_what_the_gate_makes_of_the_image_is_a_difference(port: Port) -> None:
    digest = await tried(port, await port.worker("one"))
    await attested(port)
    summary = (attestations.c.digest == digest, attestations.c.kind == "summary")
    said = {
        "digest": digest,
        "predicate": "https://slsa.dev/verification_summary/v1",
        "what": "the summary is not what the gate makes of the image",
    }

    async def differences() -> list[Any]:
        return (await api(port.reader, "GET", f"{PLACE}/attestations/differences"))["items"]

    assert await differences() == []
    image = update(manifests).where(manifests.c.digest == digest)
    for changed in ({"state": "fail"}, {"state": "untried"}, {"blocked_reason": '","state":"pass"}'}):
        async with port.database.write() as connection:
            await connection.execute(image.values(changed))
        assert await differences() == [said], changed
        async with port.database.write() as connection:
            await connection.execute(image.values(state="pass", blocked_reason=None))
    async with port.database.write() as connection:
        await connection.execute(image.values(state="pending"))
    assert await differences() == []
    async with port.database.write() as connection:
        await connection.execute(image.values(state="pass"))
        await connection.execute(delete(attestations).where(*summary))
    assert await differences() == [said]


async def test_an_image_that_is_blocked_when_it_comes_back_is_attested_so(port: Port) -> None:
    worker, image = await port.worker("one"), tiny_image()
    digest = await port.push(image)
    await worker.report(await worker.claim())
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 202
    block = {"on": "team/", "digest": digest, "reason": "it leaks"}
    await api(port.admin, "POST", "/gate/blocks", status=201, json=block)
    # Its verdict stands, so it is not tried again.
    await port.push(image)
    assert await worker.claim() is None
    found = await word(port, digest)
    assert found.summary is not None
    assert found.summary["verificationResult"] == "FAILED"
    assert found.summary["verifiedLevels"] == ["FAILED"]
    assert found.summary["seatrial"]["state"] == "blocked"  # type: ignore[index]


async def test_a_summary_names_the_waiver_that_lets_an_image_pass(port: Port) -> None:
    digest = await tried(port, await port.worker("one"), met=False, exit_code=3)
    until = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    body = {"image": REPOSITORY, "states": ["error", "fail"], "reason": "r", "expires_at": until.isoformat()}
    made = await api(port.admin, "POST", "/waivers", status=201, json=body)
    named = []
    for path in ("", "/grant", "/revoke"):
        if path:
            await api(port.admin, "POST", f"/waivers/{made['id']}{path}")
        found = await word(port, digest)
        assert found.summary is not None
        assert found.summary["verificationResult"] == "FAILED"
        named.append(found.summary["seatrial"].get("waivers"))  # type: ignore[attr-defined]
        looked_at = f"/repositories/{REPOSITORY.replace('/', '%2F')}/attestations/differences"
        assert (await api(port.admin, "GET", looked_at))["items"] == []
    waiver = {"id": made["id"], "states": ["error", "fail"], "grantedBy": "admin"}
    assert named == [None, [{**waiver, "expiresOn": f"{until:%Y-%m-%dT%H:%M:%SZ}"}], None]


async def test_findings_are_said_where_the_operator_wants_it_whatever_the_quota(
    tmp_path: Path, database_url: str
) -> None:
    async with open_port(
        tmp_path / "data", database_url, attest_findings=True, external_url="https://registry.example"
    ) as port:
        worker = await port.worker("one")
        digest = await port.push(tiny_image())
        await api(port.admin, "PATCH", PLACE, json={"quota_bytes": 1})
        await worker.report(await worker.claim(), met=False, exit_code=3)
        found = await word(port, digest)
        assert found.summary is not None
        assert found.summary["verifier"]["id"] == "https://registry.example"  # type: ignore[index]
        where = f"pkg:oci/app@{digest}?repository_url=registry.example/team/app"
        assert found.summary["resourceUri"] == where
        (result,) = found.results
        assert result["failedTests"] == ["smoke: exit code is 0"]
        assert "exit code 3" in result["seatrial"]["reason"]  # type: ignore[index]
        # Of attempts, each says which it was: one may have passed what another failed.
        spec = {"version": 1, "attempts": 2}
        asked = {"image": f"{REPOSITORY}@{digest}", "spec": spec}
        await api(port.admin, "POST", "/trials", status=201, json=asked)
        job = await worker.claim()
        runs = [
            make_report(job, met=met, run={"attempt": number})["runs"][0]
            for number, met in ((1, False), (2, True))
        ]
        await worker.report(job, runs=runs)
        flaky = next(one for one in (await word(port, digest)).results if one["passedTests"])
        assert flaky["passedTests"] == ["smoke, attempt 2: exit code is 0"]
        assert flaky["failedTests"] == ["smoke, attempt 1: exit code is 0"]
        assert flaky["seatrial"]["flakyAttempts"] == 1  # type: ignore[index]
        # What somebody gave for one trial is not for all readers, until it is the repository's own.
        (named,) = [one["digest"] for one in flaky["configuration"] if one["name"] == "run-spec"]  # type: ignore[attr-defined]
        document = f"{PLACE}/documents/sha256:{named['sha256']}"
        assert (await api(port.admin, "GET", document))["attempts"] == 2
        refused = await api(port.reader, "GET", document, status=403)
        assert "for those who may start trials" in refused["detail"]
        await api(port.admin, "PATCH", PLACE, json={"run_spec": spec})
        assert (await api(port.reader, "GET", document))["attempts"] == 2
