"""Packages of apk, as Alpine's database writes them."""

from __future__ import annotations

import base64
import hashlib
import io

from sandbox.scanners.content.digests import digests_of
from sandbox.scanners.facts import FoundPackage, Owned
from tests.kit.looking import look, wanting

INSTALLED = b"""C:Q1/se1PjO94hYXbfpNR1/61hVORIc=
P:ssl_client
V:1.36.1-r29
A:x86_64
S:4690
I:28672
T:External ssl_client for busybox wget
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:Natanael Copa <ncopa@alpinelinux.org>
t:1718021594
c:1747287fd3e9bc2e5d47a4bc5bbf8a3a8b1a7c51
D:so:libc.musl-x86_64.so.1 so:libcrypto.so.3
F:usr
F:usr/bin
R:ssl_client
a:0:0:755
Z:Q1kO8Aln5Pf/wzVfZ4bqRIuJHVCHM=

C:Q1hsKbvBLIXIvdMu+dMB1o5ojD0BY=
P:musl
V:1.2.5-r0
A:x86_64
L:MIT
o:musl
F:lib
R:ld-musl-x86_64.so.1
F:
R:.dot
"""


def test_packages_have_origin_licence_and_files() -> None:
    facts = look("lib/apk/db/installed", INSTALLED)
    assert facts.packages == (
        FoundPackage("apk", "ssl_client", "1.36.1-r29", "x86_64", "busybox", licences=("GPL-2.0-only",)),
        FoundPackage("apk", "musl", "1.2.5-r0", "x86_64", licences=("MIT",)),
    )
    assert facts.owned == (
        Owned("usr/bin/ssl_client", "ssl_client", "90ef00967e4f7ffc3355f6786ea448b8"),
        Owned("lib/ld-musl-x86_64.so.1", "musl"),
        Owned(".dot", "musl"),
    )
    assert facts.incomplete == ()


def test_both_places_of_the_database_and_nothing_beside_it() -> None:
    assert wanting("lib/apk/db/installed") == wanting("usr/lib/apk/db/installed") == ["apk"]
    assert wanting("lib/apk/db/scripts.tar") == wanting("home/lib/apk/db/installed") == []


def test_what_it_states_of_a_file_is_what_the_file_says_of_itself() -> None:
    content = b"#!/bin/sh\n"
    sha1, sha256 = (
        base64.b64encode(hashlib.new(name, content).digest()).decode() for name in ("sha1", "sha256")
    )
    md5 = hashlib.md5(content).hexdigest()
    said = "P:x\nV:1-r0\nF:bin\n" + "".join(
        f"R:{name}\na:0:0:4111\nZ:{checksum}\n"
        for name, checksum in {
            "a": f"Q1{sha1}", "b": f"Q2{sha256}", "c": md5,
            "d": "Q1*", "e": f"Q1{sha1[:-1]}", "f": f"Q9{sha1}",
        }.items()
    )  # fmt: skip
    facts = look("lib/apk/db/installed", f"{said}R:last\n".encode())
    assert facts.incomplete == ()
    stated = {one.path: one.digest for one in facts.owned}
    known = set(digests_of(io.BytesIO(content)))
    assert {path: digest in known for path, digest in stated.items()} == {
        "bin/a": True, "bin/b": True, "bin/c": True,
        "bin/d": False, "bin/e": False, "bin/f": False, "bin/last": False,
    }  # fmt: skip
    assert {stated["bin/d"], stated["bin/e"], stated["bin/f"], stated["bin/last"]} == {""}


def test_a_path_that_is_not_utf_8_stays_what_it_is() -> None:
    facts = look("lib/apk/db/installed", b"P:odd\nV:1-r0\nF:etc\nR:caf\xe9\n")
    assert facts.owned == (Owned("etc/caf\udce9", "odd"),)
