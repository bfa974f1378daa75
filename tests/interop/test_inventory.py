"""Packages that are really there: programs built by Go, wheels as they are published, a root of Debian."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from registry.advisories.matching import match
from sandbox.scanners.facts import FoundPackage, Owned
from sandbox.scanners.packages.ecosystems import ecosystem_of
from tests.kit.advisories import Thing, affects, filed, record
from tests.kit.looking import named, walked
from tests.kit.ordinary import find_base

SITE = "usr/lib/python3.11/site-packages"
WHEELS = ["Jinja2==2.10", "requests==2.19.0", "urllib3==1.24.1", "cryptography==3.2", "Django==3.2"]
KNOWN = {
    "requests": {"CVE-2018-18074", "CVE-2023-32681"},
    "urllib3": {"CVE-2019-11324", "CVE-2023-45803"},
    "cryptography": {"CVE-2020-25659", "CVE-2020-36242", "CVE-2023-23931", "CVE-2023-49083"},
}
"""What is known of them in the records of ``SEATRIAL_TEST_ADVISORIES``; more may become known."""
OWN = [
    record(
        "GO-1", affects("Go", "golang.org/x/text", "introduced=0", "fixed=0.3.7"), aliases=["CVE-2021-38561"]
    ),
    record(
        "GO-2", affects("Go", "golang.org/x/text", "introduced=0", "fixed=0.3.8"), aliases=["CVE-2022-32149"]
    ),
    record("GO-3", affects("Go", "golang.org/x/text", "introduced=0.3.6", "fixed=0.3.8")),
    record("PYSEC-1", affects("PyPI", "jinja2", "introduced=0", "fixed=2.10.1"), aliases=["CVE-2019-10906"]),
    record("PYSEC-2", affects("PyPI", "jinja2", "introduced=0", "fixed=2.11.3"), aliases=["CVE-2020-28493"]),
]


def found(root: Path) -> list[FoundPackage]:
    """All packages below a folder, of which nothing may be unread."""
    packages: list[FoundPackage] = []
    for path, facts in walked(root):
        assert facts.incomplete == (), path
        packages += facts.packages
    return packages


def vulnerabilities(packages: Iterable[FoundPackage], file: Path) -> dict[str, set[str]]:
    """Names of what matches, by package, from the real records where they are, else from our own."""
    folder = os.environ.get("SEATRIAL_TEST_ADVISORIES")
    records = OWN
    if folder:
        zips = [zipfile.ZipFile(Path(folder, name, "all.zip")) for name in ("Go", "PyPI")]
        records = [json.loads(each.read(name)) for each in zips for name in each.namelist()]
    advisories, _ = filed(file, *records)
    things = [Thing(ecosystem_of(None, one.kind), one.name, one.version) for one in packages]
    matches: dict[str, set[str]] = {one.name: set() for one in things}
    for one in match(advisories, things):
        assert one.state == "affected"
        matches[things[one.package_index].name].add(one.id)
    return matches


def test_a_program_says_of_itself_what_gos_own_tool_says_of_it(tools: Path) -> None:
    compared = 0
    for path, facts in walked(tools):
        if not facts.packages:
            continue
        said = subprocess.run(
            ["go", "version", "-m", tools / path], check=True, capture_output=True, text=True
        )
        first, *lines = said.stdout.splitlines()
        expected = [("stdlib", first.rpartition(": go")[2].split()[0].partition("-")[0])]
        for line in lines:
            kind, *words = line.lstrip("\t").split("\t")
            if kind == "=>":
                expected[-1] = (words[0], words[1])
            elif kind in ("mod", "dep"):
                expected.append((words[0], words[1]))
        assert named(facts) == expected, path
        compared += 1
    assert compared > 5


def test_a_stripped_go_program_alone_in_an_image_has_its_modules(tmp_path: Path) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir()
    (source / "go.mod").write_text(
        "module example.com/Alone\n\ngo 1.19\n\nrequire golang.org/x/text v0.3.5\n"
    )
    main = 'package main\n\nimport "golang.org/x/text/language"\n\n'
    (source / "main.go").write_text(main + "func main() { println(language.Und.String()) }\n")
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    build = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", root / "alone", "."]
    subprocess.run(build, cwd=source, env=environment, check=True, capture_output=True)
    version = subprocess.run(["go", "env", "GOVERSION"], check=True, capture_output=True, text=True).stdout
    packages = found(root)
    assert [(one.name, one.version) for one in packages] == [
        ("stdlib", version.split()[0].removeprefix("go")),
        ("example.com/Alone", "(devel)"),
        ("golang.org/x/text", "v0.3.5"),
    ]
    matches = vulnerabilities(packages, tmp_path / "advisories")
    assert matches["golang.org/x/text"] >= {"CVE-2021-38561", "CVE-2022-32149"}
    assert matches["example.com/Alone"] == set()


def test_published_wheels_are_the_packages_that_they_are(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", tmp_path / "wheels", *WHEELS], check=True, capture_output=True)
    site = tmp_path / "root" / SITE
    for wheel in (tmp_path / "wheels").glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(site)
    packages = found(tmp_path / "root")
    assert sorted(f"{one.name}=={one.version}" for one in packages) == sorted(WHEELS)
    assert all(one.licences for one in packages)
    matches = vulnerabilities(packages, tmp_path / "advisories")
    assert matches["Jinja2"] >= {"CVE-2019-10906", "CVE-2020-28493"}
    if os.environ.get("SEATRIAL_TEST_ADVISORIES"):
        for name, expected in KNOWN.items():
            assert matches[name] >= expected, name
        assert len(matches["Django"]) >= 25


def test_what_debian_packed_of_python_belongs_to_its_packages(tmp_path: Path) -> None:
    base = find_base()
    assert base is not None
    some = ["./var/lib/dpkg", "./usr/lib/python3", "./usr/lib/os-release"]
    subprocess.run(["tar", "--zstd", "-xf", base, "-C", tmp_path, *some], check=True)
    packages: dict[str, list[FoundPackage]] = {}
    owned: dict[str, Owned] = {}
    systems = []
    for path, facts in walked(tmp_path):
        assert facts.incomplete == (), path
        packages.setdefault(path, []).extend(facts.packages)
        owned |= {one.path: one for one in facts.owned if one.md5 or one.path not in owned}
        systems += [facts.system] if facts.system else []
    assert [ecosystem_of(system, "dpkg") for system in systems] == ["Debian:12"]
    debian = {one.name for one in packages["var/lib/dpkg/status"]}
    python = {
        one.name: owned.get(path) for path, some in packages.items() for one in some if one.kind == "python"
    }
    assert {"gunicorn", "setuptools"} <= set(python)
    for name, owner in python.items():
        assert owner is not None, name
        assert owner.package in debian
        assert owner.md5
