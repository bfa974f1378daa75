"""Names (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DigestInvalidError, NameInvalidError, SeatrialError, TagInvalidError
from registry.oci.digest import Digest
from registry.oci.names import (
    parse_image_name,
    parse_reference,
    parse_repository_name,
    parse_tag,
    split_repository_reference,
)

HEX = "a" * 64
COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
SPEC_NAME = re.compile(rf"{COMPONENT}(/{COMPONENT})*", re.ASCII)
SPEC_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
NEAR_NAMES = st.text(alphabet="ab09._-/A \n\0é", max_size=30)


@given(NEAR_NAMES | st.from_regex(SPEC_NAME, fullmatch=True))
def test_repository_names_are_those_of_the_grammar(text: str) -> None:
    short = len(text) <= 255 and all(len(part) <= 128 for part in text.split("/"))
    if SPEC_NAME.fullmatch(text) and short:
        assert parse_repository_name(text) == text
    else:
        with pytest.raises(NameInvalidError):
            parse_repository_name(text)


@given(NEAR_NAMES | st.from_regex(SPEC_TAG, fullmatch=True))
def test_tags_are_those_of_the_grammar(text: str) -> None:
    if SPEC_TAG.fullmatch(text):
        assert parse_tag(text) == text
    else:
        with pytest.raises(TagInvalidError):
            parse_tag(text)


def test_limits_of_length() -> None:
    assert parse_repository_name("a" * 128)
    assert parse_repository_name("/".join(["a" * 127] * 2))
    for text in ("", "a" * 129, "/".join(["a" * 84] * 3) + "/a"):
        with pytest.raises(NameInvalidError):
            parse_repository_name(text)
    assert parse_tag("a" * 128)
    with pytest.raises(TagInvalidError):
        parse_tag("a" * 129)


def test_a_hostile_name_costs_little() -> None:
    # A backtracking grammar takes minutes for these.
    for text in ("a" * 250 + "!", "a-" * 125 + "!", "a_" * 60 + "-", "a" * 127 + "/" + "b-" * 60):
        with pytest.raises(NameInvalidError):
            parse_repository_name(text)


def test_references_are_tags_or_digests() -> None:
    assert parse_reference("v1.0") == "v1.0"
    assert parse_reference(f"sha256:{HEX}") == Digest("sha256", HEX)
    with pytest.raises(TagInvalidError):
        parse_reference(".hidden")
    for text in ("sha256:short", f"blake3:{HEX}", "a:b"):
        with pytest.raises(DigestInvalidError):
            parse_reference(text)


@pytest.mark.parametrize(
    ("text", "shown", "reference"),
    [
        ("localhost/app", "localhost/app:latest", "latest"),
        ("localhost:5000/team/app:v1", "localhost:5000/team/app:v1", "v1"),
        ("reg.example/app", "reg.example/app:latest", "latest"),
        ("[::1]:8470/a/b:x", "[::1]:8470/a/b:x", "x"),
        (f"reg.example/app@sha256:{HEX}", f"reg.example/app@sha256:{HEX}", f"sha256:{HEX}"),
        (f"reg.example/app:v1@sha256:{HEX}", f"reg.example/app:v1@sha256:{HEX}", f"sha256:{HEX}"),
    ],
)
def test_image_names(text: str, shown: str, reference: str) -> None:
    name = parse_image_name(text)
    assert str(name) == shown
    assert name.reference == reference
    assert parse_image_name(shown) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", "app", "team/app", "reg.example", "reg.example/", "reg.example/UPPER", "reg.example/a:"),
        *("-x.example/a", "reg.example/a@", "reg.example/a@sha256:x", "reg.example/a:b:c"),
        *("http://reg.example/a", "a b.example/x"),
    ],
)
def test_what_is_no_image_name(text: str) -> None:
    with pytest.raises((NameInvalidError, TagInvalidError, DigestInvalidError)):
        parse_image_name(text)


@given(st.text(max_size=60))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        name, tag, digest = split_repository_reference(text)
    except SeatrialError:
        return
    assert parse_repository_name(name) == name
    assert text == name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
