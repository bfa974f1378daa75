"""All that reads what strangers have written about images and packages, each with documents that it
understands and what it may refuse them with. Whatever else it raises is a fault, and so is not to end.

What readers of packages are handed stands in :mod:`tests.kit.mutating`; here is the rest.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import cast, get_args

from registry.advisories.building import build
from registry.advisories.file import open_advisories
from registry.advisories.importing import Given, source_of
from registry.advisories.licences import parse_licences
from registry.advisories.matching import match
from registry.advisories.ranges import parse_range
from registry.advisories.report import report
from registry.advisories.severity import score_of_vector
from registry.advisories.versions import ORDERS, VersionInvalidError, key_of
from registry.contract.otherscanner import ReportFormat
from registry.contract.scan import PackageKind, Scan
from registry.errors import NotFoundError, RequestInvalidError, UnavailableError
from registry.formats.forms import FORMS
from registry.formats.reading import parse_document
from registry.formats.vex import read_vex
from sandbox.scanners.content.accounts import Accounts
from sandbox.scanners.content.certificates import Certificates
from sandbox.scanners.content.config import config_things
from sandbox.scanners.content.engine import Engine, compile_rules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import IncompleteError, Module
from sandbox.scanners.lines import LineFile, LineWriter
from sandbox.scanners.merge import merge
from sandbox.scanners.others.reading import read_said
from sandbox.scanners.others.said import ReportInvalidError
from sandbox.scanners.packages import MODULES
from tests.kit.advisories import AS_OF, CVSS2, CVSS3, CVSS4, Thing, affects, incoming, record
from tests.kit.looking import entry
from tests.kit.mutating import seeds

DIGEST = "sha256:" + "1" * 64
PACKAGE = {"kind": "npm", "ecosystem": "npm", "name": "a", "version": "1.0.0", "path": "p", "layer": 0}
SCAN = Scan.model_validate(
    {
        "lease": "", "scanner": "s", "digest": DIGEST, "platform": "linux/amd64",
        "layers": [{"diff_id": DIGEST}], "packages": [PACKAGE],
    },
    strict=False,
)  # fmt: skip
Read = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes; ``refuses`` are the errors that it is said to raise."""

    name: str
    seeds: tuple[bytes, ...]
    read: Read
    refuses: tuple[type[Exception], ...] = ()

    def run(self, data: bytes) -> bool:
        """Whether it took them. Raises what is a fault."""
        try:
            self.read(data)
        except self.refuses:
            return False
        return True


def targets() -> Iterator[Target]:
    """All but the readers of packages."""
    yield from _content()
    yield from _others()
    yield from _advisories()
    yield from _documents()
    yield from _words()


def target_of(name: str) -> Target:
    """A target by its name, or a reader of packages by the path of a file that it wants."""
    mine = [seed for seed in seeds() if seed.path == name]
    if mine:
        return Target(name, tuple(seed.data for seed in mine), mine[0].look)
    return next(one for one in targets() if one.name == name)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _look(module: Callable[[], Module], path: str) -> Read:
    def look(data: bytes) -> object:
        seen = entry(path, max(len(data), 1))
        return module().look(seen, io.BytesIO(data))

    return look


@cache
def _search() -> ContentSearch:
    rules = compile_rules()
    return ContentSearch(Engine(rules), rules.digest)


def _config(data: bytes) -> object:
    """As a configuration comes: an object of JSON."""
    try:
        config = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return config_things(config, _search()) if isinstance(config, dict) else None


def _content() -> Iterator[Target]:
    refuses = (IncompleteError,)
    for path, seed in (
        ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\ntoor::0:0::/:\n"),
        ("etc/shadow", b"root:*:19000:0:99999:7:::\nset:$y$j9T$ab$cd:1::::::\n"),
        ("etc/sudoers", b"web ALL=(ALL:ALL) NOPASSWD: ALL\n"),
    ):
        yield Target(path, (seed,), _look(Accounts, path), refuses)
    der = base64.b64decode(_CERTIFICATE)
    pem = b"-----BEGIN CERTIFICATE-----\n" + _CERTIFICATE + b"\n-----END CERTIFICATE-----\n"
    yield Target("srv/a.pem", (pem, der), _look(Certificates, "srv/a.pem"), refuses)
    text = b"password = q7Tz9kLw2mPf\n" + b"ghp" + b"_0123456789abcdefghijABCDEFGHIJ012345\n"
    packed = (_zip({"a/b.txt": text}), _tar({"a": text}), gzip.compress(_tar({"a": text})), text)
    packed += (bz2.compress(text), lzma.compress(text), gzip.compress(text))
    yield Target("srv/searched", packed, _look(_search, "srv/searched"), refuses)
    config = {
        "config": {
            "User": "a",
            "Env": ["A_TOKEN=x"],
            "Labels": {"a": "b"},
            "ExposedPorts": {"22/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "a"]},
        },
        "history": [{"created_by": "ADD https://a b"}],
    }
    yield Target("configuration", (_json(config),), _config)
    out = io.BytesIO()
    writer = LineWriter(out, 1 << 20)
    for module, path, seed_data in (("dpkg", "var/lib/dpkg/status", next(seeds()).data),):
        (reader,) = (one for one in MODULES if one.name == module)
        writer.facts(path, module, reader.look(entry(path), io.BytesIO(seed_data)), name=path)
    writer.line(gone="a")
    writer.line(opaque="b")
    writer.line(link="lib", to="usr/lib", wanted=["dpkg"])
    writer.line(hard="c", to="var/lib/dpkg/status")
    writer.line(incomplete="why", module="rpm", path="d")
    writer.end(bytearray(16), bytearray(32), diff_id=DIGEST, lasting=True, dropped=0, incomplete=1)
    # The child that wrote them has read hostile bytes.
    yield Target("lines of a layer", (out.getvalue(),), _lines)


def _lines(data: bytes) -> object:
    file = LineFile(io.BytesIO(data))
    return merge([file, file], MODULES)


def _others() -> Iterator[Target]:
    vulnerability = {
        "VulnerabilityID": "CVE-2026-1", "PkgName": "a", "InstalledVersion": "1", "FixedVersion": "2",
        "Severity": "HIGH", "CVSS": {"nvd": {"V3Score": 7.5}}, "Layer": {"DiffID": DIGEST},
    }  # fmt: skip
    secret = {"RuleID": "r", "Severity": "LOW", "Title": "t", "StartLine": 1, "Match": "***"}
    result = {"Target": "a", "Type": "debian", "Vulnerabilities": [vulnerability], "Secrets": [secret]}
    result["Misconfigurations"] = [{"ID": "DS001", "Severity": "LOW", "Title": "t", "Status": "FAIL"}]
    rule = {"id": "R1", "shortDescription": {"text": "t"}, "properties": {"security-severity": "7.0"}}
    place = {"physicalLocation": {"artifactLocation": {"uri": "a"}, "region": {"startLine": 3}}}
    told = {"ruleId": "R1", "ruleIndex": 0, "level": "error", "message": {"text": "m"}, "locations": [place]}
    run = {"tool": {"driver": {"name": "s", "rules": [rule]}}, "results": [told]}
    sarif = {"version": "2.1.0", "runs": [run]}
    cyclonedx = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "components": [
            {"bom-ref": "a", "type": "library", "name": "a", "version": "1", "purl": "pkg:npm/a@1"}
        ],
        "vulnerabilities": [
            {
                "id": "CVE-2026-1",
                "ratings": [{"severity": "high", "score": 7.5, "method": "CVSSv31"}],
                "affects": [{"ref": "a"}],
            }
        ],
    }
    own = {"scanner": "s 1", "digest": DIGEST, "packages": [PACKAGE], "reported": [], "found": []}
    documents = {
        "seatrial": own,
        "trivy": {"SchemaVersion": 2, "Results": [result]},
        "sarif": sarif,
        "cyclonedx": cyclonedx,
    }
    assert documents.keys() == set(get_args(ReportFormat))
    for form, document in documents.items():

        def read(data: bytes, form: str = form) -> object:
            return read_said(data, cast("ReportFormat", form), SCAN)

        yield Target(f"report of {form}", (_json(document),), read, (ReportInvalidError,))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def _imported(name: str) -> Read:
    def read(data: bytes) -> object:
        path = Path(_folder().name) / name
        path.write_bytes(data)
        return [*source_of(Given(path), lambda _: None).items]

    return read


def _advisories() -> Iterator[Target]:
    osv = record(
        "GHSA-aaaa-bbbb-cccc",
        affects("npm", "a", "introduced=0", "fixed=1.2.3", versions=["1.0.0"]),
        affects("Red Hat:enterprise_linux:9::baseos", "b", "introduced=0", "last_affected=1:2-3"),
        aliases=["CVE-2026-1"],
        severity=[{"type": "CVSS_V3", "score": CVSS3}],
        published="2026-01-01T00:00:00Z",
        summary="Important: s",
    )
    tracker = {"a": {"CVE-2026-1": {"description": "d", "releases": {"bookworm": {
        "status": "resolved", "fixed_version": "1-2", "urgency": "low"}}}}}  # fmt: skip
    secdb = {
        "distroversion": "v3.18",
        "packages": [{"pkg": {"name": "a", "secfixes": {"1-r1": ["CVE-2026-1"]}}}],
    }
    exploited = {"cveID": "CVE-2026-1", "dateAdded": "2026-01-01", "dueDate": "2026-02-01"}
    kev = {"title": "CISA", "catalogVersion": "2026.11.24", "vulnerabilities": [exploited]}
    epss = (
        b"#model_version:v1,score_date:2026-11-24T00:00:00+0000\ncve,epss,percentile\nCVE-2026-0001,0.5,0.9\n"
    )
    changelog = b"a (1-2) bookworm-security; urgency=high\n\n  * Fix CVE-2026-0001.\n\n -- A <a@b>  Mon\n"
    log = {"./usr/share/doc/a/changelog.Debian.gz": gzip.compress(changelog)}
    deb = _ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar": _tar({"./control": b"Package: a\n"}),
            "data.tar": _tar(log),
        }
    )
    zipped, tarred = _zip({"a.json": _json(osv)}), _tar({"a.json": _json(osv)})
    for name, some in (
        ("osv.json", [_json(osv)]),
        ("osv.zip", [zipped]),
        ("osv.tar", [tarred, gzip.compress(tarred), lzma.compress(tarred), bz2.compress(tarred)]),
        ("tracker.json", [_json(tracker)]),
        ("list", [b"[01 Jan 2026] DSA-1-1 a - security update\n\t{CVE-2026-0001}\n\t[bookworm] - a 1-2\n"]),
        ("secdb.json", [_json(secdb)]),
        ("kev.json", [_json(kev)]),
        ("epss.csv", [epss]),
        ("changelog", [changelog]),
        ("a.deb", [deb]),
    ):  # fmt: skip
        yield Target(f"advisories: {name}", tuple(some), _imported(name), (RequestInvalidError,))
    yield Target("file of advisories", (_built(osv),), _opened, (NotFoundError, UnavailableError))


def _built(*records: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.sqlite"
        build(path, [incoming("own", *records, as_of=AS_OF)])
        return path.read_bytes()


def _opened(data: bytes) -> object:
    path = Path(_folder().name) / "a.sqlite"
    path.write_bytes(data)
    with closing(open_advisories(path)) as opened:
        opened.status()
        return match(opened, [Thing("npm", "a", "1.0.0"), Thing("Red Hat:enterprise_linux:9", "b", "1:2-3")])


def _documents() -> Iterator[Target]:
    statement = {
        "vulnerability": {"name": "CVE-2026-1", "aliases": ["GHSA-1"]},
        "products": [{"@id": "pkg:oci/a", "subcomponents": [{"@id": "pkg:npm/a@1.0.0"}]}],
        "status": "not_affected",
        "justification": "component_not_present",
    }
    openvex = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "author": "a",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    analysis = {"state": "not_affected", "justification": "code_not_present"}
    cyclonedx = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "components": [{"bom-ref": "a", "name": "a", "version": "1", "purl": "pkg:npm/a@1.0.0"}],
        "vulnerabilities": [{"id": "CVE-2026-1", "analysis": analysis, "affects": [{"ref": "a"}]}],
    }
    yield Target(
        "statements of VEX",
        (_json({**openvex, "statements": [statement]}), _json(cyclonedx)),
        lambda data: read_vex(data, what="x"),
        (RequestInvalidError,),
    )
    known = report(SCAN, None, scanned_at=datetime(2026, 11, 24, tzinfo=UTC))
    yield Target(
        "report of --format json",
        (FORMS["json"].write(known, "a"),),
        lambda data: parse_document(data, what="x"),
        (RequestInvalidError,),
    )


def _words() -> Iterator[Target]:
    def text(data: bytes) -> str:
        return data.decode("utf-8", "surrogateescape")

    def keys(data: bytes) -> None:
        """In each order; what has keys in one compares in it."""
        one, _, other = text(data).partition("\n")
        for order in ORDERS:
            try:
                a, b = key_of(order, one), key_of(order, other)
            except VersionInvalidError:
                continue
            assert (a < b) + (b < a) + (a == b) == 1, (order, one, other)

    versions = (b"1:2.3-4\n1:2.3~rc1-4", b"1.0.0-rc.1+b\n1.0.0", b"1.2.3_p1-r0\n1.2", b"1.0.post1\n2!1")
    yield Target("versions", versions, keys)
    yield Target(
        "range of versions", (b">=1.0,<2", b"=1:2-3"), lambda data: parse_range(text(data)), (ValueError,)
    )
    vectors = tuple(one.encode() for one in (CVSS2, CVSS3, CVSS4))
    yield Target("vector of CVSS", vectors, lambda data: score_of_vector(text(data)))

    def licences(data: bytes) -> None:
        words = text(data).split("\n")[:20]
        for kind in get_args(PackageKind):
            parse_licences(kind, words)

    yield Target(
        "licences", (b"GPL-2+ or MIT", b"(Apache-2.0 AND BSD-3-Clause) OR x", b"GPL-2+\nExpat"), licences
    )


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return out.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _ar(members: dict[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
        out += head.encode() + data + b"\n" * (len(data) % 2)
    return out


_CERTIFICATE = (
    b"MIIBBDCBq6ADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAWEwHhcNMjYwMTAxMDAwMDAwWhcNMzAwMTAxMDAwMDAw"
    b"WjAMMQowCAYDVQQDDAFhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9FFrzISkUY1WhcOn9jU7Gy86Cim1I7ENG6nreZ7Z"
    b"HIUJk3OqJuUAvapRv8Hyvqkq9qWCgDcMGfkDAeKTZ3UP/jAKBggqhkjOPQQDAgNIADBFAiBaGduGrYY3dx82ykza3thxN3E2"
    b"FwdOFvfPNk+A7MxiJAIhAMn2WYZp6KZJHOoknPR2YijEVIiiteYNdEPWh7wjvfz3"
)
"""Of a server, good until 2030."""
