"""Whole images that attack: each must end in a report whose reason a person understands, never in a pass.

What single members of a layer can do wrong is in ``tests/hostile/images``; here each image goes all the way,
from its layout to the verdict.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tests.kit.images import (
    OCI_LAYER,
    Image,
    Layer,
    Member,
    busybox_layer,
    compress,
    device,
    digest_of,
    fifo,
    file,
    folder,
    hardlink,
    layer_of,
    make_image,
    make_layer,
    make_tar,
    raw_member,
    symlink,
    to_json,
    whiteout,
    xattrs,
)

MIB = 1 << 20
_ECHO = {"Cmd": ["/bin/sh", "-c", "echo started"]}


@dataclass(frozen=True, slots=True)
class Evil:
    """One image, the reasons that a report may give, and words of its message."""

    image: Callable[[], Image]
    reason: str
    words: str


def _layers(*layers: Layer) -> Image:
    return make_image(busybox_layer(), *layers, config=_ECHO)


def _members(*members: Member) -> Image:
    return _layers(make_layer(*members))


def _config(**members: object) -> Image:
    return make_image(busybox_layer(), config=_ECHO | members)


def _raw_config(raw: bytes) -> Image:
    """An image whose configuration is these bytes."""
    good = make_image(busybox_layer(), config=_ECHO)
    manifest = json.loads(good.manifest)
    manifest["config"] |= {"digest": digest_of(raw), "size": len(raw)}
    return replace(good, manifest=to_json(manifest), config=raw)


def _manifest(change: Callable[[dict[str, object]], object], *layers: Layer) -> Image:
    """A good image whose manifest was changed afterwards."""
    good = _layers(*layers)
    manifest = json.loads(good.manifest)
    change(manifest)
    return replace(good, manifest=to_json(manifest))


def _layer(blob: bytes, tar: bytes) -> Image:
    return _layers(Layer(blob, OCI_LAYER + "+gzip", digest_of(tar)))


def _lying_layer_size(by: int) -> Callable[[dict[str, object]], None]:
    def change(manifest: dict[str, object]) -> None:
        manifest["layers"][-1]["size"] += by  # type: ignore[index]

    return change


def _zeros(megabytes: int) -> bytes:
    return b"".join(gzip.compress(b"\0" * MIB) for _ in range(megabytes))


def _bomb() -> Image:
    """A gigabyte of zeros in a member that says so, in a megabyte."""
    header = make_tar([raw_member(b"weights", size=b"%011o" % (1 << 30))])[:512]
    return _layer(gzip.compress(header) + _zeros(1024), b"")


def _nested_bomb() -> Image:
    """Gzip in gzip: unpacked once, as every reader does, it is no tar."""
    return _layer(gzip.compress(gzip.compress(b"\0" * (64 * MIB))), b"")


def _many(count: int) -> Iterator[Member]:
    for number in range(count):
        yield file(f"many/{number}")


def _evil_folders() -> dict[str, Evil]:
    found = {}
    for name in ("dev", "proc", "sys", "tmp", "etc", "run"):
        members = (
            (whiteout(name), symlink(name, "/usr")) if name in ("etc", "tmp") else (symlink(name, "/usr"),)
        )
        found[f"/{name} is a link"] = Evil(
            lambda members=members: _members(*members), "image-refused", f"/{name}"
        )
    return found


EVIL: Mapping[str, Evil] = {
    # Where a layer would write.
    "member above the root": Evil(lambda: _members(file("../../evil")), "layer-invalid", "'..'"),
    "absolute member above the root": Evil(lambda: _members(file("/../evil")), "layer-invalid", "'..'"),
    "link to the host, and a file below": Evil(
        lambda: _members(symlink("out", "/etc"), hardlink("x", "out/shadow")),
        "layer-invalid",
        "not in the image",
    ),
    "hard link to a file of the host": Evil(
        lambda: _members(hardlink("x", "/etc/shadow")), "layer-invalid", "not in the image"
    ),
    "hard link across layers, outside": Evil(
        lambda: _layers(make_layer(symlink("out", "/")), make_layer(hardlink("x", "out/../etc/hostname"))),
        "layer-invalid",
        "'..'",
    ),
    "whiteout that climbs": Evil(lambda: _members(file("etc/.wh...")), "layer-invalid", "names no file"),
    "whiteout of its own folder": Evil(lambda: _members(file(".wh..")), "layer-invalid", "names no file"),
    "whiteout of everything": Evil(
        lambda: _members(*(whiteout(name) for name in ("bin", "etc", "home", "root", "tmp", "var"))),
        "start-failed",
        "/bin/sh",
    ),
    "opaque root": Evil(lambda: _members(file(".wh..wh..opq")), "start-failed", "/bin/sh"),
    "links in a circle": Evil(
        lambda: _members(symlink("a", "b"), symlink("b", "a"), file("a/x")), "layer-invalid", "circle"
    ),
    "links in a circle over layers": Evil(
        lambda: _layers(
            make_layer(symlink("a", "b")), make_layer(symlink("b", "a")), make_layer(file("b/x"))
        ),
        "layer-invalid",
        "circle",
    ),
    "link of a thousand steps": Evil(
        lambda: _members(*(symlink(f"l{number}", f"l{number + 1}") for number in range(1000)), file("l0/x")),
        "layer-invalid",
        "circle",
    ),
    "link longer than any path": Evil(
        lambda: _members(symlink("l", "a" * 5000)), "layer-invalid", "too long"
    ),
    "name longer than any file's": Evil(lambda: _members(file("a" * 300)), "layer-invalid", "255"),
    "path of 3,000 folders": Evil(lambda: _members(file("/".join(["d"] * 3000))), "layer-invalid", "limit"),
    "NUL in a name": Evil(lambda: _members(file("x", pax={"path": "a\0b"})), "layer-invalid", "NUL"),
    "the program is replaced by a folder": Evil(
        lambda: _members(whiteout("bin/sh"), folder("bin/sh")), "start-failed", "/bin/sh"
    ),
    "the program is a link to itself": Evil(
        lambda: _members(symlink("bin/sh", "sh")), "start-failed", "/bin/sh"
    ),
    "the program is a FIFO": Evil(
        lambda: _members(whiteout("bin/sh"), fifo("bin/sh")), "start-failed", "/bin/sh"
    ),
    "the program is a device": Evil(
        lambda: _members(whiteout("bin/sh"), device("bin/sh", "c", 1, 1)), "start-failed", "/bin/sh"
    ),
    # Bombs.
    "bomb of bytes": Evil(_bomb, "too-large", "limit"),
    "bomb in a bomb": Evil(_nested_bomb, "layer-invalid", "header"),
    "bomb of files": Evil(lambda: _members(*_many(3000)), "too-many-files", "limit"),
    "bomb of folders": Evil(
        lambda: _members(*(file(f"{number}/a/b/c/d/e/f/g/x") for number in range(400))),
        "too-many-files",
        "limit",
    ),
    "sparse file of a petabyte": Evil(
        lambda: _members(file("x", b"abc", pax={"GNU.sparse.map": "0,3", "GNU.sparse.size": str(1 << 50)})),
        "too-large",
        "limit",
    ),
    "sparse file that lies": Evil(
        lambda: _members(file("x", b"abc", pax={"GNU.sparse.map": "0,2,1,9", "GNU.sparse.size": "5"})),
        "layer-invalid",
        "sparse",
    ),
    "attributes of a megabyte": Evil(
        lambda: _members(file("x", pax=xattrs(user__a="v" * MIB))), "layer-invalid", "extended headers"
    ),
    "zstd with a window of gigabytes": Evil(
        lambda: _layers(
            Layer(bytes.fromhex("28b52ffd00f8") + bytes(64), OCI_LAYER + "+zstd", digest_of(b""))
        ),
        "layer-invalid",
        "compressed",
    ),
    # Numbers that lie.
    "negative size": Evil(lambda: _members(raw_member(b"x", size=b"\xff" * 12)), "layer-invalid", "layer 2"),
    "size of an exabyte": Evil(
        lambda: _members(raw_member(b"x", size=b"\x80" + b"\x7f" * 11)), "too-large", "limit"
    ),
    "owner beyond every range": Evil(lambda: _members(file("x", uid=1 << 31)), "layer-invalid", "owners"),
    "time that is no number": Evil(
        lambda: _members(file("x", pax={"mtime": "nan"})), "layer-invalid", "time"
    ),
    "extended header of a gigabyte": Evil(
        lambda: _members(raw_member(b"x", size=b"07777777777", kind=b"x")), "layer-invalid", "header"
    ),
    "layer larger than it says": Evil(
        lambda: _manifest(_lying_layer_size(-1), make_layer(file("x"))), "digest-mismatch", "bytes"
    ),
    "layer smaller than it says": Evil(
        lambda: _manifest(_lying_layer_size(1), make_layer(file("x"))), "digest-mismatch", "bytes"
    ),
    "size of a layer beyond 64 bits": Evil(
        lambda: _manifest(_lying_layer_size(1 << 70), make_layer(file("x"))),
        "manifest-invalid",
        "out of range",
    ),
    # Content that is not what it is called.
    "wrong diff ID": Evil(
        lambda: _layers(replace(make_layer(file("x")), diff_id=digest_of(b"other"))),
        "digest-mismatch",
        "diff",
    ),
    "layer of noise": Evil(lambda: _layer(os.urandom(4096), b""), "layer-invalid", "layer 2"),
    "gzip that ends early": Evil(
        lambda: _layer(gzip.compress(make_tar([file("a", os.urandom(9000))]))[:-2000], b""),
        "layer-invalid",
        "compressed",
    ),
    "gzip with a wrong sum": Evil(
        lambda: _layer(
            gzip.compress(make_tar([file("a")]))[:-8] + struct.pack("<II", 1, 2), make_tar([file("a")])
        ),
        "layer-invalid",
        "compressed",
    ),
    "tar within the tar's padding": Evil(
        lambda: _layers(layer_of(make_tar([file("a")])[:512] + b"\1" * 512 + make_tar([]))),
        "layer-invalid",
        "header",
    ),
    # What the runtime would walk over.
    **_evil_folders(),
    "/etc/passwd is a link to all zeros": Evil(
        lambda: _members(symlink("etc/passwd", "/dev/zero")), "image-refused", "/etc/passwd"
    ),
    "/etc/group of 20 MiB": Evil(
        lambda: _members(file("etc/group", b"x:x:1:\n" * (3 * MIB))), "image-refused", "/etc/group"
    ),
    "/dev/shm is a link": Evil(
        lambda: _members(folder("dev"), symlink("dev/shm", "/etc")), "image-refused", "/dev"
    ),
    "/proc is a file": Evil(lambda: _members(file("proc")), "image-refused", "/proc"),
    # Configurations.
    "100,000 variables": Evil(
        lambda: _config(Env=[f"V{number}=x" for number in range(100_000)]), "config-invalid", "Env"
    ),
    "a variable of two megabytes": Evil(
        lambda: _config(Env=["V=" + "x" * (2 * MIB)]), "config-invalid", "Env"
    ),
    "a variable with NUL": Evil(lambda: _config(Env=["V=a\0b"]), "config-invalid", "NUL"),
    "a variable without a name": Evil(lambda: _config(Env=["=x"]), "config-invalid", "Env"),
    "a command of 5,000 words": Evil(
        lambda: _config(Cmd=["/bin/echo"] + ["x"] * 5000), "config-invalid", "Cmd"
    ),
    "a command that is one long word": Evil(
        lambda: _config(Cmd=["/bin/" + "x" * 200_000]), "start-failed", "cannot be run"
    ),
    "no command": Evil(lambda: _config(Cmd=[]), "no-command", "command"),
    "a command of another type": Evil(lambda: _config(Cmd=[{"a": 1}]), "config-invalid", "Cmd"),
    "user that nobody knows": Evil(lambda: _config(User="captain"), "user-unknown", "captain"),
    "user beyond the range": Evil(lambda: _config(User="4294967295"), "user-unknown", "4294967295"),
    "working folder by a descriptor": Evil(
        lambda: _config(WorkingDir="/proc/self/fd/8"), "image-refused", "/proc"
    ),
    "volume over /proc": Evil(lambda: _config(Volumes={"/proc/sys": {}}), "image-refused", "/proc"),
    "volume that climbs": Evil(lambda: _config(Volumes={"/a/../../x": {}}), "config-invalid", "Volumes"),
    "port that is none": Evil(
        lambda: _config(ExposedPorts={"99999/tcp": {}}), "config-invalid", "ExposedPorts"
    ),
    "configuration that is no JSON": Evil(lambda: _raw_config(b"{"), "config-invalid", "JSON"),
    "configuration of 10 MiB": Evil(lambda: _raw_config(b" " * (10 * MIB)), "too-large", "bytes"),
    "configuration nested 100,000 deep": Evil(
        lambda: _raw_config(b'{"config":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "config-invalid", "JSON"
    ),
    "configuration with a name twice": Evil(
        lambda: _raw_config(b'{"os":"linux","os":"linux","architecture":"amd64"}'), "config-invalid", "JSON"
    ),
    "fewer diff IDs than layers": Evil(
        lambda: make_image(
            busybox_layer(), config=_ECHO, document={"rootfs": {"type": "layers", "diff_ids": []}}
        ),
        "config-invalid",
        "diff",
    ),
    "another platform than it says": Evil(
        lambda: make_image(busybox_layer(), config=_ECHO, document={"os": "windows"}),
        "platform-unsupported",
        "windows",
    ),
    "layers of a type that nobody knows": Evil(
        lambda: _layers(replace(make_layer(file("x")), media_type="application/x-evil")),
        "manifest-invalid",
        "evil",
    ),
    "zstd called gzip, and broken": Evil(
        lambda: _layers(
            Layer(compress(b"no tar" * 99, "zstd"), OCI_LAYER + "+gzip", digest_of(b"no tar" * 99))
        ),
        "layer-invalid",
        "layer 2",
    ),
}

HARMLESS: Mapping[str, Callable[[], Image]] = {
    "layer of no bytes": lambda: _layer(b"", b""),
    "more after the end of a tar": lambda: _layers(
        layer_of(make_tar([file("a")]) + make_tar([file("../b")]))
    ),
    "FIFO at /etc/passwd": lambda: _members(whiteout("etc/passwd"), fifo("etc/passwd")),
    "device nodes": lambda: _members(device("mem", "c", 1, 1), device("disk", "b", 8, 0)),
    "program with every bit": lambda: _members(file("evil", b"#!/bin/sh\n", 0o6777)),
    "capabilities on a file": lambda: _members(
        file("evil", b"x", 0o755, pax=xattrs(security__capability="\1\0\0\2\xff\xff\xff\xff"))
    ),
    "overlay's own attributes": lambda: _members(
        folder("bin", pax=xattrs(trusted__overlay__opaque="y", user__overlay__opaque="y"))
    ),
    "names with newlines and escapes": lambda: _members(file("a\nb\x1b[2J\r"), file("-rf"), file("*")),
    "links to everywhere": lambda: _members(
        *(
            symlink(f"l{number}", target)
            for number, target in enumerate(("/", "..", "/proc/1/root", "/dev/mem"))
        )
    ),
    "one name, four types": lambda: _members(
        file("x", b"1"), folder("x"), symlink("x", "/etc"), file("x", b"2")
    ),
    "gzip of a thousand members": lambda: _layer(
        b"".join(
            gzip.compress(make_tar([file("a", b"x" * MIB)])[at : at + 1024])
            for at in range(0, MIB + 2048, 1024)
        ),
        make_tar([file("a", b"x" * MIB)]),
    ),
    "a thousand labels": lambda: _config(Labels={f"run.oci.{number}": "evil" for number in range(1000)}),
}
"""Odd images that run: what is wrong with them reaches nothing."""
