"""The table of what is to be found in known images beside what was found in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit.truth import Row

PAGE = Path(__file__).resolve().parents[2] / "docs/scanning-truth.md"
_HEAD = """\
# What scans must find

Images whose contents are known to the last package, made of what Debian, PyPI, npm, Maven, the Cargo
registry and the proxy of Go modules publish (`scripts/truth.sh`) and of small files of our own. `make
interop` scans each by `seatrial scan` and holds what it finds against the table. Packages, secrets, malware
and misconfiguration must be exactly what is expected (but for what is `info`), vulnerabilities at least
these, and no other package may have any. The numbers are those of the study that the table comes from.
Hostile images (17) have tests of their own; see [scanning](scanning.md).

Written by `SEATRIAL_TEST_WRITE_TRUTH=1 make interop`, with real records as advisories
(`SEATRIAL_TEST_ADVISORIES`) beside those of the test.

| # | image | expected | found |
|---|---|---|---|
"""


def page(table: Mapping[str, Row], scanned: Mapping[str, Any]) -> str:
    """The page, of what was scanned now."""
    lines = (
        f"| {row.number} | {row.title} | {_expected(row)} | {_found(row, scanned[row.number])} |"
        for row in table.values()
    )
    return _HEAD + "\n".join(lines) + "\n"


def _expected(row: Row) -> str:
    said = []
    if row.packages is None:
        said.append(f"packages: {row.listed}")
    elif row.packages:
        said.append("packages: " + ", ".join(" ".join(one) for one in sorted(row.packages)))
    for package, names in row.known.items():
        least = row.least.get(package, len(names))
        more = f"at least {least} vulnerabilities, with " if least > len(names) else ""
        said.append(f"{package}: {more}{', '.join(sorted(names))}")
    for rule, severity, where, deleted in sorted(row.found):
        gone = "" if deleted is None else f", deleted in layer {deleted}"
        said.append(f"`{rule}` ({severity}) at `{where}`{gone}")
    return "<br>".join(said) or "nothing"


def _found(row: Row, document: Any) -> str:
    kinds = Counter(one["kind"] for one in document["packages"])
    said = [f"{count} packages of {kind}" for kind, count in sorted(kinds.items())]
    names: dict[str, set[str]] = {}
    for one in document["vulnerabilities"]:
        names.setdefault(document["packages"][one["package_index"]]["name"], set()).add(one["id"])
    for name, some in sorted(names.items()):
        extra = len(some - row.known.get(name, frozenset()))
        said.append(f"{name}: {len(some)} vulnerabilities" + (f", {extra} beyond those named" * bool(extra)))
    severities = Counter(one["severity"] for one in document["found"])
    said += [f"{count} things that are {severity}" for severity, count in sorted(severities.items())]
    return "<br>".join(said) or "nothing"
