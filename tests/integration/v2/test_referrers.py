"""Referrers as clients leave them behind: before their subject, of any algorithm, and under fallback tags."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.kit.access import ask
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    push_small,
    put_manifest,
    small_index,
    small_manifest,
)
from tests.kit.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of

SUBJECT = small_manifest()
ABOUT = descriptor(SUBJECT, OCI_MANIFEST)


async def put(client: aiohttp.ClientSession, raw: bytes, media_type: str = OCI_MANIFEST) -> str:
    """Push a manifest under its digest."""
    answer = await put_manifest(client, "a", digest_of(raw), raw, media_type)
    assert answer.status == 201, answer.body
    return digest_of(raw)


async def listed(client: aiohttp.ClientSession, subject: str, query: str = "") -> list[Any]:
    """The descriptors of a subject's referrers."""
    answer = await ask(client, "GET", f"/v2/a/referrers/{subject}{query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == OCI_INDEX
    return list(answer.json["manifests"])


async def test_pushed_before_their_subject_and_after_it_is_gone(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    referrer = await put(client, small_manifest(subject=ABOUT, artifactType="a/b"))
    assert [one["digest"] for one in await listed(client, digest_of(SUBJECT))] == [referrer]
    await put(client, SUBJECT)
    assert [one["digest"] for one in await listed(client, digest_of(SUBJECT))] == [referrer]
    await ask(client, "DELETE", f"/v2/a/manifests/{digest_of(SUBJECT)}")
    assert [one["digest"] for one in await listed(client, digest_of(SUBJECT))] == [referrer]


async def test_a_subject_is_known_by_the_digest_that_the_referrer_gives(
    client: aiohttp.ClientSession,
) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    sha512 = "sha512:" + hashlib.sha512(SUBJECT).hexdigest()
    assert (await put_manifest(client, "a", sha512, SUBJECT)).status == 201
    raw = small_manifest(subject=ABOUT | {"digest": sha512})
    name = "sha512:" + hashlib.sha512(raw).hexdigest()
    answer = await put_manifest(client, "a", name, raw)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, sha512)
    expected = descriptor(raw, OCI_MANIFEST) | {"digest": name, "artifactType": OCI_CONFIG}
    assert await listed(client, sha512) == [expected]
    assert await listed(client, digest_of(SUBJECT)) == []


async def test_what_a_fallback_tag_lists(client: aiohttp.ClientSession) -> None:
    """Clients of registries without this list keep it as an index under a tag that is made of the digest."""
    subject = await push_small(client, "a", "v1")
    signature = small_manifest(subject=ABOUT, artifactType="a/signature", annotations={"by": "me"})
    later = small_manifest(subject=ABOUT, artifactType="a/later")
    stray = small_manifest(artifactType="a/stray")
    for raw in (signature, stray):
        await put(client, raw)
    fallback = small_index(signature, later, stray)
    tag = subject.replace(":", "-")
    assert (await put_manifest(client, "a", tag, fallback, OCI_INDEX)).status == 201
    expected = descriptor(signature, OCI_MANIFEST) | {
        "artifactType": "a/signature",
        "annotations": {"by": "me"},
    }
    assert await listed(client, subject) == [expected]
    await put(client, later)
    found = [one["digest"] for one in await listed(client, subject)]
    assert found == [digest_of(signature), digest_of(later)], "and nothing that names no subject"
    await ask(client, "DELETE", f"/v2/a/manifests/{tag}")
    assert [one["digest"] for one in await listed(client, subject)] == found
    answer = await put_manifest(client, "a", digest_of(signature), signature)
    assert answer.headers["OCI-Subject"] == subject, "tells clients to keep no such tag"


async def test_kinds_of_referrers(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    kinds = ["a/one", "a/two", "a/three"]
    pushed = {kind: await put(client, small_manifest(subject=ABOUT, artifactType=kind)) for kind in kinds}
    by_config = await put(client, small_manifest(subject=ABOUT))
    index = small_index(subject=ABOUT)
    typed = small_index(subject=ABOUT, artifactType="a/one")
    for raw in (index, typed):
        await put(client, raw, OCI_INDEX)
    subject = digest_of(SUBJECT)

    async def found(*types: str) -> list[str]:
        query = "?" + urlencode([("artifactType", kind) for kind in types])
        return [one["digest"] for one in await listed(client, subject, query)]

    assert await found("a/two", "a/one") == [pushed["a/one"], pushed["a/two"], digest_of(typed)]
    assert await found("a/one", "a/one") == [pushed["a/one"], digest_of(typed)]
    assert await found(OCI_CONFIG) == [by_config]
    assert await found("a/none") == []
    (untyped,) = (one for one in await listed(client, subject) if one["digest"] == digest_of(index))
    assert "artifactType" not in untyped
    many = "&".join("artifactType=a/b" for _ in range(21))
    answer = await ask(client, "GET", f"/v2/a/referrers/{subject}?{many}")
    assert (answer.status, error_code(answer.body)) == (400, "REQUEST_INVALID")


async def test_pages_by_number(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    pushed = [
        await put(client, small_manifest(subject=ABOUT, artifactType=f"a/{n % 2}", annotations={"n": str(n)}))
        for n in range(5)
    ]
    subject = digest_of(SUBJECT)
    for query, expected in (
        ("n=2", [pushed[:2], pushed[2:4], pushed[4:]]),
        ("n=5", [pushed]),
        ("n=0", [[]]),
        ("n=1&artifactType=a/1", [pushed[1:2], pushed[3:4]]),
        ("n=2&artifactType=a/1&artifactType=a/0", [pushed[:2], pushed[2:4], pushed[4:]]),
    ):
        path, pages = f"/v2/a/referrers/{subject}?{query}", []
        while path:
            answer = await ask(client, "GET", path)
            pages.append([one["digest"] for one in answer.json["manifests"]])
            path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
        assert pages == expected, query
    for bad in ("n=-1", "n=x", "last=x", "last=-1"):
        answer = await ask(client, "GET", f"/v2/a/referrers/{subject}?{bad}")
        assert (answer.status, error_code(answer.body)) == (400, "PAGINATION_NUMBER_INVALID")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_no_page_is_larger_than_a_manifest(client: aiohttp.ClientSession) -> None:
    """Also where annotations are letters that JSON may write as six bytes each."""
    await push_blob(client, "a", EMPTY_CONFIG)
    pushed = []
    for text in ("é" * 1_900_000, "\\" * 900_000, "x", "\N{GRINNING FACE}" * 500_000):
        members = {"subject": ABOUT, "annotations": {"text": text}}
        raw = json.dumps(json.loads(small_manifest()) | members, ensure_ascii=False).encode()
        assert len(raw) < 4 << 20
        pushed.append((await put(client, raw), text))
    path, seen = f"/v2/a/referrers/{digest_of(SUBJECT)}", []
    while path:
        answer = await ask(client, "GET", path)
        assert len(answer.body) <= 4 << 20
        seen += [(one["digest"], one["annotations"]["text"]) for one in answer.json["manifests"]]
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert seen == pushed
