"""A throw-away image of one small program, tried from pull to end: what a host can do is seen.

The program looks at what it is and tries what it should not be able to; at last it takes more processes and
more memory than it may have. What it saw, and what the run's record says, is held together in ``proofs.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import platform
import socket
import struct
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from registry.contract.limits import MIB, Limits, PrepareLimits
from registry.contract.report import Report
from registry.oci.platform import platform_of_machine
from sandbox.attempt import Task, Workplace, try_image
from sandbox.errors import SandboxError
from sandbox.images.source import open_source
from sandbox.program import MACHINES, Step, make_program, read_answers
from sandbox.runtimes.cgroups import find_cgroups, why_no_limits
from sandbox.runtimes.disks import disk_of
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.parent import Ceiling
from sandbox.workplace import opened_workplace

OUTSIDE = ("198.51.100.1", 9)
"""An address that nobody has (RFC 5737), and the port of the discard service."""
MEMORY_BYTES = 32 * MIB
PIDS = 64
FORKS = 200
CAPABILITIES = 41
_CPUS = 0.2
_BYTES_PER_SECOND = 64 * MIB
_FREE_ADDRESS = 0x10000000
_GET_NO_NEW_PRIVS, _GET_SECCOMP, _CAPBSET_READ = 39, 21, 23
_AT_FDCWD = -100
_AF_VSOCK = 40
_NEW_USER = 0x10000000
_READ_WRITE, _PRIVATE_FIXED_ANONYMOUS = 3, 0x32
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_MEDIA_TYPE = "application/vnd.oci.image."


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of the image: the report, and the answers that its program printed; ``None``: no run, or
    none that printed any. ``asked`` are mechanisms that the run asked for beside those of every run."""

    report: Report
    answers: Mapping[str, int] | None
    asked: frozenset[str]


def can_test() -> bool:
    """Whether there is a program for this machine."""
    return platform.machine() in MACHINES


def own_steps(host_file: Path, *, kernel: Literal["host", "own"] = "host") -> tuple[Step, ...]:
    """What the program tries. ``host_file`` is there on the host, and must not be inside.

    A ``kernel`` of the runtime's own ends as a whole where it may have no more processes: then they are not
    asked for, so that memory can be.
    """
    processes = (Step("forks", "forks", (FORKS,)), Step("kill", "kill", (-1, 9)))
    address = struct.pack("<H", socket.AF_INET) + struct.pack(
        ">H4s8x", OUTSIDE[1], socket.inet_aton(OUTSIDE[0])
    )
    return (
        Step("socket", "socket", (socket.AF_INET, socket.SOCK_DGRAM, 0)),
        # Nothing but the three standard ones is open in a run: this is the fourth.
        Step("connect", "connect", (3, address, len(address))),
        Step("pid", "getpid"),
        Step("uid", "getuid"),
        Step("no_new_privs", "prctl", (_GET_NO_NEW_PRIVS,)),
        Step("filtered", "prctl", (_GET_SECCOMP,)),
        *(Step(f"capability {bit}", "prctl", (_CAPBSET_READ, bit)) for bit in range(CAPABILITIES)),
        Step("unshare", "unshare", (_NEW_USER,)),
        Step("mount", "mount", (b"none\0", b"/\0", b"tmpfs\0")),
        Step("keyctl", "keyctl"),
        Step("bpf", "bpf"),
        Step("vsock", "socket", (_AF_VSOCK, socket.SOCK_STREAM, 0)),
        Step("sethostname", "sethostname", (b"x\0", 1)),
        Step("host file", "openat", (_AT_FDCWD, os.fsencode(host_file) + b"\0", os.O_RDONLY)),
        Step("setting", "openat", (_AT_FDCWD, b"/proc/sys/kernel/core_pattern\0", os.O_WRONLY)),
        # Longer than its share of a tenth of a second.
        Step("burn", "burn", (100_000_000,)),
        *(processes if kernel == "host" else ()),
        Step("print", "print"),
        Step("map", "mmap", (_FREE_ADDRESS, 2 * MEMORY_BYTES, _READ_WRITE, _PRIVATE_FIXED_ANONYMOUS, -1, 0)),
        Step("touch", "touch", (_FREE_ADDRESS, _FREE_ADDRESS + 2 * MEMORY_BYTES)),
        Step("exit", "exit", (0,)),
    )


def try_own_image(*, runtime: str, allowed_downgrades: frozenset[str], folder: Path | None = None) -> Tried:
    """Try the image as any other is tried, below ``folder``; nothing of it stays. Blocks.

    Raises:
        SandboxError: there is no runtime, or no room to work in.
    """
    with tempfile.TemporaryDirectory(prefix="seatrial-doctor-", dir=folder) as name:
        own = Path(name)
        own.chmod(0o711)
        for asked in dict.fromkeys((_askable(own), frozenset[str]())):
            processors = frozenset({min(os.sched_getaffinity(0))}) if "cpu set" in asked else None
            try:
                opened = opened_workplace(
                    own / "state",
                    runtime=runtime,
                    allowed_downgrades=allowed_downgrades,
                    ceiling=Ceiling(cpu_set=processors),
                )
                with opened as (workplace, _):
                    steps = own_steps(own / "image/index.json", kernel=workplace.runtime.info.kernel)
                    _write_layout(own / "image", make_program(steps, platform.machine()))
                    rate = _BYTES_PER_SECOND if "block io" in asked else None
                    report = asyncio.run(_try(f"oci:{own / 'image'}", workplace, rate))
            except SandboxError:
                if not asked:
                    raise
                continue
            if report.error is None or not asked:
                break
    return Tried(report, read_answers(steps, report.runs[0].log) if report.runs else None, asked)


def _askable(folder: Path) -> frozenset[str]:
    """What only some hosts can hold a run to."""
    cgroups = find_cgroups()
    if why_no_limits(cgroups, privileged=privileged()) is not None:
        return frozenset()
    controllers = cgroups.controllers()
    disk = disk_of(folder) if cgroups.block_io in controllers else None
    can = {"cpu set": "cpuset" in controllers, "block io": disk is not None}
    return frozenset(name for name, possible in can.items() if possible)


async def _try(image: str, workplace: Workplace, io_bytes_per_second: int | None) -> Report:
    async with open_source(image, credentials=None, insecure=False) as (source, reference):
        limits = Limits(
            memory_bytes=MEMORY_BYTES,
            cpus=_CPUS,
            pids=PIDS,
            written_bytes=8 * MIB,
            wall_seconds=60,
            alive_seconds=55,
            io_bytes_per_second=io_bytes_per_second,
        )
        task = Task(
            reference=reference,
            platform=platform_of_machine(platform.machine()),
            spec=None,
            image_spec_allowed=False,
            limits=limits,
            ceiling=limits,
            prepare=PrepareLimits(seconds=60),
        )
        return await try_image(source, task, workplace=workplace)


def _write_layout(folder: Path, program: bytes) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo("selftest")
        member.mode, member.size = 0o755, len(program)
        tar.addfile(member, io.BytesIO(program))
    config = {
        "os": "linux",
        "architecture": platform_of_machine(platform.machine()).architecture,
        "config": {"Cmd": ["/selftest"], "User": "1000:1000"},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _store(folder, "config.v1+json", _json(config)),
        "layers": [_store(folder, "layer.v1.tar", layer.getvalue())],
    }
    index = {"schemaVersion": 2, "manifests": [_store(folder, "manifest.v1+json", _json(manifest))]}
    (folder / "index.json").write_bytes(_json(index))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _store(folder: Path, kind: str, content: bytes) -> dict[str, object]:
    digest = _digest(content)
    path = folder / "blobs" / digest.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": _MEDIA_TYPE + kind, "digest": digest, "size": len(content)}


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
