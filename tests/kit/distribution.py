"""Short words for the requests of the distribution API, for tests that are about something else."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.kit.access import Answer, ask
from tests.kit.images import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Image,
    descriptor,
    digest_of,
    to_json,
)

EMPTY_CONFIG = b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'


async def push_blob(client: aiohttp.ClientSession, name: str, content: bytes) -> str:
    """Upload a blob with POST and PUT; returns its digest."""
    digest = digest_of(content)
    async with client.post(f"/v2/{name}/blobs/uploads/") as started:
        assert started.status == 202, await started.text()
        location = started.headers["Location"]
    async with client.put(location, params={"digest": digest}, data=io.BytesIO(content)) as done:
        assert done.status == 201, await done.text()
    return digest


async def start_upload(client: aiohttp.ClientSession, name: str) -> str:
    """Open an upload session; returns its location."""
    async with client.post(f"/v2/{name}/blobs/uploads/") as started:
        assert started.status == 202, await started.text()
        return started.headers["Location"]


async def finish_in_turn(
    clients: Sequence[aiohttp.ClientSession], location: str, digest: str, *, times: int
) -> Counter[int]:
    """Finish one upload so often at once, by one client after the other; how often each status came."""

    async def finish(number: int) -> int:
        async with clients[number % len(clients)].put(location, params={"digest": digest}) as response:
            return response.status

    return Counter(await asyncio.gather(*map(finish, range(times))))


async def put_manifest(
    client: aiohttp.ClientSession, name: str, reference: str, raw: bytes, media_type: str = OCI_MANIFEST
) -> Answer:
    """PUT a manifest."""
    headers = {"Content-Type": media_type}
    path = f"/v2/{name}/manifests/{reference}"
    return await ask(client, "PUT", path, data=io.BytesIO(raw), headers=headers)


async def push_image(client: aiohttp.ClientSession, name: str, reference: str, image: Image) -> str:
    """Push all blobs and manifests of an image or index; returns its digest."""
    manifests = [content for content in image.extra.values() if _is_manifest(content)]
    for content in image.blobs().values():
        if content != image.manifest and content not in manifests:
            await push_blob(client, name, content)
    for raw in manifests:
        response = await put_manifest(client, name, digest_of(raw), raw)
        assert response.status == 201, response.body
    response = await put_manifest(client, name, reference, image.manifest, image.media_type)
    assert response.status == 201, response.body
    return image.digest


def small_manifest(layers: list[bytes] | None = None, config: bytes = EMPTY_CONFIG, **members: Any) -> bytes:
    """The bytes of an image manifest of these contents; ``members`` are added to it."""
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, OCI_CONFIG),
            "layers": [descriptor(layer, OCI_LAYER) for layer in layers or []],
            **members,
        }
    )


def small_index(*children: bytes, **members: Any) -> bytes:
    """The bytes of an index of these manifests."""
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptor(child, OCI_MANIFEST) for child in children],
            **members,
        }
    )


async def push_small(client: aiohttp.ClientSession, name: str, tag: str, **members: Any) -> str:
    """Push an image without layers; ``members`` make its manifest differ from others; returns its digest."""
    await push_blob(client, name, EMPTY_CONFIG)
    raw = small_manifest(**members)
    response = await put_manifest(client, name, tag, raw)
    assert response.status == 201, response.body
    return digest_of(raw)


def error_code(body: bytes) -> str:
    """The code of the envelope's only error."""
    (entry,) = json.loads(body)["errors"]
    assert isinstance(entry["message"], str)
    return str(entry["code"])


def _is_manifest(content: bytes) -> bool:
    return content.startswith(b"{") and b'"schemaVersion"' in content
