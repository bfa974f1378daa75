"""Secrets taken out of what leaves a worker, in each form in which an image is likely to write them.

A part of a secret is masked as well, if it is long enough to be told from chance: what is cut, wrapped or
split between two lines still goes. A form that is not known here passes; so does what an image makes of it on
purpose.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from registry.contract.report import Report, Run
from sandbox.probes.base import plain

MASK = "***"
PART_BYTES = 12
"""So much of a secret in one piece is masked; of a shorter one all of it."""
_IMAGE_SAID = ("command", "observations", "stubs")
"""What of a run is, beside its log, text that an image may have had a say in."""
_ESCAPED_BY_GO = str.maketrans({one: f"\\u{ord(one):04x}" for one in "&<>\u2028\u2029"})


class Masker:
    """What is masked; without secrets, nothing."""

    __slots__ = ("_longest", "_pieces")

    def __init__(self, secrets: Iterable[str]) -> None:
        pieces: dict[int, set[bytes]] = {}
        for secret in secrets:
            for form in forms(secret):
                size = min(len(form), PART_BYTES)
                for at in range(len(form) - size + 1):
                    pieces.setdefault(size, set()).add(form[at : at + size])
        self._pieces = {size: frozenset(found) for size, found in pieces.items()}
        self._longest = max(pieces, default=0)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def longest(self) -> int:
        """Bytes of the longest piece: so much must be seen at once."""
        return self._longest

    def covered(self, data: bytes) -> bytearray:
        """For each byte whether it belongs to a secret."""
        flags = bytearray(len(data))
        for size, pieces in self._pieces.items():
            marks = b"\1" * size
            for at in range(len(data) - size + 1):
                if data[at : at + size] in pieces:
                    flags[at : at + size] = marks
        return flags

    def text(self, text: str) -> str:
        """The text, masked."""
        if not self._pieces:
            return text
        data = text.encode("utf-8", "surrogatepass")
        flags = self.covered(data)
        return text if 1 not in flags else _masked(data, flags, inside=False).decode("utf-8", "replace")

    def value(self, value: Any) -> Any:
        """Every text in what JSON can hold, masked and no longer than it was; names of members stay."""
        if isinstance(value, str):
            # Two emoji are a secret, and shorter than the mask: what fitted into a field must fit still.
            return self.text(value)[: len(value)]
        if isinstance(value, Mapping):
            return {name: self.value(one) for name, one in value.items()}
        return [self.value(one) for one in value] if isinstance(value, list | tuple) else value


@dataclass(slots=True)
class MaskedStream:
    """Output that comes in pieces, masked as if it came at once: the last bytes wait for what follows."""

    masker: Masker
    give: Callable[[bytes], None]
    _held: bytes = field(default=b"", init=False)
    _passed: bytes = field(default=b"", init=False)
    """The last of what was given, unmasked: a piece of a secret may have begun there."""
    _inside: bool = field(default=False, init=False)

    def take(self, chunk: bytes) -> None:
        """One more piece."""
        self._go_on(chunk, keep=self.masker.longest - 1)

    def end(self) -> None:
        """No more comes."""
        self._go_on(b"", keep=0)

    def _go_on(self, chunk: bytes, *, keep: int) -> None:
        data = self._passed + self._held + chunk
        ready = max(len(self._passed), len(data) - keep)
        flags = self.masker.covered(data)
        start = len(self._passed)
        if ready > start:
            said = _masked(data[start:ready], flags[start:ready], inside=self._inside)
            self._inside = bool(flags[ready - 1])
            if said:
                self.give(said)
        self._held = data[ready:]
        self._passed = data[max(0, ready - self.masker.longest + 1) : ready]


def mask_report(report: Report, masker: Masker) -> Report:
    """The report without secrets in whatever the image had a say in; takes a while for a long log."""
    error = report.error
    if error is not None:
        error = error.model_copy(update={"message": masker.value(error.message)})
    runs = []
    for run in report.runs:
        said = run.model_dump()
        said |= {name: masker.value(said[name]) for name in _IMAGE_SAID if name in said}
        said["log"] = masker.text(run.log)
        runs.append(Run.model_validate(said, strict=False))
    tested = masker.value(report.tested)
    return report.model_copy(update={"tested": tested, "error": error, "runs": tuple(runs)})


def forms(secret: str) -> Iterator[bytes]:
    """The secret as it is, as probes write what they saw, as JSON (also that of Go and PHP) and Python write
    it, in base64 wherever it begins there, in hexadecimal, and as part of a URL."""
    raw = secret.encode()
    found = {raw, plain(secret).encode(), repr(secret)[1:-1].encode()}
    ascii_json, as_json = (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    go, php = as_json.translate(_ESCAPED_BY_GO), ascii_json.replace("/", "\\/")
    found |= {one.encode() for one in (ascii_json, as_json, go, php)}
    for before in range(3):
        whole, start = base64.b64encode(bytes(before) + raw), -(-before * 8 // 6)
        # A letter that it shares with what goes before or follows is not known.
        for known in (whole[start:], whole[start : (before + len(raw)) * 8 // 6]):
            found |= {known, known.translate(bytes.maketrans(b"+/", b"-_"))}
    found |= {raw.hex().encode(), raw.hex().upper().encode()}
    for written in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        found |= {written.encode(), _lower_escapes(written).encode()}
    yield from sorted(one for one in found if one)


def _lower_escapes(text: str) -> str:
    first, *parts = text.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in parts)])


def _masked(data: bytes, flags: bytearray, *, inside: bool) -> bytes:
    """``data`` with a mask for each stretch of flags; ``inside``: one has been begun before."""
    said = bytearray()
    at = 0
    while at < len(data):
        flag = flags[at]
        end = flags.find(1 - flag, at)
        end = len(data) if end < 0 else end
        if not flag:
            said += data[at:end]
        elif at or not inside:
            said += MASK.encode()
        at = end
    return bytes(said)
