"""Required signatures: who pulls gets what the right one signed, whoever's verdict it has, and nothing
else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from registry.db.signatures import signatures
from registry.trials.signatures import is_subject
from tests.kit.access import api, ask, make_repository
from tests.kit.distribution import push_small, put_manifest, small_index
from tests.kit.images import OCI_INDEX, OCI_MANIFEST
from tests.kit.signing import attach, new_authority, new_key, public_pem, signature_of
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index


async def require(port: Port, on: str, name: str, **by: str) -> Any:
    return await api(port.admin, "POST", "/signature-rules", status=201, json={"on": on, "name": name, **by})


async def tried(port: Port, worker: Any, tag: str) -> tuple[str, str]:
    """An image with a verdict: its digest, and that of its layer."""
    image = tiny_image()
    digest = await port.push(image, tag=tag)
    assert (await worker.report(await worker.claim())).status == 204
    return digest, (await port.pull(digest, client=port.admin)).json["layers"][0]["digest"]


async def test_only_the_right_signature_of_this_image_lets_it_pass(port: Port) -> None:
    worker, key, other = await port.worker("one"), new_key(), new_key()
    digest, layer = await tried(port, worker, "1")
    another, _ = await tried(port, worker, "2")
    assert (await port.pull("1")).status == 200
    rule = await require(port, REPOSITORY, "the release key", public_pem=public_pem(key))
    refused = await port.pull("1")
    assert refused.status == 403
    said = refused.body.decode()
    assert "lacks a signature that is required" in said
    assert f"the release key ({REPOSITORY})" in said
    explained = await api(port.reader, "GET", "/gate", params={"image": f"{REPOSITORY}:1"})
    assert (explained["state"], explained["decision"]) == ("unsigned", "refuse")
    assert f"the release key ({REPOSITORY})" in explained["reason"]
    assert "the state is unsigned" in explained["explain"]
    blob = f"/v2/{REPOSITORY}/blobs/{layer}"
    assert (await ask(port.reader, "GET", blob)).status == 403
    # Who may push reads it, or nobody could sign it.
    assert (await port.pull("1", client=port.admin)).status == 200
    wrong = signature_of(digest, key)
    for bundle in (
        signature_of(digest, other),
        signature_of(another, key),
        signature_of(digest, key, kind="https://example/other"),
        wrong.replace(b'"payloadType"', b'"payload_type"'),
        wrong[:-1],
        b"x" * 70_000,
    ):
        await attach(port.admin, REPOSITORY, digest, bundle)
    assert (await port.pull("1")).status == 403
    signed = await attach(port.admin, REPOSITORY, digest, signature_of(digest, key))
    assert (await port.pull("1")).status == 200
    assert (await ask(port.reader, "GET", blob)).status == 200
    assert (await port.pull(another)).status == 403
    # Signatures themselves need none.
    assert (await port.pull(signed)).status == 200
    # A place above asks for one of its own: both must be there.
    above = await require(port, "team/", "the team", public_pem=public_pem(other))
    assert (await port.pull("1")).status == 200, "it was pushed before, and is found"
    await attach(port.admin, REPOSITORY, another, signature_of(another, key))
    assert "the team (team/)" in (await port.pull(another)).body.decode()
    listed = await api(port.admin, "GET", "/signature-rules", params={"on": "team/"})
    assert [one["id"] for one in listed] == [above["id"]]
    path = f"/signature-rules/{above['id']}"
    await api(port.reader, "DELETE", path, status=404)
    await api(port.admin, "DELETE", path, status=204)
    await api(port.admin, "DELETE", path, status=404)
    assert (await port.pull(another)).status == 200
    # Taken away, a signature is one no longer.
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{signed}")).status == 202
    assert (await port.pull("1")).status == 403
    await api(port.admin, "DELETE", f"/signature-rules/{rule['id']}", status=204)
    assert (await port.pull("1")).status == 200


async def test_moved_below_a_rule_what_it_signed_is_found(port: Port) -> None:
    key = new_key()
    for name in ("old/app", "older/in/app"):
        await make_repository(port.admin, name, gate="enforce", trial_on_push=False)
        chart = await push_small(port.admin, name, "1")
        await attach(port.admin, name, chart, signature_of(chart, key))
    await make_repository(port.admin, "team/first")
    await require(port, "team/", "the team", public_pem=public_pem(key))
    unsigned = await push_small(port.admin, "old/app", "2", annotations={"signed": "no"})
    moves = (
        ("/repositories/old%2Fapp/rename", {"name": "team/moved"}, "team/moved"),
        ("/namespaces/older%2Fin/rename", {"name": "team/below"}, "team/below/app"),
        ("/repositories/team%2Fmoved/rename", {"name": "old/app"}, "old/app"),
        ("/repositories/old%2Fapp/rename", {"name": "team/again"}, "team/again"),
    )
    for path, body, name in moves:
        await api(port.admin, "POST", path, json=body)
        assert (await port.pull("1", repository=name)).status == 200, name
    assert (await port.pull(unsigned, repository="team/again")).status == 403


async def test_a_rule_and_signatures_at_once_miss_nothing(port: Port) -> None:
    key = new_key()
    await make_repository(port.admin, REPOSITORY, gate="enforce", trial_on_push=False)
    charts = [
        await push_small(port.admin, REPOSITORY, str(number), annotations={"n": str(number)})
        for number in range(8)
    ]
    signing = [
        asyncio.create_task(attach(port.admin, REPOSITORY, chart, signature_of(chart, key)))
        for chart in charts
    ]
    await asyncio.sleep(0.03)
    await require(port, "team/", "the team", public_pem=public_pem(key))
    await asyncio.gather(*signing)
    assert {(await port.pull(chart)).status for chart in charts} == {200}


async def test_no_number_of_others_hides_a_signature_that_counts(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.trials.signatures.UNMET_MAX", 3)
    key = new_key()
    await make_repository(port.admin, REPOSITORY, gate="enforce", trial_on_push=False)
    chart = await push_small(port.admin, REPOSITORY, "1")
    await require(port, REPOSITORY, "the release key", public_pem=public_pem(key))
    for _ in range(4):
        await attach(port.admin, REPOSITORY, chart, signature_of(chart, new_key()))
    await attach(port.admin, REPOSITORY, chart, signature_of(chart, key))
    for _ in range(4):
        await attach(port.admin, REPOSITORY, chart, signature_of(chart, new_key()))
    assert (await port.pull("1")).status == 200
    async with port.database.read() as connection:
        kept = (await connection.execute(select(signatures.c.manifest_id))).all()
    assert len(kept) == 1 + 3
    two = {"on": "team/", "name": "two", "public_pem": public_pem(key) + public_pem(new_key())}
    refused = await api(port.admin, "POST", "/signature-rules", status=400, json=two)
    assert "holds 2 keys" in refused["detail"]


async def test_what_is_listed_is_signed_with_its_index_and_a_held_tag_waits_for_it(port: Port) -> None:
    worker, key = await port.worker("one"), new_key()
    first, _ = await tried(port, worker, "1")
    await require(port, "team/", "the team", public_pem=public_pem(key))
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"gate": "hold"})
    await attach(port.admin, REPOSITORY, first, signature_of(first, key))
    assert (await port.pull("1")).headers["Docker-Content-Digest"] == first
    index, images = tiny_index("linux/amd64")
    await port.push(index, tag="1")
    assert (await worker.report(await worker.claim())).status == 204
    # It passed, and nobody has signed it yet.
    held = await port.pull("1")
    assert (held.status, held.headers["Docker-Content-Digest"]) == (200, first)
    assert (await port.pull(images[0].digest)).status == 403
    await attach(port.admin, REPOSITORY, index.digest, signature_of(index.digest, key))
    assert (await port.pull("1")).headers["Docker-Content-Digest"] == index.digest
    assert (await port.pull(images[0].digest)).status == 200


async def test_what_a_tag_names_needs_a_signature_whatever_it_refers_to(port: Port) -> None:
    worker, key = await port.worker("one"), new_key()
    first, _ = await tried(port, worker, "1")
    await attach(port.admin, REPOSITORY, first, signature_of(first, key))
    await require(port, "team/", "the team", public_pem=public_pem(key))
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"gate": "hold"})
    image = await port.pull("1")
    subject = {"mediaType": OCI_MANIFEST, "digest": first, "size": len(image.body)}
    # Like a chart, which names any image as its subject.
    chart = await push_small(port.admin, REPOSITORY, "chart", subject=subject)
    assert [(await port.pull(name)).status for name in ("chart", chart)] == [403, 403]
    # Of a tag that has it in its past, it is no image that was signed.
    await push_small(port.admin, REPOSITORY, "1", subject=subject)
    index = small_index(image.body, subject=subject)
    await put_manifest(port.admin, REPOSITORY, "1", index, OCI_INDEX)
    held = await port.pull("1")
    assert (held.status, held.headers["Docker-Content-Digest"]) == (200, first)
    await attach(port.admin, REPOSITORY, chart, signature_of(chart, key))
    assert (await port.pull("chart")).status == 200
    attached = await push_small(port.admin, REPOSITORY, "sbom", subject=subject, artifactType="text/plain")
    assert (await port.pull(attached)).status == 403
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/sbom")).status == 202
    assert (await port.pull(attached)).status == 200


async def test_people_sign_with_certificates_of_a_trusted_authority(
    tmp_path: Path, database_url: str
) -> None:
    trusted, other = new_authority(), new_authority()
    (tmp_path / "roots.pem").write_bytes(trusted.pem)
    issuer = "https://accounts.example"
    async with open_port(
        tmp_path / "data", database_url, signature_trust_file=tmp_path / "roots.pem"
    ) as port:
        worker, key = await port.worker("one"), new_key()
        digest, _ = await tried(port, worker, "1")
        await require(port, REPOSITORY, "ann", issuer=issuer, subject="*@example.org")
        for certificate in (
            other.certify(key, "ann@example.org", issuer),
            trusted.certify(key, "ann@example.com", issuer),
            trusted.certify(key, "ann@example.org", "https://another.example"),
            trusted.certify(key, "ann@example.org", issuer, ago=timedelta(minutes=20)),
            trusted.certify(new_key(), "ann@example.org", issuer),
            b"no certificate",
        ):
            bundle = signature_of(digest, key, certificate=certificate)
            await attach(port.admin, REPOSITORY, digest, bundle)
            assert (await port.pull("1")).status == 403
        certificate = trusted.certify(key, "ann@example.org", issuer)
        await attach(port.admin, REPOSITORY, digest, signature_of(digest, key, certificate=certificate))
        assert (await port.pull("1")).status == 200
        for body, why in (
            ({}, "names a key, or an issuer"),
            ({"issuer": issuer}, "names a key, or an issuer"),
            ({"issuer": issuer, "subject": "*", "public_pem": public_pem(key)}, "and not both"),
            ({"public_pem": "no key"}, "holds no public key"),
        ):
            wanted = {"on": REPOSITORY, "name": "x", **body}
            refused = await api(port.admin, "POST", "/signature-rules", status=400, json=wanted)
            assert why in refused["detail"]
        await api(port.reader, "POST", "/signature-rules", status=403, json={"on": REPOSITORY, "name": "x"})


@pytest.mark.parametrize(
    ("subject", "pattern", "meant"),
    [
        ("ann@example.org", "ann@example.org", True),
        ("ann@exampleXorg", "ann@example.org", False),
        ("https://ci.example/a/b/x.yml@refs/tags/v1", "https://ci.example/a/*@refs/tags/*", True),
        ("evil https://github.com/a/", "https://github.com/a/*", False),
        ("a" * 5000, "*a" * 200 + "b", False),
    ],
)  # fmt: skip
def test_a_star_stands_for_anything_in_linear_time(subject: str, pattern: str, *, meant: bool) -> None:
    assert is_subject(subject, pattern) is meant
