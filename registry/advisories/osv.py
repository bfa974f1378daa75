"""Records of the Open Source Vulnerability format (https://ossf.github.io/osv-schema/)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from registry.advisories.ecosystems import fold, is_distribution, order_of
from registry.advisories.severity import SEVERITIES, score_of_vector, severity_of_score, severity_of_word
from registry.advisories.values import Advisory, Affected, End, Kind, Skip, Span
from registry.advisories.versions import VersionInvalidError, key_of
from registry.contract.scan import Severity
from registry.oci.printable import printable

MAX_NAME = 300
MAX_SUMMARY = 300
MAX_VERSIONS = 20_000
MAX_SPANS = 2_000
MAX_ALIASES = 500
MAX_AFFECTED = 5_000
_CVSS = ("CVSS_V4", "CVSS_V3", "CVSS_V2")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{2,127}")
_NO_SECURITY = re.compile(r"(?:(?:AL|RH|RL)[BE]A-|SUSE-[FOR]U-).*")
"""Bulletins of AlmaLinux, Red Hat, Rocky Linux and SUSE about other errors, and about what is new."""
_RATING = re.compile(r"(Critical|Important|Moderate|Low): ")
_ENDS: tuple[tuple[str, End], ...] = (("fixed", "fixed"), ("last_affected", "last"), ("limit", "limit"))


class RecordInvalidError(ValueError):
    """The record cannot be used; the message is a reason that others share."""


def read_record(record: object, *, where: str) -> Iterator[Advisory | Skip]:
    """One record: an advisory unless nothing of it applies to packages, and what was left out of it."""
    try:
        if not isinstance(record, dict):
            raise RecordInvalidError("no JSON object")
        if record.get("withdrawn"):
            raise RecordInvalidError("withdrawn")
        id_ = _id(record.get("id"))
        whole = _Said.of(record)
        affected: list[Affected] = []
        informational = False
        said = _list(record, "affected")
        if len(said) > MAX_AFFECTED:
            yield Skip(where, "more packages than are taken of one record")
        for one in said[:MAX_AFFECTED]:
            try:
                affected.append(_affected(one, whole))
                informational = informational or bool(_inner(one, "database_specific").get("informational"))
            except RecordInvalidError as error:
                yield Skip(where, str(error))
        if not affected:
            if said:
                return  # said for each
            raise RecordInvalidError("names no package")
        yield _advisory(record, id_, tuple(affected), informational=informational)
    except RecordInvalidError as error:
        yield Skip(where, str(error))


def _advisory(
    record: dict[str, Any],
    id_: str,
    affected: tuple[Affected, ...],
    *,
    informational: bool,
) -> Advisory:
    kind: Kind = (
        "malicious" if id_.startswith("MAL-") else "informational" if informational else "vulnerability"
    )
    upstream = _names(record, "upstream")
    aliases = _names(record, "aliases")
    if not upstream and not aliases and is_distribution(affected[0].ecosystem):
        # Bulletins of distributions used to name what they are about so.
        upstream = tuple(name for name in _names(record, "related") if name.startswith("CVE-"))
    if not upstream and not aliases and _NO_SECURITY.fullmatch(id_):
        raise RecordInvalidError("a bulletin that is about no vulnerability")
    if kind != "vulnerability":
        affected = tuple(
            replace(one, severity="critical" if kind == "malicious" else "info", score=None)
            for one in affected
        )
    worst = max(affected, key=lambda one: (SEVERITIES.index(one.severity), one.score or 0))
    return Advisory(
        id=id_,
        kind=kind,
        aliases=tuple(name for name in aliases if name != id_),
        upstream=tuple(name for name in upstream if name != id_),
        summary=_summary(record),
        severity=worst.severity,
        score=worst.score,
        published_at=_time(record.get("published")),
        modified_at=_time(record.get("modified")),
        affected=affected,
    )


def _affected(one: object, whole: _Said) -> Affected:
    package = _inner(one, "package")
    ecosystem, name = package.get("ecosystem"), package.get("name")
    if not isinstance(ecosystem, str) or not isinstance(name, str) or not ecosystem or not name:
        raise RecordInvalidError("names no package")
    if not (ecosystem + name).isprintable() or len(ecosystem) > 64 or len(name) > MAX_NAME:
        raise RecordInvalidError("a name that no package has")
    order = order_of(ecosystem)
    if order is None:
        raise RecordInvalidError("an ecosystem whose versions are not known here")
    spans: list[Span] = []
    ranges = _list(one, "ranges")
    for part in ranges:
        if isinstance(part, dict) and part.get("type") in ("SEMVER", "ECOSYSTEM"):
            spans += _spans(order, _list(part, "events"))
    versions = [_version(version) for version in _list(one, "versions")]
    if len(spans) > MAX_SPANS or len(versions) > MAX_VERSIONS:
        raise RecordInvalidError("more versions than are taken")
    if not spans and not versions:
        git = any(isinstance(part, dict) and part.get("type") == "GIT" for part in ranges)
        raise RecordInvalidError("only commits, no versions" if git else "no versions")
    severity, score = _Said.of(one).before(whole).severity(of_distribution=is_distribution(ecosystem))
    return Affected(ecosystem, fold(ecosystem, name), tuple(spans), tuple(versions), severity, score)


def _spans(order: str, events: list[Any]) -> list[Span]:
    """Pairs of events; they need not be in order, and one introduction may have no end."""
    points = []
    for event in events:
        if not isinstance(event, dict):
            raise RecordInvalidError("events that are none")
        if (introduced := event.get("introduced")) is not None:
            points.append((_version(introduced), "introduced"))
        points += [(_version(event[name]), how) for name, how in _ENDS if event.get(name) not in (None, "*")]
    spans: list[Span] = []
    start: str | None = None
    for version, how in _in_order(order, points):
        if how == "introduced":
            start = version if start is None else start
        elif start is not None:
            spans.append(Span(start, version, how))  # type: ignore[arg-type]
            start = None
    if start is not None:
        spans.append(Span(start, "", ""))
    return spans


def _in_order(order: str, points: list[tuple[str, str]]) -> list[tuple[str, str]]:
    try:
        keyed = [
            ((0, 0) if version == "0" and how == "introduced" else (1, key_of(order, version)), version, how)
            for version, how in points
        ]
        # A fix comes before an introduction of the same version, the last affected one after it.
        return [(v, how) for _, v, how in sorted(keyed, key=lambda one: (one[0], _TIES[one[2]]))]
    except VersionInvalidError:
        return points


_TIES = {"fixed": 0, "limit": 0, "introduced": 1, "last": 2}


@dataclass(frozen=True, slots=True)
class _Said:
    """What a record, or one of its packages, says of its severity: a word, and scores by the kind of CVSS."""

    word: Severity
    scores: Mapping[str, float]

    @classmethod
    def of(cls, value: object) -> _Said:
        vectors: dict[str, object] = {}
        for one in _list(value, "severity"):
            if isinstance(one, dict) and isinstance(one.get("type"), str):
                vectors.setdefault(one["type"], one.get("score"))
        inner = {**_inner(value, "ecosystem_specific"), **_inner(value, "database_specific")}
        vectors.setdefault("CVSS_V3", inner.get("cvss"))
        words = [severity_of_word(said) for said in (inner.get("severity"), inner.get("urgency"))]
        words += [severity_of_word(said) for kind, said in vectors.items() if kind not in _CVSS]
        rating = _RATING.match(_summary(value)) if isinstance(value, dict) else None
        words += [severity_of_word(rating[1])] if rating else []
        scores = {kind: score_of_vector(vectors.get(kind)) for kind in _CVSS}
        return cls(
            next((word for word in words if word != "unknown"), "unknown"),
            {kind: score for kind, score in scores.items() if score is not None},
        )

    def before(self, other: _Said) -> _Said:
        return _Said(other.word if self.word == "unknown" else self.word, self.scores or other.scores)

    def severity(self, *, of_distribution: bool) -> tuple[Severity, float | None]:
        """The word of a distribution comes first, it is about its own build; else the newest CVSS does."""
        score = next((self.scores[kind] for kind in _CVSS if kind in self.scores), None)
        if score is None or (of_distribution and self.word != "unknown"):
            return self.word, score
        return severity_of_score(score), score


def _id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise RecordInvalidError("no id")
    return value


def _version(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_NAME or not value.isprintable():
        raise RecordInvalidError("a version that is none")
    return value


def _names(record: dict[str, Any], name: str) -> tuple[str, ...]:
    names = [one for one in _list(record, name) if isinstance(one, str) and _ID.fullmatch(one)]
    return tuple(dict.fromkeys(names[:MAX_ALIASES]))


def _summary(record: dict[str, Any]) -> str:
    text = record.get("summary") or record.get("details") or ""
    line = text.strip()[: 4 * MAX_SUMMARY].partition("\n")[0].strip() if isinstance(text, str) else ""
    line = printable(line)
    return line if len(line) <= MAX_SUMMARY else f"{line[: MAX_SUMMARY - 1]}…"


def _time(value: object) -> str:
    """RFC 3339 in UTC, cut to seconds; empty for none, what is no time, and year 1 (Go has it for none)."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        if at is None or at.year < 1980:
            return ""
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return at.isoformat(timespec="seconds")


def _get(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _inner(value: object, name: str) -> dict[str, Any]:
    inner = _get(value, name)
    return inner if isinstance(inner, dict) else {}


def _list(value: object, name: str) -> list[Any]:
    found = _get(value, name)
    return found if isinstance(found, list) else []
