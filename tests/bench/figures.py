"""What is measured: one value each, its spread over the rounds, and the limit that it must keep."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. ``low`` and ``high`` are the extremes over the rounds.

    A ``value`` of ``None`` could not be measured, which misses every limit; ``note`` says why.
    """

    name: str
    value: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the value keeps its limits, if it has any."""
        if self.value is None:
            return self.at_most is None and self.at_least is None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def line(self) -> str:
        """For the terminal."""
        name, value, spread, limit, verdict = self._words()
        line = f"  {name:<82} {value:>16} {spread:<18} {limit:<14} {verdict}".rstrip()
        return f"{line}\n      {self.note}" if self.note else line

    def row(self) -> str:
        """For a table in Markdown."""
        name, *others = self._words()
        return f"| {' | '.join([f'{name} ({self.note})' if self.note else name, *others])} |"

    def _words(self) -> tuple[str, str, str, str, str]:
        value = "not measured" if self.value is None else f"{self.value:.2f} {self.unit}".strip()
        spread = "" if self.low is None else f"{self.low:.2f} to {self.high:.2f}"
        limit = "" if self.at_most is None else f"at most {self.at_most:.3g}"
        limit = limit if self.at_least is None else f"at least {self.at_least:.3g}"
        return self.name, value, spread, limit, "" if not limit else "met" if self.met else "MISSED"

    def document(self) -> dict[str, object]:
        """For the kept file: what there is to say, with the numbers rounded."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if value is not None or name == "value"
            if value != ""
        } | {"met": self.met}


def kept_figure(document: Mapping[str, Any]) -> Figure:
    """The figure of which :meth:`Figure.document` is kept."""
    said = {"unit": "", **document}
    return Figure(**{name: said[name] for name in Figure.__dataclass_fields__ if name in said})


def over(
    name: str,
    samples: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """The median of what the rounds gave."""
    return Figure(
        name,
        statistics.median(samples),
        unit,
        at_most=at_most,
        at_least=at_least,
        low=min(samples),
        high=max(samples),
    )


def ratio(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """The median of the ratios within each round, whose two halves ran one right after the other."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return over(name, ratios, "x", at_most=at_most, at_least=at_least)
