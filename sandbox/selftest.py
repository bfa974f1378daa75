"""A throw-away image of one tiny program, tried from pull to end: what a host can do is seen."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import platform
import struct
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from registry.oci.platform import Platform
from sandbox.attempt import Task, Workplace, try_image
from sandbox.images.source import open_source
from sandbox.workplace import opened_workplace

# exit_group(0), by hand: nothing of the host's programs is needed, and no library.
_EXIT_CODE: Mapping[str, tuple[str, int, bytes]] = MappingProxyType(
    {
        "x86_64": ("amd64", 0x3E, bytes.fromhex("31ff b8e7000000 0f05")),
        "aarch64": ("arm64", 0xB7, bytes.fromhex("000080d2 c80b80d2 010000d4")),
    }
)
_LOAD_ADDRESS = 0x400000
_HEADERS_BYTES = 64 + 56
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_MEDIA_TYPE = "application/vnd.oci.image."


def can_test() -> bool:
    """Whether there is a program for this machine."""
    return platform.machine() in _EXIT_CODE


def try_own_image(*, runtime: str, allowed_downgrades: frozenset[str], folder: Path | None = None) -> Report:
    """Try the image as any other is tried, below ``folder``; nothing of it stays. Blocks.

    Raises:
        SandboxError: there is no runtime, or no room to work in.
    """
    with tempfile.TemporaryDirectory(prefix="seatrial-doctor-", dir=folder) as name:
        own = Path(name)
        own.chmod(0o711)
        _write_layout(own / "image")
        opened = opened_workplace(own / "state", runtime=runtime, allowed_downgrades=allowed_downgrades)
        with opened as (workplace, _):
            return asyncio.run(_try(f"oci:{own / 'image'}", workplace))


async def _try(image: str, workplace: Workplace) -> Report:
    async with open_source(image, credentials=None, insecure=False) as (source, reference):
        task = Task(
            reference=reference,
            platform=Platform("linux", _EXIT_CODE[platform.machine()][0]),
            spec=None,
            image_spec_allowed=False,
            limits=Limits(memory_bytes=32 * 1024 * 1024, written_bytes=8 * 1024 * 1024, wall_seconds=20),
            ceiling=Limits(),
            prepare=PrepareLimits(seconds=60),
        )
        return await try_image(source, task, workplace=workplace)


def make_program(machine: str) -> bytes:
    """A static ELF program for ``machine`` (as ``uname -m`` says) that exits with 0."""
    _, elf_machine, code = _EXIT_CODE[machine]
    size = _HEADERS_BYTES + len(code)
    header = struct.pack(
        "<4sBBBBB7xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0, 0),
        *(2, elf_machine, 1, _LOAD_ADDRESS + _HEADERS_BYTES, 64, 0, 0),
        *(64, 56, 1, 0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return header + segment + code


def _write_layout(folder: Path) -> None:
    architecture = _EXIT_CODE[platform.machine()][0]
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        program = make_program(platform.machine())
        member = tarfile.TarInfo("exit")
        member.mode, member.size = 0o755, len(program)
        tar.addfile(member, io.BytesIO(program))
    config = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Cmd": ["/exit"], "User": "1000:1000"},
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
