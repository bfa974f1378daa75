"""Real records: which vulnerabilities known packages have, and what holds at versions that records name.

Collected where ``SEATRIAL_TEST_ADVISORIES`` names a folder of them. Feeds grow: what is expected must be
among what is found.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from registry.advisories.building import build
from registry.advisories.ecosystems import fold, order_of
from registry.advisories.file import Advisories, open_advisories
from registry.advisories.importing import Given, source_of, spread
from registry.advisories.matching import Look, match
from registry.advisories.versions import VersionInvalidError, key_of
from tests.kit.advisories import Thing

FOLDER = Path(os.environ["SEATRIAL_TEST_ADVISORIES"])

KNOWN: dict[Thing, tuple[int, dict[str, str]]] = {
    Thing("PyPI", "Jinja2", "2.10"): (2, {"CVE-2019-10906": "2.10.1", "CVE-2020-28493": "2.11.3"}),
    Thing("PyPI", "requests", "2.19.0"): (2, {"CVE-2018-18074": "2.20.0", "CVE-2023-32681": "2.31.0"}),
    Thing("PyPI", "urllib3", "1.24.1"): (7, {"CVE-2019-11324": "1.24.2", "CVE-2023-45803": "1.26.18"}),
    Thing("PyPI", "cryptography", "3.2"): (
        4,
        {
            "CVE-2020-25659": "3.2.1",
            "CVE-2020-36242": "3.3.2",
            "CVE-2023-23931": "39.0.1",
            "CVE-2023-49083": "41.0.6",
        },
    ),
    Thing("PyPI", "Django", "3.2"): (25, {}),
    Thing("PyPI", "Pillow", "8.0.0"): (26, {}),
    Thing("npm", "lodash", "4.17.15"): (
        3,
        {"CVE-2020-8203": "4.17.20", "CVE-2021-23337": "4.17.21", "CVE-2020-28500": "4.17.21"},
    ),
    Thing("Go", "golang.org/x/text", "v0.3.5"): (
        3,
        {"CVE-2021-38561": "0.3.7", "CVE-2022-32149": "0.3.8", "CVE-2026-56852": "0.39.0"},
    ),
    Thing("Maven", "org.apache.logging.log4j:log4j-core", "2.14.1"): (
        2,
        {"CVE-2021-44228": "2.15.0", "CVE-2021-45046": "2.16.0"},
    ),
    Thing("crates.io", "smallvec", "1.6.0"): (1, {"CVE-2021-25900": "1.6.1"}),
    Thing("Debian:12", "libexpat1", "2.5.0-1+deb12u1", "expat"): (
        30,
        {
            "CVE-2024-50602": "2.5.0-1+deb12u2",
            "CVE-2024-8176": "2.5.0-1+deb12u2",
            "CVE-2024-28757": "2.5.0-1+deb12u4",
        },
    ),
    Thing("Debian:12", "libssl3", "3.0.17-1~deb12u2", "openssl"): (37, {"CVE-2025-9230": "3.0.17-1~deb12u3"}),
}
"""Packages with how many vulnerabilities they have at least, and the fixes of some."""
CLEAN = (
    Thing("PyPI", "PyYAML", "5.4.1"),
    Thing("Go", "stdlib", "1.26.8"),
    Thing("Maven", "org.apache.logging.log4j:log4j-api", "2.14.1"),
    Thing("PyPI", "urllib3", "1.26.12", owned_by="python3-urllib3"),
)


@pytest.fixture(scope="module")
def advisories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Advisories]:
    path = tmp_path_factory.mktemp("real") / "advisories.sqlite"
    build(path, (source_of(one, lambda _: None) for one in spread(Given(FOLDER))))
    with closing(open_advisories(path)) as opened:
        yield opened


def test_nearly_all_records_are_taken(advisories: Advisories) -> None:
    sources = advisories.status().sources
    assert {one.name for one in sources} >= {
        "osv:Debian",
        "osv:Go",
        "osv:Maven",
        "osv:PyPI",
        "osv:Rust",
        "osv:npm",
    }
    assert sum(one.records for one in sources) > 8000
    for one in sources:
        skipped = {reason: count for reason, count, _ in one.skipped}
        assert set(skipped) <= {"withdrawn"}, one.name
        assert skipped.get("withdrawn", 0) <= one.records // 50, one.name
    informational = {one.name: one.informational for one in sources if one.informational}
    assert list(informational) == ["osv:Rust"]


def test_known_packages_have_what_is_known_of_them(advisories: Advisories) -> None:
    things = list(KNOWN)
    matches = match(advisories, [*things, *CLEAN])
    for index, thing in enumerate(things):
        found = {one.id: one.fixed_version for one in matches if one.package_index == index}
        least, fixes = KNOWN[thing]
        assert len(found) >= least, thing
        assert found.items() >= fixes.items(), thing
    assert [one for one in matches if one.package_index >= len(things)] == []


def records() -> Iterator[Any]:
    """Each fifth record."""
    for path in sorted(FOLDER.glob("*/all.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in islice(sorted(archive.namelist()), 0, None, 5):
                yield json.loads(archive.read(name))


def test_each_boundary_that_a_record_names_holds(advisories: Advisories) -> None:
    """Affected at what introduced it and at what is listed, and not at what fixed it unless a later span or
    the list says so."""
    look = Look(advisories)
    asked = 0
    for record in records():
        if record.get("withdrawn"):
            continue
        for affected in record["affected"]:
            ecosystem, name = affected["package"]["ecosystem"], affected["package"]["name"]
            for version, expected in boundaries(ecosystem, name, record):
                found = look.up(Thing(ecosystem, name, version))
                found = [one for one in found if record["id"] in (one.id, *one.aliases)]
                assert bool(found) is expected, (record["id"], name, version)
                asked += 1
    assert asked > 3000


def boundaries(ecosystem: str, name: str, record: Any) -> Iterator[tuple[str, bool]]:
    """Versions of a package with what a record says of them, worked out from the record alone."""
    order = order_of(ecosystem)
    assert order is not None
    mine = [
        one
        for one in record["affected"]
        if one["package"]["ecosystem"] == ecosystem
        and fold(ecosystem, one["package"]["name"]) == fold(ecosystem, name)
    ]
    listed = {version for one in mine for version in one.get("versions") or ()}
    ranges = [part["events"] for one in mine for part in one.get("ranges") or () if part["type"] != "GIT"]
    named = {version for events in ranges for event in events for version in event.values()} - {"0", "*"}
    for version in sorted(named | set(islice(sorted(listed), 3))):
        try:
            key = key_of(order, version)
            inside = any(in_range(order, key, events) for events in ranges)
        except VersionInvalidError:
            continue
        same = any(is_same(order, key, one) for one in listed) if not ranges else version in listed
        yield version, inside or same


def is_same(order: str, key: Any, version: str) -> bool:
    try:
        return bool(key_of(order, version) == key)
    except VersionInvalidError:
        return False


def in_range(order: str, key: Any, events: Any) -> bool:
    """The evaluation that the OSV schema gives: the last event at or below the version decides."""
    steps = []
    for event in events:
        ((kind, version),) = event.items()
        steps.append(((0,) if version == "0" else (1, key_of(order, version)), kind))
    affected = False
    for at, kind in sorted(steps, key=lambda step: (step[0], {"fixed": 0, "introduced": 1}.get(step[1], 2))):
        below = at == (0,) or at[1] < key
        reached = below or at[1] == key
        if kind == "introduced" and reached:
            affected = True
        elif (kind == "fixed" and reached) or (kind == "last_affected" and below):
            affected = False
    return affected
