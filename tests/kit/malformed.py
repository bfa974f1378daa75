"""Requests that no client sends by accident, each with the answers that are right: a corpus.

A case is bytes for one connection. ``{…}`` in them stands for what the registry of the test holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kit.images import OCI_INDEX, OCI_MANIFEST, digest_of

BLOB = b"0123456789abcdefghij"
DIGEST = digest_of(BLOB)
HEX = DIGEST.partition(":")[2]
ELSEWHERE = b"only in another repository"
STANDING = 10
"""Bytes that the open upload ``{session}`` has."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request. ``codes`` are those of our envelope; empty where the answer is no error or has no body."""

    name: str
    raw: bytes
    statuses: tuple[int, ...]
    codes: tuple[str, ...] = ()


def ask(
    name: str,
    method: str,
    path: str,
    statuses: int | tuple[int, ...],
    *codes: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Case:
    """A well-formed request of the administrator with something wrong in it."""
    lines = [f"{method} {path} HTTP/1.1", "Host: registry.example", "Authorization: Bearer {token}"]
    lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
    if body is not None and "Transfer-Encoding" not in (headers or {}):
        lines.append(f"Content-Length: {len(body)}")
    raw = "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
    return Case(name, raw, (statuses,) if isinstance(statuses, int) else statuses, codes)


def paging() -> Iterator[Case]:
    """``n`` and ``last``."""
    good = {"0": 200, "00": 200, "1": 200, "1" + "0" * 30: 200, "9" * 5000: 200}
    bad = (
        "-1",
        "-0",
        "word",
        "1.5",
        "1e3",
        "0x10",
        "%20" + "1",
        "%2B1",
        "",
        "%D9%A1",
        "1%00",
        "NaN",
        "1;2",
        "1_0",
    )
    for path in ("/v2/a/tags/list", "/v2/_catalog"):
        for text, status in good.items():
            yield ask(f"{path} n={text[:5]}", "GET", f"{path}?n={text}", status)
        for text in bad:
            yield ask(f"{path} n={text}", "GET", f"{path}?n={text}", 400, "PAGINATION_NUMBER_INVALID")
        for text in ("zzz", "%F0%9F%9A%A2", "a" * 3000, "../..", "", "%0d%0aX:y"):
            yield ask(f"{path} last={text[:9]}", "GET", f"{path}?last={text}", 200)
        yield ask(f"{path} last NUL", "GET", f"{path}?last=%00", 400, "PAGINATION_NUMBER_INVALID")
        yield ask(f"{path} not UTF-8", "GET", f"{path}?last=%ff%fe", (200, 400))
        yield ask(f"{path} not escaped", "GET", f"{path}?last=%zz&n=%", (200, 400))
        yield ask(f"{path} twice", "GET", f"{path}?n=1&n=x", (200, 400))
    for text in ("-1", "word", "1" + "0" * 30):
        statuses = 200 if text.isdigit() else 400
        yield ask(f"referrers last={text[:5]}", "GET", f"/v2/a/referrers/{DIGEST}?last={text}", statuses)


def tags() -> Iterator[Case]:
    """What is no tag, and references that are neither tag nor digest."""
    for tag in (
        "x" * 129,
        ".dot",
        "-dash",
        "a%0d%0aX:%20y",
        "a%0a",
        "%C3%A4",
        "a%20b",
        "a+b",
        "a,b",
        "a@b",
        "%F0%9F%9A%A2",
        "a%09",
        "a=b",
        "~a",
        "a%2e%2e%2f".replace("%2f", "!"),
    ):
        for method, body in (("PUT", b"{}"), ("GET", None), ("DELETE", None)):
            codes = ("DIGEST_INVALID",) if ":" in tag else ("TAG_INVALID",)
            yield ask(f"{method} {tag[:12]}", method, f"/v2/a/manifests/{tag}", 400, *codes, body=body)
    for tag in ("a%00b", "a%2fb", "a%5cb", "a%zz", "a%"):
        yield ask(f"PUT {tag}", "PUT", f"/v2/a/manifests/{tag}", 400, "NAME_INVALID", body=b"{}")
    yield ask("not UTF-8", "PUT", "/v2/a/manifests/%ff", 400, "NAME_INVALID", body=b"{}")
    yield ask("PUT nothing", "PUT", "/v2/a/manifests/", (400, 404), "TAG_INVALID", "NAME_INVALID", body=b"{}")
    yield ask("HEAD", "HEAD", "/v2/a/manifests/.dot", 400)
    for tag in (".dot", "", "x" * 129, "a%00", "a%2fb", "a%0ab", "%ff"):
        path = "/v2/a/manifests/{manifest}?tag=" + tag
        yield ask(f"?tag={tag[:5]}", "PUT", path, 400, "TAG_INVALID", "MANIFEST_INVALID", body=b"{}")
    many = "&".join(f"tag=t{i}" for i in range(500))
    yield ask("?tag= 500 times", "PUT", "/v2/a/manifests/{manifest}?" + many, (400, 414), body=b"{}")


def digests() -> Iterator[Case]:
    """Wrong, malformed, unsupported, twice."""
    none = digest_of(b"nowhere")
    malformed = (
        "sha256:baddigeststring",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX}0",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}%0a",
        "sha256:",
        f":{HEX}",
        "sha256:" + "g" * 64,
        f"sha256:{'..%2e%2e'.replace('%2e', '.')}" + HEX[6:],
        f"md5:{'0' * 32}",
        f"sha1:{'0' * 40}",
        f"blake3:{'0' * 64}",
        f"sha512:{HEX}",
        f"sha256+b64u:{'A' * 43}",
        f"sha256:sha256:{HEX}",
        "sha256%3A",
        "sha256:" + "0" * 900,
    )
    for text in malformed:
        shown = text[:24]
        yield ask(f"blob {shown}", "GET", f"/v2/a/blobs/{text}", 400, "DIGEST_INVALID")
        yield ask(f"blob HEAD {shown}", "HEAD", f"/v2/a/blobs/{text}", 400)
        yield ask(f"blob DELETE {shown}", "DELETE", f"/v2/a/blobs/{text}", 400, "DIGEST_INVALID")
        yield ask(f"finish {shown}", "PUT", f"{{session}}?digest={text}", 400, "DIGEST_INVALID")
        post = f"/v2/a/blobs/uploads/?digest={text}"
        yield ask(f"whole {shown}", "POST", post, 400, "DIGEST_INVALID", body=b"x")
        put = ask(f"manifest {shown}", "PUT", f"/v2/a/manifests/{text}", 400, "DIGEST_INVALID", "TAG_INVALID")
        yield put
    for text in (f"sha256:{HEX.upper()}", "sha256:../../etc", "sha256:", "x"):
        yield ask(f"referrers {text[:20]}", "GET", f"/v2/a/referrers/{text}", (400, 404))
    for alg in ("sha1", "md5", "", "sha512/256", "x" * 2000, "%00"):
        path = f"/v2/a/blobs/uploads/?digest-algorithm={alg}"
        yield ask(f"algorithm {alg[:10]}", "POST", path, 400, "DIGEST_INVALID")
    unknown = ("GET", "DELETE")
    for method in unknown:
        yield ask(f"{method} unknown", method, f"/v2/a/blobs/{none}", 404, "BLOB_UNKNOWN")
        yield ask(f"{method} unknown manifest", method, f"/v2/a/manifests/{none}", 404, "MANIFEST_UNKNOWN")
    yield ask("whole wrong", "POST", f"/v2/a/blobs/uploads/?digest={none}", 400, "DIGEST_INVALID", body=b"x")
    yield ask("manifest wrong", "PUT", f"/v2/a/manifests/{none}", 400, "DIGEST_INVALID", body=manifest())
    twice = f"digest={DIGEST}&digest={DIGEST}"
    yield ask("finish twice given", "PUT", "{session}?" + twice, 400, "DIGEST_INVALID")
    yield ask("whole twice given", "POST", f"/v2/a/blobs/uploads/?{twice}", 400, "DIGEST_INVALID", body=b"x")
    yield ask("finish without", "PUT", "{session}", 400, "DIGEST_INVALID")
    yield ask("finish empty", "PUT", "{session}?digest=", 400, "DIGEST_INVALID")
    yield ask("mount malformed", "POST", "/v2/a/blobs/uploads/?mount=sha256:x&from=b", 400, "DIGEST_INVALID")


def content_ranges() -> Iterator[Case]:
    """Chunks for an upload that stands at byte 10."""
    ten = b"ABCDEFGHIJ"
    for text, status in {
        "20-29": 416,
        "5-14": 416,
        "0-9": 416,
        "11-20": 416,
        "19-10": (400, 416),
        "-5-4": 400,
        "-1--10": 400,
        "10-": 400,
        "-10": 400,
        "10": 400,
        "": 400,
        "a-b": 400,
        "10-19/20": 400,
        "bytes 10-19/20": 400,
        "bytes=10-19": 400,
        "items 10-19": 400,
        "0x0a-0x13": 400,
        "10 - 19": 400,
        "10-19,20-29": 400,
        "+10-+19": 400,
        "10-99999999999999999999": 400,
        "99999999999999999999-100000000000000000008": (400, 416),
        "9" * 4000 + "-" + "9" * 4000: (400, 416),
        "10-18": 400,
        "10-20": 400,
        "1\xb2-19": 400,
    }.items():
        for method in ("PATCH", "PUT"):
            path = "{session}" + (f"?digest={DIGEST}" if method == "PUT" else "")
            yield ask(
                f"{method} {text[:20]}", method, path, status, body=ten, headers={"Content-Range": text}
            )  # type: ignore[arg-type]
    chunked = {"Transfer-Encoding": "chunked", "Content-Range": "10-19"}
    short, long = b"5\r\nABCDE\r\n0\r\n\r\n", b"b\r\nABCDEFGHIJK\r\n0\r\n\r\n"
    yield ask(
        "chunked longer",
        "PATCH",
        "{spare}",
        400,
        "SIZE_INVALID",
        body=long,
        headers={**chunked, "Content-Range": "0-9"},
    )
    yield ask(
        "chunked gap", "PATCH", "{session}", 416, body=short, headers={**chunked, "Content-Range": "30-34"}
    )


def sessions() -> Iterator[Case]:
    """Sessions that are somebody else's, or none."""
    for path in (
        "/v2/a/blobs/uploads/" + "0" * 32,
        "/v2/b/blobs/uploads/{id}",
        "/v2/a/blobs/uploads/{of_bob}",
        "/v2/a/blobs/uploads/{finished}",
        "/v2/a/blobs/uploads/{cancelled}",
        "/v2/a/blobs/uploads/..%2e".replace("%2e", "."),
        "/v2/a/blobs/uploads/" + "x" * 500,
        "/v2/a/blobs/uploads/%0d%0a",
        "/v2/a/blobs/uploads/'%20OR%201=1",
        "/v2/nowhere/blobs/uploads/{id}",
    ):
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            query = f"?digest={DIGEST}" if method == "PUT" else ""
            body = b"x" if method in ("PATCH", "PUT") else None
            yield ask(f"{method} {path[4:40]}", method, path + query, 404, "BLOB_UPLOAD_UNKNOWN", body=body)
    for path in ("/v2/a/blobs/uploads/%00", "/v2/a/blobs/uploads/a%2f{id}"):
        yield ask(f"GET {path[4:40]}", "GET", path, 400, "NAME_INVALID")
    yield ask("a session in a name", "GET", "/v2/a/blobs/uploads/{id}/x", 404, "NOT_FOUND")


def manifest(**changes: Any) -> bytes:
    """A manifest whose blobs are there, but for the changes; ``...`` takes a field away."""
    blob = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST, "size": len(BLOB)}
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {**blob, "mediaType": "application/vnd.example+json"},
        "layers": [blob],
    } | changes
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def _layer(**changes: Any) -> bytes:
    blob = {"mediaType": "application/x", "digest": DIGEST, "size": len(BLOB)} | changes
    return manifest(layers=[{key: value for key, value in blob.items() if value is not ...}])


def manifests() -> Iterator[Case]:
    """Bodies that are no manifest."""
    good = manifest()
    bodies: dict[str, bytes] = {
        "empty": b"",
        "blank": b"  \n",
        "array": b"[]",
        "null": b"null",
        "text": b'"x"',
        "number": b"1",
        "true": b"true",
        "object": b"{}",
        "cut": good[:-1],
        "two": good + good,
        "rest": good + b"x",
        "comment": good[:-1] + b"/**/}",
        "comma": good[:-1] + b",}",
        "NaN": good[:-1] + b',"x":NaN}',
        "Infinity": good[:-1] + b',"x":-Infinity}',
        "duplicate key": good[:-1] + b',"layers":[]}',
        "duplicate inside": good[:-1] + b',"x":{"a":1,"a":2}}',
        "duplicate escaped": good[:-1] + b',"l\\u0061yers":[]}',
        "200k arrays": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "200k objects": b'{"x":' * 200_000 + b"1" + b"}" * 200_000,
        "200k open": b"[" * 200_000,
        "5000 digits": good[:-1] + b',"x":' + b"9" * 5000 + b"}",
        "exponent": good.replace(b'"schemaVersion": 2', b'"schemaVersion": 2e0'),
        "huge exponent": good[:-1] + b',"x":1e99999}',
        "leading zero": good[:-1] + b',"x":01}',
        "invalid UTF-8": good[:-1] + b',"x":"\xff"}',
        "overlong UTF-8": good[:-1] + b',"x":"\xc0\xaf"}',
        "surrogate in UTF-8": good[:-1] + b',"x":"\xed\xa0\x80"}',
        "BOM": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "UTF-16 without BOM": good.decode().encode("utf-16-le"),
        "UTF-32": good.decode().encode("utf-32"),
        "lone surrogate": manifest(annotations={"a": "\ud800"}),
        "surrogate in key": manifest(annotations={"\udfff": "a"}),
        "surrogate in type": manifest(artifactType="application/\ud800"),
        "NUL raw": good[:-1] + b',"x":"\x00"}',
        "other mediaType": manifest(mediaType=OCI_INDEX),
        "mediaType of schema 1": manifest(mediaType="application/vnd.docker.distribution.manifest.v1+json"),
        "mediaType a number": manifest(mediaType=1),
        "schema 1": b'{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[]}',
        "schema 3": manifest(schemaVersion=3),
        "schema text": manifest(schemaVersion="2"),
        "schema true": manifest(schemaVersion=True),
        "schema missing": manifest(schemaVersion=...),
        "both": manifest(manifests=[]),
        "config missing": manifest(config=...),
        "config null": manifest(config=None),
        "config a list": manifest(config=[]),
        "layers an object": manifest(layers={}),
        "layers of text": manifest(layers=["x"]),
        "size negative": _layer(size=-1),
        "size true": _layer(size=True),
        "size text": _layer(size="20"),
        "size half": _layer(size=20.5),
        "size 2^63": _layer(size=2**63),
        "size missing": _layer(size=...),
        "digest missing": _layer(digest=...),
        "digest a path": _layer(digest="sha256:../../../../etc/passwd"),
        "digest a folder": _layer(digest="../../etc:passwd"),
        "digest upper-case": _layer(digest=f"sha256:{HEX.upper()}"),
        "digest a number": _layer(digest=1),
        "digest with a newline": _layer(digest=DIGEST + "\n"),
        "mediaType missing in a layer": _layer(mediaType=...),
        "annotations a list": manifest(annotations=[]),
        "annotations of numbers": manifest(annotations={"a": 1}),
        "subject text": manifest(subject="x"),
        "subject malformed": manifest(subject={"mediaType": OCI_MANIFEST, "digest": "x", "size": 1}),
        "artifactType a number": manifest(artifactType=1),
    }
    for name, body in bodies.items():
        yield ask(name, "PUT", "/v2/a/manifests/bad", 400, "MANIFEST_INVALID", body=body, headers=_TYPE)
    for name, body in {
        "blob missing": _layer(digest=digest_of(b"nowhere")),
        "blob of another": _layer(digest=digest_of(ELSEWHERE)),
        "config missing in the repository": manifest(
            config={"mediaType": "application/x", "digest": digest_of(b"nowhere"), "size": 7}
        ),
    }.items():
        yield ask(name, "PUT", "/v2/a/manifests/bad", 400, "MANIFEST_BLOB_UNKNOWN", body=body, headers=_TYPE)
    yield ask(
        "wrong size",
        "PUT",
        "/v2/a/manifests/bad",
        400,
        "MANIFEST_INVALID",
        body=_layer(size=1),
        headers=_TYPE,
    )
    typeless = manifest(mediaType=...)
    for kind in (
        "text/plain",
        "application/json",
        "x" * 3000,
        "application/vnd.oci.artifact.manifest.v1+json",
    ):
        headers = {"Content-Type": kind}
        yield ask(
            f"type {kind[:20]}", "PUT", "/v2/a/manifests/bad", (400, 415), body=typeless, headers=headers
        )
    yield ask(
        "index type",
        "PUT",
        "/v2/a/manifests/bad",
        400,
        "MANIFEST_INVALID",
        body=good,
        headers={"Content-Type": OCI_INDEX},
    )
    packed = {**_TYPE, "Content-Encoding": "gzip"}
    yield ask(
        "compressed", "PUT", "/v2/a/manifests/bad", 415, "MEDIA_TYPE_UNSUPPORTED", body=good, headers=packed
    )
    large = b"{" + b" " * (4 * 1024**2)
    yield ask("too large", "PUT", "/v2/a/manifests/bad", 413, "CONTENT_TOO_LARGE", body=large, headers=_TYPE)
    chunk = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (large, large)) + b"0\r\n\r\n"
    streamed = {**_TYPE, "Transfer-Encoding": "chunked"}
    yield ask(
        "too large, chunked",
        "PUT",
        "/v2/a/manifests/bad",
        413,
        "CONTENT_TOO_LARGE",
        body=chunk,
        headers=streamed,
    )


_TYPE = {"Content-Type": OCI_MANIFEST}


def ranges() -> Iterator[Case]:
    """Ranges of a blob of 20 bytes."""
    for text, status in {
        "bytes=-5": 206,
        "bytes=0-0": 206,
        "bytes=19-": 206,
        "bytes=15-99999999999999999999": 206,
        "bytes=-99999999999999999999": 206,
        "bytes=0-,-1": (200, 206),
        "bytes=-0": 416,
        "bytes=20-": 416,
        "bytes=20-30": 416,
        "bytes=99999999999999999999-": 416,
        "bytes=5-2": (200, 416),
        "bytes=": (200, 400),
        "bytes": 200,
        "bytes=abc": (200, 400),
        "bytes=1-2-3": (200, 400),
        "bytes=--1": (200, 400),
        "bytes=+1-2": (200, 400),
        "bytes=1.0-2": (200, 400),
        "bytes=0x1-2": (200, 400),
        "bytes=\xb2-": (200, 400),
        "items=0-5": 200,
        "lines 1-2": 200,
        "": (200, 400),
        "bytes=" + ",".join(["0-"] * 500): 200,
        "bytes=" + ",".join(["0-0"] * 5000): (200, 206),
        "bytes=" + "," * 5000: (200, 400),
        "bytes=0-1,x": (200, 400),
        "bytes=0-1,30-40": 206,
        "bytes=30-40,50-60": 416,
    }.items():
        yield ask(text[:20], "GET", f"/v2/a/blobs/{DIGEST}", status, headers={"Range": text})  # type: ignore[arg-type]
        yield ask(f"HEAD {text[:20]}", "HEAD", f"/v2/a/blobs/{DIGEST}", 200, headers={"Range": text})
    for condition, status in (
        (f'"{DIGEST}"', 206),
        (f'W/"{DIGEST}"', 200),
        ('"other"', 200),
        ("Tue, 24 Nov 2026 00:00:00 GMT", 200),
        ("\xff", 200),
        ("", 200),
    ):
        headers = {"Range": "bytes=0-4", "If-Range": condition}
        yield ask(f"If-Range {condition[:9]}", "GET", f"/v2/a/blobs/{DIGEST}", status, headers=headers)
    for condition in ("*", f'"{DIGEST}"', f'W/"{DIGEST}"', f'"x", "{DIGEST}"'):
        headers = {"If-None-Match": condition}
        yield ask(f"If-None-Match {condition[:9]}", "GET", f"/v2/a/blobs/{DIGEST}", 304, headers=headers)
    for condition in ('"', "x", '"' * 3000, "W/", "\xff"):
        headers = {"If-None-Match": condition}
        yield ask(
            f"If-None-Match {condition[:9]}", "GET", f"/v2/a/blobs/{DIGEST}", (200, 400), headers=headers
        )
