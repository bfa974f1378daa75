"""Sizes as people type them."""

from __future__ import annotations

import pytest

from registry.cli.sizes import parse_size_bytes
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
