"""Text of strangers, made fit for a page: nothing in it turns the direction of writing, hides or goes on for
ever. That it is no HTML is the templates' business, which escape everything."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

CHARACTERS_MAX = 2000
"""Of one value on a page; what is longer is cut, and says so."""
_KEPT = "\n\t"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ODD = re.compile(r"[^\n\t -~]+")
"""All but what is plain; most text has little of it, and logs are long."""
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Written between letters of some scripts, and between the parts of a symbol."""


def visible(text: str, *, characters: int = CHARACTERS_MAX) -> str:
    """The text with what cannot be seen spelt out (``<U+202E>``), and cut after so many characters."""
    cut = len(text) - characters
    if cut > 0:
        text = text[:characters]
    if not text.isprintable():
        text = _ODD.sub(lambda odd: "".join(map(_spelt, odd[0])), text)
    return f"{text}… ({cut} more characters)" if cut > 0 else text


@lru_cache(maxsize=4096)
def _spelt(letter: str) -> str:
    return letter if _is_shown(letter) else f"<U+{ord(letter):04X}>"


def _is_shown(letter: str) -> bool:
    return letter in _KEPT or letter in _JOINERS or unicodedata.category(letter) not in _HIDDEN
