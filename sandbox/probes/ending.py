"""Expectations about how and when the command ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from registry.contract.expectations import StopExpectation
from registry.contract.report import Observation
from sandbox.probes.base import Ending, View


@dataclass(frozen=True, slots=True)
class ExitCode:
    """The command ends with this code, or with one from 1 to 127: of its own will, and not well."""

    tells_ready: ClassVar[bool] = False
    wanted: int | Literal["nonzero"]

    def poll(self, view: View) -> Observation | None:
        """Decided when the command has ended, or when the run is over."""
        text = f"exit code is {self.wanted}"
        if view.ending is not None:
            code = view.ending.exit_code
            met = code in range(1, 128) if self.wanted == "nonzero" else code == self.wanted
            return Observation(expectation=text, seen=str(view.ending), met=met)
        if view.over:
            return Observation(expectation=text, seen=view.over, met=False)
        return None

    def children(self) -> tuple[int, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing was started."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The command still runs after so many seconds; or, where that is enough, it has ended with 0."""

    tells_ready: ClassVar[bool] = False
    after_seconds: float
    zero_is_enough: bool

    def poll(self, view: View) -> Observation | None:
        """Decided when the command has ended, when the time has come, or when the run is over."""
        text = f"alive after {self.after_seconds:g} s"
        if self.zero_is_enough:
            text = f"exit code is 0, or {text}"
        if view.ending is not None:
            met = self.zero_is_enough and view.ending.exit_code == 0
            seen = f"{view.ending} after {view.seconds:.1f} s"
            return Observation(expectation=text, seen=seen, met=met)
        if view.over:
            return Observation(expectation=text, seen=view.over, met=False)
        if view.seconds >= self.after_seconds:
            return Observation(expectation=text, seen=f"alive after {view.seconds:.1f} s", met=True)
        return None

    def children(self) -> tuple[int, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing was started."""


def stop_observation(
    expected: StopExpectation,
    *,
    before: Ending | None,
    over: str,
    listened: bool,
    ending: Ending | None,
    seconds: float,
    given_seconds: float,
) -> Observation:
    """What came of asking a command to end.

    ``before`` is how it had ended already, ``over`` why it was not asked; ``listened`` whether it takes the
    signal at all, ``ending`` how it ended after ``seconds``, of ``given_seconds`` that there were.
    """
    text = expected.in_words()
    if before is not None:
        return Observation(expectation=text, seen=f"{before}, before it was asked to", met=False)
    if over:
        return Observation(expectation=text, seen=f"not asked to: {over}", met=None)
    if not listened:
        seen = "it has no handler for the signal, and the first process of a container never gets such a one"
        return Observation(expectation=text, seen=f"{seen} (see init)", met=False)
    if ending is None:
        met = False if given_seconds >= expected.within_seconds else None
        return Observation(expectation=text, seen=f"still running after {given_seconds:g} s", met=met)
    met = expected.exit is None or ending.exit_code == expected.exit
    return Observation(expectation=text, seen=f"{ending} after {seconds:.1f} s", met=met)
