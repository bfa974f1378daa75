"""Byte ranges (RFC 9110, 14; distribution-spec, "Pushing a blob in chunks")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import BlobUploadInvalidError, RangeInvalidError
from registry.oci.ranges import MAX_RANGES, ByteRange, parse_content_range, parse_range


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 100))
def test_a_range_is_a_slice(first: int, last: int, size: int) -> None:
    content = bytes(size)
    if first > last or first >= size:
        with pytest.raises(RangeInvalidError) as caught:
            parse_range(f"bytes={first}-{last}", size)
        assert caught.value.headers == {"Content-Range": f"bytes */{size}"}
        return
    found = parse_range(f"bytes={first}-{last}", size)
    assert found is not None
    (part,) = found
    assert part.length == len(content[first : last + 1])
    assert (part.first, part.last) == (first, min(last, size - 1))


@given(st.integers(1, 200), st.integers(1, 100))
def test_a_suffix_is_a_slice_too(count: int, size: int) -> None:
    found = parse_range(f"bytes=-{count}", size)
    assert found == (ByteRange(max(size - count, 0), size - 1),)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "bytes=", "items=0-1", "bytes=a-b", "bytes=-", "bytes=1-2-3", "bytes=0-1,x"),
        *("bytes=+1-2", "bytes=\u0660-\u0661", "bytes=" + "9" * 50 + "-"),
        "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)),
    ],
)
def test_what_is_no_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=-0", "bytes=5-4", "bytes=10-20,30-", "bytes=0-1,5-4"])
def test_what_lies_outside_is_refused(header: str) -> None:
    with pytest.raises(RangeInvalidError):
        parse_range(header, 10)


def test_several_keep_their_order_and_drop_those_outside() -> None:
    assert parse_range("bytes = 5-6 , 0-0,99-,-1, -0", 10) == (
        ByteRange(5, 6),
        ByteRange(0, 0),
        ByteRange(9, 9),
    )


def test_nothing_can_be_asked_of_nothing() -> None:
    for header in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        with pytest.raises(RangeInvalidError):
            parse_range(header, 0)


@given(st.text(max_size=20), st.integers(0, 20))
def test_any_text_is_ranges_or_none_or_an_error(text: str, size: int) -> None:
    try:
        found = parse_range(f"bytes={text}", size)
    except RangeInvalidError:
        return
    assert all(0 <= part.first <= part.last < size for part in found or ())


def test_content_ranges() -> None:
    assert parse_content_range("0-9") == ByteRange(0, 9)
    assert parse_content_range(" 5-5 ").length == 1
    for text in (
        "",
        "9-0",
        "0",
        "0-",
        "-9",
        "bytes 0-9",
        "0-9/10",
        "a-b",
        "0-9,10-19",
        "+0-9",
        "\u0660-\u0669",
        "0-" + "9" * 20,
    ):
        with pytest.raises(BlobUploadInvalidError):
            parse_content_range(text)
