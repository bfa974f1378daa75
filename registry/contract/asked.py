"""What a spec asks a report to hold: which cases, how often, and how many attempts must pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from registry.contract.checks import SCAN_ALONE


@dataclass(frozen=True, slots=True)
class Asked:
    """One case; without a name it is the only one."""

    case: str = ""
    attempts: int = 1
    any_is_enough: bool = True
    """Whether one attempt that passes is enough; else all of them must."""


def asked_by(run_spec: str | None) -> Sequence[Asked]:
    """The cases that the canonical JSON of a run spec asks for, in their order; none where it asks for the
    scan alone."""
    document = {} if run_spec is None else json.loads(run_spec)
    if SCAN_ALONE in document.get("checks", ()):
        return ()
    checks = [{"name": name} for name in document.get("checks", ())]
    cases = [*checks, *document.get("cases", ())] or [{"name": ""}]
    return tuple(
        Asked(
            case["name"],
            case.get("attempts", document.get("attempts", 1)),
            case.get("pass", document.get("pass", "any")) == "any",
        )
        for case in cases
    )
