"""The diff ID of a layer, whatever it is compressed by and in whatever pieces it comes."""

from __future__ import annotations

import gzip

import pytest

from registry.content import diffids
from registry.content.diffids import DiffIdHash
from tests.kit.images import compress, digest_of

TAR = bytes(range(256)) * 20_000
"""More than one piece, and easily packed."""


def told(content: bytes, *, step: int = 70_000) -> tuple[str | None, str]:
    state = DiffIdHash(content[:step])
    for start in range(0, len(content), step):
        state.update(content[start : start + step])
    return state.diff_id(), state.media_type.rpartition(".")[2]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("step", [1000, 70_000, 10**9])
def test_it_is_that_of_the_tar(compression: str, step: int) -> None:
    packed = TAR if compression == "none" else compress(TAR, compression)  # type: ignore[arg-type]
    suffix = "" if compression == "none" else f"+{compression}"
    assert told(packed, step=step) == (digest_of(TAR), f"tar{suffix}")


def test_members_that_follow_one_another() -> None:
    halves = (TAR[:1000], TAR[1000:])
    for packed in (
        b"".join(map(gzip.compress, halves)),
        b"".join(compress(half, "zstd") for half in halves),
    ):
        assert told(packed)[0] == digest_of(TAR)
        assert told(packed, step=7)[0] == digest_of(TAR)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_is_cut_off_or_broken_has_none(compression: str) -> None:
    packed = compress(TAR, compression)  # type: ignore[arg-type]
    assert told(packed[:-1])[0] is None
    assert told(packed[:50] + bytes(20) + packed[70:])[0] != digest_of(TAR)
    assert told(packed + b"junk")[0] is None


def test_a_bomb_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffids, "UNPACKED_MAX_BYTES", len(TAR) - 1)
    assert told(gzip.compress(TAR))[0] is None
