"""Where a held tag may stand for readers: its history, read backwards."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from registry.trials.holding import Position, positions


def move(text: str) -> Position:
    """``A`` is a push of A, ``<A`` a rollback to A, ``x`` a delete."""
    action = "delete" if text == "x" else "rollback" if text[0] == "<" else "push"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    digest = None if text == "x" else text.lstrip("<")
    return Position(action, digest, "pass", "", at, None, None, None, "linux/amd64", at)


@pytest.mark.parametrize(
    ("history", "left"),
    [
        ("", ""),
        ("A", "A"),
        ("A B C", "C B A"),
        ("A x B", "B"),
        ("A x", ""),
        # What came after where a rollback went to was taken back, and does not come again.
        ("A B C <A", "A A"),
        ("A B C <B", "B B A"),
        ("A B C <A D", "D A A"),
        ("A B C <B D <B", "B B B A"),
        ("A B C <B <A", "A A"),
        ("A B x <A", "A"),
        ("A B x <A C", "C A"),
        ("A B A C <A", "A A B A"),
    ],
)
def test_positions(history: str, left: str) -> None:
    moves = [move(text) for text in history.split()]
    assert [one.digest for one in positions(reversed(moves))] == left.split()
