"""Where a mistake in a run spec is, and what was meant."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from registry.contract.examples import EXAMPLES
from registry.contract.specfile import (
    Problem,
    SpecInvalidError,
    as_yaml,
    parse_image_spec,
    parse_run_spec,
)


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecInvalidError) as raised:
        parse_run_spec(text)
    return raised.value.problems


@pytest.mark.parametrize(
    ("text", "line", "column", "path", "message"),
    [
        ("version: 1\nexpct: {}", 2, 1, "expct", "there is no such key; did you mean 'expect'?"),
        (
            "version: 1\nexpect:\n  htpp:\n    - {port: 1}",
            3,
            3,
            "expect.htpp",
            "there is no such key; did you mean 'http'?",
        ),
        (
            "version: 1\nexpect:\n  http:\n    - port: 80\n      stat: 200",
            5,
            7,
            "expect.http.0.stat",
            "there is no such key; did you mean 'status'?",
        ),
        (
            "version: 1\ncases:\n  - name: a\n    limits: {memory: 1}",
            4,
            14,
            "cases.0.limits.memory",
            "there is no such key; did you mean 'memory_bytes'?",
        ),
        ("version: 1\npids: 3", 2, 1, "pids", "there is no such key; known are args, attempts, "),
        ("version: 1\nenv: {A: a, A: b}", 2, 13, "env.A", "this key is there twice"),
        ("version: 1\nenv:\n  A: &x y\n  B: *x", 4, 6, "spec", "not YAML: aliases are not allowed"),
        ("version: 1\nservices: []", 2, 11, "services", "Value should have at least 1 item"),
        ("version: 1\nstub: {}", 2, 7, "stub", "Input should be a valid array"),
        ("version: 1\nexpect: {exit: 256}", 2, 16, "expect.exit", "an exit code is a number from 0 to 255"),
        ("version: 1\nexpect: {exit: [1]}", 2, 16, "expect.exit", "Input should be a valid integer"),
        ("version: 1\nexpect: {alive: -1}", 2, 17, "expect.alive", "true, or seconds from above 0"),
        ("version: 1\nexpect:\n\t- x", 3, 1, "spec", "not YAML: found character '\\t'"),
        ("version: 1\nexpect: [1", 2, 11, "spec", "not YAML: "),
        ("version: 1\nuser: 2020-01-01", 0, 0, "", ""),
        ("version: 1\n<<: {}", 2, 1, "spec", "a key is a plain text"),
        ("env: {}", 1, 1, "version", "Field required"),
    ],
)
def test_it_has_a_place_and_a_reason(text: str, line: int, column: int, path: str, message: str) -> None:
    if not line:
        # A date is no kind of its own here.
        assert parse_run_spec(text).user == "2020-01-01"
        return
    first = problems(text)[0]
    assert (first.line, first.column, first.path) == (line, column, path)
    assert first.message.startswith(message)


def test_all_of_them_are_told_and_the_sentence_has_the_first_five() -> None:
    text = "version: 1\n" + "".join(f"wrong{n}: 1\n" for n in range(7))
    with pytest.raises(SpecInvalidError) as raised:
        parse_run_spec(text)
    assert len(raised.value.problems) == 7
    assert raised.value.message.startswith("the run spec is not valid: line 2, column 1: wrong0: ")
    assert raised.value.message.endswith("; and 2 more")


def test_what_came_on_one_line_has_no_place() -> None:
    with pytest.raises(SpecInvalidError) as raised:
        parse_run_spec('{"version": 1, "usr": "x"}')
    assert raised.value.message == (
        "the run spec is not valid: usr: there is no such key; did you mean 'user'?"
    )


def test_a_label_knows_fewer_keys() -> None:
    with pytest.raises(SpecInvalidError, match="there is no such key; known are expect, limits, version"):
        parse_image_spec("version: 1\nuser: root")


def test_depth_has_an_end() -> None:
    assert "nested too deep" in problems("a: " + "[" * 100 + "]" * 100)[0].message


VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e-5, 10**30, "", "x", "restricted", "nonzero", "all", "\0", [], {}),
    *([None], ["a"], {"a": 1}, [{"name": "a"}], {"match": "("}, {"path": "$.a"}, [[[]]]),
)
KEYS = ("expect", "cases", "limits", "env", "checks", "pass", "exit", "alive", "log", "http", "json", "zz")


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document with each of its keys or places."""
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from places(document[key])


@pytest.mark.parametrize("seed", range(4))
def test_a_spec_with_something_else_in_it_is_one_or_has_its_mistake_named(seed: int) -> None:
    """And one that is taken can be stored, read again and sent, and is the same."""
    chance = random.Random(seed)
    taken = 0
    named: list[object] = []
    for _ in range(60):
        document = yaml.safe_load(chance.choice(list(EXAMPLES.values())).spec)
        for _ in range(chance.randint(1, 2)):
            where, key = chance.choice(list(places(document)))
            if isinstance(where, dict) and chance.random() < 0.3:
                key = chance.choice(KEYS)
            where[key] = copy.deepcopy(chance.choice(VALUES))
        try:
            spec = parse_run_spec(yaml.safe_dump(document))
        except SpecInvalidError as error:
            named += [one.line and one.column and one.path and one.message for one in error.problems] or [
                None
            ]
            continue
        taken += 1
        assert parse_run_spec(spec.canonical()) == spec
        assert parse_run_spec(spec.model_dump_json()) == spec
        assert parse_run_spec(as_yaml(json.loads(spec.canonical()))) == spec
    assert taken > 0
    assert named
    assert all(named)


@pytest.mark.parametrize(
    "value",
    [
        "1e5",
        "1.5e-3",
        "2026-01-01",
        "yes",
        "null",
        "a\nb\n",
        " a\n  b",
        "a: b # c",
        "\u202e",
        "é",
        "=",
        "<<",
        "",
    ],
)
def test_what_is_stored_is_written_so_that_it_reads_the_same(value: str) -> None:
    document = {"version": 1, "env": {"NAME": value}, "expect": {"exit": 0}}
    text = as_yaml(document)
    assert parse_run_spec(text).env == {"NAME": value}
    assert text.startswith("version: 1\n")
    assert "\u202e" not in text
