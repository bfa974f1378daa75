"""Packages that are really there: programs built by Go, a root of Debian."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sandbox.scanners.facts import FoundPackage, Owned
from sandbox.scanners.packages.ecosystems import ecosystem_of
from tests.kit.looking import named, walked
from tests.kit.ordinary import find_base


def test_a_program_says_of_itself_what_gos_own_tool_says_of_it(tools: Path) -> None:
    compared = 0
    for path, facts in walked(tools):
        if all(one.kind != "go" for one in facts.packages):
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
        owned |= {one.path: one for one in facts.owned if one.digest or one.path not in owned}
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
        assert owner.digest
