"""Lists about vulnerabilities, whatever package has them: known to be exploited (CISA KEV), and how likely
that is (EPSS)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from registry.advisories.values import Exploited, Likelihood, Skip

_CVE = re.compile(r"CVE-\d{4}-\d{4,10}")


def exploited(document: Mapping[str, Any], where: str) -> Iterator[Exploited | Skip]:
    """CISA's list as JSON."""
    entries = document.get("vulnerabilities")
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        said = entry if isinstance(entry, dict) else {}
        cve, added, due = (said.get(name) for name in ("cveID", "dateAdded", "dueDate"))
        if not isinstance(cve, str) or not _CVE.fullmatch(cve):
            yield Skip(f"{where} {number}", "names no CVE")
        else:
            yield Exploited(cve, _day(added), _day(due))


def likelihoods(text: str, where: str) -> Iterator[Likelihood | Skip]:
    """EPSS as CSV: ``cve,epss,percentile``, below a comment and a line of names."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("#", "cve,")) or not line.strip():
            continue
        cve, _, rest = line.partition(",")
        try:
            score = float(rest.partition(",")[0])
        except ValueError:
            score = -1.0
        if not _CVE.fullmatch(cve) or not 0 <= score <= 1:
            yield Skip(f"{where} line {number}", "no line of a CVE and a score from 0 to 1")
        else:
            yield Likelihood(cve, score)


def _day(value: object) -> str:
    try:
        return date.fromisoformat(value).isoformat() if isinstance(value, str) else ""
    except ValueError:
        return ""
