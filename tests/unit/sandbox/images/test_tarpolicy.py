"""The tar policy on its own: whatever a header says, what comes out can only name something inside."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.images.tarpolicy import LayerError, read_entry, shown, split_path

PIECES = st.sampled_from(
    ["..", ".", "", "a", "b", ".wh.", ".wh..", ".wh...", ".wh.a", ".wh..wh..opq", "\0", "é"]
)
NAMES = st.lists(PIECES, max_size=6).map("/".join) | st.text(max_size=40)


@given(NAMES, st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]), NAMES)
def test_an_entry_names_something_inside(name: str, kind: bytes, link: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    try:
        entry = read_entry(info)
    except LayerError:
        return
    for part in entry.parts:
        assert part not in (b"", b".", b"..")
        assert b"/" not in part
        assert b"\0" not in part
        assert entry.kind == "metadata" or not part.startswith(b".wh.") or entry.kind == "whiteout"
    assert entry.parts or entry.kind in ("folder", "opaque")


@given(st.integers(), st.integers(), st.floats(), st.integers())
def test_numbers_are_in_range(uid: int, size: int, mtime: float, mode: int) -> None:
    info = tarfile.TarInfo("x")
    info.uid, info.size, info.mtime, info.mode = uid, size, mtime, mode  # type: ignore[assignment]
    try:
        entry = read_entry(info)
    except LayerError:
        return
    assert 0 <= entry.uid <= 65535
    assert entry.size >= 0
    assert -(2**31) <= entry.mtime_ns / 1_000_000_000 < 2**34
    assert 0 <= entry.mode <= 0o7777


@pytest.mark.parametrize("path", ["a/b", "/a/b", "./a/b", "a//b", "a/./b/", "//a/b//"])
def test_one_path_in_other_words(path: str) -> None:
    assert split_path(path.encode(), "name") == (b"a", b"b")


def test_names_are_shown_short_and_printable() -> None:
    assert shown(b"a\x1b[31m\xff") == "'a\\x1b[31m\ufffd'"
    assert len(shown("x" * 1000)) < 130
    assert "\udcff" not in shown("\udcff")
