"""Licences of Debian's packages, from their copyright files."""

from __future__ import annotations

import io

import pytest

from sandbox.scanners.document import Subject, make_scan
from sandbox.scanners.facts import Entry, FoundPackage
from sandbox.scanners.merge import Told, View
from sandbox.scanners.packages.copyrights import COPYRIGHTS

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
ENTRY = Entry("usr/share/doc/hello/copyright", "file", 100, 0o644, 0, 0)


def names(text: str) -> list[str]:
    facts = COPYRIGHTS.look(ENTRY, io.BytesIO(text.encode()))
    assert not facts.incomplete
    assert {thing.kind for thing in facts.things} <= {"licence"}
    return [thing.title for thing in facts.things]


def test_each_licence_of_what_is_installed_is_named_once() -> None:
    text = FORMAT + (
        "\nFiles: *\nCopyright: 2020 A\nLicense: GPL-3+\n This program is free\n .\n License: decoy\n"
        "\nFiles: a/*\n b/*\nLicense: Expat\n"
        "\nFiles: c\nLicense: GPL-3+\n"
        "\nFiles: debian/*\nLicense: GPL-2+\n"
        "\nFiles: debian/*\n lib/x\nLicense: ISC\n"
        "\nLicense: Expat\n Permission is hereby granted\n"
    )
    assert names(text) == ["GPL-3+", "Expat", "ISC"]
    assert names(FORMAT + "License: Zlib\n") == ["Zlib"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "This is hello.\nLicense: GPL-3+\n",
        FORMAT,
        FORMAT + "\nFiles: *\n",
        "\n\n",
        FORMAT + "x" * (1 << 21),
    ],
)
def test_what_no_machine_can_read_names_none(text: str) -> None:
    assert names(text) == []


def test_it_looks_at_the_copyright_of_a_package_and_at_nothing_else() -> None:
    assert COPYRIGHTS.wants(ENTRY)
    for path in ("usr/share/doc/a/b/copyright", "usr/share/doc/copyright", "opt/usr/share/doc/a/copyright"):
        assert not COPYRIGHTS.wants(Entry(path, "file", 1, 0o644, 0, 0))
    assert not COPYRIGHTS.wants(Entry(ENTRY.path, "file", 1 << 23, 0o644, 0, 0))
    assert not COPYRIGHTS.wants(Entry(ENTRY.path, "link", 0, 0o644, 0, 0))


def test_a_package_has_the_licences_of_its_own_file_or_of_its_source() -> None:
    def told(package: str, text: str) -> Told:
        things = COPYRIGHTS.look(ENTRY, io.BytesIO(text.encode())).things
        return Told(f"usr/share/doc/{package}/copyright", 0, "copyright", things=things)

    packages = (
        FoundPackage("dpkg", "libhello1", "1", source="hello"),
        FoundPackage("dpkg", "hello-dev", "1", source="hello"),
        FoundPackage("dpkg", "other", "1"),
        FoundPackage("apk", "hello", "1", licences=("ISC",)),
    )
    view = View(
        [
            Told("var/lib/dpkg/status", 0, "dpkg", packages=packages),
            told("libhello1", FORMAT + "License: Expat\n"),
            told("unrelated", FORMAT + "License: GPL-2\n"),
        ]
    )
    scan = make_scan(
        view, Subject("sha256:" + "0" * 64, "linux/amd64", ("sha256:" + "a" * 64,), ("",)), scanner="x"
    )
    assert {one.name: one.licences for one in scan.packages if one.kind == "dpkg"} == {
        "libhello1": ("Expat",),
        "hello-dev": ("Expat",),
        "other": (),
    }
    assert [one.licences for one in scan.packages if one.kind == "apk"] == [("ISC",)]
    # It is nothing that is wrong.
    assert scan.found == ()
