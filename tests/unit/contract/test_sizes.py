"""Sizes as people type them."""

from __future__ import annotations

import pytest

from registry.contract.sizes import parse_share_bytes, parse_size_bytes, shown_size
from registry.errors import RequestInvalidError


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("17", 17), ("17B", 17), ("5KB", 5000), ("5KiB", 5120), ("2MB", 2 * 10**6), ("1TiB", 2**40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5GB", "GB", "1 GB", "1gb", "1PB", "٣", "1" * 16])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="is not a size"):
        parse_size_bytes(text)


@pytest.mark.parametrize(("text", "size"), [("0%", 0), ("30%", 300), ("100%", 1000), ("2KB", 2000)])
def test_shares(text: str, size: int) -> None:
    assert parse_share_bytes(text, 1000) == size


@pytest.mark.parametrize("text", ["101%", "-1%", "1.5%", "%"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="is not a size"):
        parse_share_bytes(text, 1000)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**31, "2.0 GiB"), (2**52, "4096.0 TiB")],
)
def test_as_people_read_them(size: int, text: str) -> None:
    assert shown_size(size) == text
