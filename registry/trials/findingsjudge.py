"""What a findings policy makes of what is known of an image. Pure: the time is an argument.

A condition of a rule holds, or not, or it is not known. A rule holds where all of its conditions do, and not
as soon as one does not; else nobody knows, and that is never a pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from registry.advisories.licences import Licences, judge_licences, read_licences
from registry.advisories.matching import Match
from registry.advisories.report import Excused, Report
from registry.contract.findingspolicy import FindingsPolicy, LicenceRule, VulnerabilityRule
from registry.contract.judge import Verdict
from registry.contract.scan import Found, Package

Sort = Literal["vulnerability", "malware", "secret", "misconfiguration", "licence", "unknown"]
_RANK: Mapping[str, int] = {"info": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}
_WORST_FIRST: tuple[Verdict, ...] = ("error", "fail", "warn", "pass")
_REFUSING: Sequence[Verdict] = ("error", "fail")
_OF_ADVISORIES = frozenset({"advisories_missing", "advisories_max_age_days", "ecosystem_not_covered"})
_LICENCE_MAX = 200
TOLD_MAX = 3
"""How many findings a sentence names; it counts the others."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One finding that a rule is about. ``rule`` names the rule, ``id`` the vulnerability or what else it is;
    what does not fit is empty. ``excused`` says who excused it, and until when."""

    verdict: Verdict
    rule: str
    sort: Sort
    id: str
    package: str = ""
    version: str = ""
    fixed_version: str = ""
    severity: str = ""
    where: str = ""
    excused: str = ""

    @property
    def text(self) -> str:
        """In words."""
        about = [self.id]
        if self.package:
            about.append(f"in {self.package} {self.version}".rstrip())
        if self.where:
            about.append(f"at {self.where}")
        fix = f"fixed in {self.fixed_version}" if self.fixed_version else ""
        if self.sort == "vulnerability" and not fix:
            fix = "no fix"
        said = ", ".join(one for one in (self.severity, fix) if one)
        return f"{' '.join(about)} ({said})" if said else " ".join(about)


@dataclass(frozen=True, slots=True)
class Coming:
    """What a finding counts for from a time ``at`` on, when its grace is over."""

    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy makes of an image: the worst of its ``reasons``. ``excused`` are those that somebody
    excused, listed all the same; ``coming`` those that count for more once their grace is over, the next
    first."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    excused: tuple[Reason, ...] = ()
    coming: tuple[Coming, ...] = ()
    changes_at: datetime | None = None
    """When time alone may make something else of it: a grace or an excuse ends, or advisories are too old."""

    @property
    def waits(self) -> bool:
        """Whether other advisories may make something else of it though they say nothing new of a package."""
        return any(one.rule in _OF_ADVISORIES for one in self.reasons)

    @property
    def refuses_at(self) -> datetime | None:
        """From when on it is no pass any more if nothing else changes; ``None``: it is none now, or a grace
        changes nothing of that."""
        if self.verdict in _REFUSING:
            return None
        return next((one.at for one in self.coming if one.reason.verdict in _REFUSING), None)

    @property
    def sentence(self) -> str:
        """Why, in one sentence that names the worst few, the rules that decide, and what to do."""
        decisive = [one for one in self.reasons if one.verdict == self.verdict]
        if not decisive:
            return ""
        verb = "warns of" if self.verdict == "warn" else "refuses"
        if self.verdict == "error":
            return f"findings policy: not known: {_named(decisive)}"
        return f"findings policy {verb} {_named(decisive)}{_advice(decisive)}"

    @property
    def coming_sentence(self) -> str:
        """What it is no pass for from :attr:`refuses_at` on; empty where it stays one."""
        at = self.refuses_at
        due = [one.reason for one in self.coming if one.at == at and one.reason.verdict in _REFUSING]
        if at is None:
            return ""
        return f"from {at:%Y-%m-%d %H:%M} UTC on: {_named(due)}{_advice(due)}"


def judge(policy: FindingsPolicy, report: Report | None, now: datetime) -> Outcome:
    """What the policy makes of a report; ``None``: there is no scan."""
    if report is None:
        return _outcome([_unknown(policy.scan_missing, "scan_missing", "the image was not scanned")])
    found = [*_gaps(policy, report, now), *_contents(policy, report), *_licences(policy, report)]
    excuses = report.excuses()
    excused = []
    coming = []
    for match in report.matches:
        reason = _of_match(policy, report, match, now)
        excuse = excuses.get((match.id, match.package_index))
        if reason is not None and excuse is not None:
            excused.append(_excused(reason, excuse))
            continue
        if reason is not None:
            found.append(reason)
        if excuse is None and (later := _coming(policy, report, match, reason, now)) is not None:
            coming.append(later)
    changes = [at for at in _changes(policy, report) if at > now]
    return _outcome(found, excused, coming, min(changes, default=None))


def _coming(
    policy: FindingsPolicy, report: Report, match: Match, reason: Reason | None, now: datetime
) -> Coming | None:
    """The next time at which a match counts for more than now."""
    known_at = _known_at(report, match)
    if known_at is None:
        return None
    for at in sorted(known_at + grace for grace in _graces(policy)):
        later = _of_match(policy, report, match, at) if at > now else None
        if later is not None and (reason is None or _is_worse(later.verdict, reason.verdict)):
            return Coming(at, later)
    return None


def _graces(policy: FindingsPolicy) -> Collection[timedelta]:
    return {timedelta(days=rule.grace_days) for rule in policy.vulnerabilities if rule.grace_days}


def _is_worse(verdict: Verdict, than: Verdict) -> bool:
    return _WORST_FIRST.index(verdict) < _WORST_FIRST.index(than)


def _changes(policy: FindingsPolicy, report: Report) -> Iterator[datetime]:
    """Times at which something ends or begins to count."""
    for one in report.excused:
        if one.expires_at is not None:
            yield one.expires_at
    graces = _graces(policy)
    for match in report.matches:
        if (known_at := _known_at(report, match)) is not None:
            yield from (known_at + grace for grace in graces)
    oldest = report.advisories_as_of
    if oldest is not None and policy.advisories_max_age_days is not None:
        yield oldest + timedelta(days=policy.advisories_max_age_days, microseconds=1)


def _known_at(report: Report, match: Match) -> datetime | None:
    return report.first_seen_at.get((match.id, match.package_index)) or match.published_at


def _outcome(
    found: Sequence[Reason],
    excused: Sequence[Reason] = (),
    coming: Sequence[Coming] = (),
    changes_at: datetime | None = None,
) -> Outcome:
    def order(one: Reason) -> tuple[int, int, str, str]:
        return (_WORST_FIRST.index(one.verdict), -_RANK.get(one.severity, 5), one.id, one.package)

    reasons = tuple(sorted(dict.fromkeys(found), key=order))
    verdict = reasons[0].verdict if reasons else "pass"
    later = sorted(dict.fromkeys(coming), key=lambda one: (one.at, order(one.reason)))
    return Outcome(
        verdict, reasons, tuple(sorted(dict.fromkeys(excused), key=order)), tuple(later), changes_at
    )


def _excused(reason: Reason, excuse: Excused) -> Reason:
    until = f" until {excuse.expires_at:%Y-%m-%d %H:%M} UTC" if excuse.expires_at else ""
    said = f"{excuse.by} of {excuse.author}{until}: {excuse.status}"
    said += f", {excuse.justification}" if excuse.justification else ""
    return replace(reason, verdict="pass", excused=said)


def _unknown(then: Verdict, rule: str, said: str) -> Reason:
    return Reason(then, rule, "unknown", said)


def _gaps(policy: FindingsPolicy, report: Report, now: datetime) -> Iterator[Reason]:
    scan = report.scan
    for gap in scan.incomplete:
        where = gap.where or (f"layer {gap.layer}" if gap.layer is not None else "")
        said = f"{gap.scanner} could not look at it: {gap.reason}"
        yield Reason(policy.incomplete, "incomplete", "unknown", said, where=where)
    if scan.truncated:
        yield _unknown(policy.incomplete, "incomplete", "there was more than a scan may hold")
    if not policy.vulnerabilities:
        return
    missing = policy.advisories_missing
    if report.advisories is None:
        yield _unknown(missing, "advisories_missing", "there are no advisories to look packages up in")
        return
    lists = {source.format for source in report.advisories.sources}
    for name in ("kev", "epss"):
        if name not in lists and any(getattr(rule, name) is not None for rule in policy.vulnerabilities):
            yield _unknown(missing, "advisories_missing", f"the advisories have no {name.upper()} list")
    oldest = report.advisories_as_of
    if (
        policy.advisories_max_age_days is not None
        and oldest is not None
        and now - oldest > timedelta(days=policy.advisories_max_age_days)
    ):
        said = f"the oldest advisories are of {oldest:%Y-%m-%d}"
        yield _unknown(missing, "advisories_max_age_days", said)
    for ecosystem, count in report.not_looked_up.items():
        packages = "1 package" if count == 1 else f"{count} packages"
        of = ecosystem or "an ecosystem without a name"
        said = f"the advisories say nothing about {of}, of which there are {packages}"
        yield _unknown(policy.ecosystem_not_covered, "ecosystem_not_covered", said)


def _of_match(policy: FindingsPolicy, report: Report, match: Match, now: datetime) -> Reason | None:
    package = report.scan.packages[match.package_index]
    if match.kind == "informational":
        # That nobody keeps it up is no vulnerability, and has no severity.
        return None
    if match.kind == "malicious":
        if policy.malware == "ignore":
            return None
        if match.state == "unknown":
            return _reason(policy.version_unknown, "version_unknown", "malware", match, package)
        return _reason("fail", f"malware {policy.malware}", "malware", match, package)
    worst: Reason | None = None
    known_at = _known_at(report, match)
    for rule in policy.vulnerabilities:
        held = _holds(rule, match, known_at, now)
        if held is False:
            continue
        if held is None or match.state == "unknown":
            is_version = match.state == "unknown"
            named = "version_unknown" if is_version else "severity_unknown"
            then: Verdict = policy.version_unknown if is_version else policy.severity_unknown
            reason = _reason(then, f"{named}: {rule.in_words()}", "vulnerability", match, package)
        else:
            reason = _reason(rule.then, rule.in_words(), "vulnerability", match, package)
        if worst is None or _is_worse(reason.verdict, worst.verdict):
            worst = reason
    return worst


def _holds(rule: VulnerabilityRule, match: Match, known_at: datetime | None, now: datetime) -> bool | None:
    """Whether all that a rule says holds for a match; ``None``: nobody knows. One that nobody knows the age
    of is taken for old."""
    said: list[bool | None] = []
    if rule.severity is not None:
        known = match.severity != "unknown"
        said.append(_RANK[match.severity] >= _RANK[rule.severity] if known else None)
    if rule.score is not None:
        said.append(None if match.score is None else match.score >= rule.score)
    if rule.fixable is not None:
        said.append((match.fixed_version is not None) is rule.fixable)
    if rule.kev:
        said.append(match.kev)
    if rule.epss is not None:
        said.append(None if match.epss is None else match.epss >= rule.epss)
    if rule.grace_days and known_at is not None:
        said.append(now - known_at >= timedelta(days=rule.grace_days))
    return False if False in said else None if None in said else True


def _reason(then: Verdict, rule: str, sort: Sort, match: Match, package: Package) -> Reason:
    return Reason(
        then,
        rule,
        sort,
        match.id,
        package=package.name,
        version=package.version,
        fixed_version=match.fixed_version or "",
        severity=match.severity,
    )


def _contents(policy: FindingsPolicy, report: Report) -> Iterator[Reason]:
    least = {"malware": policy.malware, "secret": policy.secrets}
    for one in report.scan.found:
        if one.kind == "misconfiguration":
            if one.rule in policy.misconfigurations:
                yield _of_found(f"misconfigurations {one.rule}", "misconfiguration", one, one.severity)
        elif (wanted := least.get(one.kind)) not in (None, "ignore"):
            severity = max(
                one.severity, one.real_severity or one.severity, key=lambda each: _RANK.get(each, 5)
            )
            if severity == "unknown":
                yield Reason(policy.severity_unknown, "severity_unknown", one.kind, one.rule, where=one.where)
            elif _RANK[severity] >= _RANK[str(wanted)]:
                name = "secrets" if one.kind == "secret" else one.kind
                yield _of_found(f"{name} {wanted}", one.kind, one, severity)


def _of_found(rule: str, sort: Sort, one: Found, severity: str) -> Reason:
    return Reason("fail", rule, sort, one.rule, severity=severity, where=one.where)


def _licences(policy: FindingsPolicy, report: Report) -> Iterator[Reason]:
    if policy.licences is None:
        return
    judged: dict[Licences | None, Reason | None] = {}
    for package, said in read_licences(report.scan.packages):
        if said not in judged:
            judged[said] = (
                _no_licence(policy, "there is more text of licences than is read")
                if said is None
                else _of_licences(policy, policy.licences, said)
            )
        if (reason := judged[said]) is not None:
            yield replace(reason, package=package.name, version=package.version)


def _of_licences(policy: FindingsPolicy, rule: LicenceRule, licences: Licences) -> Reason | None:
    named = licences.named
    verdict = judge_licences(named, rule.allow, rule.deny)
    if verdict == "allowed":
        return None
    if named is None or verdict == "unknown":
        said = "no licence is known" if named is None else f"not all is known of {named[:_LICENCE_MAX]}"
        return _no_licence(policy, said)
    is_listed = judge_licences(named, (), rule.deny) == "denied"
    name = f"licences {'deny' if is_listed else 'allow'}"
    return Reason(rule.then, name, "licence", named[:_LICENCE_MAX])


def _no_licence(policy: FindingsPolicy, said: str) -> Reason:
    return Reason(policy.licence_unknown, "licence_unknown", "licence", said)


def _named(reasons: Sequence[Reason]) -> str:
    """The first few, how many more there are, and their rules."""
    named = "; ".join(one.text for one in reasons[:TOLD_MAX])
    more = f"; and {len(reasons) - TOLD_MAX} more" if len(reasons) > TOLD_MAX else ""
    rules = ", ".join(dict.fromkeys(one.rule for one in reasons))
    return f"{named}{more} (rules: {rules})"


def _advice(decisive: Collection[Reason]) -> str:
    """What to do."""
    to_mend = [one for one in decisive if one.fixed_version]
    if to_mend:
        return "; build the image with the fixed versions, or ask for a waiver of the finding"
    return "; build the image without it, or ask for a waiver"
