"""Pushes to any registry, ours or a peer, the way that clients push."""

from __future__ import annotations

import hashlib
import http.client
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from tests.bench.load import Target
from tests.kit.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, descriptor, digest_of, to_json

MIB = 1024 * 1024
CHUNK = 32 * 1024
"""What Go's clients write at once, each in a frame of its own."""
_BYTES = {"Content-Type": "application/octet-stream"}
_numbers = itertools.count(1)
_PATTERN = hashlib.shake_256(b"bench").digest(MIB)


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that no other content has, made while they are sent."""

    size: int
    digest: str
    first: bytes

    def chunks(self, size: int = CHUNK) -> Iterator[memoryview]:
        """All bytes, in pieces of ``size``, which divides a MiB."""
        left = self.size
        block = memoryview(self.first)
        while left:
            for at in range(0, min(left, MIB), size):
                yield block[at : min(at + size, left)]
            left -= min(left, MIB)
            block = memoryview(_PATTERN)


def content(size: int) -> Content:
    """New content of ``size`` bytes."""
    first = next(_numbers).to_bytes(16, "big") + _PATTERN[16:]
    digest = hashlib.sha256(first[:size])
    for _ in range(1, size // MIB):
        digest.update(_PATTERN)
    if size > MIB and size % MIB:
        digest.update(_PATTERN[: size % MIB])
    return Content(size, f"sha256:{digest.hexdigest()}", first)


def small_image() -> tuple[bytes, list[bytes]]:
    """A manifest as most are, about 1.4 KB, and the blobs that it names."""
    layers = [f"layer {i}".encode() for i in range(6)]
    config = to_json({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]}})
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(layer, OCI_LAYER) for layer in layers],
        "annotations": {"org.opencontainers.image.source": "https://git.example/team/app"},
    }
    return to_json(document), [config, *layers]


def push_image(target: Target, name: str, tag: str) -> bytes:
    """Push :func:`small_image`; returns the manifest."""
    manifest, blobs = small_image()
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    for blob in blobs:
        push_bytes(connection, target.headers, name, blob)
    headers = {**target.headers, "Content-Type": OCI_MANIFEST}
    connection.request("PUT", f"/v2/{name}/manifests/{tag}", body=manifest, headers=headers)
    answer(connection, 201)
    connection.close()
    return manifest


def push_bytes(
    connection: http.client.HTTPConnection, headers: Mapping[str, str], name: str, blob: bytes
) -> None:
    """Push a small blob: POST, PUT."""
    location = _begin(connection, headers, name)
    headers = {**headers, **_BYTES}
    connection.request("PUT", _with_digest(location, digest_of(blob)), body=blob, headers=headers)
    answer(connection, 201)


def push_blob(
    target: Target, name: str, blob: Content, *, how: Literal["stream", "whole"] = "stream"
) -> None:
    """Push a blob: ``stream`` as podman, skopeo and docker do (POST, PATCH in frames, PUT), ``whole`` as oras
    and containerd do (POST, PUT with its length)."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=600)
    if how == "stream":
        location = begin_upload(connection, target.headers, name, blob.chunks(), None)
        finish_upload(connection, target.headers, location, blob.digest)
    else:
        location = _begin(connection, target.headers, name)
        sized = {**target.headers, **_BYTES, "Content-Length": str(blob.size)}
        connection.request("PUT", _with_digest(location, blob.digest), body=blob.chunks(), headers=sized)
        answer(connection, 201)
    connection.close()


def begin_upload(
    connection: http.client.HTTPConnection,
    headers: Mapping[str, str],
    name: str,
    body: Iterable[bytes | memoryview],
    size: int | None,
) -> str:
    """POST, and PATCH all of ``body``: with its ``size``, or in frames; the location to finish at."""
    location = _begin(connection, headers, name)
    length = {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
    connection.request(
        "PATCH", location, body=body, headers={**headers, **_BYTES, **length}, encode_chunked=size is None
    )
    return answer(connection, 202).getheader("Location") or ""


def finish_upload(
    connection: http.client.HTTPConnection, headers: Mapping[str, str], location: str, digest: str
) -> None:
    """PUT without a body."""
    connection.request("PUT", _with_digest(location, digest), headers={**headers, "Content-Length": "0"})
    answer(connection, 201)


def answer(connection: http.client.HTTPConnection, status: int) -> http.client.HTTPResponse:
    """The answer, read whole.

    Raises:
        RuntimeError: it has another status.
    """
    response = connection.getresponse()
    body = response.read()
    if response.status != status:
        raise RuntimeError(f"{response.status} instead of {status}: {body[:300]!r}")
    return response


def _begin(connection: http.client.HTTPConnection, headers: Mapping[str, str], name: str) -> str:
    connection.request("POST", f"/v2/{name}/blobs/uploads/", headers={**headers, "Content-Length": "0"})
    return _path(answer(connection, 202).getheader("Location") or "")


def _with_digest(location: str, digest: str) -> str:
    path = _path(location)
    return f"{path}{'&' if '?' in path else '?'}digest={digest}"


def _path(location: str) -> str:
    """Some registries give an absolute address."""
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
