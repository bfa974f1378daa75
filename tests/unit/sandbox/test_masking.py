"""Secrets are taken out of all that leaves a worker: in each form, in pieces, and in streams."""

from __future__ import annotations

import base64
import json
import random
from urllib.parse import quote, quote_plus

import pytest

from registry.contract import PROTOCOL_VERSION
from registry.contract.report import Observation, Report, ReportError, Run, StubRequest, StubUse
from sandbox.masking import MASK, PART_BYTES, MaskedStream, Masker, mask_report
from sandbox.probes.base import plain

SECRET = "pä$$ w/rd+?\n'\"\\=Zz0123"
SHORT = "8 bytes!"


def streamed(masker: Masker, chunks: list[bytes]) -> bytes:
    said: list[bytes] = []
    stream = MaskedStream(masker, said.append)
    for chunk in chunks:
        stream.take(chunk)
    stream.end()
    return b"".join(said)


def as_go_writes_json(secret: str) -> str:
    text = json.dumps(secret, ensure_ascii=False)[1:-1]
    for one, written in (("&", "0026"), ("<", "003c"), (">", "003e"), ("\u2028", "2028")):
        text = text.replace(one, rf"\u{written}")
    return text


@pytest.mark.parametrize("secret", [SECRET, SHORT, "x" * 40, "ünï" * 4, "p&ss<w>rd", "\x01a/b\x7fc/d\u2028e"])
@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_every_form_is_masked_wherever_it_stands(secret: str, before: str) -> None:
    raw = secret.encode()
    forms = [
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        as_go_writes_json(secret),
        json.dumps(secret)[1:-1].replace("/", r"\/"),
        plain(secret),
        raw.hex(),
        raw.hex().upper(),
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
    ]
    masker = Masker([secret, "another secret"])
    for form in forms:
        assert masker.text(f"{before}<{form}>") == f"{before}<{MASK}>", form
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before.encode() + raw + b"tail").decode()
        masked = masker.text(whole)
        assert MASK in masked
        # But for letters that it shares with its neighbours.
        assert len(masked) - len(MASK) <= len(whole) - len(raw) * 8 // 6 + 2
        decoded = base64.b64encode(raw).decode().rstrip("=")
        assert decoded[1:-2] not in masked


def test_a_part_that_is_long_enough_goes_and_a_shorter_one_stays() -> None:
    masker = Masker(["abcdefghijklmnopqrstuvwxyz", SHORT])
    assert masker.text("abcdefghijkl") == MASK
    assert masker.text("-nopqrstuvwxyz-") == f"-{MASK}-"
    assert masker.text("abcdefghijk") == "abcdefghijk"
    assert masker.text(f"two: abcdefghijklm{SHORT}, {SHORT}") == f"two: {MASK}, {MASK}"
    assert masker.text("8 bytes") == "8 bytes"
    assert masker.value({SHORT: [SHORT, 1, None, True]}) == {SHORT: [MASK, 1, None, True]}


def test_a_report_that_was_full_holds_what_is_longer_than_its_secret() -> None:
    secret = "\N{SHIP}\N{ROCKET}"
    assert (len(secret), len(secret.encode())) == (2, 8)
    run = Run(
        name="smoke",
        command=(secret, "x"),
        exit_code=0,
        reason="exited",
        seconds=0.1,
        log=secret * 100 + " the end",
        observations=(Observation(expectation=(secret + "-") * 100, seen=(secret + "-") * 666, met=True),),
        stubs=(
            StubUse(
                name="db",
                port=80,
                connections=1,
                requests=(StubRequest(method="GET", path=("/" + secret) * 100, times=1),),
            ),
        ),
    )
    report = Report(
        protocol=PROTOCOL_VERSION,
        lease="x",
        digest="",
        platform="linux/amd64",
        tested=(secret + "-") * 100,
        runtime="",
        runs=(run,),
        error=ReportError(reason="start-failed", message=(secret + "-") * 666),
    )
    masked = mask_report(report, Masker([secret]))
    assert Report.model_validate_json(masked.model_dump_json()) == masked
    assert not set(secret) & set(masked.model_dump_json())
    assert masked.runs[0].log == f"{MASK} the end"


def test_without_secrets_nothing_changes() -> None:
    masker = Masker([])
    assert not masker
    assert masker.text("\ud800 whatever") == "\ud800 whatever"


def test_however_a_stream_is_split_it_says_the_same() -> None:
    masker = Masker([SECRET, SHORT, "x" * 40])
    raw = SECRET.encode()
    whole = b"\xff".join(
        [
            b"start ",
            raw,
            raw[:9],
            raw + raw,
            base64.b64encode(raw),
            b"x" * 200,
            SHORT.encode() * 2,
            b"8 byte",
            raw,
        ]
    )
    expected = streamed(masker, [whole])
    assert raw[: PART_BYTES - 1] + b"\xff" not in expected.replace(raw[:9] + b"\xff", b"")
    assert expected == whole.replace(raw + raw, b"***").replace(raw, b"***").replace(
        base64.b64encode(raw), b"***"
    ).replace(b"x" * 200, b"***").replace(SHORT.encode() * 2, b"***")
    assert streamed(masker, [bytes([one]) for one in whole]) == expected
    chance = random.Random(7)
    for _ in range(50):
        cuts = sorted(chance.choices(range(len(whole)), k=8))
        chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert streamed(masker, chunks) == expected
