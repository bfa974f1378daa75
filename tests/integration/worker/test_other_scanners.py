"""``seatrial scan --with``: images that scan other images, in the real runtime."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.main import run
from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.images import (
    Image,
    busybox_image,
    busybox_layer,
    file,
    folder,
    make_image,
    make_layer,
    symlink,
    whiteout,
    write_layout,
)
from tests.kit.runs import runtime_name
from tests.kit.scanners import SUBJECT, leaves, scanner_image
from tests.kit.worker import PATH, WorkerProcess, why_no_runs

STATUS = b"Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b7\nArchitecture: amd64\n\n"
TARGET = make_image(
    busybox_layer(),
    make_layer(
        file("etc/os-release", b'ID=debian\nVERSION_ID="12"\n'),
        file("var/lib/dpkg/status", STATUS),
        file("opt/gone", b"it was here\n"),
        folder("srv", 0o755),
        folder("srv/closed", 0o700, uid=1000, gid=1000),
        file("srv/closed/file", b"only for app\n", 0o600, uid=1000, gid=1000),
        file("srv/nobody", b"for nobody\n", 0o000),
    ),
    make_layer(whiteout("opt/gone")),
)
FACTS = (
    (
        "capabilities",
        "grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status | tr -d '\\n\\t A-Za-z:' | tr -d 0",
    ),
    ("uid", "cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f2"),
    ("writes target", "touch /target/x 2>/dev/null && echo yes || echo no"),
    ("writes layers", "touch /layers/1/x 2>/dev/null && echo yes || echo no"),
    ("runs it", "/target/bin/busybox true 2>/dev/null && echo yes || echo no"),
    ("network", "grep : /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ' '"),
    ("closed", "cat /target/srv/closed/file"),
    ("nobody", "cat /target/srv/nobody"),
    ("gone", "ls /target/opt; cat /layers/1/opt/gone"),
    ("layers", "ls /layers | tr '\\n' ' '"),
    ("known", 'grep -c \'"name":"bash"\' /in/scan.json'),
    ("scope", "echo $SCAN_SCOPE"),
    ("time", "test $SCAN_DEADLINE -gt $(date +%s) && echo left"),
    ("outside", "ls / | grep -c '^work$\\|^lib64$'; true"),
)
TELL = SUBJECT + "".join(f'say "{name}" "$({command})"\n' for name, command in FACTS)
FOUND = '{"kind":"misconfiguration","rule":"%s","severity":"info","title":"%s","where":"x"}'
LOOK = (
    f'comma=\nsay() {{ printf \'%s{FOUND}\' "$comma" "$1" "$2" >> /tmp/found; comma=,; }}\n'
    + TELL
    + """{ printf '{"scanner":"looker 1","digest":"%s","found":[' $digest; cat /tmp/found; echo ']}'; } """
    + "> /out/report.json\n"
)
Scan = Callable[..., str]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="tests/hostile/images scans as a plain user")


@pytest.fixture(scope="module")
def yard() -> Iterator[Path]:
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    # Mapped users pass through: pytest's own folders are closed to them.
    place = Path(tempfile.mkdtemp(prefix="seatrial-scan-"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def scan(yard: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Scan:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{PATH}")

    def name(image: Image | str) -> str:
        if isinstance(image, str):
            return image
        return f"oci:{write_layout(yard / image.digest[7:19], image, tag='v1')}:v1"

    def type_it(*scanners: Image | str, image: Image = TARGET, code: int = 0, options: Any = ()) -> str:
        given = [word for number, one in enumerate(scanners) for word in ("--with", f"s{number}={name(one)}")]
        state = ("--state", str(yard / "state"), "--runtime", runtime_name())
        assert run(["scan", name(image), *state, *given, *options]) == code
        out, err = capsys.readouterr()
        return out or err

    return type_it


def test_a_scanner_sees_the_image_and_nothing_else(scan: Scan, yard: Path) -> None:
    document = json.loads(scan(scanner_image(LOOK), options=("--json",)))
    told = {one["rule"]: one["title"] for one in document["found"] if one.get("scanner") == "s0"}
    assert told == {
        "capabilities": "",
        "uid": "0",
        "writes target": "no",
        "writes layers": "no",
        "runs it": "no",
        "network": "lo ",
        "closed": "only for app",
        "nobody": "for nobody",
        "gone": "it was here",
        "layers": "0 1 2 ",
        "known": "1",
        "scope": "image",
        "time": "left",
        "outside": "0",
    }
    (other,) = document["others"]
    assert (other["name"], other["said"], other["state"]) == ("s0", "looker 1", "complete")
    assert document["complete"]
    # What our own modules found is there as well.
    assert [one["name"] for one in document["packages"]] == ["bash"]
    assert WorkerProcess(yard / "state", "", "", state_name="0").left_behind() == []


def test_what_scanners_find_is_told_under_their_names(scan: Scan) -> None:
    bash = {"kind": "dpkg", "ecosystem": "Debian:12", "name": "bash", "version": "5.2.15-2+b7"}
    rack = {"kind": "other", "ecosystem": "", "name": "rack", "version": "1.0"}
    first = {
        "packages": [
            {**bash, "path": "/target/var/lib/dpkg/status", "layer": 1},
            {**rack, "path": "usr/lib/gems", "layer": 1},
        ],
        "reported": [
            {"id": "CVE-2026-1", "package": 0, "severity": "low", "fixed_version": "6"},
            {"id": "CVE-2026-2", "package": 1, "severity": "critical", "score": 9.8, "summary": "it is open"},
        ],
        "found": [
            {
                "kind": "secret",
                "rule": "token",
                "severity": "high",
                "title": "a token",
                "where": "srv/x",
                "evidence": "s3cr3t-in-full",
                "layer": 1,
            }
        ],
    }
    second = {
        "packages": [{**bash, "path": "var/lib/dpkg/status", "layer": 1}],
        "reported": [{"id": "GHSA-x", "aliases": ["CVE-2026-1"], "package": 0, "severity": "high"}],
        "incomplete": [{"scanner": "it", "reason": "a file was locked"}],
    }
    scanners = (scanner_image(leaves(first)), scanner_image(leaves(second) + "exit 3"))
    raw = scan(*scanners, options=("--json",))
    document = json.loads(raw)
    assert "s3cr3t" not in raw
    known = [(one["name"], one["version"], one.get("scanner")) for one in document["packages"]]
    assert known == [("bash", "5.2.15-2+b7", None), ("rack", "1.0", "s0")]
    told = [(one["id"], one["package"], one["severity"]) for one in document["vulnerabilities"]]
    assert told == [("CVE-2026-1", "bash", "high"), ("CVE-2026-2", "rack", "critical")]
    assert [one["state"] for one in document["others"]] == ["complete", "incomplete"]
    assert [(one["scanner"], one["reason"]) for one in document["incomplete"]] == [
        ("s1", "it says that it could not look at all"),
        ("s1", "a file was locked"),
    ]
    assert not document["complete"]
    said = scan(*scanners, options=("--fail-on", "critical"), code=1)
    assert "critical CVE-2026-2  rack 1.0 (layer 1): no fix known (says s0)\n" in said
    assert "high     CVE-2026-1  bash 5.2.15-2+b7 (layer 1): fixed in 6 (says s0, s1)\n" in said


LINKED = make_layer(symlink("target", "/etc"))
HOSTILE = {
    "no label": ("echo", {"label": ""}, "its label io.seatrial.scanner is not JSON"),
    "no format": ("echo", {"format": "pdf"}, "its label io.seatrial.scanner: format: "),
    "no report": ("echo all is well", {}, "it left no report at /out/report.json"),
    "it fails": ("echo the database is old >&2; exit 1", {}, "it ended with code 1: the database is old"),
    "no end": ("sleep 1000", {"limits": {"wall_seconds": 1}}, "it did not come to its end (timeout"),
    "too much memory": (
        "tail /dev/zero",
        {"limits": {"memory_bytes": 16 * 1024**2}},
        "it needs more memory than it has",
    ),
    "a link at /target": ("echo", {}, "/target must be a real folder in the image"),
    "a link": ("ln -s /in/image.json /out/report.json", {}, "/out/report.json is not a plain file"),
    "a FIFO": ("mkfifo /out/report.json", {}, "/out/report.json is not a plain file"),
    "too large": (
        "dd if=/dev/zero of=/out/report.json bs=1048576 count=33 2>/dev/null",
        {},
        "/out/report.json has 34603008 bytes",
    ),
    "no JSON": ("echo '{' > /out/report.json", {}, "its report cannot be read: it is no JSON of one meaning"),
    "another image": (
        leaves({}).replace("$digest", "sha256:" + "0" * 64),
        {},
        "its report cannot be read: it is about sha256:" + "0" * 64,
    ),
    "another layer": (
        leaves({"found": [{"kind": "secret", "rule": "r", "severity": "low", "title": "", "where": "x",
                           "layer": 7}]}),
        {},
        "it names layer 7, and has 3, counted from 0",
    ),
    "a name of its own": (leaves({"packges": []}), {}, "its report cannot be read: packges: "),
}  # fmt: skip


def test_a_scanner_that_breaks_the_contract_makes_the_scan_incomplete(scan: Scan, yard: Path) -> None:
    names = list(HOSTILE)
    found = {}
    for group in (names[:7], names[7:]):
        images = [
            scanner_image(HOSTILE[one][0], *([LINKED] if "/target" in one else []), **HOSTILE[one][1])
            for one in group
        ]
        document = json.loads(scan(*images, options=("--json",)))
        assert not document["complete"]
        assert {one["state"] for one in document["others"]} == {"failed"}
        reasons = {one["scanner"]: one["reason"] for one in document["incomplete"]}
        found |= {one: reasons[f"s{number}"] for number, one in enumerate(group)}
        # What our own modules found is not lost.
        assert [one["name"] for one in document["packages"]] == ["bash"]
    assert {one: HOSTILE[one][2] in reason or reason for one, reason in found.items()} == dict.fromkeys(
        names, True
    )
    assert WorkerProcess(yard / "state", "", "", state_name="0").left_behind() == []


def test_what_can_be_no_scanner_is_refused(scan: Scan) -> None:
    said = scan("oci:/nowhere", options=("--fail-on", "critical"), code=2)
    assert "s0: it could not look: /nowhere cannot be read: No such file" in said
    assert "is no name of a scanner" in scan(options=("--with", "A B=oci:/x"), code=64)
    both = ("--with", "a=oci:/x", "--with", "a=oci:/y")
    assert "two scanners are named a" in scan(options=both, code=64)


def test_a_worker_has_a_scanner_of_the_registry_look(
    make_yard: Callable[..., Yard], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yard = make_yard()
    yard.worker("scanner").start()
    (tmp_path / "token").write_text(yard.registry.token)

    def typed(*arguments: str) -> str:
        capsys.readouterr()
        where = ("--server", yard.registry.url, "--token-file", str(tmp_path / "token"))
        assert run([*arguments, *where]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    # Whoever has nothing to look at ends badly: of a scanner the scan is enough.
    alone = {"name": "tools/looker", "run_spec": {"version": 1, "checks": ["scan"]}}
    yard.call("POST", "/api/v1/repositories", json=alone)
    secret = {"kind": "secret", "rule": "token", "severity": "high", "title": "a token", "where": "srv/x"}
    gem = {"kind": "other", "ecosystem": "", "name": "rack", "version": "1.0", "path": "Gemfile.lock"}
    told = {
        "found": [secret],
        "packages": [{**gem, "layer": 0}],
        "reported": [{"id": "CVE-2026-2", "package": 0, "severity": "critical", "fixed_version": "2"}],
    }
    digest = yard.push(scanner_image(leaves(told)), "1", repository="tools/looker")
    (tried,) = yard.call("GET", "/api/v1/trials", params={"image": "tools/looker", "tag": "1", "wait": "60"})
    assert tried["verdict"] == "pass", tried
    yard.call("POST", "/api/v1/repositories", json={"name": REPOSITORY})
    looked_at = ("scanner", "set", "team/", "looker", "tools/looker:1", "--dry-run")
    assert f"tools/looker@{digest}" in typed(*looked_at)
    (image,) = json.loads(typed(*looked_at, "--json"))["images"]
    assert (image["format"], image["workers"]) == ("seatrial", 1)
    assert json.loads(typed("scanner", "list", REPOSITORY, "--json")) == []
    placed = json.loads(typed("scanner", "set", "team/", "looker", "tools/looker:1", "--json"))
    assert placed["image"] == f"tools/looker@{digest}"
    assert f"tools/looker@{digest}" in typed("scanner", "list", REPOSITORY)
    yard.push(busybox_image(("/bin/sh", "-c", "exit 0")), "1")
    (part,) = yard.verdict("1")["parts"]
    assert (part["verdict"], part["scan"]["incomplete"]) == ("pass", 0), part
    found = json.loads(typed("image", "findings", f"{REPOSITORY}:1", "--json"))
    by = {one["id"]: one.get("scanner") for one in found}
    assert (by["token"], by["CVE-2026-2"], by["ST-USER-ROOT"]) == ("looker", "looker", None)
    lines = typed("image", "findings", f"{REPOSITORY}:1", "--fixable").splitlines()
    assert [one.split()[3] for one in lines if "looker" in one] == ["CVE-2026-2"]
    assert "CVE-2026-2  rack 1.0" in typed("image", "report", f"{REPOSITORY}:1")
    assert json.loads(typed("scanner", "remove", "team/", "looker", "--yes", "--json"))["removed"] is True
    assert json.loads(typed("scanner", "list", REPOSITORY, "--json")) == []
