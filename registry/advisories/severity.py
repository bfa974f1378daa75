"""How bad a record says that it is: scores of CVSS, and words of distributions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

from registry.contract.scan import Severity

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""In their order; ``unknown`` comes first."""
_WORDS: Mapping[str, Severity] = MappingProxyType(
    {
        "critical": "critical",
        "high": "high",
        "important": "high",
        "medium": "medium",
        "moderate": "medium",
        "low": "low",
        "minor": "low",
        "negligible": "info",
        "unimportant": "info",
        "none": "info",
    }
)
_LONGEST = 300


def severity_of_word(word: object) -> Severity:
    """``MODERATE``, ``medium**``, ``unimportant``: what the word means; ``unknown`` for any other."""
    return _WORDS.get(word.strip(" *").lower(), "unknown") if isinstance(word, str) else "unknown"


def severity_of_score(score: float) -> Severity:
    """The words of CVSS's own scale (CVSS 4.0, 6)."""
    if score >= 9:
        return "critical"
    if score >= 7:
        return "high"
    if score >= 4:
        return "medium"
    return "low" if score > 0 else "info"


def score_of_vector(vector: object) -> float | None:
    """The base score of a vector of CVSS 2, 3 or 4; ``None`` where it is none."""
    if not isinstance(vector, str) or len(vector) > _LONGEST:
        return None
    from cvss import CVSS2, CVSS3, CVSS4, CVSSError  # noqa: PLC0415  (only who imports needs it)

    try:
        if vector.startswith("CVSS:4"):
            return float(CVSS4(vector).base_score)
        if vector.startswith("CVSS:3"):
            return float(CVSS3(vector).scores()[0])
        return float(CVSS2(vector).scores()[0])
    except (CVSSError, ValueError, KeyError):
        return None
