"""``seatrial scan``: an image, no server, no runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from registry.advisories.building import build
from registry.formats.names import Format
from registry.main import run
from tests.kit.advisories import affects, filed, incoming, record
from tests.kit.images import Image, fifo, file, make_image, make_layer, symlink, write_layout
from tests.kit.planted import UPPER, made, token

STATUS = b"Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b7\nArchitecture: amd64\n\n"
BASE = make_layer(
    file("etc/os-release", b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n'),
    file("var/lib/dpkg/status", STATUS),
)
Scan = Callable[..., str]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="tests/hostile/images scans as a plain user")


@pytest.fixture
def scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Scan:
    def type_it(image: Image | str, *arguments: str, code: int = 0) -> str:
        name = image
        if isinstance(image, Image):
            name = f"oci:{write_layout(tmp_path / image.digest[7:19], image, tag='v1')}:v1"
        assert run(["scan", str(name), "--state", str(tmp_path / "state"), *arguments]) == code
        out, err = capsys.readouterr()
        return out or err

    return type_it


def test_an_image_is_scanned_without_a_server_or_a_runtime(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    image = make_image(BASE, make_layer(file("app/x", b"x")))
    said = scan(image)
    assert f"{image.digest} linux/amd64\nDebian 12; 2 layers; 1 packages (1 dpkg)\n" in said
    assert "no advisories were given" in said
    document = json.loads(scan(image, "--json"))
    again = json.loads(scan(image, "--format", "json"))
    assert document | {"scanned_at": ""} == again | {"scanned_at": ""}
    assert (document["complete"], document["advisories"], document["vulnerabilities"]) == (True, None, [])
    assert document["packages"][0] | {"licences": []} == {
        "kind": "dpkg",
        "ecosystem": "Debian:12",
        "name": "bash",
        "version": "5.2.15-2+b7",
        "architecture": "amd64",
        "path": "var/lib/dpkg/status",
        "layer": 0,
        "licences": [],
    }
    assert "lease" not in document
    # Nothing was unpacked, and each layer read once.
    assert list((tmp_path / "state" / "cache" / "snapshots").iterdir()) == []
    assert len(list((tmp_path / "state" / "cache" / "scans").iterdir())) == 2


def test_packages_are_matched_with_a_file_of_advisories(scan: Scan, tmp_path: Path) -> None:
    affected = affects("Debian:12", "bash", "introduced=0", "fixed=5.2.15-3")
    severe = record("DEBIAN-CVE-2026-1", affected, upstream=["CVE-2026-1"])
    opened, _ = filed(tmp_path / "advisories.sqlite", severe)
    opened.close()
    options = ("--advisories", str(tmp_path / "advisories.sqlite"))
    image = make_image(BASE)
    said = scan(image, *options)
    assert "1 vulnerability:\n  unknown  CVE-2026-1  bash 5.2.15-2+b7 (layer 0): fixed in 5.2.15-3\n" in said
    document: Any = json.loads(scan(image, *options, "--json"))
    (found,) = document["vulnerabilities"]
    assert (found["package"], found["layer"], found["excused"]) == ("bash", 0, None)
    assert found["purl"] == "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12"
    assert (found["id"], found["package_index"], found["fixed_version"]) == ("CVE-2026-1", 0, "5.2.15-3")
    assert document["advisories"]["generation"]
    # What has no severity is not harmless.
    scan(image, *options, "--fail-on", "critical", code=1)
    scan(image, "--fail-on", "high", code=0)
    # What somebody answers for is told, and not counted.
    statement = {
        "vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": "pkg:deb/debian/bash"}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
    }
    told = {"@context": "https://openvex.dev/ns/v0.2.0", "author": "us", "statements": [statement, {}]}
    (tmp_path / "vex.json").write_text(json.dumps(told))
    answered = (*options, "--vex", str(tmp_path / "vex.json"))
    said = scan(image, *answered, "--fail-on", "critical")
    assert "excused by us (vex, not_affected: vulnerable_code_not_in_execute_path)" in said
    assert "vex.json: 1 statements count for nothing: its status is none of OpenVEX\n" in said
    (found,) = json.loads(scan(image, *answered, "--json"))["vulnerabilities"]
    assert found["excused"]["author"] == "us"
    (tmp_path / "vex.json").write_text("{}")
    assert "vex.json is no document of OpenVEX" in scan(image, *answered, code=64)
    # It runs as root.
    scan(image, "--fail-on", "medium", code=1)
    # That nothing was found says nothing where nothing is known.
    npm = file("app/node_modules/a/package.json", b'{"name": "a", "version": "1.0.0"}')
    other = make_image(make_layer(npm), make_layer(file("var/lib/dpkg/status", STATUS)))
    said = scan(other, *options)
    assert "not looked up: 1 packages of npm, about which these advisories say nothing\n" in said
    assert "not looked up: 1 packages whose system advisories have no name for, about which" in said
    assert json.loads(scan(other, *options, "--json"))["advisories"]["not_looked_up"] == {"": 1, "npm": 1}
    scan(other, *options, "--fail-on", "critical", code=2)


def test_advisories_that_are_old_or_cannot_be_read_are_no_reason_to_lose_a_scan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "advisories.sqlite"
    image = f"oci:{write_layout(tmp_path / 'image', make_image(BASE), tag='v1')}:v1"

    def scan(*arguments: str, code: int = 0) -> tuple[str, str]:
        options = ("--state", str(tmp_path / "state"), "--advisories", str(path))
        assert run(["scan", *arguments, *options]) == code
        return capsys.readouterr()

    out, error = scan(image, code=2)
    assert error == f"error: there is no file of advisories at {path}: No such file or directory\n"
    assert "1 packages (1 dpkg)\n" in out
    assert "no advisories were given" in out
    days = {days: datetime.now(UTC) - timedelta(days=days, hours=1) for days in (1, 9)}
    affected = affects("Debian:12", "bash", "introduced=0", "fixed=5.2.15-3")

    def put(*ages: int) -> None:
        build(
            path,
            [
                incoming(f"osv:{age}", record(f"X-{age}", affected), as_of=days[age].isoformat())
                for age in ages
            ],
        )

    put(1)
    out, error = scan(image)
    assert f"\nheld against advisories of {days[1]:%Y-%m-%d} (osv:1)\n" in out
    assert error == ""
    put(1, 9)
    out, error = scan(image)
    told = f"the oldest (osv:9) of {days[9]:%Y-%m-%d}, the newest of {days[1]:%Y-%m-%d}"
    assert f"\nheld against advisories of 2 sources, {told}\n" in out
    assert error == "the oldest of these advisories (osv:9) are 9 days old\n"
    document = json.loads(scan(image, "--json")[0])
    assert document["advisories"]["as_of"] == days[9].isoformat()
    # Damaged: the scan is there and says so, and the code is none that stands for a good word.
    path.write_bytes(path.read_bytes()[:4096])
    out, error = scan(image, "--json", code=2)
    document = json.loads(out)
    assert [one["name"] for one in document["packages"]] == ["bash"]
    assert document["advisories"] is None
    assert error == f"error: {document['notes'][0]}\n"
    assert "cannot be read as advisories" in error
    scan(image, "--fail-on", "medium", code=1)
    (tmp_path / "before.json").write_text(out)
    assert "vulnerabilities are not compared" in scan("diff", str(tmp_path / "before.json"), image, code=2)[0]


def test_a_secret_is_redacted_in_every_format(scan: Scan, tmp_path: Path) -> None:
    secret, key = token("ghp_"), f"AKIA{made(UPPER, 16)}"
    history = [{"created_by": f"RUN curl -H 'Authorization: {secret}' x"}, {"created_by": "COPY . ."}]
    image = make_image(
        BASE,
        make_layer(file("srv/settings", f"token = {secret}\n".encode())),
        config={"Env": [f"AWS_ACCESS_KEY_ID={key}"], "Labels": {"a": secret}},
        document={"history": history},
    )
    for form in get_args(Format):
        target = tmp_path / f"{form}.txt"
        assert scan(image, "--format", form, "--output", str(target)) == ""
        said = target.read_text()
        assert (secret not in said, key not in said) == (True, True), form
        # What it is of is told: an SBOM tells of no findings, and OpenVEX only of what is excused.
        assert ("srv/settings" in said) == (form in ("table", "json", "sarif")), form
        assert ("COPY . ." in said) == (form != "openvex"), form
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    assert "is a folder" in scan(image, "--output", str(tmp_path), code=64)
    assert "is no folder" in scan(image, "--output", str(tmp_path / "no" / "x"), code=64)
    assert "not both" in scan(image, "--json", "--format", "spdx", code=64)


def test_two_images_are_compared(scan: Scan, tmp_path: Path) -> None:
    newer = STATUS.replace(b"5.2.15-2+b7", b"5.2.15-3")
    images = [
        make_image(BASE),
        make_image(BASE, make_layer(file("var/lib/dpkg/status", newer), file("a", token("ghp_").encode()))),
    ]
    for number, image in enumerate(images):
        write_layout(tmp_path / str(number), image, tag="v1")
    first, second = f"oci:{tmp_path}/0:v1", f"oci:{tmp_path}/1:v1"
    said = scan("diff", first, second)
    assert "packages: 0 added, 0 removed, 1 changed\n  ~ dpkg bash 5.2.15-2+b7 -> 5.2.15-3\n" in said
    assert "findings new: 1 critical\n" in said
    # A report that was kept stands for its image.
    kept = tmp_path / "first.json"
    scan(first, "--json", "--output", str(kept))
    found = json.loads(scan("diff", str(kept), second, "--json", "--fail-on-new", "high", code=1))
    assert [one["id"] for one in found["findings"]["new"]["items"]] == ["ST-SECRET-GITHUB-TOKEN"]
    scan("diff", second, str(kept), "--fail-on-new", "info")
    assert "Missing argument" in scan("diff", first, code=64)
    kept.write_text("{}")
    assert "is no report" in scan("diff", str(kept), second, code=64)


def test_rules_of_ones_own_are_searched_for(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "ours.yar").write_text('rule Ours { strings: $ = "bash" condition: any of them }')
    assert "high     Ours  var/lib/dpkg/status" in scan(make_image(BASE), "--rules", str(tmp_path))
    (tmp_path / "bad.yar").write_text("rule a { condition: nonsense }")
    said = scan(make_image(BASE), "--rules", str(tmp_path), code=64)
    assert "unknown identifier `nonsense`" in said


def test_a_scan_that_is_not_complete_says_so_and_is_no_pass(scan: Scan) -> None:
    hostile = make_layer(symlink("var/lib/dpkg/status", "/etc/passwd"), fifo("etc/os-release"))
    image = make_image(hostile)
    said = scan(image)
    assert "This scan is not complete:\n" in said
    assert "var/lib/dpkg/status (layer 0): is a symbolic link" in said
    scan(image, "--fail-on", "critical", code=2)
    text = scan(image, "--json")
    assert "root:" not in text
    assert json.loads(text)["complete"] is False


def test_wrong_usage_and_what_is_not_there(scan: Scan, tmp_path: Path) -> None:
    assert "--fail-on" in scan(make_image(BASE), "--fail-on", "dreadful", code=64)
    assert "--format" in scan(make_image(BASE), "--format", "xml", code=64)
    scan(f"oci:{tmp_path}/nothing", code=2)
    scan(make_image(BASE, platform="plan9/mips"), code=2)
