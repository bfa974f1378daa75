"""Text of strangers, made fit for one line of a log, a list or a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with ``?`` for what cannot be printed: nothing in it ends a line, moves a cursor, clears a
    screen or turns the direction of writing."""
    if text.isprintable():
        return text  # told at once, and nearly always so
    return "".join(letter if letter.isprintable() else "?" for letter in text)
