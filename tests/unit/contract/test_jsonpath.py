"""Paths into JSON: RFC 9535 as far as it goes, and in linear time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from registry.contract.expectations import JsonExpectation
from registry.contract.jsonpath import find, parse_path

DOCUMENT: dict[str, Any] = {
    "store": {"book": [{"title": "a", "n": 1}, {"title": "b"}], "a b": {"'": 1, "*": 2}},
    "ok": True,
    "none": None,
    "0": "zero",
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$", [DOCUMENT]),
        ("$.ok", [True]),
        ("$.none", [None]),
        ("$.store.book[0].title", ["a"]),
        ("$.store.book[-1]['title']", ["b"]),
        ("$['store'][\"book\"][*].title", ["a", "b"]),
        ("$.store.book.*.n", [1]),
        ("$.store['a b']['\\'']", [1]),
        ("$.store['a b']['*']", [2]),
        ("$.store['a b'].*", [1, 2]),
        ("$.store.book[2]", []),
        ("$.store.book[-3]", []),
        ("$.ok.x", []),
        ("$[0]", []),
        ("$['0']", ["zero"]),
        ("$.ok[*]", []),
    ],
)
def test_what_stands_there(path: str, values: list[Any]) -> None:
    assert list(find(parse_path(path), DOCUMENT)) == values


@pytest.mark.parametrize(
    "path",
    [
        "",
        "ok",
        "$.",
        "$..ok",
        "$.a[?@.b]",
        "$[1:2]",
        "$['a','b']",
        "$[01]",
        "$ .a",
        "$['a",
        "$.1a",
        "$" + ".a" * 33,
    ],
)
def test_what_is_none_or_takes_longer(path: str) -> None:
    with pytest.raises(ValueError, match="JSON path"):
        parse_path(path)


@pytest.mark.parametrize(
    ("expected", "met"),
    [
        ({"path": "$.ok"}, True),
        ({"path": "$.no"}, False),
        ({"path": "$.none"}, True),
        ({"path": "$.ok", "equals": True}, True),
        ({"path": "$.ok", "equals": 1}, False),
        ({"path": "$.store.book[0].n", "equals": 1}, True),
        ({"path": "$.store.book[0].n", "equals": 1.0}, True),
        ({"path": "$.store.book[0].n", "equals": True}, False),
        ({"path": "$.store.book[0].n", "equals": "1"}, False),
        ({"path": "$.store.book[*].title", "equals": "b"}, True),
        ({"path": "$.store.book[*].title", "match": "^[b-z]$"}, True),
        ({"path": "$.store.book", "match": '"title": "a"'}, True),
    ],
)
def test_a_value_is_as_expected(expected: dict[str, Any], met: bool) -> None:
    assert JsonExpectation(**expected).met_by(DOCUMENT) is met


def test_it_takes_linear_time() -> None:
    wide: Any = 1
    for _ in range(3):
        wide = [wide] * 60
    started = time.process_time()
    assert len(find(parse_path("$" + "[*]" * 3), wide)) == 60**3
    assert find(parse_path("$" + "[*]" * 32), wide) == []
    assert time.process_time() - started < 5
