"""Expectations about stubs: they were asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from registry.contract.expectations import StubExpectation
from registry.contract.report import Observation
from sandbox.probes.base import View


class Told(Protocol):
    """What is known of a run's stubs."""

    @property
    def lost(self) -> bool: ...

    @property
    def full(self) -> bool: ...

    def asked(self, number: int, *, ended: bool) -> int: ...


@dataclass(slots=True)
class StubAsked:
    """A stub was asked as often as expected, until its time is up or the command ends."""

    expected: StubExpectation
    number: int
    """Which one it is of those of the run."""
    told: Told
    within_seconds: float
    tells_ready: ClassVar[bool] = True

    def poll(self, view: View) -> Observation | None:
        """Decide by what has been told so far."""
        ended = view.ending is not None or bool(view.over)
        times = self.told.asked(self.number, ended=ended)
        seen = f"asked {times} time{'' if times == 1 else 's'}"
        if times >= self.expected.times:
            return self._observed(seen, met=True)
        if self.told.lost or self.told.full:
            why = "the worker's stub ended" if self.told.lost else "it took no more: a limit was reached"
            return self._observed(f"{seen}; {why}", met=None)
        if ended:
            return self._observed(f"{seen}; {view.over or view.ending}", met=False)
        if view.seconds >= self.within_seconds:
            return self._observed(seen, met=False)
        return None

    def children(self) -> tuple[int, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing was started."""

    def _observed(self, seen: str, *, met: bool | None) -> Observation:
        text = f"{self.expected.in_words()[:250]} within {self.within_seconds:g} s"
        return Observation(expectation=text, seen=seen[:2000], met=met)
