"""One image with all that readers of packages and rules fear, scanned by the command through the real
confined child: it ends within its limits, names each thing that it passed over, and tells what is beside."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.images.cache import Use
from sandbox.images.pull import PulledImage
from sandbox.scanners.layers import scanner_of
from sandbox.scanners.scan import scan_image
from tests.kit.feared import XML_BOMB, feared
from tests.kit.images import Image, fifo, file, make_image, make_layer, symlink, write_layout

ROOT = Path(__file__).resolve().parents[3]
MEASURE = """
import json, resource, subprocess, sys
with open(sys.argv[1], "wb") as out:
    done = subprocess.run(sys.argv[2:], stdout=out)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
spent = used.ru_utime + used.ru_stime
print(json.dumps({"code": done.returncode, "peak_kib": used.ru_maxrss, "seconds": spent}))
"""
MAX_RSS_KIB = 256 * 1024
SECONDS = 60
"""Of processor time; SCANNING.md's measure of row 17."""


@pytest.mark.skipif(os.geteuid() != 0, reason="scans as root; test_scanning.py scans as a plain user")
def test_all_of_it_at_once(tmp_path: Path) -> None:
    members = feared()
    npm = b'{"name": "found", "version": "1.0.0"}'
    bombed = io.BytesIO()
    with zipfile.ZipFile(bombed, "w") as made:
        made.writestr("META-INF/maven/g/tool/pom.properties", "version=9\n")
        made.writestr("META-INF/maven/g/tool/pom.xml", XML_BOMB)
    layer = make_layer(
        *(member for member, _ in members.values()),
        fifo("etc/passwd"),
        symlink("srv/a", "b"),
        symlink("srv/b", "a"),
        file("srv/tool-9.jar", bombed.getvalue()),
        file("srv/bad\udcff/node_modules/found/package.json", npm),
    )
    folder = tmp_path / "scan"
    folder.mkdir()
    layout = write_layout(folder / "layout", make_image(layer), tag="v1")
    command = [sys.executable, "-m", "registry.main", "scan", f"oci:{layout}:v1", "--json"]
    command += ["--state", str(folder / "state"), "--fail-on", "critical"]
    # Measured by a small process: what a child has taken counts from what it was forked from.
    measuring = [sys.executable, "-I", "-c", MEASURE, str(folder / "out"), *command]
    done = subprocess.run(measuring, cwd=ROOT, check=True, capture_output=True, text=True)
    measured = json.loads(done.stdout)
    text = (folder / "out").read_text()
    # It is no pass.
    assert measured["code"] == 2
    assert measured["peak_kib"] < MAX_RSS_KIB
    assert measured["seconds"] < SECONDS
    # Nothing of the host.
    assert "root:" not in text
    assert "/bin/bash" not in text
    document = json.loads(text)
    assert document["complete"] is False
    said: dict[str, list[str]] = {}
    for one in document["incomplete"]:
        said.setdefault(one["where"].partition("!")[0], []).append(one["reason"])
    assert said.keys() >= members.keys(), members.keys() - said.keys()
    for path, (_, reason) in members.items():
        assert any(reason in one for one in said[path]), (path, said[path])
    assert ("found", "srv/bad%FF/node_modules/found/package.json") in [
        (one["name"], one["path"]) for one in document["packages"]
    ]
    # What only tells of licences takes no package with it.
    assert [one.get("licences", []) for one in document["packages"] if one["name"] == "g:tool"] == [[]]


async def test_a_file_that_makes_a_rule_slow(
    use: Use, pulled: Callable[[Image], Awaitable[PulledImage]]
) -> None:
    scanner = scanner_of(("tests.kit.slowrules", "tests.kit.scanmodules"), None)
    for number, slow in enumerate((file("srv/slow", b"." * 7777), file("srv/quick", b"."))):
        image = await pulled(make_image(make_layer(slow, file("a.txt", b"package one 1\n"))))
        began = time.monotonic()
        scan = await scan_image(image, use, scanner, digest=str(image.digest), platform=str(image.platform))
        assert [one.name for one in scan.packages] == ["one"]
        reasons = [(one.where, one.reason) for one in scan.incomplete]
        if number == 0:
            ((where, reason),) = reasons
            assert where == "srv/slow"
            assert "a rule took longer than 1 s" in reason
            assert time.monotonic() - began >= 1
        else:
            assert reasons == []
