"""What is taken from a record of OSV, and what is left out of it, with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from cvss import CVSS2, CVSS3, CVSS4

from registry.advisories.osv import MAX_SUMMARY, read_record
from registry.advisories.severity import score_of_vector, severity_of_score, severity_of_word
from registry.advisories.values import Advisory, Skip, Span
from tests.kit import advisories as kit
from tests.kit.advisories import affects, record


def advisory(one: object) -> Advisory:
    (found,) = read_record(one, where="x.json")
    assert isinstance(found, Advisory)
    return found


def spans(ecosystem: str, *events: str) -> list[Span]:
    return list(advisory(record("X-1", affects(ecosystem, "a", *events))).affected[0].spans)


def test_events_pair_up_whatever_their_order() -> None:
    assert spans("npm", "introduced=0", "fixed=1.2.0", "introduced=2.0.0", "fixed=2.3.0") == [
        Span("0", "1.2.0", "fixed"),
        Span("2.0.0", "2.3.0", "fixed"),
    ]
    assert spans("npm", "fixed=10.0.0", "introduced=9.0.0", "last_affected=1.0.0", "introduced=0") == [
        Span("0", "1.0.0", "last"),
        Span("9.0.0", "10.0.0", "fixed"),
    ]
    assert spans("npm", "introduced=1.0.0") == [Span("1.0.0", "", "")]
    assert spans("npm", "introduced=1.0.0", "limit=*") == [Span("1.0.0", "", "")]
    assert spans("npm", "introduced=0", "limit=3.0.0") == [Span("0", "3.0.0", "limit")]
    # One that is introduced where another is fixed, and one that ends where it began.
    assert spans("npm", "introduced=0", "introduced=2.0.0", "fixed=2.0.0", "fixed=3.0.0") == [
        Span("0", "2.0.0", "fixed"),
        Span("2.0.0", "3.0.0", "fixed"),
    ]
    assert spans("npm", "introduced=1.0.0", "last_affected=1.0.0") == [Span("1.0.0", "1.0.0", "last")]
    # Where versions cannot be put in order, events are taken as they come.
    assert spans("npm", "introduced=0", "fixed=not.a.version") == [Span("0", "not.a.version", "fixed")]


def test_a_record_is_taken_with_its_names_times_and_kind() -> None:
    found = advisory(
        record(
            "GHSA-aaaa-bbbb-cccc",
            affects("PyPI", "Zope.Interface", "introduced=0", versions=["1.0"]),
            affects("npm", "zope", "introduced=0"),
            aliases=["CVE-2026-0001", "CVE-2026-0001", "GHSA-aaaa-bbbb-cccc", 7, "\x1b[2J"],
            upstream=["CVE-2026-0002"],
            summary="Bad\x1b[2J news ",
            published="2026-01-01T01:00:00+02:00",
            modified="0001-01-01T00:00:00Z",
        )
    )
    assert found.kind == "vulnerability"
    assert found.aliases == ("CVE-2026-0001",)
    assert found.upstream == ("CVE-2026-0002",)
    assert found.summary == "Bad?[2J news"
    assert found.published_at == "2025-12-31T23:00:00+00:00"
    assert found.modified_at == ""
    assert [(one.ecosystem, one.package, one.versions) for one in found.affected] == [
        ("PyPI", "zope-interface", ("1.0",)),
        ("npm", "zope", ()),
    ]
    assert (
        advisory(record("X-1", affects("npm", "a", "introduced=0"), details="First.\nSecond.")).summary
        == "First."
    )
    long = advisory(record("X-1", affects("npm", "a", "introduced=0"), summary="é" * 1000)).summary
    assert len(long) == MAX_SUMMARY
    assert long.endswith("…")
    for time in ("yesterday", "9999-12-31T23:59:59-23:59", 7, None):
        assert advisory(record("X-1", affects("npm", "a", "introduced=0"), published=time)).published_at == ""


def test_informational_and_malicious_records_are_apart() -> None:
    for said in ("unmaintained", "unsound"):
        found = advisory(
            record(
                "RUSTSEC-2026-0001",
                affects(
                    "crates.io", "a", "introduced=0.0.0-0",
                    database_specific={"informational": said, "cvss": kit.CVSS3},
                ),
            )
        )  # fmt: skip
        assert (found.kind, found.severity, found.score) == ("informational", "info", None)
        assert found.affected[0].severity == "info"
    found = advisory(record("MAL-2026-1", affects("npm", "a", versions=["1.0.0"])))
    assert (found.kind, found.severity, found.affected[0].severity) == ("malicious", "critical", "critical")
    usual = affects(
        "crates.io", "a", "introduced=0", database_specific={"informational": None, "cvss": kit.CVSS3}
    )
    found = advisory(record("RUSTSEC-2026-0002", usual))
    assert (found.kind, found.severity, found.score) == ("vulnerability", "critical", 9.8)


@pytest.mark.parametrize(
    ("ecosystem", "whole", "own", "expected"),
    [
        ("npm", {"severity": [{"type": "CVSS_V3", "score": kit.CVSS3}]}, {}, ("critical", 9.8)),
        (
            "npm",
            {"severity": [{"type": "CVSS_V3", "score": kit.CVSS3}, {"type": "CVSS_V4", "score": kit.CVSS4}]},
            {},
            ("medium", 6.9),
        ),
        ("npm", {"severity": [{"type": "CVSS_V2", "score": kit.CVSS2}]}, {}, ("high", 7.5)),
        ("npm", {"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}]}, {}, ("unknown", None)),
        ("npm", {"severity": "high"}, {}, ("unknown", None)),
        ("npm", {"database_specific": {"severity": "MODERATE"}}, {}, ("medium", None)),
        # A score is exact where a word is not, except for the words of a distribution about its own build.
        (
            "npm",
            {"database_specific": {"severity": "LOW"}, "severity": [{"type": "CVSS_V3", "score": kit.CVSS3}]},
            {},
            ("critical", 9.8),
        ),
        (
            "Rocky Linux:8",
            {"database_specific": {"severity": "Low"}, "severity": [{"type": "CVSS_V3", "score": kit.CVSS3}]},
            {},
            ("low", 9.8),
        ),
        ("Ubuntu:24.04:LTS", {"severity": [{"type": "Ubuntu", "score": "negligible"}]}, {}, ("info", None)),
        # AlmaLinux says it in the title only.
        ("AlmaLinux:10", {"summary": "Moderate: apr-util security update"}, {}, ("medium", None)),
        ("AlmaLinux:10", {"summary": "Important security update"}, {}, ("unknown", None)),
        (
            "Red Hat:enterprise_linux:9::appstream",
            {"summary": "Low: a update", "severity": [{"type": "CVSS_V3", "score": kit.CVSS3}]},
            {},
            ("low", 9.8),
        ),
        ("Debian:12", {}, {"ecosystem_specific": {"urgency": "unimportant"}}, ("info", None)),
        ("Debian:12", {}, {"ecosystem_specific": {"urgency": "not yet assigned"}}, ("unknown", None)),
        # What is said of one package comes before what is said of all.
        (
            "npm",
            {"severity": [{"type": "CVSS_V3", "score": kit.CVSS3}]},
            {"severity": [{"type": "CVSS_V4", "score": kit.CVSS4}]},
            ("medium", 6.9),
        ),
    ],
)  # fmt: skip
def test_severity(
    ecosystem: str, whole: dict[str, Any], own: dict[str, Any], expected: tuple[str, float | None]
) -> None:
    found = advisory(record("X-1", affects(ecosystem, "a", "introduced=0", **own), **whole))
    assert (found.affected[0].severity, found.affected[0].score) == expected
    assert (found.severity, found.score) == expected


def test_a_bulletin_of_a_bug_fix_that_names_a_vulnerability_is_taken() -> None:
    fixed = affects("AlmaLinux:8", "a", "introduced=0", "fixed=1-1")
    assert advisory(record("RHBA-2024:1", fixed, related=["CVE-2024-1"])).upstream == ("CVE-2024-1",)
    assert advisory(record("ALSA-2024:1", fixed)).id == "ALSA-2024:1"


def test_scores_are_those_of_the_library_and_words_those_of_the_scale() -> None:
    assert score_of_vector(kit.CVSS2) == float(CVSS2(kit.CVSS2).base_score)
    assert score_of_vector(kit.CVSS3) == float(CVSS3(kit.CVSS3).base_score)
    assert score_of_vector(kit.CVSS4) == float(CVSS4(kit.CVSS4).base_score)
    for wrong in ("", "CVSS:3.1/", "CVSS:9.0/AV:N", "AV:N" * 100, "\x00", None, 7):
        assert score_of_vector(wrong) is None
    assert [severity_of_score(one) for one in (0, 0.1, 3.9, 4.0, 6.9, 7.0, 8.9, 9.0, 10)] == [
        "info", "low", "low", "medium", "medium", "high", "high", "critical", "critical",
    ]  # fmt: skip
    assert severity_of_word(" Important ") == "high"
    assert severity_of_word("whatever") == severity_of_word(None) == "unknown"


GOOD = affects("npm", "a", "introduced=0")
COMMITS = {"package": {"ecosystem": "npm", "name": "a"}, "ranges": [{"type": "GIT", "events": []}]}


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (None, "no JSON object"),
        ([], "no JSON object"),
        ({}, "no id"),
        (record("", GOOD), "no id"),
        (record("a\nb", GOOD), "no id"),
        (record("X" * 200, GOOD), "no id"),
        (record("X-1", GOOD, withdrawn="2026-01-01T00:00:00Z"), "withdrawn"),
        (record("X-1"), "names no package"),
        (record("X-1", affected="all"), "names no package"),
        (record("X-1", {"package": "a"}), "names no package"),
        (record("X-1", affects("npm", "", "introduced=0")), "names no package"),
        (record("X-1", affects("npm", "a\x1b[2Jb", "introduced=0")), "a name that no package has"),
        (record("X-1", affects("npm", "\ud800", "introduced=0")), "a name that no package has"),
        (record("X-1", affects("npm", "a" * 301, "introduced=0")), "a name that no package has"),
        (
            record("X-1", affects("NuGet", "a", "introduced=0")),
            "an ecosystem whose versions are not known here",
        ),
        *(
            (
                record(name, affects("AlmaLinux:8", "a", "introduced=0", "fixed=1-1"), related=["ALBA-1"]),
                "a bulletin that is about no vulnerability",
            )
            for name in ("ALBA-2020:4512", "ALEA-2020:1", "RHBA-2024:1", "RLEA-2024:1", "SUSE-RU-2024:1-1")
        ),
        (record("X-1", COMMITS), "only commits, no versions"),
        (record("X-1", affects("npm", "a")), "no versions"),
        (record("X-1", affects("npm", "a", "introduced=")), "a version that is none"),
        (record("X-1", affects("npm", "a", f"introduced={'1' * 301}")), "a version that is none"),
        (record("X-1", affects("npm", "a", "introduced=1\x00")), "a version that is none"),
        (record("X-1", affects("npm", "a", versions=["1"] * 20_001)), "more versions than are taken"),
        (record("X-1", affects("npm", "a", versions=[1])), "a version that is none"),
        (
            record("X-1", {**GOOD, "ranges": [{"type": "SEMVER", "events": ["introduced"]}]}),
            "events that are none",
        ),
    ],
)
def test_what_cannot_be_used_is_skipped_with_its_reason(one: object, reason: str) -> None:
    assert list(read_record(one, where="x.json")) == [Skip("x.json", reason)]


def test_one_bad_package_does_not_take_the_others_with_it() -> None:
    found = list(read_record(record("X-1", GOOD, COMMITS, affects("NuGet", "b", "introduced=0")), where="x"))
    assert [one.reason for one in found if isinstance(one, Skip)] == [
        "only commits, no versions",
        "an ecosystem whose versions are not known here",
    ]
    (taken,) = [one for one in found if isinstance(one, Advisory)]
    assert [one.package for one in taken.affected] == ["a"]
