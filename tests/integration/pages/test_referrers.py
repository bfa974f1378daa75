"""What refers to an image: a tree of two levels, and whose signatures were verified."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from registry.main import run
from tests.kit.access import api, ask
from tests.kit.distribution import push_image
from tests.kit.images import make_referrer
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.signing import attach, new_authority, new_key, public_pem, signature_of
from tests.kit.trials import Port, open_port, tiny_image

QUERIES_MAX = 6
REPOSITORY = "team/app"


async def test_it_is_told_who_signed(port: Port, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, other = new_key(), new_key()
    digest = await port.push(tiny_image())
    rule = {"on": "team/", "name": f"the release key {MARKUP}"[:59], "public_pem": public_pem(key)}
    await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
    good = await attach(port.admin, REPOSITORY, digest, signature_of(digest, key))
    bad = await attach(port.admin, REPOSITORY, digest, signature_of(digest, other))
    spdx = "application/spdx+json"
    sbom = make_referrer(digest, b"{}", artifact_type=spdx, media_type=spdx)
    await push_image(port.admin, REPOSITORY, sbom.digest, sbom)
    below = await attach(port.admin, REPOSITORY, sbom.digest, signature_of(sbom.digest, key))
    found = await api(port.admin, "GET", f"/repositories/team%2Fapp/referrers/{digest}")
    by_digest = {one["digest"]: one for one in found["items"]}
    assert set(by_digest) == {good, bad, sbom.digest}
    assert by_digest[good]["is_verified"]
    assert by_digest[good]["signer"]["rules"] == [f"{rule['name']} (team/)"]
    assert not by_digest[bad]["is_verified"]
    assert by_digest[bad]["signer"] == {"kid": None, "rules": [], "issuer": None, "subject": None}
    assert by_digest[sbom.digest]["signer"] is None
    assert not by_digest[sbom.digest]["is_verified"]
    (inner,) = by_digest[sbom.digest]["referrers"]
    assert (inner["digest"], inner["is_verified"]) == (below, True)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"/r/team/app/-/images/{digest}/referrers"
        await ask(person, "GET", path)
        with sent() as statements:
            answer = await ask(person, "GET", path)
        assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
        shown = words_of(answer)
        assert "verified as a rule asks: the release key <script>" in shown
        assert "not verified no rule of this place has the key" in shown
        assert "about the one above: Signature" in shown
        assert shown.index("SBOM") < shown.index("about the one above")
        assert "<script>" not in answer.body.decode()
    token = tmp_path / "token"
    token.write_text(port.registry.token)
    capsys.readouterr()
    given = ["image", "referrers", f"{REPOSITORY}@{digest}", "--server", port.registry.url]
    assert await asyncio.to_thread(run, [*given, "--token-file", str(token)]) == 0
    said = capsys.readouterr().out
    assert "the release key" in said
    assert "not verified: by a key that no rule has" in said


async def test_the_registry_itself_signs_its_verdicts(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await worker.report(await worker.claim())
    path = f"/repositories/team%2Fapp/referrers/{digest}"
    async with asyncio.timeout(60):
        while True:
            found = await api(port.admin, "GET", path)
            if found["items"]:
                break
            await asyncio.sleep(0.05)
    assert all(one["is_verified"] and one["signer"]["kid"] for one in found["items"])


async def test_a_certificate_names_who_signed(tmp_path: Path, database_url: str) -> None:
    authority, key, issuer = new_authority(), new_key(), "https://accounts.example"
    (tmp_path / "roots.pem").write_bytes(authority.pem)
    async with open_port(
        tmp_path / "data", database_url, signature_trust_file=tmp_path / "roots.pem"
    ) as port:
        digest = await port.push(tiny_image())
        certificate = authority.certify(key, "ann@example.org", issuer)
        await attach(port.admin, REPOSITORY, digest, signature_of(digest, key, certificate=certificate))
        (one,) = (await api(port.admin, "GET", f"/repositories/team%2Fapp/referrers/{digest}"))["items"]
        assert one["is_verified"]
        assert (one["signer"]["issuer"], one["signer"]["subject"]) == (issuer, "ann@example.org")


async def test_pages_follow_each_other_and_the_second_level_is_bounded(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.pages.referrers.SHOWN", 2)
    monkeypatch.setattr("registry.trials.referring.BELOW_MAX", 1)
    digest = await port.push(tiny_image())
    first = [make_referrer(digest, b"%d" % n, artifact_type="a/b", media_type="text/plain") for n in range(3)]
    for one in first:
        await push_image(port.admin, REPOSITORY, one.digest, one)
    for n in range(2):
        inner = make_referrer(first[0].digest, b"x%d" % n, artifact_type="a/c", media_type="text/plain")
        await push_image(port.admin, REPOSITORY, inner.digest, inner)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        page = await ask(person, "GET", f"/r/team/app/-/images/{digest}/referrers")
        assert "the page of each has all" in words_of(page)
        assert page.body.decode().count('<th scope="row">') == 3
        following = page.body.decode().partition('rel="next" href="')[2].partition('"')[0]
        last = await ask(person, "GET", following)
        assert last.body.decode().count('<th scope="row">') == 1
    for cursor, status in (("x", 400), ("99999999", 200)):
        await api(
            port.admin, "GET", f"/repositories/team%2Fapp/referrers/{digest}?cursor={cursor}", status=status
        )
