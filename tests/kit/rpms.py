"""Databases of rpm in each of its formats, made by rpm itself as far as Debian's can."""

from __future__ import annotations

import sqlite3
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

SPEC = """Name: openssl
Version: 1.1.1k
Release: 7.el8_6
Epoch: 1
Summary: TLS
License: OpenSSL and ASL 2.0
BuildArch: noarch
Source0: openssl.tar
%description
TLS
%package libs
Summary: its libraries
%description libs
its libraries
%package perl
Summary: its scripts
Epoch: 0
%description perl
its scripts
%install
mkdir -p %{buildroot}/usr/lib64/openssl
echo one > %{buildroot}/usr/lib64/libcrypto.so.1.1
echo two > %{buildroot}/usr/lib64/openssl/misc.pl
%files libs
/usr/lib64/libcrypto.so.1.1
%files perl
/usr/lib64/openssl
"""


def build_rpms(folder: Path, *, digests: int = 1) -> list[Path]:
    """``openssl-libs`` and ``openssl-perl``, whose digests of files are MD5, or SHA-256 (8)."""
    (folder / "openssl.spec").write_text(SPEC)
    command = ["rpmbuild", "--quiet", "-bb", "--define", f"_topdir {folder}/top"]
    command += ["--define", f"_binary_filedigest_algorithm {digests}", str(folder / "openssl.spec")]
    subprocess.run(command, check=True, capture_output=True)
    return sorted(folder.glob("top/RPMS/noarch/*.rpm"))


def install(root: Path, *packages: Path) -> Path:
    """Installs below ``root``, or makes a database of nothing there; the folder of its database."""
    root.mkdir(exist_ok=True)
    command = ["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm"]
    command += ["--nodeps", "-i", *map(str, packages)] if packages else ["--initdb"]
    subprocess.run(command, check=True, capture_output=True)
    return root / "var/lib/rpm"


def installed(folder: Path, form: str, *, backend: str = "sqlite") -> list[str]:
    """What rpm itself says of the packages in a database."""
    command = [
        "rpm",
        "--dbpath",
        str(folder),
        "--define",
        f"_db_backend {backend}",
        "-qa",
        "--qf",
        form + "\n",
    ]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    return sorted(listed.stdout.splitlines())


def header(*tags: tuple[int, int, int, bytes]) -> bytes:
    index, data = b"", b""
    for tag, kind, count, value in tags:
        index += struct.pack(">IIII", tag, kind, len(data), count)
        data += value
    return struct.pack(">II", len(tags), len(data)) + index + data


def headers(database: Path) -> list[bytes]:
    """The headers in a database of rpm, through SQLite itself."""
    with sqlite3.connect(database) as opened:
        return [blob for (blob,) in opened.execute("select blob from Packages order by hnum")]


def make_bdb(file: Path, blobs: Iterable[bytes], *, page_size: int = 4096, order: int = 1234) -> None:
    """A hash table of Berkeley DB, loaded by its own program: number of the package, header."""
    lines = [
        "VERSION=3",
        "format=bytevalue",
        "type=hash",
        f"db_pagesize={page_size}",
        f"db_lorder={order}",
        "HEADER=END",
    ]
    endian = "<" if order == 1234 else ">"
    pairs = [(0, struct.pack(endian + "I", 9)), *enumerate(blobs, 1)]
    for number, blob in pairs:
        lines += [" " + struct.pack(endian + "I", number).hex(), " " + blob.hex()]
    lines.append("DATA=END")
    load = ["db5.3_load", "-f", "/dev/stdin", str(file)]
    subprocess.run(load, check=True, input="\n".join(lines) + "\n", text=True)


def make_ndb(blobs: Iterable[bytes]) -> bytes:
    """A Packages.db as rpm's rpmpkg.c writes it; Debian's rpm has no such backend."""
    slots, data = b"", b""
    for number, blob in enumerate(blobs, 1):
        size = len(blob)
        padded = size + -(16 + size + 12) % 16
        slots += struct.pack("<4sIII", b"Slot", number, (4096 + len(data)) // 16, (16 + padded + 12) // 16)
        data += struct.pack("<4sIII", b"BlbS", number, 1, size) + blob.ljust(padded, b"\0")
        data += struct.pack("<II4s", 0, size, b"BlbE")
    slots += struct.pack("<4sIII", b"Slot", 0, 0, 0) * ((4096 - 32 - len(slots)) // 16)
    return struct.pack("<4sIIIIIII", b"RpmP", 0, 1, 1, 9, 0, 0, 0) + slots + data
