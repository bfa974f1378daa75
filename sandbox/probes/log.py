"""Expectations about the output. Patterns are RE2: they take linear time on whatever an image prints."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar

from registry.contract.expectations import LogExpectation, compiled
from registry.contract.report import Observation
from sandbox.probes.base import View, plain

# Linear is not quick: a megabyte of empty lines, or one long line under a large pattern, keeps the supervisor
# from everything else it watches, and an image may ask for 32 patterns.
LINE_BYTES = 16 * 1024
CPU_SECONDS = 1.0


@dataclass(slots=True)
class LogMatch:
    """The first 16 KiB of a line of the output match; looked for until the command ends or the run is over,
    with at most a second of processor time."""

    expected: LogExpectation
    tells_ready: ClassVar[bool] = True
    _seen_bytes: int = field(default=0, init=False)
    _cpu_seconds: float = field(default=0.0, init=False)

    def poll(self, view: View) -> Observation | None:
        """Looks at whole lines only, each once; at the end also at the last one without its newline."""
        text = self.expected.in_words()[:300]
        log = view.log()
        last = view.ending is not None or bool(view.over)
        end = len(log) if last else log.rfind(b"\n") + 1
        pattern = compiled(self.expected.match)
        started = time.process_time()
        for line in log[self._seen_bytes : end].splitlines():
            line_text = line[:LINE_BYTES].decode("utf-8", "replace")
            if pattern.search(line_text):
                return Observation(expectation=text, seen=plain(line_text[:500]), met=True)
            slow = self._cpu_seconds + time.process_time() - started > CPU_SECONDS
            if slow or view.left() <= 0:
                why = f"that takes more than {CPU_SECONDS:g} s" if slow else "the time of the run was used up"
                seen = f"not looked for in all of the output: {why}"
                return Observation(expectation=text, seen=seen, met=None)
        self._cpu_seconds += time.process_time() - started
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
