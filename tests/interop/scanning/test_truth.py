"""Images whose contents are known: all of it is found, and nothing else (docs/scanning-truth.md).

The records that packages are matched with are our own; where ``SEATRIAL_TEST_ADVISORIES`` names a folder of
real ones, those as well, and then vulnerabilities are counted too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from registry.advisories.building import build
from registry.advisories.file import open_advisories
from registry.advisories.importing import Given, source_of, spread
from registry.advisories.matching import Look
from tests.kit.advisories import Thing, affects, incoming, record
from tests.kit.images import write_layout
from tests.kit.toolfolder import tools_folder
from tests.kit.truth import DISTROLESS, LOG4J, SECDB, Row, control, fetched, rows
from tests.kit.truthpage import PAGE, page

pytestmark = pytest.mark.timeout(900)
REAL = os.environ.get("SEATRIAL_TEST_ADVISORIES")
OWN = """
CVE-2021-25900   crates.io     smallvec     introduced=0.6.3 fixed=0.6.14 introduced=1.0.0 fixed=1.6.1
TEST-2026-0001   Rocky Linux:8 openssl      introduced=0 fixed=1:1.1.1k-12.el8_9
CVE-2024-50602   Debian:12     expat        introduced=0 fixed=2.5.0-1+deb12u2
CVE-2024-8176    Debian:12     expat        introduced=0 fixed=2.5.0-1+deb12u2
CVE-2024-28757   Debian:12     expat        introduced=0 fixed=2.5.0-1+deb12u4
CVE-2025-9230    Debian:12     openssl      introduced=0 fixed=3.0.17-1~deb12u3
CVE-2019-10906   PyPI          jinja2       introduced=0 fixed=2.10.1
CVE-2020-28493   PyPI          jinja2       introduced=0 fixed=2.11.3
CVE-2018-18074   PyPI          requests     introduced=0 fixed=2.20.0
CVE-2023-32681   PyPI          requests     introduced=2.3.0 fixed=2.31.0
CVE-2019-11324   PyPI          urllib3      introduced=0 fixed=1.24.2
CVE-2023-43804   PyPI          urllib3      introduced=0 fixed=1.26.17
CVE-2023-45803   PyPI          urllib3      introduced=0 fixed=1.26.18
CVE-2020-25659   PyPI          cryptography introduced=0 fixed=3.2.1
CVE-2020-36242   PyPI          cryptography introduced=0 fixed=3.3.2
CVE-2023-23931   PyPI          cryptography introduced=1.8 fixed=39.0.1
CVE-2023-49083   PyPI          cryptography introduced=3.1 fixed=41.0.6
CVE-2021-45115   PyPI          django       introduced=2.2 fixed=2.2.26 introduced=3.2 fixed=3.2.11
CVE-2022-22817   PyPI          pillow       introduced=0 fixed=9.0.1
CVE-2020-14343   PyPI          pyyaml       introduced=0 fixed=5.4
CVE-2020-8203    npm           lodash       introduced=0 fixed=4.17.20
CVE-2021-23337   npm           lodash       introduced=0 fixed=4.17.21
CVE-2020-28500   npm           lodash       introduced=0 fixed=4.17.21
CVE-2015-9251    npm           jquery       introduced=1.12.3 fixed=3.0.0
CVE-2019-11358   npm           jquery       introduced=1.1.4 fixed=3.4.0
CVE-2020-11022   npm           jquery       introduced=1.2.0 fixed=3.5.0
CVE-2020-11023   npm           jquery       introduced=1.0.3 fixed=3.5.0
CVE-2021-38561   Go            golang.org/x/text introduced=0 fixed=0.3.7
CVE-2022-32149   Go            golang.org/x/text introduced=0 fixed=0.3.8
CVE-2026-56852   Go            golang.org/x/text introduced=0 fixed=0.39.0
CVE-2024-24790   Go            stdlib       introduced=0 fixed=1.21.11
CVE-2021-44228   Maven         org.apache.logging.log4j:log4j-core introduced=2.13.0 fixed=2.15.0
CVE-2021-45046   Maven         org.apache.logging.log4j:log4j-core introduced=2.13.0 fixed=2.16.0
"""
MANY = "13"
"""The image with secrets of most kinds."""
FORMATS = ("table", "sarif", "cyclonedx", "spdx")
"""Beside the document itself."""
Documents = Mapping[str, Any]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Row]:
    if not fetched().exists():
        pytest.skip("their packages are not there: make interop")
    return {row.number: row for row in rows(tmp_path_factory.mktemp("rows"))}


@pytest.fixture(scope="module")
def advisories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = []
    for line in OWN.strip().splitlines():
        name, rest = line.split(maxsplit=1)
        *ecosystem, package = rest.partition(" introduced=")[0].split()
        events = rest[rest.index("introduced=") :].split()
        aliases = [name] if name.startswith("CVE-") else []
        affected = affects(" ".join(ecosystem), package, *events)
        own.append(record(f"OWN-{name}" if aliases else name, affected, aliases=aliases))
    real = spread(Given(Path(REAL))) if REAL else ()
    folder = tmp_path_factory.mktemp("advisories")
    (folder / "v3.18-main.json").write_text(json.dumps(SECDB))
    given = [*spread(Given(folder / "v3.18-main.json")), *real]
    path = folder / "advisories.sqlite"
    build(path, [incoming("own", *own), *(source_of(one, lambda _: None) for one in given)])
    return path


@pytest.fixture(scope="module")
def scanned(table: Mapping[str, Row], advisories: Path) -> Iterator[Documents]:
    """What the command says of each image; they share a cache, as the images of a worker do."""
    # Not below tmp_path: the layers are read as another user.
    with tempfile.TemporaryDirectory(prefix="seatrial-truth-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        images = [row.image for row in table.values()]
        layout = write_layout(folder / "layout", *images, tag=list(table))
        command = [sys.executable, "-m", "registry.main", "scan"]
        command += ["--state", str(folder / "state"), "--advisories", str(advisories)]

        def said(number: str, form: str) -> str:
            image = f"oci:{layout}:{number}"
            asked = [*command, "--format", form, image]
            return subprocess.run(asked, check=True, capture_output=True, text=True).stdout

        others = {f"{MANY} as {form}": said(MANY, form) for form in FORMATS}
        yield {number: json.loads(said(number, "json")) for number in table} | others


def vulnerabilities(document: Any) -> dict[str, set[str]]:
    """Names of what matches, by package; each package that was found has its set."""
    found: dict[str, set[str]] = {one["name"]: set() for one in document["packages"]}
    for one in document["vulnerabilities"]:
        assert one["state"] == "affected"
        found[document["packages"][one["package_index"]]["name"]].add(one["id"])
    return found


def things(document: Any) -> set[tuple[str, str, str, int | None]]:
    return {
        (one["rule"], one["severity"], one["where"], one.get("deleted_in_layer"))
        for one in document["found"]
        if one["severity"] != "info"
    }


def test_what_is_in_each_image_is_found_and_nothing_else(
    table: Mapping[str, Row], scanned: Documents
) -> None:
    for number, row in table.items():
        document = scanned[number]
        assert document["complete"], (number, document["incomplete"])
        assert things(document) == set(row.found), number
        if row.packages is not None:
            assert {(one["name"], one["version"]) for one in document["packages"]} == row.packages, number
            assert len(document["packages"]) == len(row.packages), number


def test_vulnerabilities_are_those_of_the_old_packages_alone(
    table: Mapping[str, Row], scanned: Documents
) -> None:
    for number, row in table.items():
        for package, found in vulnerabilities(scanned[number]).items():
            known = row.known.get(package, frozenset())
            assert found >= known, (number, package)
            assert known or not found, (number, package, found)
            if REAL:
                assert len(found) >= row.least.get(package, 0), (number, package)
        assert row.known.keys() <= vulnerabilities(scanned[number]).keys(), number


def test_debians_packages_are_those_that_dpkg_lists(scanned: Documents, tmp_path: Path) -> None:
    (packed,) = tools_folder().glob("debian-12-bare-*.tar.zst")
    subprocess.run(["tar", "--zstd", "-xf", packed, "-C", tmp_path, "./var/lib/dpkg/status"], check=True)
    form = r"${db:Status-Abbrev} ${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\n"
    asked = ["dpkg-query", f"--admindir={tmp_path}/var/lib/dpkg", "-W", "-f", form]
    said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    listed = {tuple(line.split()[1:]) for line in said if line.startswith("ii")}
    found = {
        (
            one["name"],
            one["version"],
            one["architecture"],
            one.get("source", one["name"]),
            one.get("source_version", one["version"]),
        )
        for one in scanned["1"]["packages"]
        if one["kind"] == "dpkg"
    }
    assert found == listed
    assert {one["ecosystem"] for one in scanned["1"]["packages"] if one["kind"] == "dpkg"} == {"Debian:12"}
    # What sets the user belongs to packages, and is as they brought it.
    assert {one["severity"] for one in scanned["1"]["found"] if one["rule"] == "ST-SETUID"} == {"info"}


def test_distroless_packages_are_those_that_their_own_files_name(scanned: Documents) -> None:
    listed = {("libexpat1", "2.5.0-1+deb12u1", "amd64", "expat")}
    for name in DISTROLESS:
        fields = dict(line.split(": ", 1) for line in control(name).splitlines() if line[:1].isalpha())
        source = fields.get("Source", name).partition(" ")[0]
        listed.add((name, fields["Version"], fields["Architecture"], source))
    for number, place in (("3a", "var/lib/dpkg/status.d"), ("3b", "usr/share/pkgs")):
        found = {
            (one["name"], one["version"], one["architecture"], one.get("source", one["name"])): one
            for one in scanned[number]["packages"]
        }
        assert found.keys() == listed
        assert {one["path"] for one in found.values()} == {f"{place}/{name}" for name, *_ in listed}
        assert {one["ecosystem"] for one in found.values()} == {"Debian:12"}


def test_alpines_packages_are_known_by_what_they_are_made_of(scanned: Documents) -> None:
    document = scanned["4"]
    assert {one["ecosystem"] for one in document["packages"]} == {"Alpine:v3.18"}
    (ssl,) = (one for one in document["packages"] if one["name"] == "libcrypto3")
    assert (ssl["source"], ssl["licences"]) == ("openssl", ["Apache-2.0"])
    fixed = {one["id"]: one["fixed_version"] for one in document["vulnerabilities"]}
    assert fixed == {
        "CVE-2023-2975": "3.1.1-r2",
        "CVE-2023-3446": "3.1.1-r3",
        "CVE-2023-3817": "3.1.2-r0",
    }


def test_a_rust_program_has_the_crates_that_cargo_wrote_into_it(scanned: Documents) -> None:
    document = scanned["9"]
    assert {(one["kind"], one["ecosystem"], one["path"]) for one in document["packages"]} == {
        ("rust", "crates.io", "ahoy")
    }
    fixed = {one["id"]: one["fixed_version"] for one in document["vulnerabilities"]}
    assert fixed["CVE-2021-25900"] == "1.6.1"


def test_go_programs_have_the_modules_that_gos_tool_lists(scanned: Documents) -> None:
    for number, name in (("8", "old"), ("15", "clean")):
        asked = ["go", "version", "-m", fetched() / name]
        said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        first, *lines = said.splitlines()
        listed = [("stdlib", first.rpartition(": go")[2].split()[0])]
        fields = [line.split() for line in lines]
        listed += [(one[1], one[2]) for one in fields if one[0] in ("mod", "dep")]
        found = [(one["name"], one["version"]) for one in scanned[number]["packages"]]
        assert sorted(found) == sorted(listed)


def test_an_archive_inside_others_is_named_with_its_way(scanned: Documents) -> None:
    document = scanned["10"]
    core, api = f"{LOG4J}:log4j-core", f"{LOG4J}:log4j-api"
    assert sorted((one["name"], one["version"], one["path"]) for one in document["packages"]) == [
        (api, "2.14.1", "opt/log4j-api-2.14.1.jar"),
        (core, "2.14.1", "opt/log4j-core-2.14.1.jar"),
        (core, "2.14.1", "srv/delivery.zip!/app.war/WEB-INF/lib/log4j-core-2.14.1.jar"),
    ]
    at = [document["packages"][one["package_index"]]["path"] for one in document["vulnerabilities"]]
    assert sorted(set(at)) == [
        "opt/log4j-core-2.14.1.jar",
        "srv/delivery.zip!/app.war/WEB-INF/lib/log4j-core-2.14.1.jar",
    ]


def test_a_database_of_rpm_tells_the_source_and_the_epoch(scanned: Documents) -> None:
    for number in ("5a", "5b"):
        (package,) = scanned[number]["packages"]
        assert package | {"licences": []} == {
            "kind": "rpm",
            "ecosystem": "Rocky Linux:8",
            "name": "openssl-libs",
            "version": "1:1.1.1k-7.el8_6",
            "architecture": "noarch",
            "source": "openssl",
            "path": "var/lib/rpm/rpmdb.sqlite",
            "layer": 0,
            "licences": [],
        }
        assert scanned[number]["vulnerabilities"][0]["fixed_version"] == "1:1.1.1k-12.el8_9"


def test_a_distributions_python_package_is_matched_through_the_distribution(
    scanned: Documents, advisories: Path
) -> None:
    found = {one["kind"]: one for one in scanned["16"]["packages"] if "urllib3" in one["name"]}
    assert found["dpkg"]["version"].startswith("1.26.12-1+deb12u")
    assert (found["python"]["version"], found["python"]["owned_by"]) == ("1.26.12", "python3-urllib3")
    # Taken for PyPI's own it would have these.
    with closing(open_advisories(advisories)) as opened:
        naive = {one.id for one in Look(opened).up(Thing("PyPI", "urllib3", "1.26.12"))}
    assert naive >= {"CVE-2023-43804", "CVE-2023-45803"}


def test_secrets_are_shown_by_no_format(table: Mapping[str, Row], scanned: Documents) -> None:
    texts = {number: json.dumps(scanned[number]) for number in ("12", MANY)}
    texts |= {f"{MANY} as {form}": scanned[f"{MANY} as {form}"] for form in FORMATS}
    for name, text in texts.items():
        row = table[name.split()[0]]
        assert row.image.digest.partition(":")[2] in text, name
        # Of a long one the first four and the last two characters may be told.
        assert [secret for secret in row.secrets if secret[4:-2] in text] == [], name


def test_the_page_says_what_was_found(table: Mapping[str, Row], scanned: Documents) -> None:
    said = page(table, scanned)
    if REAL and os.environ.get("SEATRIAL_TEST_WRITE_TRUTH"):
        PAGE.write_text(said)

    # The last column depends on the day: Debian's packages and the records grow.
    def all_but_the_last(text: str) -> list[str]:
        return [line.rpartition(" | ")[0] or line for line in text.splitlines()]

    assert all_but_the_last(PAGE.read_text()) == all_but_the_last(said)
