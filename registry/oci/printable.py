"""Text of strangers, made fit for one line of a log, a list or a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field

_LINE_CHARACTERS = 4096


def printable(text: str) -> str:
    """The text with ``?`` for what cannot be printed: nothing in it ends a line, moves a cursor, clears a
    screen or turns the direction of writing."""
    if text.isprintable():
        return text  # told at once, and nearly always so
    return "".join(letter if letter.isprintable() else "?" for letter in text)


@dataclass(slots=True)
class PrintableLines:
    """Lines of a stranger's text that comes in pieces: each once it is whole, or longer than 4,096
    characters."""

    _rest: str = field(default="", init=False)

    def take(self, text: str) -> list[str]:
        """The lines that end with some more text."""
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > _LINE_CHARACTERS:
            lines.append(self._rest)
            self._rest = ""
        return [printable(line.rstrip("\r").expandtabs()) for line in lines]

    def end(self) -> list[str]:
        """What has no end of line."""
        return self.take("\n") if self._rest else []
