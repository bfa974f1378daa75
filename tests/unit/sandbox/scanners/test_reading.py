"""Lines of what strangers wrote: as Python itself takes them apart, within bounds, wherever a piece ends."""

from __future__ import annotations

import io
from collections import Counter

import pytest

from sandbox.scanners.facts import IncompleteError
from sandbox.scanners.packages.reading import MAX_LINE_BYTES, MAX_TEXT_BYTES, lines

PIECE = 64 * 1024


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"a",
        b"a\n\nb\n",
        b"a\r\nb\r\r\nc\r",
        b"\xff\xc3\n\xa9 \xc3\xa9\n",
        b"x" * (PIECE - 1) + b"\xc3\xa9y\nz",
        b"x" * (PIECE - 1) + b"\r\nz\n",
        b"x" * PIECE + b"\n" + b"y" * 3 * PIECE + b"\nz",
        b"z" * MAX_LINE_BYTES + b"\n" + b"y" * MAX_LINE_BYTES,
    ],
    ids=range(10),
)
def test_they_are_those_of_the_whole_text(text: bytes) -> None:
    whole = [line.rstrip(b"\r\n") for line in io.BytesIO(text)]
    assert [line.encode("utf-8", "surrogateescape") for line in lines(io.BytesIO(text))] == whole


@pytest.mark.parametrize("behind", [b"", b"\n", b"\nmore\n"])
def test_a_line_that_is_too_long_ends_them(behind: bytes) -> None:
    found: list[str] = []
    with pytest.raises(IncompleteError, match=f"longer than {MAX_LINE_BYTES} bytes"):
        found.extend(lines(io.BytesIO(b"first\n" + b"x" * (MAX_LINE_BYTES + 1) + behind)))
    assert found == ["first"]


def test_of_a_text_that_is_too_long_the_beginning_is_read() -> None:
    line = b"y" * 1023 + b"\n"
    found: Counter[str] = Counter()
    with pytest.raises(IncompleteError, match="only its first 64 MiB were read"):
        found.update(lines(io.BytesIO(line * (MAX_TEXT_BYTES // len(line) + 1))))
    assert found == {line[:-1].decode(): MAX_TEXT_BYTES // len(line)}
