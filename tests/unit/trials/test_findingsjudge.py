"""What a findings policy makes of a report: by its rules, and never a pass where something is not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.advisories.file import Source, Status
from registry.advisories.licences import READ_MAX
from registry.advisories.matching import Match
from registry.advisories.report import Excused, Report
from registry.contract.findingspolicy import FindingsPolicy
from registry.contract.scan import Found, Incomplete, Package, Scan, ScannedLayer
from registry.errors import RequestInvalidError
from registry.trials.findingsjudge import Outcome, judge
from registry.trials.findingspolicies import parse_policy

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64


def source(form: str, *, days: int = 1) -> Source:
    return Source(form, form, "here", NOW - timedelta(days=days), None, "CC0", False, 1, 0, "sha256:0", ())


ADVISORIES = Status("g", (source("osv"), source("kev"), source("epss")))


def package(name: str = "openssl", **members: Any) -> Package:
    usual = {"kind": "dpkg", "ecosystem": "Debian:12", "version": "3.0.17", "path": "status", "layer": 0}
    return Package(**{**usual, "name": name, **members})


def match(**members: Any) -> Match:
    usual: dict[str, Any] = {
        "package_index": 0,
        "id": "CVE-2025-9230",
        "aliases": (),
        "kind": "vulnerability",
        "severity": "high",
        "score": 7.5,
        "summary": "",
        "fixed_version": "3.0.18",
        "state": "affected",
        "kev": False,
        "epss": 0.1,
        "published_at": NOW - timedelta(days=10),
    }
    return Match(**{**usual, **members})


def report(*matches: Match, scan: dict[str, Any] | None = None, **members: Any) -> Report:
    values: dict[str, Any] = {
        "lease": "",
        "scanner": "scripted",
        "digest": DIGEST,
        "platform": "linux/amd64",
        "layers": (ScannedLayer(diff_id=DIGEST),),
        "packages": (package(),),
        **(scan or {}),
    }
    return Report(Scan(**values), NOW, **{"matches": matches, "advisories": ADVISORIES, **members})


def policy(text: str = "") -> FindingsPolicy:
    return parse_policy(f"version: 1\n{text}")


def judged(text: str, *matches: Match, **members: Any) -> Outcome:
    return judge(policy(text), report(*matches, **members), NOW)


@pytest.mark.parametrize(
    ("rule", "members", "verdict"),
    [
        ("{severity: high}", {}, "fail"),
        ("{severity: critical}", {}, "pass"),
        ("{severity: critical}", {"severity": "unknown"}, "error"),
        ("{score: 7.5}", {}, "fail"),
        ("{score: 7.6}", {}, "pass"),
        ("{score: 1}", {"score": None}, "error"),
        ("{severity: high, fixable: true}", {"fixed_version": None}, "pass"),
        ("{severity: high, fixable: false}", {"fixed_version": None}, "fail"),
        ("{kev: true}", {"kev": True}, "fail"),
        ("{kev: true}", {}, "pass"),
        ("{epss: 0.1}", {}, "fail"),
        ("{epss: 0.2}", {}, "pass"),
        ("{epss: 0.2}", {"epss": None}, "error"),
        # What does not hold by what is known need not be known.
        ("{severity: critical, epss: 0.2}", {"epss": None}, "pass"),
        ("{severity: high, grace_days: 10}", {}, "fail"),
        ("{severity: high, grace_days: 11}", {}, "pass"),
        ("{severity: high, grace_days: 11}", {"published_at": None}, "fail"),
        ("{severity: high}", {"state": "unknown"}, "error"),
        ("{severity: critical}", {"state": "unknown"}, "pass"),
        ("{severity: high, then: warn}", {}, "warn"),
        ("{severity: low}", {"kind": "informational", "severity": "unknown"}, "pass"),
        ("{severity: critical}", {"kind": "malicious", "severity": "unknown"}, "fail"),
    ],
)
def test_a_rule_counts_where_all_of_it_holds(rule: str, members: dict[str, Any], verdict: str) -> None:
    assert judged(f"vulnerabilities: [{rule}]", match(**members)).verdict == verdict


def test_a_refusal_names_what_is_wrong_and_what_mends_it() -> None:
    found = [match(id=f"CVE-2025-000{number}", severity="medium") for number in range(4)]
    outcome = judged("vulnerabilities: [{severity: medium}, {kev: true}]", *found, match(kev=True))
    assert outcome.sentence == (
        "findings policy refuses CVE-2025-9230 in openssl 3.0.17 (high, fixed in 3.0.18); "
        "CVE-2025-0000 in openssl 3.0.17 (medium, fixed in 3.0.18); "
        "CVE-2025-0001 in openssl 3.0.17 (medium, fixed in 3.0.18); and 2 more (rules: medium or worse); "
        "build the image with the fixed versions, or ask for a waiver of the finding"
    )
    assert len(outcome.reasons) == 5
    unfixed = judged("vulnerabilities: [{severity: high}]", match(fixed_version=None)).sentence
    assert "(high, no fix)" in unfixed


def test_grace_is_counted_from_when_the_registry_knew() -> None:
    since = MappingProxyType({("CVE-2025-9230", 0): NOW - timedelta(days=3)})
    text = "vulnerabilities: [{severity: high, grace_days: 5}]"
    assert judged(text, match()).verdict == "fail"
    assert judged(text, match(), first_seen_at=since).verdict == "pass"
    later = judge(policy(text), report(match(), first_seen_at=since), NOW + timedelta(days=2))
    assert later.verdict == "fail"


def known_for(*days: int) -> MappingProxyType[tuple[str, int], datetime]:
    return MappingProxyType({(f"CVE-{n}", 0): NOW - timedelta(days=each) for n, each in enumerate(days)})


def test_what_counts_once_its_grace_is_over_is_told_before() -> None:
    found = [match(id="CVE-0"), match(id="CVE-1"), match(id="CVE-2", severity="low")]
    text = "vulnerabilities: [{severity: high, grace_days: 5}]"
    outcome = judged(text, *found, first_seen_at=known_for(3, 1, 0))
    assert outcome.verdict == "pass"
    assert [(one.at - NOW, one.reason.id, one.reason.verdict) for one in outcome.coming] == [
        (timedelta(days=2), "CVE-0", "fail"),
        (timedelta(days=4), "CVE-1", "fail"),
    ]
    assert outcome.refuses_at == NOW + timedelta(days=2) == outcome.changes_at
    assert outcome.coming_sentence == (
        "from 2026-12-02 12:00 UTC on: CVE-0 in openssl 3.0.17 (high, fixed in 3.0.18) (rules: high or "
        "worse, known for 5 days); build the image with the fixed versions, or ask for a waiver of the "
        "finding"
    )
    # What somebody excuses does not come, and where it is refused already nothing of that is said.
    excused = Excused("CVE-0", 0, "waiver", "waived", "r", "admin", None)
    outcome = judged(text, *found, first_seen_at=known_for(3, 1, 0), excused=(excused,))
    assert [one.reason.id for one in outcome.coming] == ["CVE-1"]
    outcome = judged(text, *found, first_seen_at=known_for(6, 1, 0))
    assert (outcome.verdict, outcome.refuses_at, outcome.coming_sentence) == ("fail", None, "")
    assert [one.reason.id for one in outcome.coming] == ["CVE-1"]


def test_warned_of_at_once_and_refused_after_days() -> None:
    text = "vulnerabilities: [{severity: high, then: warn}, {severity: high, grace_days: 5}]"
    outcome = judged(text, match(id="CVE-0"), first_seen_at=known_for(3))
    assert (outcome.verdict, outcome.refuses_at) == ("warn", NOW + timedelta(days=2))
    # Nothing comes of what only warns on.
    text = "vulnerabilities: [{severity: high, then: warn}, {severity: high, grace_days: 5, then: warn}]"
    assert judged(text, match(id="CVE-0"), first_seen_at=known_for(3)).coming == ()
    # What nobody knows after a grace is no pass either, and the next grace may be that of another rule.
    text = "vulnerabilities: [{severity: low, grace_days: 5, then: warn}, {severity: low, grace_days: 9}]"
    outcome = judged(text, match(id="CVE-0", severity="unknown"), first_seen_at=known_for(3))
    assert [(one.at - NOW, one.reason.verdict) for one in outcome.coming] == [(timedelta(days=2), "error")]
    outcome = judged(text, match(id="CVE-0"), first_seen_at=known_for(3))
    assert (outcome.refuses_at, outcome.coming[0].reason.verdict) == (None, "warn")


@pytest.mark.parametrize(
    ("name", "text", "members"),
    [
        ("incomplete", "", {"scan": {"incomplete": (Incomplete(scanner="rpm", reason="bdb"),)}}),
        ("incomplete", "", {"scan": {"truncated": True}}),
        ("advisories_missing", "vulnerabilities: [{severity: high}]", {"advisories": None}),
        (
            "advisories_missing",
            "vulnerabilities: [{severity: high}]\nadvisories_max_age_days: 3",
            {"advisories": Status("g", (source("osv", days=4),))},
        ),
        (
            "advisories_missing",
            "vulnerabilities: [{kev: true}]",
            {"advisories": Status("g", (source("osv"), source("epss")))},
        ),
        (
            "advisories_missing",
            "vulnerabilities: [{epss: 0.1}]",
            {"advisories": Status("g", (source("osv"), source("kev")))},
        ),
        (
            "ecosystem_not_covered",
            "vulnerabilities: [{severity: high}]",
            {"not_looked_up": MappingProxyType({"": 2, "npm": 1})},
        ),
        ("licence_unknown", "licences: {allow: ['*']}", {}),
        ("licence_unknown", "licences: {deny: [AGPL-3.0-only]}", {}),
        (
            "licence_unknown",
            "licences: {deny: [AGPL-3.0-only]}",
            {"scan": {"packages": (package(licences=("BSD and MIT",)),)}},
        ),
        (
            "severity_unknown",
            "secrets: high",
            {"scan": {"found": (Found(kind="secret", rule="x", severity="unknown", title="x", where="y"),)}},
        ),
    ],
)
def test_what_is_not_known_is_no_pass_unless_the_policy_names_it(
    name: str, text: str, members: dict[str, Any]
) -> None:
    assert judged(text, **members).verdict == "error"
    for then in ("fail", "warn"):
        assert judged(f"{text}\n{name}: {then}", **members).verdict == then
    assert judged(text, **members).sentence.startswith("findings policy: not known: ")


def test_no_scan_is_no_pass() -> None:
    assert judge(policy(), None, NOW).verdict == "error"
    assert judge(policy("scan_missing: warn"), None, NOW).verdict == "warn"


def test_nothing_wrong_passes() -> None:
    text = "vulnerabilities: [{severity: low}]\nsecrets: low\nlicences: {deny: [AGPL-3.0-only]}"
    outcome = judged(text, scan={"packages": (package(licences=("MIT",)),)})
    assert (outcome.verdict, outcome.reasons, outcome.sentence) == ("pass", (), "")
    # Where nothing is said of vulnerabilities, advisories are not needed.
    assert judged("secrets: low", advisories=None).verdict == "pass"


@pytest.mark.parametrize("kind", ["secret", "malware"])
def test_an_image_cannot_vouch_for_its_own_secrets(kind: Any) -> None:
    found = Found(
        kind=kind, rule="key", severity="info", real_severity="high", title="a key", where="opt/key"
    )
    plain = Found(kind=kind, rule="key", severity="info", title="a key", where="opt/key")
    text = "secrets: high\nmalware: high"
    assert judged(text, scan={"found": (found,)}).verdict == "fail"
    assert judged(text, scan={"found": (plain,)}).verdict == "pass"
    assert "key at opt/key (high)" in judged(text, scan={"found": (found,)}).sentence
    assert judged("malware: ignore", scan={"found": (found,)}).verdict == "pass"


def test_misconfigurations_go_by_their_ids() -> None:
    found = (
        Found(kind="misconfiguration", rule="ST-A", severity="info", title="a", where="config"),
        Found(kind="misconfiguration", rule="ST-B", severity="critical", title="b", where="config"),
    )
    assert judged("misconfigurations: [ST-A]", scan={"found": found}).sentence.startswith(
        "findings policy refuses ST-A at config (info) (rules: misconfigurations ST-A)"
    )
    assert judged("misconfigurations: [ST-C]", scan={"found": found}).verdict == "pass"


@pytest.mark.parametrize(
    ("rule", "words", "verdict", "said"),
    [
        ("deny: [GPL-3.0-only]", "MIT", "pass", ""),
        ("deny: [GPL-3.0-only]", "GPL-3", "fail", "GPL-3.0-only in openssl 3.0.17 (rules: licences deny)"),
        ("deny: [GPL-*]", "MIT OR GPL-3.0-only", "pass", ""),
        ("deny: [GPL-*]", "BSD and GPL-3.0-only", "fail", "(rules: licences deny)"),
        ("deny: [GPL-*]", "BSD", "error", "not all is known of LicenseRef-BSD in openssl 3.0.17"),
        ("deny: [LicenseRef-BSD]", "BSD", "fail", "LicenseRef-BSD in openssl"),
        ("allow: [LicenseRef-BSD]", "BSD", "pass", ""),
        ("allow: [MIT]", "ISC", "fail", "ISC in openssl 3.0.17 (rules: licences allow)"),
        ("allow: [MIT, GPL-*], deny: [GPL-3.0-*]", "GPL-2", "pass", ""),
        ("allow: [MIT, GPL-*], deny: [GPL-3.0-*]", "GPL-3", "fail", "(rules: licences deny)"),
        ("deny: [GPL-2.0-only WITH Classpath-*]", "GPL-2 with classpath exception", "fail", "Classpath"),
        ("deny: [GPL-*], then: warn", "GPL-2", "warn", "warns of GPL-2.0-only"),
    ],
)
def test_licences_are_read_as_spdx_and_judged(rule: str, words: str, verdict: str, said: str) -> None:
    held = package(licences=(words,))
    brought = package("part", licences=("AGPL-3.0-only",), owned_by="openssl")
    outcome = judged(f"licences: {{{rule}}}", scan={"packages": (held, brought)})
    assert (outcome.verdict, said in outcome.sentence) == (verdict, True)


def test_so_many_licences_that_reading_them_takes_long_are_unknown() -> None:
    each = 50 * 300
    many = [package(str(n), licences=(f"{n}" + "x" * 300,) * 50) for n in range(READ_MAX // each + 1)]
    said = "there is more text of licences than is read"
    for packages, is_read in ((many[:-1], True), (many, False)):
        outcome = judged("licences: {deny: [MIT]}", scan={"packages": tuple(packages)})
        assert (outcome.verdict, any(one.id == said for one in outcome.reasons)) == ("error", not is_read)


def test_what_is_excused_stays_listed_and_excuses_nothing_else() -> None:
    excuse = Excused("CVE-1", 0, "waiver", "we do not use it", "", "ann", NOW + timedelta(days=1))
    text = "vulnerabilities: [{severity: high}]"
    outcome = judged(text, match(id="CVE-1"), match(id="CVE-2"), excused=(excuse,))
    assert [one.id for one in outcome.reasons] == ["CVE-2"]
    assert outcome.excused[0].excused == "waiver of ann until 2026-12-01 12:00 UTC: we do not use it"
    assert judged(text, match(id="CVE-1"), excused=(excuse,)).verdict == "pass"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vulnerabilities: [{grace_days: 3}]", "a rule says which vulnerabilities"),
        ("vulnerabilities: [{severity: worst}]", "vulnerabilities"),
        ("licences: {}", "or both"),
        ("licences: {deny: []}", "or both"),
        ("licences: {deny: [GPL-3]}", "SPDX has no GPL-3;"),
        ("licences: {deny: [MIT WITH Class], allow: [GPL3*]}", "SPDX has no GPL3*, MIT WITH Class;"),
        ("licences: {deny: ['GPL [23]']}", "licences.deny.0"),
        ("licences: {allow: [MIT OR ISC]}", "licences.allow.0"),
        ("secret: high", "did you mean 'secrets'"),
        ("incomplete: pass", "incomplete"),
        ("vulnerabilities: [{score: 11}]", "vulnerabilities.0.score"),
    ],
)
def test_a_policy_that_is_none_is_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        policy(text)
    assert "the findings policy is not valid" in raised.value.message
    assert why in raised.value.message


def test_a_policy_has_one_text_for_each_meaning() -> None:
    one = policy("vulnerabilities: [{severity: high, then: fail}]\nincomplete: error")
    assert one.canonical() == '{"version":1,"vulnerabilities":[{"severity":"high"}]}'
    assert parse_policy(one.canonical()) == one


@given(
    severity=st.sampled_from(["unknown", "info", "low", "medium", "high", "critical"]),
    score=st.none() | st.floats(0, 10),
    epss=st.none() | st.floats(0, 1),
    state=st.sampled_from(["affected", "unknown"]),
    kev=st.booleans(),
)
def test_what_is_not_known_never_passes_where_the_worst_of_it_would_not(
    severity: Any, score: float | None, epss: float | None, state: Any, kev: bool
) -> None:
    text = "vulnerabilities: [{severity: medium, score: 4, epss: 0.3}, {kev: true}]"
    said = match(severity=severity, score=score, epss=epss, state=state, kev=kev)
    worst = match(
        severity="critical" if severity == "unknown" else severity,
        score=10.0 if score is None else score,
        epss=1.0 if epss is None else epss,
        kev=kev,
    )
    if judged(text, worst).verdict != "pass":
        assert judged(text, said).verdict != "pass"
