"""What Debian and Alpine publish in forms of their own, and lists about vulnerabilities."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Iterable
from typing import Any

import pytest
from backports import zstd

from registry.advisories.distributions import (
    alpine_secdb,
    changelog,
    changelog_of_deb,
    debian_bulletins,
    debian_tracker,
    release_of,
)
from registry.advisories.facts import Fact, Facts
from registry.advisories.lists import exploited, likelihoods
from registry.advisories.values import Advisory, Exploited, Likelihood, Skip, Span

CHANGELOG = """\
expat (2.5.0-1+deb12u2) bookworm-security; urgency=high

  * Fix CVE-2024-50602 and CVE-2024-45490.

 -- A Person <a@example.org>  Mon, 04 Nov 2024 00:00:00 +0000

expat (2.5.0-1+deb12u1) bookworm-security; urgency=high

  * Fix CVE-2024-45490, incompletely.

 -- A Person <a@example.org>  Mon, 02 Sep 2024 00:00:00 +0000

other (1.0-1) unstable; urgency=low

  * CVE-2020-0001 is of another package, before this one had its name.
"""


def reasons(items: Iterable[object]) -> list[str]:
    return [one.reason for one in items if isinstance(one, Skip)]


def facts(items: Iterable[object]) -> list[Fact]:
    return [one for one in items if isinstance(one, Fact)]


def test_the_tracker_tells_what_is_open_and_what_is_fixed() -> None:
    def state(status: str, **more: str) -> dict[str, str]:
        return {"status": status, **more}

    document: dict[str, Any] = {
        "expat": {
            "CVE-2024-0001": {
                "description": "A thing\x1b[2J happens",
                "releases": {
                    "bookworm": state("resolved", fixed_version="2.5.0-1+deb12u1", urgency="high"),
                    "trixie": state("open", urgency="unimportant"),
                    "bullseye": state("resolved", fixed_version="0"),
                    "sid": state("open"),
                },
            },
            "TEMP-0000001-ABCDEF": {"releases": {"bookworm": state("undetermined")}},
            "nonsense": {"releases": {}},
            "CVE-2024-0002": {
                "releases": {"bookworm": state("odd"), "trixie": 7, "buster": state("resolved")}
            },
            "CVE-2024-0003": "text",
        },
        "\x00": {},
        "list": [],
    }
    items = list(debian_tracker(document))
    assert facts(items) == [
        Fact("CVE-2024-0001", "Debian:12", "expat", "2.5.0-1+deb12u1", "high", "A thing\x1b[2J happens"),
        Fact("CVE-2024-0001", "Debian:13", "expat", "", "info", "A thing\x1b[2J happens"),
        Fact("TEMP-0000001-ABCDEF", "Debian:12", "expat", ""),
    ]
    assert sorted(reasons(items)) == [
        "a release without a number",
        "a version that is none",
        "no package of the tracker",
        "no package of the tracker",
        "no state of a release",
        "no state of a release",
        "no vulnerability of the tracker",
        "no vulnerability of the tracker",
    ]
    gathered = Facts()
    for fact in facts(items):
        gathered.add(fact)
    first, second = gathered.advisories()
    assert (first.id, first.upstream, first.severity, first.summary) == (
        "DEBIAN-CVE-2024-0001", ("CVE-2024-0001",), "high", "A thing?[2J happens",
    )  # fmt: skip
    assert [(one.ecosystem, one.spans, one.severity) for one in first.affected] == [
        ("Debian:12", (Span("0", "2.5.0-1+deb12u1", "fixed"),), "high"),
        ("Debian:13", (Span("0", "", ""),), "info"),
    ]
    assert (second.id, second.upstream) == ("DEBIAN-TEMP-0000001-ABCDEF", ())


def test_bulletins_tell_what_they_fixed() -> None:
    text = """\
[25 Nov 2024] DSA-5800-1 expat - security update
\t{CVE-2024-50602 CVE-2024-45490}
\t[bookworm] - expat 2.5.0-1+deb12u2
\t[sid] - expat 2.6.0-1
\t[trixie] - expat <not-affected>
\tNOTE: nothing
[26 Nov 2024] DLA-1-1 nothing - security update
\t[bullseye] - nothing 1.0-1
"""
    items = list(debian_bulletins(text))
    assert facts(items) == [
        Fact("CVE-2024-50602", "Debian:12", "expat", "2.5.0-1+deb12u2"),
        Fact("CVE-2024-45490", "Debian:12", "expat", "2.5.0-1+deb12u2"),
    ]
    assert reasons(items) == ["a release without a number", "no fixed version", "names no CVE"]


def test_the_oldest_entry_that_names_a_cve_fixed_it() -> None:
    assert list(changelog(CHANGELOG, "x", None)) == [
        Fact("CVE-2024-50602", "Debian:12", "expat", "2.5.0-1+deb12u2"),
        Fact("CVE-2024-45490", "Debian:12", "expat", "2.5.0-1+deb12u1"),
    ]
    assert facts(changelog(CHANGELOG, "x", "Debian:13"))[0].ecosystem == "Debian:13"
    assert reasons(changelog(CHANGELOG.replace("bookworm-security", "unstable"), "x", None)) == [
        "a changelog of no release; --ecosystem says which"
    ]
    assert reasons(changelog("nothing of the kind", "x", None)) == ["no changelog"]
    assert reasons(changelog("package (0-2)  ;urgency=low", "x", None)) == ["no changelog"]
    assert [release_of(one) for one in ("bookworm", "noble-updates", "unstable", "UNRELEASED")] == [
        "Debian:12", "Ubuntu:24.04:LTS", None, None,
    ]  # fmt: skip


def deb(name: str, body: bytes) -> bytes:
    def member(title: str, content: bytes) -> bytes:
        return (
            f"{title:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )

    return b"!<arch>\n" + member("debian-binary", b"2.0\n") + member(name, body)


def files(**contents: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"./usr/share/doc/expat/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_the_changelog_is_found_in_a_package() -> None:
    packed = gzip.compress(CHANGELOG.encode())
    tar = files(**{"changelog.gz": gzip.compress(b"of the author"), "changelog.Debian.gz": packed})
    for name, body in (
        ("data.tar", tar),
        ("data.tar.gz", gzip.compress(tar)),
        ("data.tar.xz", lzma.compress(tar)),
        ("data.tar.zst", zstd.compress(tar)),
    ):
        assert changelog_of_deb(deb(name, body)) == CHANGELOG
    assert changelog_of_deb(deb("data.tar", files(**{"changelog.gz": packed}))) == CHANGELOG
    assert changelog_of_deb(deb("data.tar", files(copyright=b"x"))) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"!<arch>\n",
        b"!<arch>\n" + b"x" * 60,
        deb("data.tar.xz", b"\xfd7zXZ\0 broken"),
        deb("control.tar", b""),
        deb("data.tar", files(**{"changelog.gz": b"\x1f\x8bbroken"})),
        deb("data.tar.gz", gzip.compress(files(**{"changelog.gz": gzip.compress(b"x")}))[:-40]),
    ],
)
def test_a_broken_package_is_said_to_be_one(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        changelog_of_deb(content)


def test_secdb_tells_what_a_version_fixed() -> None:
    document: dict[str, Any] = {
        "distroversion": "v3.20",
        "packages": [
            {
                "pkg": {
                    "name": "openssl",
                    "secfixes": {
                        "3.3.0-r1": ["CVE-2024-0001 GHSA-xxxx", "CVE-2024-0002 (+)", 7],
                        "3.3.0-r10": ["CVE-2024-0001"],
                        "3.3.0-r9": ["CVE-2024-0001"],
                        "0": ["CVE-2024-0003"],
                        "\x00": ["CVE-2024-0004"],
                    },
                }
            },
            {"pkg": {"name": 7}},
            "text",
        ],
    }
    items = list(alpine_secdb(document, "main.json"))
    assert reasons(items) == ["a version that is none", "no package of secdb", "no package of secdb"]
    gathered = Facts()
    for fact in facts(items):
        gathered.add(fact)
    by_id = {one.id: one.affected[0].spans for one in gathered.advisories()}
    # Of several fixes the last in the order of apk counts: it was incomplete before.
    assert by_id == {
        "ALPINE-CVE-2024-0001": (Span("0", "3.3.0-r10", "fixed"),),
        "ALPINE-CVE-2024-0002": (Span("0", "3.3.0-r1", "fixed"),),
    }
    for broken in ({}, {"distroversion": "v3\n", "packages": []}, {"distroversion": "v3.20", "packages": 7}):
        assert reasons(alpine_secdb(broken, "x")) == ["no secdb of a release"]


def test_of_two_facts_the_one_that_is_open_or_later_counts() -> None:
    def kept(*fixed: str) -> Advisory:
        gathered = Facts()
        for one in fixed:
            gathered.add(Fact("CVE-2026-0001", "Debian:12", "a", one))
        (found,) = gathered.advisories()
        return found

    assert kept("1.0-9", "1.0-10", "1.0-2").affected[0].spans == (Span("0", "1.0-10", "fixed"),)
    assert kept("1.0-9", "").affected[0].spans == kept("", "1.0-9").affected[0].spans == (Span("0", "", ""),)
    assert kept("1.0-9", "bad version").affected[0].spans == (Span("0", "bad version", "fixed"),)


def test_lists_of_what_is_exploited_and_of_how_likely_that_is() -> None:
    document = {
        "vulnerabilities": [
            {"cveID": "CVE-2021-44228", "dateAdded": "2021-12-10", "dueDate": "soon"},
            {"cveID": "none"},
            "text",
        ]
    }
    assert list(exploited(document, "kev.json")) == [
        Exploited("CVE-2021-44228", "2021-12-10", ""),
        Skip("kev.json 1", "names no CVE"),
        Skip("kev.json 2", "names no CVE"),
    ]
    assert list(exploited({"vulnerabilities": 7}, "x")) == []
    text = "#model_version:v1,score_date:2026-11-24T00:00:00+0000\ncve,epss,percentile\n"
    text += "CVE-2021-44228,0.97,0.99\nCVE-2021-1,1.5,0\nx,0.1,0\nCVE-2021-0002,nan,0\n\n"
    items = list(likelihoods(text, "epss.csv"))
    assert items[0] == Likelihood("CVE-2021-44228", 0.97)
    assert [one.where for one in items[1:] if isinstance(one, Skip)] == [
        "epss.csv line 4", "epss.csv line 5", "epss.csv line 6",
    ]  # fmt: skip
