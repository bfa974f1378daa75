"""Packages of dpkg: what this host's own database says, and what each kind of stanza means."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox.scanners.facts import FoundPackage, Owned
from tests.kit.looking import look, named, wanting

STATUS = "var/lib/dpkg/status"

OLD = b"""Package: libexpat1
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: expat
Version: 2.5.0-1+deb12u1
Description: XML parsing C library
 Package: decoy
 .
 Version: 1

Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.17-1~deb12u2)
Version: 3.0.17-1~deb12u2+b1
Conffiles:
 /etc/ssl/openssl.cnf 6d4a1e0b9a4b9a1ff0b2be9a13fc3ba1
 /etc/ssl/old.cnf 6d4a1e0b9a4b9a1ff0b2be9a13fc3ba2 obsolete
 /etc/ssl/new.cnf newconffile

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: kept
Status: deinstall ok installed
Version: 1.1

Package: half
Status: install reinstreq half-configured
Version: 1:2.0-1"""


def test_what_is_installed_has_its_source_and_what_is_gone_is_not_there() -> None:
    facts = look(STATUS, OLD)
    assert facts.packages == (
        FoundPackage("dpkg", "libexpat1", "2.5.0-1+deb12u1", "amd64", "expat"),
        FoundPackage("dpkg", "libssl3", "3.0.17-1~deb12u2+b1", "amd64", "openssl", "3.0.17-1~deb12u2"),
        FoundPackage("dpkg", "kept", "1.1"),
        FoundPackage("dpkg", "half", "1:2.0-1"),
    )
    assert facts.owned == (
        Owned("etc/ssl/openssl.cnf", "libssl3", "6d4a1e0b9a4b9a1ff0b2be9a13fc3ba1"),
        Owned("etc/ssl/old.cnf", "libssl3", "6d4a1e0b9a4b9a1ff0b2be9a13fc3ba2"),
    )
    assert facts.incomplete == ()


def test_this_hosts_packages_are_those_that_dpkg_lists() -> None:
    form = (
        "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"
    )
    listed = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True)
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    expected = sorted(tuple(row[1:]) for row in rows if row[0] not in ("not-installed", "config-files"))
    facts = look(STATUS, Path("/", STATUS).read_bytes())
    assert facts.incomplete == ()
    assert expected == sorted(
        (
            package.name,
            package.version,
            package.architecture,
            package.source or package.name,
            package.source_version or package.version,
        )
        for package in facts.packages
    )


def test_distroless_has_a_file_for_each_package_and_its_sums_beside() -> None:
    assert named(look("var/lib/dpkg/status.d/tzdata", b"Package: tzdata\nVersion: 2024b-0+deb12u1\n")) == [
        ("tzdata", "2024b-0+deb12u1")
    ]
    sums = look("var/lib/dpkg/status.d/tzdata.md5sums", b"0" * 32 + b"  usr/share/zoneinfo/UTC\n")
    assert sums.packages == ()
    assert sums.owned == (Owned("usr/share/zoneinfo/UTC", "tzdata", "0" * 32),)


def test_files_are_owned_as_they_are_listed_and_folders_are_not() -> None:
    sums = look("var/lib/dpkg/info/util-linux:amd64.md5sums", b"a" * 32 + b"  bin/su\nnonsense\n")
    assert sums.owned == (Owned("bin/su", "util-linux", "a" * 32),)
    listed = look(
        "var/lib/dpkg/info/python3-six.list",
        b"/.\n/usr\n/usr/lib\n/usr/lib/six.py\n/usr/lib/six-1.egg-info\n/usr/lib/six-1.egg-info/PKG-INFO\n/x\n",
    )
    assert [owned.path for owned in listed.owned] == [
        "usr/lib/six.py",
        "usr/lib/six-1.egg-info/PKG-INFO",
        "x",
    ]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (STATUS, ["dpkg"]),
        ("var/lib/dpkg/status-old", []),
        ("var/lib/dpkg/status.d/base-files", ["dpkg"]),
        ("var/lib/dpkg/info/dash.postinst", []),
        ("var/lib/dpkg/info/dash.list", ["dpkg"]),
        ("srv/var/lib/dpkg/status", []),
    ],
)
def test_only_the_database_itself_is_looked_at(path: str, wanted: list[str]) -> None:
    assert wanting(path) == wanted


def test_what_is_found_before_a_fault_is_kept_and_the_fault_is_named() -> None:
    facts = look(STATUS, OLD + b"\n\nPackage: late\nVersion: 1\nDescription: " + b"x" * 2_000_000)
    assert named(facts)[-1] == ("half", "1:2.0-1")
    assert facts.incomplete == ("a line is longer than 1048576 bytes",)


def test_a_name_that_no_terminal_should_see_is_named_as_incomplete_only() -> None:
    facts = look(STATUS, b"Package: \x1b[2Jclear\nVersion: 1\n\nPackage: fine\nVersion: 1\n")
    assert named(facts) == [("fine", "1")]
    assert facts.incomplete == ("a package's name or version cannot be one: '\\x1b[2Jclear'",)


def test_so_many_packages_that_they_fit_no_document_are_cut_with_the_reason() -> None:
    facts = look(STATUS, b"Package: p\nVersion: 1\n\n" * 50_001)
    assert len(facts.packages) == 50_000
    assert facts.incomplete == ("more than 50000 packages",)
