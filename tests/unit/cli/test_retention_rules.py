"""How ``seatrial retention`` reads a rule."""

from __future__ import annotations

from typing import Any

import pytest

from registry.cli.retention import parse_rule
from registry.errors import RequestInvalidError


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("latest", {"tags": {"by": "glob", "pattern": "latest"}}),
        ("v*,last=5", {"tags": {"by": "glob", "pattern": "v*"}, "last": 5}),
        ("*,last=5", {"last": 5}),
        ("last=5, pulled=30d", {"last": 5, "pulled_days": 30}),
        (
            "semver=>=1.0 <2,last=10,order=version",
            {"tags": {"by": "semver", "pattern": ">=1.0 <2"}, "last": 10, "order": "version"},
        ),
        (
            "moved=7d,regex=v[0-9]{1,3},x",
            {"moved_days": 7, "tags": {"by": "regex", "pattern": "v[0-9]{1,3},x"}},
        ),
        ("regex=a=b", {"tags": {"by": "regex", "pattern": "a=b"}}),
    ],
)
def test_a_rule(text: str, rule: dict[str, Any]) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize("text", ["last=-1", "order=age", "last=1,last=2", "a,b", "pulled=90m", "x=y"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_rule(text)
