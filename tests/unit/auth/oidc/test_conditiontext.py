"""Conditions on claims as people write them."""

from __future__ import annotations

import pytest

from registry.auth.oidc.conditiontext import parse_condition, shown_condition
from registry.errors import RequestInvalidError


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("hd=example.org", {"claim": "hd", "equals": "example.org"}),
        ("ref~refs/heads/*", {"claim": "ref", "glob": "refs/heads/*"}),
        # The first of the two signs tells; what follows may have both.
        ("sub=a~b=c", {"claim": "sub", "equals": "a~b=c"}),
        ("sub~a=b", {"claim": "sub", "glob": "a=b"}),
    ],
)
def test_a_condition_reads_as_it_is_written(text: str, condition: dict[str, str]) -> None:
    assert parse_condition(text) == condition
    assert shown_condition(condition) == text


@pytest.mark.parametrize("text", ["", "sub", "=x", "~x", "sub=", "sub~"])
def test_what_is_none_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="CLAIM=VALUE or CLAIM~GLOB") as caught:
        parse_condition(text)
    assert repr(text) in caught.value.message
