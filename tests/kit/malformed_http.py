"""The same corpus below the API: what breaks HTTP itself, or stretches it (RFC 9112, RFC 9110)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.kit.malformed import BLOB, DIGEST, Case, ask

_PUSH = f"POST /v2/a/blobs/uploads/?digest={DIGEST} HTTP/1.1\r\n".encode()
_KNOWN = b"Host: x\r\nAuthorization: Bearer {token}\r\n"
_BODY = b"14\r\n" + BLOB + b"\r\n0\r\n\r\n"
ENDED = 0
"""In ``statuses``: the connection is closed without an answer, which is right for what is no HTTP at all."""


def _push(name: str, head: bytes, body: bytes, *statuses: int) -> Case:
    return Case(name, _PUSH + _KNOWN + head + b"\r\n" + body, statuses)


def lengths() -> Iterator[Case]:
    """Bodies of doubtful length: each could be read in two ways by two servers."""
    for name, head in {
        "both": b"Content-Length: 20\r\nTransfer-Encoding: chunked\r\n",
        "both, the other way": b"Transfer-Encoding: chunked\r\nContent-Length: 20\r\n",
        "two lengths": b"Content-Length: 20\r\nContent-Length: 21\r\n",
        "a list of lengths": b"Content-Length: 20, 21\r\n",
        "negative": b"Content-Length: -1\r\n",
        "signed": b"Content-Length: +20\r\n",
        "hexadecimal": b"Content-Length: 0x14\r\n",
        "words": b"Content-Length: twenty\r\n",
        "empty": b"Content-Length: \r\n",
        "inner space": b"Content-Length: 2 0\r\n",
        "other digits": "Content-Length: ٢٠\r\n".encode(),
        "underscore": b"Content-Length: 2_0\r\n",
        "nonsense encoding": b"Transfer-Encoding: nonsense\r\n",
        "chunked not last": b"Transfer-Encoding: chunked, gzip\r\n",
        "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
        "nearly chunked": b"Transfer-Encoding: xchunked\r\n",
        "chunked after a tab": b"Transfer-Encoding: \x0bchunked\r\n",
        "two encodings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "space before the colon": b"Transfer-Encoding : chunked\r\n",
        "folded": b"Transfer-Encoding:\r\n chunked\r\n",
        "NUL": b"Transfer-Encoding: chunked\x00\r\n",
    }.items():
        yield _push(name, head, _BODY, 400)
    yield _push("10^30", b"Content-Length: 1" + b"0" * 30 + b"\r\n", BLOB, 400, 413)
    yield Case(
        "chunked in HTTP/1.0",
        _PUSH.replace(b"HTTP/1.1", b"HTTP/1.0") + _KNOWN + b"Transfer-Encoding: chunked\r\n\r\n" + _BODY,
        (400,),
    )


def chunks() -> Iterator[Case]:
    """Chunked bodies that are none."""
    for name, body in {
        "no number": b"zz\r\n",
        "negative": b"-1\r\nx\r\n0\r\n\r\n",
        "signed": b"+14\r\n" + BLOB + b"\r\n0\r\n\r\n",
        "0x": b"0x14\r\n" + BLOB + b"\r\n0\r\n\r\n",
        "empty size": b"\r\n" + BLOB,
        "longer than said": b"5\r\n" + BLOB + b"\r\n0\r\n\r\n",
        "space": b"1 4\r\n" + BLOB + b"\r\n0\r\n\r\n",
        "bare LF": b"14\n" + BLOB + b"\n0\n\n",
        "bad trailer": b"14\r\n" + BLOB + b"\r\n0\r\nno colon\r\n\r\n",
    }.items():
        yield _push(name, b"Transfer-Encoding: chunked\r\n", body, 400)
    for name, body in {
        "10^20": b"1" + b"0" * 20 + b"\r\nx",
        "extension without end": b"14;" + b"x" * 200_000,
        "size without end": b"0" * 200_000,
    }.items():
        # One parser sees that at once, the other goes on waiting for the body, which has its own end.
        yield _push(name, b"Transfer-Encoding: chunked\r\n", body, 400, 408)


def lines() -> Iterator[Case]:
    """Request lines and headers."""
    get, end = b"GET /v2/ HTTP/1.1\r\n", b"\r\n\r\n"
    host = b"Host: x\r\n"
    for name, raw, statuses in (
        ("no host", get + b"\r\n", (400, 401)),
        ("two hosts", get + b"Host: a\r\nHost: b" + end, (400, 401)),
        ("a host that is none", get + b'Host: a b"<>' + end, (400, 401)),
        ("header without colon", get + host + b"nothing" + end, (400,)),
        ("space before colon", get + b"Host : x" + end, (400,)),
        ("empty name", get + host + b": x" + end, (400,)),
        ("name with a space", get + host + b"a b: x" + end, (400,)),
        ("name beyond ASCII", get + host + "ä: x".encode() + end, (400,)),
        ("NUL in a value", get + host + b"X: a\x00b" + end, (400,)),
        ("CR in a value", get + host + b"X: a\rb" + end, (400,)),
        ("folded", get + host + b"X: a\r\n b" + end, (400, 401)),
        ("first line folded", get + b" X: a\r\n" + host + b"\r\n", (400,)),
        ("bare LF", get.replace(b"\r", b"") + b"Host: x\n\n", (400, 401)),
        ("100 KiB header", get + host + b"X: " + b"y" * 102_400 + end, (400, 431)),
        ("10 headers of 60 KiB", get + host + (b"X: " + b"y" * 61_440 + b"\r\n") * 10 + end, (400, 431)),
        ("70 headers of 60 KiB", get + host + (b"X: " + b"y" * 61_440 + b"\r\n") * 70 + end, (400, 431)),
        ("100 KiB address", b"GET /v2/" + b"y" * 102_400 + b" HTTP/1.1\r\n" + host + b"\r\n", (400, 414)),
        (
            "1000 headers",
            get + host + b"".join(b"X-%d: y\r\n" % i for i in range(1000)) + b"\r\n",
            (400, 431),
        ),
        ("HTTP/0.9", b"GET /v2/\r\n\r\n", (400, 401, ENDED)),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505, ENDED)),
        ("HTTP/9.9", b"GET /v2/ HTTP/9.9\r\n" + host + b"\r\n", (400, 505, 401)),
        ("HTTP/1.1x", b"GET /v2/ HTTP/1.1x\r\n" + host + b"\r\n", (400,)),
        ("http/1.1", b"GET /v2/ http/1.1\r\n" + host + b"\r\n", (400,)),
        ("two spaces", b"GET  /v2/  HTTP/1.1\r\n" + host + b"\r\n", (400, 401, 404)),
        ("no method", b" /v2/ HTTP/1.1\r\n" + host + b"\r\n", (400,)),
        ("method of symbols", b"G@T /v2/ HTTP/1.1\r\n" + host + b"\r\n", (400,)),
        ("lower-case method", b"get /v2/ HTTP/1.1\r\n" + host + b"\r\n", (400, 401, 405)),
        ("method without end", b"X" * 100_000 + b" /v2/ HTTP/1.1\r\n" + host + b"\r\n", (400, 405)),
        ("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\n" + host + b"\r\n", (400, 404, 405)),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + host + b"\r\n", (200, 204, 400, 404, 405)),
        (
            "another host's address",
            b"GET http://evil.example/v2/ HTTP/1.1\r\n" + host + b"\r\n",
            (400, 401, 404),
        ),
        ("another scheme", b"GET file:///etc/passwd HTTP/1.1\r\n" + host + b"\r\n", (400, 404)),
        ("no slash", b"GET v2/ HTTP/1.1\r\n" + host + b"\r\n", (400, 404)),
        ("fragment", b"GET /v2/#x HTTP/1.1\r\n" + host + b"\r\n", (400, 401, 404)),
        ("bytes beyond ASCII", b"GET /v2/\xff\xfe HTTP/1.1\r\n" + host + b"\r\n", (400, 404)),
        (
            "a handshake",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200) + b"\r\n\r\n",
            (400,),
        ),
        ("noise", bytes(range(1, 256)) + end, (400,)),
        ("empty lines first", b"\r\n\r\n" + get + host + b"\r\n", (400, 401)),
        (
            "h2c",
            get + host + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA" + end,
            (401,),
        ),
        (
            "websocket",
            get + host + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x" + end,
            (401,),
        ),
    ):
        yield Case(name, raw, statuses)


def methods() -> Iterator[Case]:
    """Methods that an address does not take, and headers that would change them."""
    for method in ("TRACE", "PROPFIND", "POST", "DELETE", "OPTIONS", "LOCK", "PURGE"):
        for path in ("/v2/", "/v2/_catalog", "/v2/a/tags/list", f"/v2/a/referrers/{DIGEST}"):
            for header in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
                yield ask(f"{method} {path[:12]}", method, path, 405, "UNSUPPORTED", headers={header: "GET"})
    for method in ("POST", "TRACE", "OPTIONS"):
        yield ask(f"{method} manifest", method, "/v2/a/manifests/v1", 405, "UNSUPPORTED")
        yield ask(f"{method} session", method, "{session}", 405, "UNSUPPORTED")
    override = {"X-HTTP-Method-Override": "DELETE"}
    yield ask("a GET stays one", "GET", f"/v2/a/blobs/{DIGEST}", 200, headers=override)
    for value in ("a-miracle", "100-continue, x", "200-ok", "\xff"):
        yield ask(
            f"Expect {value[:10]}", "PUT", "/v2/a/manifests/bad", 400, body=b"{}", headers={"Expect": value}
        )
    nothing = {"Expect": "100-continue", "Content-Length": "10737418240", "Transfer-Encoding": ""}
    for name, method, path in (
        ("10 GB to nobody", "PATCH", "{session}"),
        ("10 GB nowhere", "PUT", "/v2/UPPER/manifests/v1"),
    ):
        case = ask(name, method, path, (400, 401), headers=nothing)
        raw = case.raw.replace(b"Transfer-Encoding: \r\n", b"").replace(
            b"Authorization: Bearer {token}\r\n", b""
        )
        yield Case(name, raw, case.statuses)
    with_token = ask("a manifest of 10 GB", "PUT", "/v2/a/manifests/bad", 413, headers={**nothing})
    yield Case(with_token.name, with_token.raw.replace(b"Transfer-Encoding: \r\n", b""), (413,))
