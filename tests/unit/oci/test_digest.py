"""Digests (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DigestInvalidError
from registry.oci.digest import ALGORITHMS, Digest, digest_of, parse_content_digest, parse_digest

HEX = "a" * 64


@given(st.binary(), st.sampled_from(sorted(ALGORITHMS)))
def test_what_is_computed_is_what_is_parsed(content: bytes, algorithm: str) -> None:
    digest = digest_of(content, algorithm)
    assert parse_digest(str(digest)) == parse_content_digest(str(digest)) == digest
    assert digest.encoded == hashlib.new(algorithm, content).hexdigest()
    assert digest.supported


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        HEX,
        f"sha256:{HEX[1:]}",
        f"sha256:{HEX}a",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f" sha256:{HEX}",
        f"sha256:{HEX}\n",
        f"sha256:{HEX}/x",
        "sha256:../../../etc/passwd",
        f"sha512:{HEX}",
        f"sha+:{HEX}",
        f"+sha:{HEX}",
        f"sha..256:{HEX}",
        "sha256:" + "\uff41" * 64,
        "sha256:" + "a" * 300,
        "x:" + "a" * 300,
        "a\0b:" + HEX,
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(DigestInvalidError):
        parse_digest(text)


@pytest.mark.parametrize(
    "text", [f"blake3:{HEX}", "md5:d41d8cd9", "multihash+base58:QmRZxt2b1FVZPNqd8hs", "a.b_c-d:x="]
)
def test_other_algorithms_are_digests_that_name_no_content_here(text: str) -> None:
    digest = parse_digest(text)
    assert str(digest) == text
    assert not digest.supported
    with pytest.raises(DigestInvalidError, match="not supported"):
        parse_content_digest(text)
    with pytest.raises(DigestInvalidError, match="not supported"):
        digest_of(b"", digest.algorithm)


@given(st.text())
def test_any_text_is_a_digest_or_an_error(text: str) -> None:
    try:
        digest = parse_digest(text)
    except DigestInvalidError:
        return
    assert str(digest) == text


def test_messages_do_not_grow_with_what_was_sent() -> None:
    with pytest.raises(DigestInvalidError) as caught:
        parse_digest("sha256:" + "f" * 100_000)
    assert len(caught.value.message) < 200


def test_digests_are_values() -> None:
    assert Digest("sha256", HEX) == parse_digest(f"sha256:{HEX}")
    assert len({Digest("sha256", HEX), Digest("sha256", HEX)}) == 1
