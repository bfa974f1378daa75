"""What a run writes reaches a terminal in lines, and only what can be printed."""

from __future__ import annotations

import pytest

from sandbox.cli.follow import Follower


def followed(capsys: pytest.CaptureFixture[str], *chunks: bytes) -> list[str]:
    follower = Follower()
    for chunk in chunks:
        follower.take(chunk)
    follower.end()
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()


def test_lines_come_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert followed(capsys, b"rea", b"dy\nna\xc3", b"\xafve\r\n\ta") == [
        "  | ready",
        "  | na\u00efve",
        "  |         a",
    ]


def test_nothing_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    evil = b"\x1b[2J\x1b]0;title\x07 \x9b1A \xff \xe2\x80\xae back\rover\n"
    assert followed(capsys, evil) == ["  | ?[2J?]0;title? \ufffd1A \ufffd ? back?over"]


def test_a_line_without_end_is_shown_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    lines = followed(capsys, *[b"x" * 1000] * 10)
    assert "".join(line.removeprefix("  | ") for line in lines) == "x" * 10_000
    assert max(map(len, lines)) < 6000
