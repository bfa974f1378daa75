"""Packages of Python and npm, by the metadata that their installers leave."""

from __future__ import annotations

import json
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from sandbox.scanners.facts import FoundPackage
from tests.kit.looking import look, named, wanting

SITE = "usr/lib/python3/dist-packages/"
MODULES = "srv/app/node_modules/"


def test_what_is_installed_beside_these_tests_is_what_python_itself_lists() -> None:
    site = Path(sysconfig.get_path("purelib"))
    found = []
    for file in sorted(site.glob("*.dist-info/METADATA")):
        facts = look(str(file).removeprefix("/"), file.read_bytes())
        assert facts.incomplete == ()
        found += named(facts)
    expected = [(each.metadata["Name"], each.version) for each in metadata.distributions(path=[str(site)])]
    assert len(found) > 50
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (SITE + "Jinja2-2.10.dist-info/METADATA", True),
        (SITE + "setuptools/_vendor/packaging-24.2.dist-info/METADATA", True),
        (SITE + "urllib3-1.26.12.egg-info/PKG-INFO", True),
        (SITE + "old-1.0-py3.11.egg/EGG-INFO/PKG-INFO", True),
        (SITE + "six-1.16.0.egg-info", True),
        (SITE + "Jinja2-2.10.dist-info/RECORD", False),
        ("srv/sdist-1.0/PKG-INFO", False),
        ("METADATA", False),
        (MODULES + "lodash/package.json", True),
        (MODULES + "@babel/core/package.json", True),
        (MODULES + ".pnpm/lodash@4.17.15/node_modules/lodash/package.json", True),
        ("node_modules/lodash/package.json", True),
        (MODULES + "resolve/test/resolver/package.json", False),
        (MODULES + "package.json", False),
        ("srv/app/package.json", False),
        ("package.json", False),
    ],
)
def test_only_what_an_installer_left_is_looked_at(path: str, *, wanted: bool) -> None:
    assert bool(wanting(path)) == wanted


def test_a_python_package_has_the_words_of_its_licence() -> None:
    old = b"Metadata-Version: 2.1\nName: Jinja2\nVersion: 2.10\nLicense: BSD\n"
    old += (
        b"Classifier: License :: OSI Approved :: BSD License\nClassifier: Framework :: Flask\n\nName: decoy\n"
    )
    assert look(SITE + "Jinja2-2.10.dist-info/METADATA", old).packages == (
        FoundPackage("python", "Jinja2", "2.10", licences=("BSD", "BSD License")),
    )
    new = b"Metadata-Version: 2.4\r\nName: new\r\nVersion: 1!2.0\r\nLicense-Expression: MIT OR Apache-2.0\r\n"
    new += b"License: Copyright (c) 2020\r\n  Name: of a person\r\n"
    assert look(SITE + "new.egg-info/PKG-INFO", new).packages == (
        FoundPackage("python", "new", "1!2.0", licences=("MIT OR Apache-2.0",)),
    )


def test_a_package_of_npm_has_its_own_name_and_the_words_of_its_licence() -> None:
    said = {"name": "lodash", "version": "4.17.15", "license": "MIT"}
    assert look(MODULES + "alias/package.json", json.dumps(said).encode()).packages == (
        FoundPackage("npm", "lodash", "4.17.15", licences=("MIT",)),
    )
    said = {"name": "@a/b", "version": "1.0.0", "licenses": [{"type": "MIT"}, {"type": "ISC"}, 7]}  # type: ignore[dict-item]
    assert look(MODULES + "@a/b/package.json", b"\xef\xbb\xbf" + json.dumps(said).encode()).packages == (
        FoundPackage("npm", "@a/b", "1.0.0", licences=("(MIT OR ISC)",)),
    )
    for nothing in (b"{}", b'{"type": "module"}', b'{"name": "x"}', b'{"name": 1, "version": 2}'):
        facts = look(MODULES + "x/package.json", nothing)
        assert (facts.packages, facts.incomplete) == ((), ())


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        (MODULES + "x/package.json", b"{", "it is no JSON"),
        (MODULES + "x/package.json", b"\xff\xfe\x00", "it is no JSON"),
        (MODULES + "x/package.json", b"[]", "it is no JSON object"),
        (MODULES + "x/package.json", b'{"a":' * 200_000, "it is nested too deep"),
        (
            MODULES + "x/package.json",
            b" " * 5_000_000,
            "larger than the 2048 KiB that are read of such a file",
        ),
        (
            MODULES + "x/package.json",
            b'{"name": "\\ud800", "version": "1"}',
            "a package's name or version cannot be one: '\\ud800'",
        ),
        (SITE + "x.egg-info", b"Name: x\n\nVersion: 1\n", "its metadata has no name or no version"),
        (SITE + "x.egg-info", b"Name: x\nX: " + b"y" * 1_100_000, "its headers are longer than 1024 KiB"),
    ],
)
def test_what_cannot_be_read_is_named_as_incomplete(path: str, data: bytes, reason: str) -> None:
    facts = look(path, data)
    assert (facts.packages, facts.incomplete) == ((), (reason,))
