"""What another scanner says, as values, whatever format it said it in. Pure.

Its report is hostile: what is no text is none, what is too long is cut, and what has the wrong type is taken
for what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from registry.contract.scan import Found, Incomplete, Package, PackageKind, Reported, Scan
from sandbox.scanners.packages.ecosystems import ecosystem_of


class ReportInvalidError(Exception):
    """A report cannot be read; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one scanner says. ``packages`` is what ``reported`` counts in; no ``scanner`` is filled in yet."""

    scanner: str
    packages: Sequence[Package] = ()
    found: Sequence[Found] = ()
    reported: Sequence[Reported] = ()
    incomplete: Sequence[Incomplete] = ()
    truncated: bool = False


@dataclass(slots=True)
class Saying:
    """A :class:`Said` in the making, about the image of ``scan``."""

    scan: Scan
    packages: dict[tuple[PackageKind, str, str, str], Package] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    incomplete: list[Incomplete] = field(default_factory=list)
    _numbers: dict[tuple[PackageKind, str, str, str], int] = field(default_factory=dict)
    _layers: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._layers = {one.diff_id: number for number, one in reversed([*enumerate(self.scan.layers)])}

    def package(
        self,
        kind: PackageKind,
        name: str,
        version: str,
        *,
        path: str = "",
        layer: int | None = None,
        licences: Sequence[str] = (),
    ) -> int:
        """The number of a package, which is taken in if it is new. One without a name stands for its file."""
        name, version, path = cut(name or path or "?", 300), cut(version or "?", 300), plain_path(path)
        key = (kind, name, version, path)
        if key not in self.packages:
            self._numbers[key] = len(self.packages)
            self.packages[key] = Package(
                kind=kind,
                ecosystem=cut(ecosystem_of(self.scan.system, kind), 64),
                name=name,
                version=version,
                licences=tuple(cut(one, 300) for one in licences[:50]),
                path=path,
                layer=layer or 0,
            )
        return self._numbers[key]

    def layer(self, diff_id: str) -> int | None:
        """The number of a layer by its diff ID; ``None``: the image has no such layer."""
        return self._layers.get(diff_id)

    def lacks(self, reason: str, where: str = "") -> None:
        """Something could not be looked at, or not understood."""
        self.incomplete.append(Incomplete(scanner="", where=plain_path(where), reason=cut(reason, 300)))

    def done(self, scanner: str) -> Said:
        """All that was said."""
        return Said(
            cut(scanner, 200),
            tuple(self.packages.values()),
            tuple(self.found),
            tuple(self.reported),
            tuple(self.incomplete),
        )


def plain_path(path: str) -> str:
    """A path as scans have it: from the root of the image under test, without ``/`` in front."""
    return cut(path.removeprefix("/target/").lstrip("/"), 4096)


def cut(text: str, most: int) -> str:
    """The text, or as much of it as there is room for."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def members(value: object) -> Mapping[str, object]:
    """An object of JSON; of anything else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> Sequence[object]:
    """An array of JSON; of anything else an empty one."""
    return value if isinstance(value, list) else ()


def text(value: object) -> str:
    """A string of JSON; of anything else an empty one."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """A number of JSON; of anything else ``None``."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def line(value: object) -> int | None:
    """A number of a line, from 1 on."""
    found = number(value)
    return int(found) if found is not None and 1 <= found < 2**31 else None


def score(value: object) -> float | None:
    """A score of CVSS."""
    found = number(value)
    return found if found is not None and 0 <= found <= 10 else None
