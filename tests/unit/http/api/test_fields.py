"""The patterns that the description of the API shows take what the use cases take, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from registry.auth.accountnames import parse_account_name, parse_robot_name
from registry.errors import SeatrialError
from registry.http.api import fields
from registry.oci.conditions import parse_entity_tags
from registry.oci.digest import parse_content_digest
from registry.oci.names import parse_repository_name, parse_tag, split_repository_reference

TEXTS = [
    *(
        "",
        "a",
        "a/b",
        "a//b",
        "/a",
        "a/",
        "A",
        "a.b",
        "a..b",
        "a__b",
        "a___b",
        "a---b",
        "-a",
        "a-",
        "a b",
        "a\n",
    ),
    *("a" * 64, "a" * 65, "a" * 128, "a" * 129, "/".join(["a" * 127] * 2), "/".join(["a" * 100] * 3)),
    *("a+b", "a/b+ci", "a+", "+a", "a+B", "a++b", "_a", "1.0", ".1", "V1_x-y", "ä", "alice", "a._b"),
    *("a:1", "a/b:1.0", "a:", "a:.x", f"{'/'.join(['a' * 127] * 2)}/b:1", "a:1:2"),
    *(f"sha256:{'0' * 64}", f"sha512:{'f' * 128}", f"sha256:{'0' * 63}", f"sha256:{'A' * 64}", "md5:0"),
    *(f"a@sha256:{'0' * 64}", f"a:1@sha256:{'0' * 64}", "a@", "a@sha256:0"),
    *("*", '"a"', 'W/"a"', '"a", "b"', '"a"x', '"', 'w/"a"', "0"),
]


def _pattern(kind: Any) -> tuple[str, int]:
    schema = TypeAdapter(kind).json_schema()
    return str(schema["pattern"]), int(schema.get("maxLength", 10**6))


@pytest.mark.parametrize(
    ("shown", "parse"),
    [
        (_pattern(fields.AccountName), parse_account_name),
        (_pattern(fields.RobotName), parse_robot_name),
        (_pattern(fields.RepositoryName), parse_repository_name),
        (_pattern(fields.TagName), parse_tag),
        (_pattern(fields.ContentDigest), parse_content_digest),
        (_pattern(fields.ImageReference), split_repository_reference),
        ((fields.ENTITY_TAGS, 10**6), parse_entity_tags),
    ],
)
def test_a_pattern_says_what_is_taken(shown: tuple[str, int], parse: Callable[[str], object]) -> None:
    pattern, longest = shown

    def takes(text: str) -> bool:
        try:
            parse(text)
        except SeatrialError:
            return False
        return True

    # ECMA's $ does not stand before a last line break, as Python's does.
    described = {text for text in TEXTS if len(text) <= longest and re.search(pattern[:-1] + r"\Z", text)}
    assert described == {text for text in TEXTS if takes(text)}


@pytest.mark.parametrize("text", ["0", "1764000000", "now", "2026-13-01T00:00:00Z", "2026-11-25T02:00:00"])
def test_a_time_is_a_date_with_its_zone(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|zone|date|month"):
        TypeAdapter(fields.Time).validate_python(text)
