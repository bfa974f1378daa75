"""What a machine said is believed only where it said it to the end."""

from __future__ import annotations

import pytest

from tests.vm.console import Case, parse_told, tail

WHOLE = 'case a::b passed (1.0 s) inside: x (enforce)\nkeep doctor {"a": 1}\n\nend 0\n'


def test_all_held() -> None:
    told = parse_told(WHOLE)
    assert told.cases == [Case("a::b", "passed", "(1.0 s) inside: x (enforce)")]
    assert told.kept == {"doctor": '{"a": 1}'}
    assert told.held


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", None),
        ("case a passed\n", None),
        ("case a passed\nend 0", None),
        ("end 0\n", 0),
        ("case a passed\nend 1\n", 1),
        ("case a passed\nend x\n", 1),
        ("case a failed\nend 0\n", 0),
        ("case a skipped\nend 0\n", 0),
        ("case a\nend 0\n", 0),
        ("case a odd\nend 0\n", 0),
        ("case a passed\nend 1\nend 0\n", 1),
    ],
    ids=[
        "silence", "no end", "cut short", "no checks", "a code", "no number", "failed", "skipped", "no state",
        "another state", "two ends",
    ],
)  # fmt: skip
def test_everything_else_did_not(text: str, code: int | None) -> None:
    told = parse_told(text)
    assert told.code == code
    assert not told.held


def test_each_line_may_end_as_a_terminal_ends_it() -> None:
    assert parse_told(WHOLE.replace("\n", "\r\n")) == parse_told(WHOLE)


def test_the_end_of_a_console() -> None:
    assert tail("a\r\nb\x1b[1mc\r\nd\r\n\r\n", lines=2) == "b[1mc\nd"
