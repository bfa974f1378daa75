"""What an operator hands over: each kind of container and format, and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from registry.advisories import reading
from registry.advisories.building import build
from registry.advisories.file import Source, open_advisories
from registry.advisories.importing import Given, source_of, spread
from registry.advisories.matching import match
from registry.advisories.values import Advisory
from registry.errors import NotFoundError, RequestInvalidError
from tests.kit.advisories import Thing, affects, record
from tests.kit.zips import nameless

GOOD = json.dumps(record("X-1", affects("npm", "a", "introduced=0"))).encode()
OTHER = json.dumps(record("X-2", affects("npm", "a", "introduced=0"))).encode()


def taken(tmp_path: Path, path: Path, **said: Any) -> Source:
    """The one source that comes of a path."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more

    file = tmp_path / "advisories.sqlite"
    file.unlink(missing_ok=True)
    build(file, [source_of(one, advance) for one in spread(Given(path, **said))])
    assert done <= reading.size_of(path)
    with closing(open_advisories(file)) as advisories:
        (source,) = advisories.status().sources
        return source


def found(tmp_path: Path, ecosystem: str, name: str, version: str) -> list[str]:
    with closing(open_advisories(tmp_path / "advisories.sqlite")) as advisories:
        return [one.id for one in match(advisories, [Thing(ecosystem, name, version)])]


def tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return packed.getvalue()


def zipped(files: Mapping[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


FILES = {"b/X-2.json": OTHER, "X-1.json": GOOD, "README.md": b"# nothing", "broken.json": b'{"id": '}


def test_every_container_gives_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / ".git").mkdir()
    (folder / ".git" / "X-3.json").write_bytes(GOOD.replace(b"X-1", b"X-3"))
    (folder / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo.json")
    packed = tar(FILES)
    for name, content in {
        "own.zip": zipped(FILES),
        "own.tar": packed,
        "own.tar.gz": gzip.compress(packed),
        "own.tar.xz": lzma.compress(packed),
        "own.tar.bz2": bz2.compress(packed),
        "own.tar.zst": zstd.compress(packed),
    }.items():
        (tmp_path / name).write_bytes(content)
    digests = set()
    for name in ("own", "own.zip", "own.tar", "own.tar.gz", "own.tar.xz", "own.tar.bz2", "own.tar.zst"):
        source = taken(tmp_path, tmp_path / name)
        assert (source.name, source.format, source.records) == ("osv:own", "osv", 2), name
        assert source.skipped == (
            ("broken JSON", 1, "broken.json"),
            ("neither JSON nor a changelog", 1, "README.md"),
        )
        assert found(tmp_path, "npm", "a", "1.0.0") == ["X-1", "X-2"]
        digests.add(source.digest)
    assert len(digests) == 1


def test_single_files_are_told_by_what_is_in_them(tmp_path: Path) -> None:
    state = {"status": "open", "urgency": "low"}
    tracker = {"expat": {"CVE-2026-0001": {"releases": {"bookworm": state}}}}
    secdb = {
        "distroversion": "v3.20",
        "packages": [{"pkg": {"name": "expat", "secfixes": {"2.0-r1": ["CVE-2026-0001"]}}}],
    }
    kev = {
        "catalogVersion": "2026.11.24",
        "dateReleased": "2026-11-23T10:00:00.000Z",
        "vulnerabilities": [{"cveID": "CVE-2026-0001", "dateAdded": "2026-11-20", "dueDate": "2026-12-01"}],
    }
    epss = b"#model_version:v1,score_date:2026-11-22T00:00:00+0000\ncve,epss,percentile\n"
    epss += b"CVE-2026-0001,0.5,0.9\n"
    bulletins = b"[25 Nov 2026] DSA-1-1 expat - security update\n"
    bulletins += b"\t{CVE-2026-0001}\n\t[bookworm] - expat 2.0-1\n"
    log = b"expat (2.0-1) bookworm-security; urgency=high\n\n  * CVE-2026-0001\n\n -- A <a@b>  Mon, 1 Jan\n"
    cases = {
        "X-1.json": (GOOD, "osv:X-1", False),
        "many.json": (b"[" + GOOD + b"," + OTHER + b"]", "osv:many", False),
        "json.json": (json.dumps(tracker).encode(), "debian-tracker", False),
        "main.json": (json.dumps(secdb).encode(), "alpine:main", True),
        "known.json": (json.dumps(kev).encode(), "kev", False),
        "epss.csv.gz": (gzip.compress(epss), "epss", False),
        "list": (bulletins, "debian-bulletins:DSA", True),
        "expat.changelog": (log, "changelogs:expat", True),
    }
    (tmp_path / "DSA").mkdir()
    for name, (content, expected, fixed_only) in cases.items():
        path = tmp_path / "DSA" / name
        path.write_bytes(content)
        os.utime(path, (1_750_000_000, 1_750_000_000))
        source = taken(tmp_path, path)
        assert (source.name, source.fixed_only) == (expected, fixed_only), name
        written = datetime.fromtimestamp(1_750_000_000, UTC)
        said = {"kev": datetime(2026, 11, 23, tzinfo=UTC), "epss": datetime(2026, 11, 22, tzinfo=UTC)}
        assert source.as_of == said.get(source.format, written), name
        assert source.origin == str(path)
    assert found(tmp_path, "Debian:12", "expat", "1.9-1") == ["CVE-2026-0001"]
    asked = datetime(2026, 1, 2, tzinfo=UTC)
    source = taken(
        tmp_path,
        tmp_path / "DSA" / "X-1.json",
        name="mine",
        licence="CC0-1.0",
        as_of=asked,
        origin="https://x",
    )
    assert (source.name, source.licence, source.as_of, source.origin) == (
        "mine",
        "CC0-1.0",
        asked,
        "https://x",
    )


def test_a_folder_of_ecosystems_is_a_source_for_each(tmp_path: Path) -> None:
    for name in ("npm", "PyPI"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "all.zip").write_bytes(zipped({"X-1.json": GOOD}))
    given = spread(Given(tmp_path / "all", licence="CC0-1.0"))
    assert [source_of(one, lambda _: None).name for one in given] == ["osv:PyPI", "osv:npm"]
    assert {one.licence for one in given} == {"CC0-1.0"}
    with pytest.raises(RequestInvalidError, match="has 2 sources; one name is not enough"):
        spread(Given(tmp_path / "all", name="mine"))


def test_documents_of_two_formats_are_no_one_source(tmp_path: Path) -> None:
    path = tmp_path / "mixed.zip"
    kev = json.dumps({"catalogVersion": "1", "vulnerabilities": [{"cveID": "CVE-2026-0001"}]}).encode()
    path.write_bytes(
        zipped({"1.json": GOOD, "2.json": kev, "3.json": b'{"of": "another"}', "4.json": b"text"})
    )
    source = taken(tmp_path, path)
    assert source.skipped == (
        ("JSON of another kind", 1, "3.json"),
        ("no document of a kind that is known", 1, "4.json"),
        ("not osv, as the first is", 1, "2.json"),
    )


def bomb(size: int) -> bytes:
    """A zip whose one entry unpacks to ``size`` zeros, though it says otherwise."""
    packed = bytearray(zipped({"X-2.json": bytes(size)}))
    # The size in the local header and in the directory: as if it were harmless.
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = packed.index(signature) + at
        packed[start : start + 4] = struct.pack("<I", 1000)
    return bytes(packed)


def test_hostile_entries_are_skipped_each_with_its_reason(tmp_path: Path) -> None:
    large = reading.MAX_DOCUMENT_BYTES + 1
    deep = b'{"id": "X-3", "affected": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    number = b'{"id": ' + b"9" * 100_000 + b"}"
    path = tmp_path / "hostile.zip"
    path.write_bytes(
        zipped(
            {
                "1.json": GOOD,
                "2.json": bytes(large),
                "3.json": deep,
                "4.json": number,
                "5.json": b"\xff\xfe{",
                "6.json.gz": gzip.compress(bytes(large)),
                "7.json.gz": b"\x1f\x8bnot gzip",
                "8\x1b[2J.json": b"{",
            }
        )
    )
    source = taken(tmp_path, path)
    assert source.records == 1
    reasons = {reason: count for reason, count, _ in source.skipped}
    assert reasons == {
        "broken JSON": 3,
        "it cannot be unpacked (BadGzipFile)": 1,
        "larger than 16 MiB": 2,
        "no document of a kind that is known": 1,
    }
    path.write_bytes(zipped({"1.json": GOOD, "2.json": OTHER}, zipfile.ZIP_BZIP2))
    with pytest.raises(RequestInvalidError, match="packed in another way than zips of advisories are"):
        taken(tmp_path, path)
    path.write_bytes(bomb(64 * 1024 * 1024))
    with pytest.raises(RequestInvalidError, match=r"holds nothing of a kind that is known here: X-2.json: "):
        taken(tmp_path, path)


def test_what_ends_early_is_said_and_what_came_before_is_kept(tmp_path: Path) -> None:
    packed = tar({f"X-{n}.json": GOOD.replace(b"X-1", f"X-{n}".encode()) for n in range(1, 200)})
    path = tmp_path / "cut.tar.gz"
    whole = gzip.compress(packed)
    path.write_bytes(whole[: len(whole) // 2])
    source = taken(tmp_path, path)
    assert 0 < source.records < 199
    assert [reason for reason, _, _ in source.skipped] == ["the archive is broken from here on (EOFError)"]


def test_headers_of_a_tar_that_ask_for_memory_end_it(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 1024**3
    path = tmp_path / "headers.tar"
    first = tar({"X-1.json": GOOD})
    with path.open("wb") as file:
        file.write(first[: first.index(b"link.json")])
        file.write(entry.tobuf())
        file.truncate(file.tell() + 1024**3)
    source = taken(tmp_path, path)
    assert source.records == 1
    assert source.skipped == (("the archive is broken from here on (ReadError)", 1, "headers.tar"),)


def test_no_more_is_read_of_one_source_than_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(zipped({f"{n}.json": GOOD.replace(b"X-1", f"X-{n}".encode()) for n in range(10, 20)}))
    monkeypatch.setattr(reading._Left.__init__, "__defaults__", (5 * len(GOOD), 1000))
    source = taken(tmp_path, path)
    assert source.skipped == (("beyond what is read of one source", source.skipped[0][1], "15.json"),)
    assert source.records == 5


def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path) -> None:
    def refused(content: bytes, why: str, file: str = "x.bin", **said: Any) -> None:
        path = tmp_path / file
        path.write_bytes(content)
        with pytest.raises(RequestInvalidError, match=why):
            taken(tmp_path, path, **said)

    refused(b"", "holds nothing of a kind that is known here")
    refused(b"PK\x03\x04 and no more", "is no whole zip")
    refused(zipped(FILES)[:-10], "is no whole zip")
    refused(gzip.compress(GOOD)[:-12], "is broken")
    refused(b"\x28\xb5\x2f\xfdbroken", "is broken")
    refused(b"!<arch>\nbroken", "a broken Debian package", file="x.deb")
    refused(GOOD, "is no name of a source", file="x.json", name="a\nb")
    refused(GOOD, "Nowhere is no ecosystem", file="x.json", ecosystem="Nowhere")
    withdrawn = json.dumps(
        record("X-1", affects("npm", "a", "introduced=0"), withdrawn="2026-01-01T00:00:00Z")
    )
    refused(withdrawn.encode(), r"nothing is left of .*: withdrawn \(1, as x.json\)", file="x.json")
    with pytest.raises(NotFoundError, match="cannot be read: No such file"):
        taken(tmp_path, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestInvalidError, match=r"holds nothing of a kind that is known here$"):
        taken(tmp_path, tmp_path / "empty")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RequestInvalidError, match="is neither a file nor a folder"):
        taken(tmp_path, tmp_path / "fifo")


def test_a_zip_of_a_version_to_come_is_refused_and_an_entry_without_a_name_is_left_out(
    tmp_path: Path,
) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in ("a", "b.json"):
            archive.writestr(name, json.dumps(record("X-1", affects("npm", "a", "introduced=0"))))
    path = tmp_path / "a.zip"
    path.write_bytes(nameless(made.getvalue()))
    (found,) = source_of(Given(path), lambda _: None).items
    assert isinstance(found, Advisory)
    changed = bytearray(made.getvalue())
    changed[changed.index(b"PK\1\2") + 6] = 99
    path.write_bytes(changed)
    with pytest.raises(RequestInvalidError, match=r"is no whole zip: zip file version 9\.9"):
        source_of(Given(path), lambda _: None)
