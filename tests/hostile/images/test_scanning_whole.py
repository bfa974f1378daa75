"""One image with all that readers of packages and rules fear, scanned by the command through the real
confined child: it ends within its limits, names each thing that it passed over, and tells what is beside."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.images.cache import Use
from sandbox.images.pull import PulledImage
from sandbox.scanners.layers import scanner_of
from sandbox.scanners.scan import scan_image
from tests.kit.elffiles import go_inline, go_modules, make_elf
from tests.kit.images import (
    Image,
    Member,
    fifo,
    file,
    make_image,
    make_layer,
    symlink,
    write_layout,
)
from tests.kit.mutating import seeds

ROOT = Path(__file__).resolve().parents[3]
MEASURE = """
import json, resource, subprocess, sys
with open(sys.argv[1], "wb") as out:
    done = subprocess.run(sys.argv[2:], stdout=out)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
spent = used.ru_utime + used.ru_stime
print(json.dumps({"code": done.returncode, "peak_kib": used.ru_maxrss, "seconds": spent}))
"""
GIB = 1024**3
POM = "META-INF/maven/a/b/pom.properties"
MAX_RSS_KIB = 256 * 1024
SECONDS = 60
"""Of processor time; SCANNING.md's measure of row 17."""


def sparse(name: str, size: int) -> Member:
    """A file of so many bytes, of which the layer has the last four."""
    header = tarfile.TarInfo(name)
    header.size = 4
    header.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": name,
        "GNU.sparse.size": str(size),
        "GNU.sparse.realsize": str(size),
        "GNU.sparse.map": f"{size - 4},4",
        "GNU.sparse.numblocks": "1",
    }
    return Member("", raw=header.tobuf(tarfile.PAX_FORMAT) + b"tail" + bytes(508))


def bomb(name: str, size: int, claimed: int) -> bytes:
    """A zip whose one entry inflates to ``size`` zeros and claims another size. Its parts repeat: making it
    costs nothing."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = piece * (size >> 20) + packer.flush()
    raw = name.encode()
    sizes = (0, len(data), claimed, len(raw))
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, *sizes, 0) + raw
    central = (
        struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, 0, 0, 0, 0, 0, 0) + raw
    )
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local) + len(data), 0)
    return local + data + central + end


def nested(depth: int) -> bytes:
    data = b""
    for level in range(depth):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as made:
            made.writestr(f"level{level}.jar", data)
        data = out.getvalue()
    return data


def lying(data: bytes) -> bytes:
    """A program that says that its sections lie somewhere else, and are many."""
    changed = bytearray(data)
    changed[0x28:0x30] = struct.pack("<Q", 2**63)
    changed[0x3C:0x3E] = struct.pack("<H", 0xFFFF)
    return bytes(changed)


def hostile() -> dict[str, tuple[Member, str]]:
    """By path: a file, and a part of the reason for which it is not looked at, or not to its end."""
    whole = {seed.path: seed.data for seed in seeds() if not seed.path.startswith("usr/bin/")}
    sqlite, bdb, ndb = (whole[f"var/lib/rpm/{name}"] for name in ("rpmdb.sqlite", "Packages", "Packages.db"))
    go = make_elf({b".go.buildinfo": go_inline("go1.26.8", go_modules("path\ta\nmod\ta\tv1\n"))})
    crates = make_elf({b".dep-v0": zlib.compress(bytes(64 << 20))})
    deep = b'{"name": ' + b"[" * 900_000
    header = b"Metadata-Version: 2.1\nName: a\nLicense: " + b"x" * 3_000_000 + b"\nVersion: 1\n\n"
    found = {
        "opt/bomb.jar": (bomb("inner.jar", 10 * GIB, 0xFFFFFFFE), "claim to inflate to 4095 MiB"),
        "opt/deep.jar": (nested(100), "more than 3 deep"),
        "opt/liar.war": (bomb(POM, 10 * GIB, 1000), "more than the 262144 bytes"),
        "opt/liar.jar": (bomb("inner.jar", 10 * GIB, 1000), "more than the 67108864 bytes"),
        "var/lib/rpm/rpmdb.sqlite": (sqlite[: len(sqlite) // 2], "a page that it has not"),
        "var/lib/rpm/Packages": (bdb[: len(bdb) * 2 // 3], "ends too early"),
        "usr/lib/sysimage/rpm/Packages.db": (ndb[: len(ndb) - 100], "ends too early"),
        "srv/node_modules/deep/package.json": (deep, "nested too deep"),
        "usr/lib/python3/a-1.dist-info/METADATA": (header, "its headers are longer"),
        "usr/bin/crates": (crates, "larger than 4 MiB"),
    }
    members = {
        path: (file(path, data, 0o755 if path.startswith("usr/bin/") else 0o644), reason)
        for path, (data, reason) in found.items()
    }
    members["usr/bin/liar"] = (file("usr/bin/liar", lying(go), 0o755), "outside of the file")
    members["srv/node_modules/huge/package.json"] = (
        sparse("srv/node_modules/huge/package.json", 300_000_000),
        "larger than the 2048 KiB",
    )
    members["opt/sparse.jar"] = (sparse("opt/sparse.jar", 4 * GIB), f"has {4 * GIB} bytes")
    members["opt/vast.jar"] = (sparse("opt/vast.jar", 50 * GIB), f"has {50 * GIB} bytes")
    members["var/lib/dpkg/status"] = (symlink("var/lib/dpkg/status", "/etc/passwd"), "is a symbolic link")
    members["etc/os-release"] = (symlink("etc/os-release", "/etc/passwd"), "is a symbolic link")
    members["lib/apk/db/installed"] = (symlink("lib/apk/db/installed", "installed"), "is a symbolic link")
    return members


@pytest.mark.skipif(os.geteuid() != 0, reason="scans as root; test_scanning.py scans as a plain user")
def test_all_of_it_at_once(tmp_path: Path) -> None:
    members = hostile()
    npm = b'{"name": "found", "version": "1.0.0"}'
    layer = make_layer(
        *(member for member, _ in members.values()),
        fifo("etc/passwd"),
        symlink("srv/a", "b"),
        symlink("srv/b", "a"),
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
