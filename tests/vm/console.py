"""What a machine says on its second serial line: one record a line, each with a word in front.

``case NAME STATE DETAIL`` (STATE is ``passed``, ``failed`` or ``skipped``), ``keep NAME JSON`` (a file for
whoever ran the machine), ``end CODE``. Nothing after ``end`` counts, and without it nothing held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STATES = ("passed", "failed", "skipped")


@dataclass(frozen=True, slots=True)
class Case:
    """One check."""

    name: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Told:
    """All that a machine said. ``code`` is ``None`` where it never came to its end."""

    cases: Sequence[Case] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    code: int | None = None

    @property
    def held(self) -> bool:
        """Whether there were checks, every one passed, and the machine ended by itself."""
        return self.code == 0 and bool(self.cases) and all(one.state == "passed" for one in self.cases)


def parse_told(text: str) -> Told:
    """Read the line; what is cut short or unknown counts as said by no one."""
    cases: list[Case] = []
    kept: dict[str, str] = {}
    for line in text.splitlines(keepends=True):
        word, _, rest = line.rstrip("\r\n").partition(" ")
        if not line.endswith("\n"):
            break
        if word == "case":
            name, _, rest = rest.partition(" ")
            state, _, detail = rest.partition(" ")
            cases.append(Case(name, state if state in STATES else "failed", detail))
        elif word == "keep":
            name, _, document = rest.partition(" ")
            kept[name] = document
        elif word == "end":
            return Told(cases, kept, int(rest) if rest.isdigit() else 1)
    return Told(cases, kept)


def tail(console: str, lines: int = 40) -> str:
    """The end of what the kernel and the programs printed, without what a terminal would hide."""
    clean = "".join(one for one in console.replace("\r", "") if one.isprintable() or one in "\n\t")
    return "\n".join(clean.rstrip().split("\n")[-lines:])
