"""A trial as Markdown, for a comment on a change.

What is a stranger's stands in code: no mention, link, image or markup in it is one. A backtick would end the
code, and a bar the cell of a table, whatever stands before it: others that look like them take their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from registry.oci.printable import printable
from registry.trials.formats.outcomes import Outcome, PartOutcome, outcomes_of
from registry.trials.reading import TrialView

_CELL_MAX = 300
_ROWS_MAX = 50
_LOG_LINES = 15
_LOGS_MAX = 3
_MARKS = {"met": "✅", "missed": "❌", "unknown": "⚠️", "excused": "➖"}  # noqa: RUF001
_VERDICTS = {"pass": "✅ pass", "warn": "⚠️ warn", "fail": "❌ fail", "error": "❌ error"}
_ALIKE = str.maketrans({"`": "\N{MODIFIER LETTER GRAVE ACCENT}", "|": "\N{BROKEN BAR}"})


def markdown(trial: TrialView) -> bytes:
    """The text. It is short enough for a comment on GitHub (65,536 characters), whatever the trial holds."""
    verdict = _VERDICTS.get(trial.verdict or "", f"⏳ {trial.state}")
    lines = [f"### {verdict}: {_code(trial.upstream or f'{trial.repository}@{trial.digest[:19]}')}", ""]
    if trial.reason:
        lines += [_code(trial.reason, 600), ""]
    found = outcomes_of(trial)
    rows = list(_rows(found))
    rows.sort(key=lambda row: row[0] == "met")
    if rows:
        lines += ["| | platform | run | expected | seen |", "|---|---|---|---|---|"]
        lines += [row for _, row in rows[:_ROWS_MAX]]
        if len(rows) > _ROWS_MAX:
            lines += ["", f"and {len(rows) - _ROWS_MAX} more"]
        lines.append("")
    lines += _logs(found)
    flaky = f"; {trial.flaky_attempts} attempts failed before one passed" if trial.flaky else ""
    lines.append(f"Trial {_code(trial.id)}, spec {_code(trial.spec_digest[:19])}{flaky}")
    return ("\n".join(lines) + "\n").encode()


def _rows(parts: Sequence[PartOutcome]) -> Iterator[tuple[str, str]]:
    for part in parts:
        for run in part.runs:
            for one in run.outcomes:
                yield one.result, _row(part.part.platform, run.run.title, one)
        for problem in part.problems:
            yield problem.result, _row(part.part.platform, "trial", problem)


def _row(platform: str, title: str, outcome: Outcome) -> str:
    cells = (_code(platform), _code(title), _code(outcome.expectation), _code(outcome.seen))
    return f"| {_MARKS[outcome.result]} | {' | '.join(cells)} |"


def _logs(parts: Sequence[PartOutcome]) -> list[str]:
    """The last lines of runs that failed."""
    bad = [
        run
        for part in parts
        for run in part.runs
        if run.run.log and any(one.result in ("missed", "unknown") for one in run.outcomes)
    ]
    lines: list[str] = []
    for run in bad[:_LOGS_MAX]:
        last = (run.run.log or "").splitlines()[-_LOG_LINES:]
        lines += [f"The end of the log of {_code(run.run.title)}:", ""]
        # An indented block ends by nothing that stands in it.
        lines += [f"    {printable(line.expandtabs())[:_CELL_MAX]}" for line in last]
        lines.append("")
    return lines


def _code(text: str, limit: int = _CELL_MAX) -> str:
    plain = printable(" ".join(text.split()))[:limit].translate(_ALIKE).strip()
    return f"`{plain}`" if plain else ""
