"""What a program wrote for a terminal, as markup: its colours are kept, all else that moves, clears or names
something is left out, and nothing of it is markup of the program's own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from markupsafe import Markup, escape

from registry.pages.visible import visible

# ECMA-48: CSI with its parameters and one last letter; OSC, DCS and the like up to their end; two letters. No
# character fits two parts that follow one another: else to see that something is none of these takes the
# square of its length.
_SEQUENCE = re.compile(
    r"\x1b\[([0-9;:<=>?]*)[ -/]*([@-~])"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-Z\\^-~]"
)
_BEGUN = re.compile(r"\x1b(?:\[[0-9;:<=>?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?$")
_BEGUN_MAX = 4096
_ENDS_OF_LINES = re.compile(r"\r\n?")
_PARAMETERS_MAX = 32
_STYLES = {1: "bold", 2: "faint", 3: "slanted", 4: "underlined", 7: "turned"}
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


_CLOSED = Markup("</span>")


@cache
def _opened(names: tuple[str, ...]) -> Markup:
    """What stands before text of these styles; there are some hundred of them."""
    return Markup('<span class="{}">').format(" ".join(f"t-{name}" for name in names))


@dataclass(slots=True)
class Terminal:
    """Text that comes in pieces: a colour lasts over them, and so does a sequence that was cut in two."""

    _rest: str = field(default="", init=False)
    _styles: set[str] = field(default_factory=set, init=False)
    _colour: str = field(default="", init=False)

    def take(self, text: str) -> Markup:
        """The next piece, as markup for a ``pre``."""
        text = self._rest + text
        self._rest = ""
        if (begun := _BEGUN.search(text, max(0, len(text) - _BEGUN_MAX))) is not None:
            text, self._rest = text[: begun.start()], begun[0]
        if text.endswith("\r"):
            text, self._rest = text[:-1], "\r"
        found: list[Markup] = []
        end = 0
        for sequence in _SEQUENCE.finditer(text):
            found.append(self._shown(text[end : sequence.start()]))
            end = sequence.end()
            if sequence[2] == "m":
                self._set(sequence[1])
        found.append(self._shown(text[end:]))
        return Markup("").join(found)

    def _shown(self, text: str) -> Markup:
        if not text:
            return Markup("")
        if "\r" in text:
            text = _ENDS_OF_LINES.sub("\n", text)
        plain = escape(visible(text, characters=len(text)))
        if not (self._styles or self._colour):
            return plain
        return _opened((*sorted(self._styles), *([self._colour] if self._colour else ()))) + plain + _CLOSED

    def _set(self, parameters: str) -> None:
        """Select Graphic Rendition: what is not known is nothing."""
        numbers = [int(one) if one.isdigit() and len(one) < 4 else 0 for one in parameters.split(";")]
        given = iter(numbers[:_PARAMETERS_MAX])
        for number in given:
            if number == 0:
                self._styles.clear()
                self._colour = ""
            elif number in _STYLES:
                self._styles.add(_STYLES[number])
            elif number in (22, 23, 24, 27):
                self._styles -= {"bold", "faint"} if number == 22 else {_STYLES[number - 20]}
            elif 30 <= number <= 37 or 90 <= number <= 97:
                self._colour = _COLOURS[number % 10]
            elif number == 39:
                self._colour = ""
            elif number in (38, 48):
                # A colour of 256, or of all: passed over with its numbers.
                for _ in range({5: 1, 2: 3}.get(next(given, 0), 0)):
                    next(given, 0)


def shown_log(text: str) -> Markup:
    """A whole log, as markup for a ``pre``."""
    return Terminal().take(text)
