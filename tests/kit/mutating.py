"""Files that readers of packages understand, and what a mutator makes of them."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.scanners.facts import Facts
from sandbox.scanners.packages.reading import MAX_OWNED, MAX_PACKAGES, is_word
from tests.kit.elffiles import go_inline, go_modules, go_pointed, make_elf
from tests.kit.looking import look
from tests.kit.rpms import make_ndb

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (b"\0", b"\n", b"\n\n", b"\t", b":", b"=", b"../", b"\xff\xfe", b"[" * 50, b'{"a":' * 50, b"PK\1\2")


@dataclass(frozen=True, slots=True)
class Seed:
    """A file that is read whole; ``partner`` is its log."""

    path: str
    data: bytes
    partner: bytes | None = None

    def look(self, data: bytes) -> Facts:
        """What the readers say of other bytes in its place. They never raise anything."""
        mode = 0o755 if self.path.startswith("usr/bin/") else 0o644
        facts = look(self.path, data, mode=mode, partner=self.partner)
        assert len(facts.packages) <= MAX_PACKAGES
        assert len(facts.owned) <= MAX_OWNED
        assert all(is_word(package.name) for package in facts.packages)
        assert all(0 < len(reason) <= 2000 for reason in facts.incomplete)
        return facts


def seeds() -> Iterator[Seed]:
    """One for each format, and more where there are several forms of one."""
    stanza = b"Package: a\nStatus: install ok installed\nVersion: 1:2-3\nSource: b (1)\nConffiles:\n /etc/a "
    yield Seed("var/lib/dpkg/status", (stanza + b"0" * 32 + b"\n\n") * 2)
    yield Seed("var/lib/dpkg/status.d/a", b"Package: a\nVersion: 1:2-3\nSource: b (1)\n")
    yield Seed("var/lib/dpkg/info/a.md5sums", b"0" * 32 + b"  usr/bin/a\n")
    yield Seed("var/lib/dpkg/info/a.list", b"/.\n/usr\n/usr/bin\n/usr/bin/a\n")
    yield Seed("lib/apk/db/installed", b"P:a\nV:1-r0\nA:x86_64\no:b\nL:MIT\nF:usr\nR:a\n\n" * 2)
    yield Seed("etc/os-release", b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n')
    python = (
        b"Metadata-Version: 2.1\nName: a\nVersion: 1\nLicense: MIT\nClassifier: License :: OSI :: MIT\n\nx\n"
    )
    yield Seed("usr/lib/a-1.dist-info/METADATA", python)
    yield Seed("usr/lib/a.egg-info/PKG-INFO", python)
    form = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    form += b"Files: *\nLicense: MIT\n x\n"
    yield Seed("usr/share/doc/a/copyright", form)
    npm = {"name": "a", "version": "1", "license": {"type": "MIT"}, "licenses": ["MIT"]}
    yield Seed("node_modules/a/package.json", json.dumps(npm).encode())
    modules = go_modules("path\ta\nmod\ta\t(devel)\t\ndep\tb\tv1\th1:x=\n=>\tc\tv2\n")
    yield Seed("usr/bin/a", make_elf({b".go.buildinfo": go_inline("go1.26.8", modules)}))
    pointed = go_pointed("go1.17", modules, size=4, order=">")
    yield Seed("usr/bin/a", make_elf({b".go.buildinfo": pointed}, wide=False, order=">", headers=False))
    crates = {"packages": [{"name": "a", "version": "1", "kind": "runtime"}]}
    yield Seed("usr/bin/a", make_elf({b".dep-v0": zlib.compress(json.dumps(crates).encode())}))
    pom = {"META-INF/maven/g/a/pom.properties": "groupId=g\nartifactId=a\nversion=1\n"}
    licensed = (
        "<project><licenses><license><name>MIT</name><url>http://a</url></license></licenses></project>"
    )
    pom["META-INF/maven/g/a/pom.xml"] = licensed
    jar = _zip({**pom, "META-INF/MANIFEST.MF": "Implementation-Version: 1\nBundle-License: MIT;a=b\n"})
    yield Seed("opt/b-1.war", _zip({"WEB-INF/lib/a.jar": jar, **pom}))
    yield Seed("var/lib/rpm/Packages.db", make_ndb([rpm_header(), rpm_header()]))
    yield Seed("var/lib/rpm/Packages", _bdb(rpm_header()))
    yield Seed("var/lib/rpm/rpmdb.sqlite", _sqlite(), b"")
    line = b"zlib\t1.2.13-2\t1\t2\tx\t(none)\t9\tx86_64\t0\tzlib-1.2.13-2.src.rpm\n"
    yield Seed("var/lib/rpmmanifest/container-manifest-2", line)


def mutations(data: bytes, choice: random.Random) -> Iterator[bytes]:
    """Without end: the bytes with some few changes of the kinds that parsers fear."""
    while True:
        changed = bytearray(data)
        for _ in range(choice.choice((1, 1, 2, 4, 8))):
            at = choice.randrange(len(changed) + 1)
            match choice.randrange(7):
                case 0:
                    changed[at : at + 1] = choice.randbytes(1)
                case 1:
                    form = choice.choice(("<B", "<H", ">H", "<I", ">I", "<Q"))
                    size = struct.calcsize(form)
                    number = choice.choice(NUMBERS) & (256**size - 1)
                    changed[at : at + size] = struct.pack(form, number)
                case 2:
                    del changed[at : at + choice.choice((1, 2, 8, 64, 4096))]
                case 3:
                    changed[at:at] = choice.choice(WORDS)
                case 4:
                    other = choice.randrange(len(changed) + 1)
                    changed[at : at + 64] = changed[other : other + 64]
                case 5:
                    del changed[at:]
                case _:
                    changed[at : at + 1] = bytes(
                        [(changed[at] if at < len(changed) else 0) ^ 1 << choice.randrange(8)]
                    )
        yield bytes(changed)


def rpm_header() -> bytes:
    """A header of rpm with one file."""
    texts = {1000: b"a", 1001: b"1", 1002: b"2", 1014: b"MIT", 1022: b"noarch", 1044: b"b-1-2.src.rpm"}
    index, data = b"", b""
    for tag, text in texts.items():
        index += struct.pack(">IIII", tag, 6, len(data), 1)
        data += text + b"\0"
    data += bytes(-len(data) % 4)
    for tag, number in ((1003, 3), (1116, 0)):
        index += struct.pack(">IIII", tag, 4, len(data), 1)
        data += struct.pack(">I", number)
    for tag, text in ((1117, b"f"), (1118, b"/usr/"), (1035, b"0" * 32)):
        index += struct.pack(">IIII", tag, 8, len(data), 1)
        data += text + b"\0"
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


def _zip(entries: dict[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return packed.getvalue()


def _bdb(blob: bytes) -> bytes:
    """Three pages of Berkeley DB: the table's own, one of pairs, and the one that the header lies on."""
    head = struct.pack("<8sIII4xI4xI", bytes(8), 0, 0x061561, 9, 512, 0).ljust(72, b"\0")
    head = head[:20] + struct.pack("<IBBBBII", 512, 0, 8, 0, 0, 0, 2) + bytes(36)
    value = struct.pack("<BxxxII", 3, 2, len(blob))
    key = b"\1" + struct.pack("<I", 1)
    places = struct.pack("<HH", 512 - len(key), 512 - len(key) - len(value))
    pairs = struct.pack("<8sIIIHHBB", bytes(8), 1, 0, 0, 2, 0, 0, 13) + places
    pairs = pairs.ljust(512 - len(key) - len(value), b"\0") + value + key
    over = struct.pack("<8sIIIHHBB", bytes(8), 2, 0, 0, 1, len(blob), 0, 7) + blob
    return head.ljust(512, b"\0") + pairs + over.ljust(512, b"\0")


def _sqlite() -> bytes:
    with sqlite3.connect(":memory:") as made:
        made.execute("pragma page_size = 512")
        made.execute("create table Packages (hnum integer primary key autoincrement, blob blob not null)")
        for size in (0, 600, 2000):
            made.execute("insert into Packages (blob) values (?)", (rpm_header() + bytes(size),))
        return made.serialize()
