"""Our matches are those of osv-scanner on the same records, at versions that records name themselves.

The versions are real ones where ``SEATRIAL_TEST_ADVISORIES`` names a folder of records, else those of a few
records of our own. Where the two differ we find what it does not, and for one of two reasons: it folds names
of packages and not those of records (modules of Go with capitals, Python's names with dots), and it reads no
range of versions that stands behind one of commits.
"""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from registry.advisories.building import build
from registry.advisories.ecosystems import fold, order_of
from registry.advisories.file import Advisories, open_advisories
from registry.advisories.matching import Look
from registry.advisories.versions import VersionInvalidError, key_of
from tests.kit.advisories import Thing, affects, incoming, record

REAL = os.environ.get("SEATRIAL_TEST_ADVISORIES")
OF_EACH = {"Go": 400, "PyPI": 400, "crates.io": 200, "Debian:12": 200, "npm": 20, "Maven": 20}
"""How many versions are compared of an ecosystem, at most."""
PURLS = {"Go": "golang", "PyPI": "pypi", "crates.io": "cargo", "npm": "npm", "Maven": "maven"}
OWN = [
    record("GO-1", affects("Go", "golang.org/x/text", "introduced=0", "fixed=0.3.7")),
    record("GO-2", affects("Go", "github.com/Berth/Case", "introduced=1.0.0", "fixed=1.2.0")),
    record("PYSEC-1", affects("PyPI", "jinja2", "introduced=0", "fixed=2.10.1", versions=["2.9", "2.10"])),
    record("PYSEC-2", affects("PyPI", "gap", "introduced=0", "fixed=2.0", "introduced=3.0", "fixed=3.1")),
    record("GHSA-1", affects("npm", "lodash", "introduced=0", "fixed=4.17.20")),
    record("GHSA-2", affects("Maven", "org.acme:core", "introduced=2.13.0", "fixed=2.15.0")),
    record("GHSA-3", affects("Maven", "org.acme:core", "introduced=1.0", "last_affected=1.5")),
    record("RUSTSEC-1", affects("crates.io", "smallvec", "introduced=0.6.3", "fixed=1.6.1")),
    record("DEB-1", affects("Debian:12", "expat", "introduced=0", "fixed=2.5.0-1+deb12u2")),
]
COMMITS = {"type": "GIT", "repo": "https://git.internal/x", "events": [{"introduced": "0"}]}
OWN[3]["affected"][0]["ranges"].insert(0, COMMITS)
Asked = tuple[str, str, str]
"""Ecosystem, name and version."""


def records() -> list[Any]:
    """Those that are not withdrawn; of the real ones each that there is."""
    found: list[Any] = list(OWN)
    if REAL:
        found = []
        for path in sorted(Path(REAL).glob("*/all.zip")):
            with zipfile.ZipFile(path) as archive:
                found += [json.loads(archive.read(name)) for name in sorted(archive.namelist())]
    return [one for one in found if not one.get("withdrawn")]


def boundaries(some: Iterable[Any]) -> list[Asked]:
    """Versions that records name: what introduced, fixed or last had something, and what is listed. Spread
    evenly over the records of an ecosystem."""
    asked: dict[str, list[Asked]] = {}
    for one in some:
        for affected in one["affected"]:
            ecosystem, name = affected["package"]["ecosystem"], affected["package"]["name"]
            ranges = [part for part in affected.get("ranges") or () if part["type"] != "GIT"]
            events = [event for part in ranges for event in part["events"]]
            named = {version for event in events for version in event.values()} - {"0", "*"}
            listed = list(islice(affected.get("versions") or (), 2))
            asked.setdefault(ecosystem, []).extend(
                (ecosystem, name, version)
                for version in sorted({*named, *listed})
                if _is_one(ecosystem, version)
            )
    found = []
    for ecosystem, most in OF_EACH.items():
        every = list(dict.fromkeys(asked.get(ecosystem, ())))
        step = max(1, len(every) // most)
        found += every[::step][:most]
    return found


def _is_one(ecosystem: str, version: str) -> bool:
    order = order_of(ecosystem)
    assert order is not None
    try:
        key_of(order, version)
    except VersionInvalidError:
        return False
    return True


def purl(asked: Asked) -> str:
    ecosystem, name, version = asked
    shown = quote(version, safe="")
    if ecosystem.startswith("Debian"):
        return f"pkg:deb/debian/{quote(name, safe='')}@{shown}?arch=source&distro=debian-12"
    path = name.replace(":", "/") if ecosystem == "Maven" else name
    # Go's versions have a letter that records leave out.
    letter = "v" if ecosystem == "Go" and name not in ("stdlib", "toolchain") else ""
    return f"pkg:{PURLS[ecosystem]}/{quote(path, safe='/')}@{letter}{shown}"


def theirs(tools: Path, folder: Path, some: Iterable[Any], asked: Iterable[Asked]) -> dict[Asked, set[str]]:
    """The ids of records that osv-scanner finds, by what was asked."""
    by_ecosystem: dict[str, list[Any]] = {}
    for one in some:
        for name in {affected["package"]["ecosystem"].partition(":")[0] for affected in one["affected"]}:
            by_ecosystem.setdefault(name, []).append(one)
    for name, those in by_ecosystem.items():
        place = folder / "db/osv-scalibr" / name
        place.mkdir(parents=True)
        with zipfile.ZipFile(place / "all.zip", "w") as made:
            for one in those:
                made.writestr(f"{one['id']}.json", json.dumps(one))
    by_purl = {purl(one): one for one in asked}
    components = [
        {"type": "library", "name": one[1], "version": one[2], "purl": name} for name, one in by_purl.items()
    ]
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
    (folder / "bom.cdx.json").write_text(json.dumps(bom))
    done = subprocess.run(
        [tools / "osv-scanner", "scan", "source", "--offline", "-L", folder / "bom.cdx.json",
         "--all-packages", "--format", "json"],
        env=os.environ | {"OSV_SCANNER_LOCAL_DB_CACHE_DIRECTORY": str(folder / "db")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr[-2000:]
    found: dict[Asked, set[str]] = {}
    for result in json.loads(done.stdout)["results"]:
        for one in result["packages"]:
            said = one["package"]
            found[_folded(said["ecosystem"], said["name"], said["version"])] = {
                each["id"] for each in one.get("vulnerabilities", ())
            }
    return found


def _folded(ecosystem: str, name: str, version: str) -> Asked:
    """What osv-scanner gives back of what was asked: it folds names."""
    lower = name.lower() if ecosystem == "Go" else fold(ecosystem, name)
    return ecosystem, lower, version.removeprefix("v") if ecosystem == "Go" else version


def ours(advisories: Advisories, asked: Iterable[Asked]) -> Iterator[tuple[Asked, set[str]]]:
    look = Look(advisories)
    for one in asked:
        yield one, {name for each in look.up(Thing(*one)) for name in (each.id, *each.aliases)}


def test_osv_scanner_finds_the_same(tools: Path, tmp_path: Path) -> None:
    if not (tools / "osv-scanner").exists():
        pytest.skip("it is not built: make interop")
    some = records()
    by_id = {one["id"]: one for one in some}
    asked = boundaries(some)
    assert len(asked) > (774 if REAL else 15)
    build(tmp_path / "advisories.sqlite", [incoming("own", *some)])
    said = theirs(tools, tmp_path, some, asked)
    same = ours_only = 0
    with closing(open_advisories(tmp_path / "advisories.sqlite")) as opened:
        for one, names in ours(opened, asked):
            key = _folded(*one)
            assert key in said, one
            mine = {name for name in names if name in by_id}
            assert said[key] <= mine, (one, said[key] - mine)
            missed = mine - said[key]
            for name in missed:
                assert _is_known(one, by_id[name]), (one, name)
            same += not missed
            ours_only += bool(missed)
    print(f"{len(asked)} versions: {same} the same, {ours_only} found by us only")
    if REAL:
        assert same > 20 * ours_only
    else:
        assert ours_only == 2


def _is_known(asked: Asked, found: Any) -> bool:
    """Whether it is one of the two reasons why osv-scanner does not find it."""
    ecosystem, name, version = asked
    about = [one for one in found["affected"] if _same(one["package"], ecosystem, name)]
    if all(one["package"]["name"] != _folded(ecosystem, name, version)[1] for one in about):
        return True
    behind = any(part["type"] == "GIT" for one in about for part in one.get("ranges") or ())
    return behind and all(version not in (one.get("versions") or ()) for one in about)


def _same(package: Any, ecosystem: str, name: str) -> bool:
    return package["ecosystem"] == ecosystem and fold(ecosystem, package["name"]) == fold(ecosystem, name)
