"""Platforms (image-spec, image-index.md)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.platform import Platform, parse_platform

WORD = st.from_regex(r"[a-zA-Z0-9._-]{1,10}", fullmatch=True)


@given(WORD, WORD, st.just("") | WORD)
def test_what_is_shown_is_what_is_parsed(os: str, architecture: str, variant: str) -> None:
    platform = Platform(os, architecture, variant)
    assert parse_platform(str(platform)) == platform


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd64/", "li nux/amd64", "a\0/b", "é/a"]
)
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(ValueError, match="not a platform"):
        parse_platform(text)


@pytest.mark.parametrize(
    ("host", "image", "runs"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/amd64/v1", True),
        ("linux/amd64", "linux/amd64/v2", False),
        ("linux/amd64/v3", "linux/amd64/v2", True),
        ("linux/amd64/v3", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64/v8", "linux/arm64/v9", False),
        ("linux/arm", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm", False),
        ("linux/amd64", "unknown/unknown", False),
    ],
)
def test_what_a_host_runs(host: str, image: str, runs: bool) -> None:
    assert parse_platform(host).runs(parse_platform(image)) is runs


@given(st.text(), st.text(), st.text())
def test_any_words_can_be_compared(os: str, architecture: str, variant: str) -> None:
    platform = Platform(os, architecture, variant)
    assert platform.runs(platform)
    assert platform.unknown == ("unknown" in (os, architecture))
