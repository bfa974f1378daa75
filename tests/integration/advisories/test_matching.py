"""Which advisories hold for which packages, by small records in a real file."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from registry.advisories.building import build
from registry.advisories.file import open_advisories
from registry.advisories.matching import Match, match, not_looked_up
from registry.advisories.staging import Incoming
from registry.advisories.values import Exploited, Likelihood
from registry.contract.scan import Package
from tests.kit import advisories as kit
from tests.kit.advisories import AS_OF, Thing, affects, filed, incoming, record

RECORDS = (
    # Two records of one vulnerability, with different fixes; branches.
    record(
        "GHSA-aaaa-aaaa-aaaa",
        affects("npm", "lib", "introduced=0", "fixed=1.2.3", "introduced=2.0.0", "fixed=2.0.5"),
        aliases=["CVE-2026-1000"],
        severity=[{"type": "CVSS_V3", "score": kit.CVSS3}],
        summary="of GitHub",
        published="2026-02-02T00:00:00Z",
    ),
    record(
        "SNYK-1",
        affects("npm", "lib", "introduced=0", "fixed=1.2.4"),
        aliases=["CVE-2026-1000"],
        summary="of another",
        published="2026-02-01T00:00:00Z",
    ),
    record("GHSA-bbbb-bbbb-bbbb", affects("npm", "lib", "introduced=1.0.0", "last_affected=1.1.0")),
    record("X-ONLY-LISTED", affects("npm", "lib", versions=["0.9", "1.0.0-beta"])),
    record("X-RANGE-COUNTS", affects("PyPI", "Lib", "introduced=2", "fixed=3", versions=["1.0", "2.0"])),
    record("X-BOUND", affects("npm", "bound", "introduced=0", "fixed=one.two")),
    record("GO-2026-0001", affects("Go", "example.com/Upper/case", "introduced=0", "fixed=1.0.0")),
    # A distribution's, by the name of the source; severity is known from elsewhere only.
    record(
        "DEBIAN-CVE-2026-1000",
        affects("Debian:12", "libsrc", "introduced=0", "fixed=2.0-1+deb12u2"),
        upstream=["CVE-2026-1000"],
    ),
    # A bulletin about two.
    record(
        "RLSA-2026:1",
        affects("Rocky Linux:8", "openssl", "introduced=0", "fixed=1:1.1.1k-12.el8_9"),
        related=["CVE-2026-2001", "CVE-2026-2002"],
        database_specific={"severity": "Moderate"},
    ),
    # AlmaLinux and Photon OS name what is built of a source, Red Hat products and either.
    record(
        "ALSA-2026:2",
        affects("AlmaLinux:9", "perl-Errno", "introduced=0", "fixed=0:1.30-481.el9"),
        affects("AlmaLinux:9", "perl-libs", "introduced=0", "fixed=4:5.32.1-481.el9"),
        related=["CVE-2026-2003"],
    ),
    record(
        "RHSA-2026:3",
        affects("Red Hat:enterprise_linux:9::baseos", "openssl", "introduced=0", "fixed=1:3.0.7-25.el9_3"),
        affects("Red Hat:enterprise_linux:9::appstream", "openssl-perl", "introduced=0",
                "fixed=1:3.0.7-25.el9_3"),
        affects("Red Hat:rhel_eus:9.0::baseos", "openssl", "introduced=0", "fixed=1:3.0.1-99.el9_0"),
        upstream=["CVE-2026-2004"],
    ),
    record(
        "SUSE-SU-2026:4-1",
        affects("SUSE:Linux Enterprise Module for Basesystem 15 SP5", "perl", "introduced=0",
                "fixed=5.26.1-150300.17.20.1"),
        affects("SUSE:Linux Enterprise Server 15 SP4-LTSS", "perl", "introduced=0",
                "fixed=5.26.1-150300.17.20.1"),
        upstream=["CVE-2026-2005"],
    ),
    record(
        "RLSA-2026:5",
        affects("Rocky Linux:9", "perl", "introduced=0", "fixed=4:5.32.1-481.el9"),
        upstream=["CVE-2026-2006"],
    ),
    record("MAL-2026-1", affects("npm", "evil", versions=["1.0.0"])),
    record(
        "RUSTSEC-2026-0001",
        affects("crates.io", "old", "introduced=0", database_specific={"informational": "unmaintained"}),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("advisories") / "advisories.sqlite"
    lists = [
        Incoming("kev", "kev", "kev.json", AS_OF, "", False, [Exploited("CVE-2026-1000", "2026-03-01", "")]),
        Incoming("epss", "epss", "epss.csv", AS_OF, "", False, [Likelihood("CVE-2026-1000", 0.5)]),
    ]
    build(path, [incoming("own", *RECORDS), *lists])
    with closing(open_advisories(path)) as advisories:

        def ask(*things: Thing | Package) -> list[Match]:
            return match(advisories, things)

        yield ask


def ids(matches: list[Match]) -> dict[str, str | None]:
    return {one.id: one.fixed_version for one in matches}


def test_aliases_are_one_match_with_the_fix_of_its_branch(found: Any) -> None:
    (one,) = found(Thing("npm", "lib", "1.2.0"))
    assert one == Match(
        package_index=0,
        id="CVE-2026-1000",
        aliases=("GHSA-aaaa-aaaa-aaaa", "SNYK-1"),
        kind="vulnerability",
        severity="critical",
        score=9.8,
        summary="of GitHub",
        fixed_version="1.2.4",  # only that mends it by both records
        state="affected",
        kev=True,
        epss=0.5,
        published_at=one.published_at,
    )
    assert one.published_at is not None
    assert one.published_at.isoformat() == "2026-02-01T00:00:00+00:00"
    assert ids(found(Thing("npm", "lib", "2.0.0"))) == {"CVE-2026-1000": "2.0.5"}
    assert found(Thing("npm", "lib", "2.0.5"), Thing("npm", "lib", "1.2.4")) == []


def test_the_last_affected_version_is_affected(found: Any) -> None:
    assert "GHSA-bbbb-bbbb-bbbb" in ids(found(Thing("npm", "lib", "1.1.0")))
    assert ids(found(Thing("npm", "lib", "1.1.0")))["GHSA-bbbb-bbbb-bbbb"] is None
    assert "GHSA-bbbb-bbbb-bbbb" not in ids(found(Thing("npm", "lib", "1.1.1")))
    assert "GHSA-bbbb-bbbb-bbbb" not in ids(found(Thing("npm", "lib", "1.0.0-rc1")))


def test_a_version_is_affected_if_it_is_listed_or_lies_in_a_range(found: Any) -> None:
    assert "X-ONLY-LISTED" in ids(found(Thing("npm", "lib", "0.9")))
    assert "X-ONLY-LISTED" in ids(found(Thing("npm", "lib", "0.9.0")))  # the same version
    assert "X-ONLY-LISTED" not in ids(found(Thing("npm", "lib", "0.9.1")))
    # Listed, but in no range: affected, and the next fix mends it. In the range, but not listed: too.
    assert ids(found(Thing("PyPI", "lib", "1.0"))) == {"X-RANGE-COUNTS": "3"}
    assert ids(found(Thing("PyPI", "LIB", "2.5"))) == {"X-RANGE-COUNTS": "3"}
    assert found(Thing("PyPI", "lib", "1.1"), Thing("PyPI", "lib", "3")) == []


def test_what_cannot_be_compared_is_unknown_and_never_harmless(found: Any) -> None:
    matches = found(Thing("npm", "lib", "latest"))
    assert {one.state for one in matches} == {"unknown"}
    assert set(ids(matches)) == {"CVE-2026-1000", "GHSA-bbbb-bbbb-bbbb", "X-ONLY-LISTED"}
    assert [one.state for one in found(Thing("npm", "bound", "1.0.0"))] == ["unknown"]
    assert [one.state for one in found(Thing("Go", "example.com/Upper/case", ""))] == ["unknown"]
    assert found(Thing("npm", "nobody-knows-it", "latest")) == []


def test_names_are_folded_for_python_and_for_nobody_else(found: Any) -> None:
    assert ids(found(Thing("Go", "example.com/Upper/case", "v0.9.0"))) == {"GO-2026-0001": "1.0.0"}
    assert found(Thing("Go", "example.com/upper/case", "v0.9.0")) == []


def test_a_distribution_is_asked_by_source_and_its_severity_comes_first(found: Any) -> None:
    (one,) = found(Thing("Debian:12", "libbinary1", "9.9", "libsrc", "2.0-1+deb12u1"))
    assert (one.id, one.aliases, one.fixed_version) == (
        "CVE-2026-1000", ("DEBIAN-CVE-2026-1000",), "2.0-1+deb12u2",
    )  # fmt: skip
    assert (one.severity, one.score, one.kev) == ("critical", 9.8, True)  # said by GitHub only
    assert ids(found(Thing("Debian:12", "libsrc", "2.0-1"))) == {"CVE-2026-1000": "2.0-1+deb12u2"}
    assert ids(found(Thing("Debian:12", "x", "2.0-1", "libsrc"))) == {"CVE-2026-1000": "2.0-1+deb12u2"}
    assert found(Thing("Debian:12", "libsrc", "2.0-1+deb12u2"), Thing("Debian:11", "libsrc", "2.0-1")) == []
    both = found(Thing("Rocky Linux:8", "openssl-libs", "1:1.1.1k-7.el8_6", "openssl"))
    assert [(one.id, one.aliases, one.severity) for one in both] == [
        ("CVE-2026-2001", ("RLSA-2026:1",), "medium"),
        ("CVE-2026-2002", ("RLSA-2026:1",), "medium"),
    ]


def test_a_package_of_rpm_is_asked_by_its_own_name_and_by_its_sources(found: Any) -> None:
    libs = Thing("AlmaLinux:9", "perl-libs", "4:5.32.1-480.el9", "perl", "5.32.1-480.el9")
    assert ids(found(libs)) == {"CVE-2026-2003": "4:5.32.1-481.el9"}
    # Of each package its own version, which is not its source's.
    assert ids(found(Thing("AlmaLinux:9", "perl-Errno", "1.30-480.el9", "perl", "5.32.1-480.el9"))) == {
        "CVE-2026-2003": "0:1.30-481.el9"
    }
    assert found(Thing("AlmaLinux:9", "perl-Errno", "1.30-481.el9", "perl", "5.32.1-481.el9")) == []
    assert found(Thing("AlmaLinux:9", "perl-base", "1.30-1.el9", "perl", "5.32.1-1.el9")) == []
    # dpkg's records are about sources only: a package may be named as another's source is.
    assert found(Thing("Debian:12", "libsrc", "1.0", "other")) == []


def test_the_version_of_a_source_of_rpm_has_no_epoch(found: Any) -> None:
    old = Thing("Rocky Linux:9", "perl-Errno", "1.30-480.el9", "perl", "5.32.1-480.el9")
    assert ids(found(old)) == {"CVE-2026-2006": "4:5.32.1-481.el9"}
    assert found(Thing("Rocky Linux:9", "perl-Errno", "1.30-481.el9", "perl", "5.32.1-481.el9")) == []
    # Where it is the package's own version, the package tells the epoch.
    assert found(Thing("Rocky Linux:9", "perl-libs", "4:5.32.1-481.el9", "perl")) == []
    assert ids(found(Thing("Rocky Linux:9", "perl-libs", "3:9.9-1.el9", "perl"))) == {
        "CVE-2026-2006": "4:5.32.1-481.el9"
    }


def test_products_of_one_release_are_asked_together(found: Any) -> None:
    old = Thing("Red Hat:enterprise_linux:9", "openssl-libs", "1:3.0.7-24.el9", "openssl")
    assert ids(found(old)) == {"CVE-2026-2004": "1:3.0.7-25.el9_3"}
    perl = Thing("Red Hat:enterprise_linux:9", "openssl-perl", "1:3.0.7-24.el9")
    assert ids(found(perl)) == {"CVE-2026-2004": "1:3.0.7-25.el9_3"}
    assert found(Thing("Red Hat:enterprise_linux:9", "openssl-libs", "1:3.0.7-25.el9_3", "openssl")) == []
    assert found(Thing("Red Hat:enterprise_linux:8", "openssl-libs", "1:1.1.1k-1.el8", "openssl")) == []
    for system in ("15 SP5", "15 SP4"):
        base = Thing(f"SUSE:Linux Enterprise Server {system}", "perl-base", "5.26.1-150300.17.14.1", "perl")
        assert ids(found(base)) == {"CVE-2026-2005": "5.26.1-150300.17.20.1"}
    assert found(Thing("SUSE:Linux Enterprise Server 15 SP6", "perl-base", "5.26.1-1", "perl")) == []


def test_what_no_product_of_a_release_is_about_was_not_looked_up(tmp_path: Path) -> None:
    advisories, _ = filed(tmp_path / "a.sqlite", *RECORDS)
    things = [Thing(f"Red Hat:enterprise_linux:{release}", "a", "1-1") for release in ("8", "9", "9")] + [
        Thing("SUSE:Linux Enterprise Server 15 SP5", "a", "1"),
        Thing("SUSE:Linux Micro 6.0", "a", "1"),
    ]
    with closing(advisories):
        assert not_looked_up(advisories, things) == {
            "Red Hat:enterprise_linux:8": 1,
            "SUSE:Linux Micro 6.0": 1,
        }
        assert advisories.count_about("Red Hat:enterprise_linux:9", "openssl") == 1


def test_kinds_are_told_apart(found: Any) -> None:
    (evil,) = found(Thing("npm", "evil", "1.0.0"))
    assert (evil.kind, evil.severity) == ("malicious", "critical")
    (old,) = found(Thing("crates.io", "old", "1.0.0"))
    assert (old.kind, old.severity, old.score) == ("informational", "info", None)


def test_packages_of_the_contract_are_taken_and_owned_ones_passed_over(found: Any) -> None:
    package = Package(
        kind="npm", ecosystem="npm", name="lib", version="2.0.0", path="usr/lib/x/package.json", layer=0
    )
    owned = package.model_copy(update={"owned_by": "node-lib"})
    nameless = package.model_copy(update={"ecosystem": ""})
    matches = found(owned, package, nameless, package)
    assert [(one.package_index, one.id) for one in matches] == [(1, "CVE-2026-1000"), (3, "CVE-2026-1000")]


def test_an_unknown_match_of_one_record_and_a_certain_one_of_another_are_certain(tmp_path: Path) -> None:
    advisories, _ = filed(
        tmp_path / "a.sqlite",
        record("X-1", affects("npm", "a", "introduced=0", "fixed=one.two"), aliases=["CVE-2026-1"]),
        record("X-2", affects("npm", "a", "introduced=0"), aliases=["CVE-2026-1"]),
    )
    with closing(advisories):
        (one,) = match(advisories, [Thing("npm", "a", "1.0.0")])
    assert (one.state, one.id) == ("affected", "CVE-2026-1")


def test_thousands_of_vulnerabilities_of_one_package_take_no_square_of_their_time(tmp_path: Path) -> None:
    # As a kernel has them; which versions of it there are, says whoever pushes an image.
    names = [f"CVE-2020-{number}" for number in range(45_000)]
    bulletins = [
        record(f"B-{at}", affects("Debian:12", "linux", "introduced=0"), upstream=names[at : at + 500])
        for at in range(0, len(names), 500)
    ]
    advisories, _ = filed(tmp_path / "a.db", *bulletins)
    with closing(advisories):
        began = time.process_time()
        found = match(advisories, [Thing("Debian:12", "linux", "1")])
        took = time.process_time() - began
    assert [one.id for one in found] == sorted(names)
    assert took < 30, "by pairs it were a minute"
