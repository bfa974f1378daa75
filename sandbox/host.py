"""What this host can isolate, mechanism by mechanism (MISSION.md S1 to S10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class HostMechanism:
    """One mechanism on this host."""

    name: str
    available: bool
    need: Literal["required", "downgrade", "stated"]
    """``required``: without it nothing is run. ``downgrade``: the operator may allow it to be missing, under
    this name. ``stated``: used where the host has it, and said so where not."""
    detail: str
    without: str = ""
    """What it costs to be without."""
    fix: str = ""
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class HostReport:
    """Every mechanism, in the order in which it is shown."""

    mechanisms: tuple[HostMechanism, ...]

    @property
    def exit_code(self) -> int:
        """0: everything promised; 1: something must be allowed as a downgrade; 2: nothing can be run."""
        missing = {one.need for one in self.mechanisms if not one.available}
        return 2 if "required" in missing else 1 if "downgrade" in missing else 0
