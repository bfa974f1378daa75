"""Files in an image that readers of packages and rules fear: each is passed over by name."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib

from tests.kit.elffiles import go_inline, go_modules, make_elf
from tests.kit.images import Member, file, symlink
from tests.kit.mutating import seeds

GIB = 1024**3
POM = "META-INF/maven/a/b/pom.properties"


YAML_BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
)
_ENTITIES = b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
XML_BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">%s]>'
    b"<project><licenses><license><name>&j;</name></license></licenses></project>" % _ENTITIES
)


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


def feared() -> dict[str, tuple[Member, str]]:
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
        "srv/node_modules/wide/package.json": (YAML_BOMB, "it is no JSON"),
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
