"""Images whose contents are known to the last package, made of what registries of packages publish
(``scripts/truth.sh``), and what must be found in each of them, no more and no less."""

from __future__ import annotations

import gzip
import hashlib
import io
import sqlite3
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from tests.kit import planted
from tests.kit.images import (
    OCI_LAYER,
    Image,
    Layer,
    Member,
    fifo,
    file,
    folder,
    make_image,
    make_layer,
    opaque,
    symlink,
    whiteout,
    xattrs,
    zstd,
)
from tests.kit.rpms import build_rpms, install
from tests.kit.toolfolder import tools_folder

SITE = "usr/lib/python3.9/site-packages"
LOG4J = "org.apache.logging.log4j"
RESTRICTED = {"User": "65532:65532", "Healthcheck": {"Test": ["CMD", "/ahoy"]}, "Entrypoint": ["/ahoy"]}
"""Of an image with nothing to say against it."""
Seen = tuple[str, str, str, int | None]
"""Of one thing found: its rule, severity, place, and the layer that deleted it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the table and what is to be found in it.

    ``packages``: name and version of all, or ``None`` where another tool says them, as ``listed`` tells.
    ``known``: vulnerabilities that must be found, by package; ``least``: how many there are of those on the
    records of ``SEATRIAL_TEST_ADVISORIES``; packages that neither names must have none. ``found``: all else
    that is found, but for what has the severity ``info``; ``secrets``: what nobody may see.
    """

    number: str
    title: str
    image: Image
    packages: frozenset[tuple[str, str]] | None
    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)
    found: frozenset[Seen] = frozenset()
    listed: str = ""
    secrets: tuple[str, ...] = ()


def fetched() -> Path:
    """What ``scripts/truth.sh`` has fetched and built."""
    return tools_folder() / "truth-2"


def debian() -> Layer:
    """A minimal Debian 12 with Python, as its own packages make it."""
    (packed,) = tools_folder().glob("debian-12-bare-*.tar.zst")
    whole = hashlib.sha256()
    with zstd.open(packed) as stream:
        while piece := stream.read(1 << 20):
            whole.update(piece)
    return Layer(packed.read_bytes(), f"{OCI_LAYER}+zstd", f"sha256:{whole.hexdigest()}")


def dpkg_status() -> str:
    """What dpkg wrote in that layer."""
    (packed,) = tools_folder().glob("debian-12-bare-*.tar.zst")
    with zstd.open(packed) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.name == "./var/lib/dpkg/status":
                opened = tar.extractfile(member)
                assert opened is not None
                return opened.read().decode()
    raise AssertionError("it has no status")


DPKG = "as dpkg-query lists them"
GO = "as `go version -m` lists them"
DISTROLESS = ("base-files", "libssl3", "netbase", "tzdata")
"""Packages that Debian has published, as ``scripts/truth.sh`` has fetched them."""
ROOT: Seen = ("ST-USER-ROOT", "medium", "user", None)


def rows(folder_: Path) -> Iterator[Row]:
    """The table, made in a folder of one's own. The rows of Debian share their first layer."""
    base, status = debian(), dpkg_status()
    yield Row("1", "a new Debian", make_image(base), None, found=frozenset({ROOT}), listed=DPKG)
    old = (
        "Package: libexpat1-dev\nSource: expat\nVersion: 2.5.0-1+deb12u1\n",
        "Package: libssl-dev\nSource: openssl (3.0.17-1~deb12u2)\nVersion: 3.0.17-1~deb12u2+b1\n",
    )
    stanzas = "\n".join(f"{one}Status: install ok installed\nArchitecture: amd64\n" for one in old)
    yield Row(
        "2",
        "a Debian with two old packages",
        make_image(base, make_layer(file("var/lib/dpkg/status", f"{status}\n{stanzas}".encode()))),
        None,
        known={
            "libexpat1-dev": frozenset({"CVE-2024-50602", "CVE-2024-8176", "CVE-2024-28757"}),
            "libssl-dev": frozenset({"CVE-2025-9230"}),
        },
        least={"libexpat1-dev": 30, "libssl-dev": 37},
        found=frozenset({ROOT}),
        listed=f"{DPKG}, and the two",
    )
    yield from _distroless()
    yield _alpine()
    yield from _rpm(folder_)
    yield _python()
    yield _npm()
    yield Row(
        "8",
        "a stripped Go program with an old module",
        make_image(make_layer(file("ahoy", (fetched() / "old").read_bytes(), 0o755)), config=RESTRICTED),
        None,
        known={"golang.org/x/text": frozenset({"CVE-2021-38561", "CVE-2022-32149", "CVE-2026-56852"})},
        least={"golang.org/x/text": 3},
        listed=GO,
    )
    yield Row(
        "9",
        "a Rust program that says what it is made of, with an old crate",
        make_image(
            make_layer(file("ahoy", (fetched() / "auditable").read_bytes(), 0o755)), config=RESTRICTED
        ),
        frozenset({("berth", "0.3.1"), ("smallvec", "1.6.0")}),
        known={"smallvec": frozenset({"CVE-2021-25900"})},
    )
    yield _java()
    yield _malware()
    yield _deleted()
    yield _configured()
    yield _misconfigured()
    yield Row(
        "15",
        "a Go program with nothing to say against it",
        make_image(
            make_layer(file("ahoy", (fetched() / "clean").read_bytes(), 0o755)),
            config=RESTRICTED,
        ),
        None,
        listed=GO,
    )
    yield Row(
        "16",
        "Debian's own package of a Python package",
        make_image(base, _unpacked(folder_, status)),
        None,
        found=frozenset({ROOT}),
        listed=f"{DPKG}, and urllib3 as what python3-urllib3 brought",
    )


def control(name: str) -> str:
    """The stanza of a package that Debian has published, as dpkg reads it."""
    (package,) = (fetched() / "deb").glob(f"{name}_*.deb")
    asked = ["dpkg-deb", "--field", package]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


def _sums(name: str) -> bytes:
    (package,) = (fetched() / "deb").glob(f"{name}_*.deb")
    asked = ["dpkg-deb", "--ctrl-tarfile", package]
    packed = subprocess.run(asked, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        opened = tar.extractfile("./md5sums")
        assert opened is not None
        return opened.read()


def _distroless() -> Iterator[Row]:
    """As Google's distroless images have it: a file for each package and no database. Once with the folder of
    these behind a link that another layer has. Somebody put a shell in."""
    old = "Package: libexpat1\nSource: expat\nVersion: 2.5.0-1+deb12u1\nArchitecture: amd64\n"
    stanzas = {name: control(name).encode() for name in DISTROLESS} | {"libexpat1": old.encode()}
    sums = {f"{name}.md5sums": _sums(name) for name in DISTROLESS}
    system = file("etc/os-release", b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Distroless"\n')
    for letter, title, place, links in (
        ("a", "what distroless has of Debian", "var/lib/dpkg/status.d", ()),
        ("b", "the same behind a link of another layer", "usr/share/pkgs",
         (symlink("var/lib/dpkg/status.d", "../../../usr/share/pkgs"),)),
    ):  # fmt: skip
        files = [file(f"{place}/{name}", data) for name, data in sorted((stanzas | sums).items())]
        layers = (make_layer(system, *files), make_layer(*links, file("busybox/sh", b"\x7fELF", 0o755)))
        yield Row(
            f"3{letter}",
            title,
            make_image(*layers, config=RESTRICTED),
            None,
            known={"libexpat1": frozenset({"CVE-2024-50602", "CVE-2024-8176", "CVE-2024-28757"})},
            least={"libexpat1": 30},
            found=frozenset({("ST-SHELL-IN-DISTROLESS", "low", "busybox/sh", None)}),
            listed="as `dpkg-deb` says of each, and libexpat1 2.5.0-1+deb12u1",
        )


ALPINE = """\
P:libcrypto3
V:3.1.1-r1
A:x86_64
L:Apache-2.0
o:openssl
F:lib
R:libcrypto.so.3
Z:Q1qbwsFQbhlsVPfXgTmgBlYqVZLdQ=

P:musl
V:1.2.4-r0
A:x86_64
L:MIT
o:musl
F:lib
R:ld-musl-x86_64.so.1

P:ssl_client
V:1.36.1-r0
A:x86_64
L:GPL-2.0-only
o:busybox

P:zlib
V:1.2.13-r1
A:x86_64
L:Zlib
o:zlib
"""
SECDB = {
    "distroversion": "v3.18",
    "reponame": "main",
    "packages": [
        {
            "pkg": {
                "name": "openssl",
                "secfixes": {
                    "3.1.1-r0": ["CVE-2023-2650"],
                    "3.1.1-r2": ["CVE-2023-2975"],
                    "3.1.1-r3": ["CVE-2023-3446"],
                    "3.1.2-r0": ["CVE-2023-3817"],
                },
            }
        },
        {"pkg": {"name": "zlib", "secfixes": {"0": ["CVE-2023-6992"], "1.2.12-r2": ["CVE-2022-37434"]}}},
        {"pkg": {"name": "busybox", "secfixes": {"1.35.0-r17": ["CVE-2022-30065"]}}},
    ],
}
"""What Alpine says of these packages of that release, in its own format."""


def _alpine() -> Row:
    members = (
        file("etc/os-release", b'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.18.2\n'),
        file("lib/apk/db/installed", ALPINE.encode()),
    )
    return Row(
        "4",
        "a database of Alpine's packages",
        make_image(make_layer(*members), config=RESTRICTED),
        frozenset(
            {
                ("libcrypto3", "3.1.1-r1"),
                ("musl", "1.2.4-r0"),
                ("ssl_client", "1.36.1-r0"),
                ("zlib", "1.2.13-r1"),
            }
        ),
        known={"libcrypto3": frozenset({"CVE-2023-2975", "CVE-2023-3446", "CVE-2023-3817"})},
    )


def _certificate(days: int) -> bytes:
    """Of a server, and valid for so many days from now on."""
    key, end = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) + timedelta(days=days)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "berth.internal")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    return made.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM)


def _misconfigured() -> Row:
    """One of each that can be wrong with how an image is made, and what only looks like it."""
    own = b"\x7fELF of a distribution"
    stanza = b"Package: berth\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\n"
    members = (
        file("etc/passwd", b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n", 0o666),
        file("etc/shadow", b"root:*:1::::::\ntoor:!:1::::::\nweb::1::::::\nold:$1$ab$cd:1::::::\n", 0o640),
        file("etc/sudoers", b"web ALL=(ALL) NOPASSWD: ALL\nroot ALL=(ALL) ALL\n", 0o440),
        file("etc/ld.so.preload", b"/usr/lib/own.so\n"),
        file("etc/ssh/ssh_host_ed25519_key", b"made when it starts\n", 0o600),
        file("etc/ssh/ssh_host_ed25519_key.pub", b"ssh-ed25519 AAAA a\n"),
        file("root/.ssh/authorized_keys", b"ssh-ed25519 AAAA a\n", 0o600),
        file("usr/bin/own", b"\x7fELF", 0o4755),
        file("usr/bin/capable", b"\x7fELF", 0o755, pax=xattrs(security__capability="\x01")),
        file("usr/bin/sudo", b"\x7fELF", 0o755),
        file("usr/sbin/sshd", b"\x7fELF", 0o755),
        file("srv/open", b"open", 0o666),
        folder("srv/drop", 0o777),
        fifo("srv/pipe"),
        file("srv/tls/over.pem", _certificate(-1)),
        file("srv/tls/soon.pem", _certificate(10)),
        file("srv/tls/good.pem", _certificate(80)),
        file("app/.git/HEAD", b"ref: refs/heads/main\n"),
        file("start", b"#!/bin/sh\n", 0o757),
        # As it should be: a folder that all write to, and what a distribution's package brought so.
        folder("tmp", 0o1777),
        file("usr/bin/passwd", own, 0o4755),
        file("var/lib/dpkg/status", stanza),
        file(
            "var/lib/dpkg/info/berth.md5sums",
            f"{hashlib.md5(own, usedforsecurity=False).hexdigest()}  usr/bin/passwd\n".encode(),
        ),
        file("var/lib/apt/lists/deb.debian.org_dists_bookworm_InRelease", b"Origin: Debian\n"),
    )
    config = {
        "User": "app",
        "Env": ["PATH=/usr/bin", "ADMIN_PASSWORD=tr0ub4dor", "API_TOKEN=${TOKEN}"],
        "ExposedPorts": {"22/tcp": {}, "8080/tcp": {}},
        "Entrypoint": ["/start"],
    }
    history = [
        {"created_by": "ADD https://files.internal/tool /usr/bin/ # buildkit"},
        {"created_by": "RUN /bin/sh -c curl -fsSL https://files.internal/setup | sh -", "empty_layer": True},
        {"created_by": "ADD --checksum=sha256:00 https://files.internal/x /", "empty_layer": True},
    ]
    wrong = """
    critical ST-ACCOUNTS-WRITABLE      etc/passwd
    high     ST-SECOND-ROOT            etc/passwd
    medium   ST-USER-UNKNOWN           etc/passwd
    critical ST-EMPTY-PASSWORD         etc/shadow
    high     ST-PASSWORD-SET           etc/shadow
    medium   ST-SUDO-WITHOUT-PASSWORD  etc/sudoers
    high     ST-LIBRARY-PRELOAD        etc/ld.so.preload
    high     ST-SSH-HOST-KEY           etc/ssh/ssh_host_ed25519_key
    medium   ST-AUTHORIZED-KEYS        root/.ssh/authorized_keys
    high     ST-SETUID                 usr/bin/own
    medium   ST-FILE-CAPABILITIES      usr/bin/capable
    low      ST-SUDO                   usr/bin/sudo
    medium   ST-REMOTE-LOGIN           usr/sbin/sshd
    medium   ST-WORLD-WRITABLE-FILE    srv/open
    medium   ST-WORLD-WRITABLE-FOLDER  srv/drop
    low      ST-SPECIAL-FILE           srv/pipe
    medium   ST-CERTIFICATE-EXPIRED    srv/tls/over.pem
    low      ST-CERTIFICATE-EXPIRES    srv/tls/soon.pem
    medium   ST-GIT-FOLDER             app/.git/HEAD
    medium   ST-WORLD-WRITABLE-FILE    start
    high     ST-WRITABLE-ENTRYPOINT    start
    medium   ST-ENV-SECRET             env ADMIN_PASSWORD
    medium   ST-EXPOSES-REMOTE-LOGIN   port 22/tcp
    low      ST-ADD-REMOTE             history 0
    medium   ST-PIPE-TO-SHELL          history 1
    """
    lines = (line.split(maxsplit=2) for line in wrong.strip().splitlines())
    return Row(
        "14",
        "what is wrong with how an image is made, one of each, and what only looks like it",
        make_image(make_layer(*members), config=config, document={"history": history}),
        frozenset({("berth", "1.0")}),
        found=frozenset((rule, severity, where.strip(), None) for severity, rule, where in lines),
    )


def _rpm(folder_: Path) -> Iterator[Row]:
    """A database of rpm whose package is in its log only, and one of that mode without a log."""
    package = next(one for one in build_rpms(folder_) if "openssl-libs" in one.name)
    made = install(folder_ / "rpm")
    with closing(sqlite3.connect(made / "rpmdb.sqlite", isolation_level=None)) as reader:
        # Who reads meanwhile keeps the log from being taken into the database.
        reader.execute("begin")
        assert reader.execute("select count(*) from Packages").fetchone() == (0,)
        install(folder_ / "rpm", package)
        logged = {one.name: one.read_bytes() for one in made.iterdir() if one.name.startswith("rpmdb.")}
    assert logged["rpmdb.sqlite-wal"]
    alone = (install(folder_ / "alone", package) / "rpmdb.sqlite").read_bytes()
    assert alone[18:20] == b"\2\2", "it is of the mode that has a log"
    release = file("etc/os-release", b'ID=rocky\nVERSION_ID="8.9"\nPRETTY_NAME="Rocky Linux 8.9"\n')
    for letter, title, files in (
        ("a", "a database of rpm whose package is in its log", logged),
        ("b", "a database of rpm that could have a log, without one", {"rpmdb.sqlite": alone}),
    ):
        members = [file(f"var/lib/rpm/{name}", data) for name, data in sorted(files.items())]
        yield Row(
            f"5{letter}",
            title,
            make_image(make_layer(release, *members), config=RESTRICTED),
            frozenset({("openssl-libs", "1:1.1.1k-7.el8_6")}),
            known={"openssl-libs": frozenset({"TEST-2026-0001"})},
        )


def _python() -> Row:
    members = []
    for wheel in sorted((fetched() / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as opened:
            members += [
                file(f"{SITE}/{name}", opened.read(name))
                for name in opened.namelist()
                if not name.endswith("/")
            ]
    wheels = "Jinja2 2.10, requests 2.19.0, urllib3 1.24.1, cryptography 3.2, Django 3.2, Pillow 8.0.0"
    found = [tuple(one.split()) for one in wheels.split(", ")]
    return Row(
        "6",
        "Python's packages as they are published",
        make_image(make_layer(*members), config=RESTRICTED),
        frozenset((name, version) for name, version in [*found, ("PyYAML", "5.4.1")]),
        known={
            "Jinja2": frozenset({"CVE-2019-10906", "CVE-2020-28493"}),
            "requests": frozenset({"CVE-2018-18074", "CVE-2023-32681"}),
            "urllib3": frozenset({"CVE-2019-11324", "CVE-2023-45803"}),
            "cryptography": frozenset(
                {"CVE-2020-25659", "CVE-2020-36242", "CVE-2023-23931", "CVE-2023-49083"}
            ),
            "Django": frozenset({"CVE-2021-45115"}),
            "Pillow": frozenset({"CVE-2022-22817"}),
        },
        least={
            "Jinja2": 2, "requests": 2, "urllib3": 7, "cryptography": 4, "Django": 25, "Pillow": 26,
        },
    )  # fmt: skip


def _npm() -> Row:
    members = []
    for name in ("lodash-4.17.15", "jquery-1.12.4"):
        with tarfile.open(fetched() / f"npm/{name}.tgz") as tar:
            for member in tar:
                opened = tar.extractfile(member)
                assert opened is not None
                inside = member.name.partition("/")[2]
                members.append(file(f"app/node_modules/{name.partition('-')[0]}/{inside}", opened.read()))
    return Row(
        "7",
        "npm's packages as they are published",
        make_image(make_layer(*members), config=RESTRICTED),
        frozenset({("lodash", "4.17.15"), ("jquery", "1.12.4")}),
        known={
            "lodash": frozenset({"CVE-2020-8203", "CVE-2021-23337", "CVE-2020-28500"}),
            "jquery": frozenset({"CVE-2015-9251", "CVE-2019-11358", "CVE-2020-11022", "CVE-2020-11023"}),
        },
    )


def _zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, data)
    return out.getvalue()


def _java() -> Row:
    core, api = ((fetched() / f"java/{name}-2.14.1.jar").read_bytes() for name in ("log4j-core", "log4j-api"))
    assert hashlib.sha1(core).hexdigest().startswith("9141212b")
    nested = _zipped("app.war", _zipped("WEB-INF/lib/log4j-core-2.14.1.jar", core))
    members = (
        file("opt/log4j-core-2.14.1.jar", core),
        file("opt/log4j-api-2.14.1.jar", api),
        file("srv/delivery.zip", nested),
    )
    return Row(
        "10",
        "log4j, once plain and once three archives deep",
        make_image(make_layer(*members), config=RESTRICTED),
        None,
        known={f"{LOG4J}:log4j-core": frozenset({"CVE-2021-44228", "CVE-2021-45046"})},
        listed="log4j-core 2.14.1 at both places, log4j-api 2.14.1",
    )


def _malware() -> Row:
    members = (
        file("usr/bin/eicar.com", planted.eicar().encode(), 0o755),
        file("srv/eicar.gz", gzip.compress(planted.eicar().encode())),
        file("opt/run.sh", f"#!/bin/bash\n{planted.bash_shell()}\n".encode(), 0o755),
        file("etc/pool.conf", ("url = stratum" + "+tcp://pool.internal:3333\n").encode()),
    )
    found = {
        ("ST-MALWARE-EICAR", "critical", "usr/bin/eicar.com", None),
        ("ST-MALWARE-EICAR", "critical", "srv/eicar.gz!/eicar", None),
        ("ST-MALWARE-REVERSE-SHELL-BASH", "critical", "opt/run.sh", None),
        ("ST-MALWARE-MINER-POOL", "high", "etc/pool.conf", None),
    }
    image = make_image(make_layer(*members), config=RESTRICTED)
    return Row("11", "malware, plain and packed", image, frozenset(), found=frozenset(found))


def _deleted() -> Row:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    token = planted.token("ghp_")
    layers = (
        make_layer(
            folder("root", 0o700),
            file("root/.ssh/id_rsa", key, 0o600),
            file("opt/secret/settings", f"token = {token}\n".encode()),
        ),
        make_layer(whiteout("root/.ssh/id_rsa")),
        make_layer(folder("opt/secret"), opaque("opt/secret")),
    )
    found = {
        ("ST-SECRET-PRIVATE-KEY", "high", "root/.ssh/id_rsa", 1),
        ("ST-SECRET-GITHUB-TOKEN", "critical", "opt/secret/settings", 2),
    }
    return Row(
        "12",
        "secrets that later layers delete",
        make_image(*layers, config=RESTRICTED),
        frozenset(),
        found=frozenset(found),
        secrets=(token, *key.decode().splitlines()[1:3]),
    )


def _configured() -> Row:
    token, password = planted.token("ghp_", seed=2), planted.made(planted.BASE62, 20, 3)
    key, npm = "AK" + "IA" + planted.made(planted.UPPER, 16), planted.token("npm_")
    history = [
        {"created_by": "FROM scratch"},
        {"created_by": f"ARG GITHUB_TOKEN={token}", "empty_layer": True},
    ]
    config = RESTRICTED | {
        "Env": [
            "PATH=/usr/bin",
            f"AWS_ACCESS_KEY_ID={key}",
            "AWS_EXAMPLE=" + "AKIAIOSFODNN7" + "EXAMPLE",
            "DB_PASSWORD=${PASSWORD}",
        ],
        "Labels": {"org.example.db": f"postgres://u:{password}@h/db"},
    }
    docs = (
        b"=item agent\n  my $http = HTTP::Tiny->new( proxy => 'http://user:password@proxy.example.com' );\n"
    )
    layer = make_layer(
        file("srv/app/.npmrc", f"//registry.internal/:_authToken={npm}\n".encode()),
        file("usr/share/perl/5.36/HTTP/Tiny.pm", docs),
    )
    found = {
        ("ST-SECRET-AWS-ACCESS-KEY-ID", "high", "env AWS_ACCESS_KEY_ID", None),
        ("ST-SECRET-GITHUB-TOKEN", "critical", "history 1", None),
        ("ST-SECRET-DATABASE-URL", "high", "label org.example.db", None),
        ("ST-SECRET-NPM-TOKEN", "critical", "srv/app/.npmrc", None),
    }
    return Row(
        "13",
        "secrets in the configuration, and what only looks like some",
        make_image(layer, config=config, document={"history": history}),
        frozenset(),
        found=frozenset(found),
        secrets=(token, password, key, npm),
    )


def _unpacked(folder_: Path, status: str) -> Layer:
    """What dpkg itself makes of one more package."""
    root = folder_ / "dpkg"
    database = root / "var/lib/dpkg"
    for one in ("info", "updates", "triggers"):
        (database / one).mkdir(parents=True)
    (database / "status").write_text(status)
    (package,) = (fetched() / "deb").glob("python3-urllib3_*.deb")
    command = ["dpkg", f"--root={root}", "--force-depends", "--force-not-root", "--unpack", package]
    subprocess.run(command, check=True, capture_output=True)
    (database / "status-old").unlink(missing_ok=True)
    return make_layer(*_members(root))


def _members(root: Path) -> Iterable[Member]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield file(str(path.relative_to(root)), path.read_bytes(), path.stat().st_mode & 0o7777)
