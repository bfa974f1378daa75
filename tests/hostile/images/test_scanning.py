"""Layers scanned by the real confined child: what is hostile ends in its limits, and the scan says so."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from registry.contract.scan import Scan
from sandbox.ids import leased_ids
from sandbox.images.cache import UNFINISHED, Use
from sandbox.images.collect import CacheLimits, collect, list_entries
from sandbox.images.pull import PulledImage
from sandbox.scanners.child import Task
from sandbox.scanners.layers import ScanLimits, Scanner, make_scanner, scanner_of
from sandbox.scanners.scan import scan_image
from sandbox.scanners.walk import WalkLimits
from tests.kit import planted
from tests.kit.images import (
    Image,
    Member,
    fifo,
    file,
    folder,
    layer_of,
    make_image,
    make_layer,
    raw_member,
    symlink,
    tiny_files,
    whiteout,
)

ROOT = Path(__file__).resolve().parents[3]
MODULES = ("tests.kit.scanmodules",)
Scanned = Callable[..., Awaitable[Scan]]


@pytest.fixture
def scanned(use: Use, pulled: Callable[[Image], Awaitable[PulledImage]]) -> Scanned:
    async def get(image: Image, *, limits: ScanLimits | None = None, scanner: Scanner | None = None) -> Scan:
        found = await pulled(image)
        scanner = scanner or scanner_of(MODULES, None, limits)
        return await scan_image(found, use, scanner, digest=str(found.digest), platform=str(found.platform))

    return get


def results(use: Use) -> list[str]:
    return sorted(path.name for path in use.cache.scans.iterdir())


def reasons(scan: Scan) -> dict[str, str]:
    return {one.where: one.reason for one in scan.incomplete}


async def test_an_image_is_scanned_layer_by_layer_and_each_layer_once(use: Use, scanned: Scanned) -> None:
    base = make_layer(file("a.txt", b"package one 1\n"), file("root/key.txt", b"secret key\n"))
    top = make_layer(whiteout("root/key.txt"), file("b.txt", b"package two 2\n"), compression="zstd")
    config = {
        "history": [
            {"created_by": "FROM base"},
            {"created_by": "ENV A=b", "empty_layer": True},
            {"created_by": "RUN rm key"},
        ]
    }
    scan = await scanned(make_image(base, top, document=config))
    assert [(one.name, one.layer) for one in scan.packages] == [("one", 0), ("two", 1)]
    assert [(one.where, one.layer, one.deleted_in_layer) for one in scan.found] == [("root/key.txt", 0, 1)]
    assert [one.created_by for one in scan.layers] == ["FROM base", "RUN rm key"]
    assert scan.incomplete == ()
    first = {path: path.stat().st_ino for path in use.cache.scans.iterdir()}
    assert len(first) == 2
    other = await scanned(make_image(base, make_layer(file("c.txt", b"package three 3\n"))))
    assert [one.name for one in other.packages] == ["one", "three"]
    now = {path: path.stat().st_ino for path in use.cache.scans.iterdir()}
    assert len(now) == 3
    assert first.items() <= now.items()


async def test_many_images_at_once_scan_a_layer_they_share_once(use: Use, scanned: Scanned) -> None:
    base = make_layer(file("a.txt", b"package one 1\n"))
    images = [make_image(base, make_layer(file(f"{n}.txt", b"package own 1\n"))) for n in range(4)]
    scans = await asyncio.gather(*(scanned(image) for image in images))
    assert [len(scan.packages) for scan in scans] == [2] * 4
    assert len(results(use)) == 5


async def test_hostile_files_are_read_as_bytes_and_nothing_of_the_host(scanned: Scanned) -> None:
    deep = "/".join(["d"] * 250)
    layer = make_layer(
        fifo("pipe.txt"),
        symlink("passwd.txt", "/etc/passwd"),
        symlink("up.txt", "../../../../../../../../etc/passwd"),
        file("bad\udcff\udcfe.txt", b"package odd 1\n"),
        file(f"{deep}/a.txt", b"package deep 1\n"),
        file("unruly/host", b"x"),
        file("unruly/broken", b"x"),
        file("unruly/refused", b"x"),
        file("unruly/after", b"still looked at"),
    )
    scan = await scanned(make_image(layer))
    text = scan.model_dump_json()
    assert "root:" not in text
    assert "/bin/bash" not in text
    assert [(one.name, one.path) for one in scan.packages] == [
        ("deep", f"{deep}/a.txt"),
        ("odd", "bad%FF%FE.txt"),
    ]
    linked = "is a symbolic link to what was not looked at under its own name"
    assert reasons(scan) == {
        "passwd.txt": linked,
        "up.txt": linked,
        "unruly/host": "unruly failed: OSError",
        "unruly/broken": "unruly failed: ZeroDivisionError",
        "unruly/refused": "it would not",
    }
    assert [one.title for one in scan.found if one.rule == "unruly"] == ["still looked at"]


async def test_packages_behind_links_are_read_from_whatever_layer_they_are_in(
    use: Use, scanned: Scanned
) -> None:
    scanner = scanner_of(("sandbox.scanners.packages",), None)
    stanza = b"Package: %s\nVersion: 1\n"
    base = make_layer(
        file("etc/os-release", b"ID=debian\nVERSION_ID=12\n"), file("opt/d\udcffb/base", stanza % b"base")
    )
    link = make_layer(
        symlink("var/lib/dpkg/status.d", "../../../opt/d\udcffb"),
        # It would be the host's, were it opened.
        symlink("usr/share/rpm", "/proc/self/cwd"),
    )
    top = make_layer(file("opt/d\udcffb/top", stanza % b"top"))
    for _ in range(2):
        scan = await scanned(make_image(base, link, top), scanner=scanner)
        assert [(one.name, one.path, one.layer, one.ecosystem) for one in scan.packages] == [
            ("base", "opt/d%FFb/base", 0, "Debian:12"),
            ("top", "opt/d%FFb/top", 2, "Debian:12"),
        ]
        # The other leads out of the image, where there is nothing.
        assert {(one.where, one.reason) for one in scan.incomplete} == {
            ("usr/share/rpm", "is a symbolic link to nothing that tells anything")
        }
        # Of each layer one result of all that is in it, and one of what is behind the links.
        assert len(results(use)) == 6
    # An image with the same layers and no link has the first ones.
    assert [one.name for one in (await scanned(make_image(base, top), scanner=scanner)).packages] == []
    assert len(results(use)) == 6


async def test_a_sparse_file_of_fifty_gigabytes_is_named_and_not_read(scanned: Scanned) -> None:
    size = 50 * 1024**3
    header = tarfile.TarInfo("big.txt")
    header.size = 4
    header.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "big.txt",
        "GNU.sparse.size": str(size),
        "GNU.sparse.realsize": str(size),
        "GNU.sparse.map": f"{size - 4},4",
        "GNU.sparse.numblocks": "1",
    }
    raw = header.tobuf(tarfile.PAX_FORMAT) + b"tail" + b"\0" * 508
    scan = await scanned(make_image(make_layer(Member("", raw=raw), file("a.txt", b"package one 1\n"))))
    assert reasons(scan) == {"big.txt": f"has {size} bytes; at most {WalkLimits().file_bytes} are looked at"}
    assert [one.name for one in scan.packages] == ["one"]


async def test_a_module_that_never_ends_is_stopped_and_the_others_go_on(use: Use, scanned: Scanned) -> None:
    layer = make_layer(
        file("unruly/stuck", b"x"),
        file("unruly/after", b"still looked at"),
        file("a.txt", b"package one 1\n"),
    )
    limits = ScanLimits(walk=replace(WalkLimits(), look_seconds=1.0))
    scan = await scanned(make_image(layer), limits=limits)
    assert reasons(scan) == {"unruly/stuck": "took longer than 1 s"}
    assert [one.title for one in scan.found] == ["still looked at"]
    assert [one.name for one in scan.packages] == ["one"]
    # Another try could tell more.
    assert results(use) == []


async def test_a_module_that_eats_memory_ends_in_its_limit(scanned: Scanned) -> None:
    layer = make_layer(file("unruly/hungry", b"x"), file("unruly/after", b"still looked at"))
    scan = await scanned(make_image(layer))
    assert reasons(scan) == {"unruly/hungry": "needs more memory than a scan may use"}
    assert [one.title for one in scan.found] == ["still looked at"]


async def test_a_layer_that_takes_too_long_is_incomplete_with_what_was_found(
    use: Use, scanned: Scanned
) -> None:
    layer = make_layer(file("unruly/stuck", b"x"))
    limits = ScanLimits(layer_seconds=3.0)
    scan = await scanned(make_image(layer), limits=limits)
    first = [one.reason for one in scan.incomplete if one.layer == 0]
    assert first == ["was not scanned in the 3 s that there were for it"]
    assert not any(name.endswith(UNFINISHED) for name in results(use))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ((raw_member(b"a", size=b"00000077777"),), "is cut off"),
        ((file("a"), raw_member(b"b", kind=b"?")), "unknown type"),
        ((file("../a"),), "'..'"),
    ],
)
async def test_a_broken_layer_is_incomplete(
    members: tuple[Member, ...], said: str, use: Use, scanned: Scanned
) -> None:
    scan = await scanned(make_image(make_layer(*members)))
    assert [one for one in scan.incomplete if said in one.reason and one.layer == 0]
    assert results(use) == []


async def test_a_layer_that_is_another_than_its_diff_id_is_incomplete_and_not_kept(
    use: Use, scanned: Scanned
) -> None:
    honest = make_layer(file("a.txt", b"package one 1\n"))
    lying = replace(layer_of(gzip.decompress(make_layer(file("b.txt")).blob)), diff_id=honest.diff_id)
    scan = await scanned(make_image(lying))
    assert "not to its diff ID" in scan.incomplete[0].reason
    assert results(use) == []
    assert [one.name for one in (await scanned(make_image(honest))).packages] == ["one"]


async def test_two_hundred_thousand_tiny_files(scanned: Scanned) -> None:
    tiny = Member("", raw=b"".join(tiny_files(200_000)))
    scan = await scanned(make_image(make_layer(tiny, file("a.txt", b"package one 1\n"))))
    assert [one.name for one in scan.packages] == ["one"]
    assert scan.incomplete == ()


async def test_results_are_collected_and_unfinished_ones_swept(use: Use, scanned: Scanned) -> None:
    await scanned(make_image(make_layer(file("a.txt", b"package one 1\n"))))
    (name,) = results(use)
    left = use.cache.scans / f"{name}.0{UNFINISHED}"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    assert [one.path.name for one in list_entries(use.cache) if one.kind == "scan"] == [name]
    collected = collect(use.cache, CacheLimits(quota_bytes=0, reserve_bytes=0))
    assert f"removed the unfinished scan {left.name}" in collected.left_over
    assert results(use) == []


async def test_a_result_that_is_cut_off_is_made_anew(use: Use, scanned: Scanned) -> None:
    image = make_image(make_layer(file("a.txt", b"package one 1\n")))
    await scanned(image)
    (path,) = use.cache.scans.iterdir()
    path.write_bytes(path.read_bytes()[:20])
    assert [one.name for one in (await scanned(image)).packages] == ["one"]


async def test_the_real_modules_look_at_an_image(scanned: Scanned) -> None:
    status = b"Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b7\nArchitecture: amd64\n\n"
    token = planted.token("ghp_")
    layer = make_layer(
        folder("etc"),
        file("etc/os-release", b"ID=debian\nVERSION_ID=12\n"),
        file("var/lib/dpkg/status", status),
        file("root/large", b"\n" * 3_000_000 + f"token = {token}\n".encode()),
    )
    found = await scanned(make_image(layer), scanner=make_scanner())
    assert [(one.name, one.ecosystem) for one in found.packages] == [("bash", "Debian:12")]
    assert [(one.kind, one.where) for one in found.found] == [
        ("secret", "root/large"),
        ("misconfiguration", "user"),
        ("misconfiguration", "healthcheck"),
    ]
    assert token[4:] not in found.model_dump_json()


ATTACK = """
import sys; sys.path.insert(0, {root!r})
import ctypes, errno, json, os, platform, resource, socket
from sandbox import bpf
from sandbox.images import confine
from sandbox.scanners import child

libc = ctypes.CDLL(None, use_errno=True)

def said(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except MemoryError:
        return "MemoryError"
    return "OK"

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(one) for one in arguments])
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "OK"

class Attempts:
    def __init__(self, modules, read, spool, out, limits, *, aliases):
        self.out, self.spool = out, spool

    def run(self):
        column = bpf.this_machine().column
        allowed = {{pair[column] for pair in confine.READER_CALLS.values()}} | {{confine._CLONE[column]}}
        # The kernel lets these two past every filter: they end a process that is not being traced.
        allowed |= {{335, 336}} if platform.machine() == "x86_64" else set()
        found = {{
            "read the host": said(lambda: open({canary!r}).read()),
            "the root": said(lambda: os.listdir("/")),
            "a file": said(lambda: os.open("/x", os.O_WRONLY | os.O_CREAT)),
            "socket": said(lambda: socket.socket()),
            "fork": said(os.fork),
            "exec": said(lambda: os.execv("/proc/self/exe", ["x"])),
            "kill": said(lambda: os.kill(1, 0)),
            "owner": said(lambda: os.fchown(self.spool.fd, 1, 1)),
            "mode": said(lambda: os.fchmod(self.spool.fd, 0o4777)),
            "memory": said(lambda: bytearray(1 << 30)),
            "too large a file": said(lambda: os.pwrite(self.spool.fd, b"x", 1 << 40)),
            "limits": said(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))),
            "identity": [os.getuid(), os.getgid(), os.getpid()],
            "environment": sorted(set(os.environ) - {{"LC_CTYPE"}}),
            "calls that are not on the list": sorted(
                {{call(n, -1, -1, -1, -1, -1, -1) for n in range(480) if n not in allowed}}
            ),
            "allowed calls": len(allowed),
        }}
        self.out.write(json.dumps(found).encode())

child.Walk = Attempts
sys.exit(child.main(sys.argv[1]))
"""


async def test_a_child_that_was_taken_over(canary: Path, tmp_path: Path) -> None:
    spool = os.open(tmp_path / "spool", os.O_RDWR | os.O_CREAT)
    with leased_ids() as ids:
        task = Task(
            parent_pid=os.getpid(),
            base=ids.base,
            size=ids.size,
            algorithm="sha256",
            packages=MODULES,
            rules="",
            rules_bytes=0,
            spool_fd=spool,
            max_bytes=1 << 20,
            cpu_seconds=20,
            limits=WalkLimits(),
        )
        program = ATTACK.format(root=str(ROOT), canary=str(canary / "file"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", program, task.as_json()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            pass_fds=(spool,),
        )
        out, error = await process.communicate()
    os.close(spool)
    assert process.returncode == 0, error.decode()
    seen = json.loads(out)
    assert seen.pop("allowed calls") < 60
    assert seen == {
        **dict.fromkeys(("read the host", "the root", "a file", "socket", "exec", "kill"), "ENOSYS"),
        **dict.fromkeys(("owner", "mode", "limits"), "ENOSYS"),
        "fork": "EPERM",
        "memory": "MemoryError",
        "too large a file": "EFBIG",
        "identity": [0, 0, 1],
        "environment": [],
        "calls that are not on the list": ["ENOSYS"],
    }
