"""A look by a forked child, and how its answer comes back."""

from __future__ import annotations

import pytest

from sandbox.probes.attempt import Answer, Attempt


@pytest.mark.parametrize("letter", ["a", "\N{GRINNING FACE}", '"', "\x1b", "\udc80"])
def test_an_answer_comes_back_whatever_letters_it_has(letter: str) -> None:
    answer = Attempt(lambda: Answer(True, letter * 600), timeout_seconds=10).wait()
    assert (answer.met, len(answer.seen)) == (True, 500)
