"""Conditional requests: reads that spare bytes, and writes that overwrite nothing unseen (RFC 9110, 13)."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Mapping

import aiohttp
import pytest

from tests.kit.access import Answer, ask
from tests.kit.distribution import EMPTY_CONFIG, error_code, push_blob, push_small, small_manifest
from tests.kit.images import OCI_MANIFEST, digest_of

BLOB = b"some bytes"


def manifest(number: int) -> bytes:
    """One of many manifests of the same config."""
    return small_manifest(annotations={"n": str(number)})


async def put(client: aiohttp.ClientSession, reference: str, raw: bytes, **conditions: str) -> Answer:
    """PUT under conditions, whose names have underscores here."""
    headers = {"Content-Type": OCI_MANIFEST} | {
        name.replace("_", "-"): value for name, value in conditions.items()
    }
    path = f"/v2/a/manifests/{reference}"
    return await ask(client, "PUT", path, data=io.BytesIO(raw), headers=headers)


async def standing(client: aiohttp.ClientSession, tag: str) -> str | None:
    """Where a tag stands."""
    answer = await ask(client, "HEAD", f"/v2/a/manifests/{tag}")
    return answer.headers["Docker-Content-Digest"] if answer.status == 200 else None


async def test_a_tag_moves_only_from_where_it_was_seen(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    first, second, third = map(manifest, range(3))
    refused = await put(client, "v1", first, If_Match=f'"{digest_of(first)}"')
    assert (refused.status, error_code(refused.body)) == (412, "PRECONDITION_FAILED")
    assert (await put(client, "v1", first, If_Match="*")).status == 412
    assert await standing(client, "v1") is None
    made = await put(client, "v1", first, If_None_Match="*")
    assert (made.status, made.headers["ETag"]) == (201, f'"{digest_of(first)}"')
    assert (await put(client, "v1", second, If_None_Match="*")).status == 412
    assert (await put(client, "v1", second, If_Match=f'"{digest_of(third)}"')).status == 412
    assert (await put(client, "v1", second, If_Match=f'W/"{digest_of(first)}"')).status == 412
    assert (await put(client, "v1", second, If_None_Match=f'W/"{digest_of(first)}"')).status == 412
    assert await standing(client, "v1") == digest_of(first)
    absent = await ask(client, "HEAD", f"/v2/a/manifests/{digest_of(second)}")
    assert absent.status == 404, "a refused push stores nothing"
    several = f'"x", "{digest_of(first)}"'
    assert (await put(client, "v1", second, If_Match=several)).status == 201
    assert await standing(client, "v1") == digest_of(second)


async def test_a_refused_first_push_makes_no_repository(client: aiohttp.ClientSession) -> None:
    raw = small_manifest()
    assert (await put(client, "v1", raw, If_Match="*")).status == 412
    assert (await ask(client, "GET", "/v2/a/tags/list")).status == 404


@pytest.mark.parametrize("condition", ["If_Match", "If_None_Match"])
async def test_a_condition_that_cannot_be_read_is_refused(
    client: aiohttp.ClientSession, condition: str
) -> None:
    digest = await push_small(client, "a", "v1")
    for text in (digest, '"open', "", "*, *"):
        answer = await put(client, "v1", small_manifest(), **{condition: text})
        assert (answer.status, error_code(answer.body)) == (400, "REQUEST_INVALID")
        headers = {condition.replace("_", "-"): text}
        answer = await ask(client, "DELETE", "/v2/a/manifests/v1", headers=headers)
        assert answer.status == 400
    assert await standing(client, "v1") == digest


async def test_several_tags_at_once_all_or_none(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    first, second = map(manifest, range(2))
    by_digest = f"{digest_of(second)}?tag=one&tag=two"
    assert (await put(client, "one", first)).status == 201
    assert (await put(client, by_digest, second, If_None_Match="*")).status == 412
    assert (await put(client, by_digest, second, If_Match=f'"{digest_of(first)}"')).status == 412
    assert [await standing(client, tag) for tag in ("one", "two")] == [digest_of(first), None]
    assert (await put(client, "two", first)).status == 201
    assert (await put(client, by_digest, second, If_Match=f'"{digest_of(first)}"')).status == 201
    assert [await standing(client, tag) for tag in ("one", "two")] == [digest_of(second)] * 2


async def test_a_digest_without_tags_is_what_the_condition_is_about(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    raw = small_manifest()
    digest = digest_of(raw)
    assert (await put(client, digest, raw, If_Match="*")).status == 412
    assert (await put(client, digest, raw, If_None_Match="*")).status == 201
    assert (await put(client, digest, raw, If_None_Match="*")).status == 412
    assert (await put(client, digest, raw, If_Match=f'"{digest}"')).status == 201


async def test_of_eight_that_make_a_tag_one_does(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    bodies = [manifest(number) for number in range(8)]
    answers = await asyncio.gather(*(put(client, "v1", raw, If_None_Match="*") for raw in bodies))
    assert Counter(answer.status for answer in answers) == {201: 1, 412: 7}
    (winner,) = (raw for raw, answer in zip(bodies, answers, strict=True) if answer.status == 201)
    assert await standing(client, "v1") == digest_of(winner)


async def test_of_eight_that_move_a_tag_one_does(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    first, *bodies = (manifest(number) for number in range(9))
    for name in ("v1", "v2"):
        assert (await put(client, name, first)).status == 201
    seen = f'"{digest_of(first)}"'
    answers = await asyncio.gather(
        *(put(client, f"{digest_of(raw)}?tag=v1&tag=v2", raw, If_Match=seen) for raw in bodies)
    )
    assert Counter(answer.status for answer in answers) == {201: 1, 412: 7}
    assert await standing(client, "v1") == await standing(client, "v2") != digest_of(first)


async def test_deleting_under_a_condition(client: aiohttp.ClientSession) -> None:
    digest = await push_small(client, "a", "v1")
    other = f'"{digest_of(b"other")}"'

    async def delete(reference: str, headers: Mapping[str, str]) -> int:
        return (await ask(client, "DELETE", f"/v2/a/manifests/{reference}", headers=headers)).status

    for reference in ("v1", digest):
        assert await delete(reference, {"If-Match": other}) == 412
        assert await delete(reference, {"If-Match": f'W/"{digest}"'}) == 412
        assert await delete(reference, {"If-None-Match": "*"}) == 412
    assert await delete("none", {"If-Match": other}) == 404, "what is not there has no condition"
    assert await standing(client, "v1") == digest
    assert await delete("v1", {"If-Match": f'"{digest}"'}) == 202
    assert await delete(digest, {"If-None-Match": other}) == 202
    assert await standing(client, digest) is None


async def test_reading_under_conditions(client: aiohttp.ClientSession) -> None:
    manifest_digest = await push_small(client, "a", "v1")
    blob_digest = await push_blob(client, "a", BLOB)
    for path, digest in (
        ("/v2/a/manifests/v1", manifest_digest),
        (f"/v2/a/manifests/{manifest_digest}", manifest_digest),
        (f"/v2/a/blobs/{blob_digest}", blob_digest),
    ):
        this, other = f'"{digest}"', f'"{digest_of(b"other")}"'
        cases: list[tuple[dict[str, str], int]] = [
            ({"If-None-Match": this}, 304),
            ({"If-None-Match": f"W/{this}"}, 304),
            ({"If-None-Match": f"{other}, {this}"}, 304),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": other}, 200),
            ({"If-None-Match": "nonsense"}, 200),
            ({"If-Match": this}, 200),
            ({"If-Match": "*"}, 200),
            ({"If-Match": f"W/{this}"}, 412),
            ({"If-Match": other}, 412),
            ({"If-Match": "nonsense"}, 400),
            ({"If-Match": this, "If-None-Match": this}, 304),
            ({"If-Match": other, "If-None-Match": this}, 412),
            ({"If-Match": this, "If-None-Match": other}, 200),
        ]
        for method in ("GET", "HEAD"):
            for headers, status in cases:
                answer = await ask(client, method, path, headers=headers)
                assert answer.status == status, (method, path, headers)
                if status in (200, 304):
                    assert answer.headers["ETag"] == this
                    assert answer.headers["Docker-Content-Digest"] == digest
                if status == 304:
                    assert answer.body == b""
                    assert not {"Content-Type", "Content-Length"} & answer.headers.keys()
    part = {"Range": "bytes=0-3", "If-None-Match": f'"{blob_digest}"'}
    assert (await ask(client, "GET", f"/v2/a/blobs/{blob_digest}", headers=part)).status == 304
    part = {"Range": "bytes=0-3", "If-Match": f'"{blob_digest}"'}
    answer = await ask(client, "GET", f"/v2/a/blobs/{blob_digest}", headers=part)
    assert (answer.status, answer.body) == (206, BLOB[:4])
