"""Expectations about the output. Patterns are RE2: they take linear time on whatever an image prints."""

from __future__ import annotations

from dataclasses import dataclass, field

import re2  # type: ignore[import-untyped]

from registry.contract.report import Observation
from sandbox.probes.base import View, plain


@dataclass(slots=True)
class LogMatch:
    """A line of the output matches; looked for until the command ends or the run is over."""

    pattern: str
    _seen_bytes: int = field(default=0, init=False)

    def poll(self, view: View) -> Observation | None:
        """Looks at whole lines only, each once; at the end also at the last one without its newline."""
        text = f"the log matches {self.pattern!r}"[:300]
        log = view.log()
        last = view.ending is not None or bool(view.over)
        end = len(log) if last else log.rfind(b"\n") + 1
        for line in log[self._seen_bytes : end].splitlines():
            line_text = line.decode("utf-8", "replace")
            if re2.search(self.pattern, line_text):
                return Observation(expectation=text, seen=plain(line_text[:500]), met=True)
        self._seen_bytes = max(self._seen_bytes, end)
        if last:
            why = view.over or str(view.ending)
            return Observation(expectation=text, seen=f"no line matches; {why}", met=False)
        return None

    def children(self) -> tuple[int, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing was started."""
