"""Secrets: their text, their files, their wrapping, and how long answers about them are remembered."""

from __future__ import annotations

import multiprocessing
import re
import stat
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import pytest

from registry.auth import epochcache
from registry.auth.apitokens import (
    PREFIX,
    REFRESH_PREFIX,
    is_token,
    looks_like_api_token,
    new_token,
    token_hash,
)
from registry.auth.epochcache import EpochCache
from registry.auth.passwords import Passwords
from registry.auth.privatefiles import make_private, write_private
from registry.auth.secretkey import open_secret_key
from registry.errors import RequestInvalidError
from registry.settings import Settings, SettingsError


def test_a_token_has_a_prefix_random_bits_and_a_checksum() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200
    for token in tokens:
        assert token.startswith("seatrial_")
        assert is_token(token)
        assert token.removeprefix(PREFIX).isalnum()
        assert len(token) == len(PREFIX) + 43 + 6
        assert token not in token_hash(token)


def test_each_mistyped_character_shows() -> None:
    token = new_token()
    for place in range(len(PREFIX), len(token)):
        other = "a" if token[place] != "a" else "b"
        assert not is_token(token[:place] + other + token[place + 1 :])


@pytest.mark.parametrize(
    "text",
    ["", "seatrial_", "seatrial_x", "other_" + "a" * 49, "seatrial_" + "é" * 49, "seatrial_" + "-" * 49],
)
def test_what_is_no_token(text: str) -> None:
    assert not is_token(text)
    assert looks_like_api_token(text) == text.startswith("seatrial_")


def test_private_files_are_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


def _make(path: Path, text: str, read: SimpleQueue[str]) -> None:
    read.put(make_private(path, text))


def test_of_several_processes_one_makes_the_file_and_all_read_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    read = context.SimpleQueue()
    processes = [context.Process(target=_make, args=(tmp_path / "key", f"text{n}", read)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    found = {read.get() for _ in processes}
    assert found == {(tmp_path / "key").read_text().strip()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_the_secret_key_is_made_once(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    wrapped = open_secret_key(settings).wrap(b"private", name="token/1")
    assert b"private" not in wrapped
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    again = open_secret_key(settings)
    assert again.unwrap(wrapped, name="token/1") == b"private"
    assert "private" not in repr(again)


def test_what_was_wrapped_under_another_name_or_key_does_not_open(tmp_path: Path) -> None:
    wrapped = open_secret_key(Settings(data=tmp_path)).wrap(b"private", name="token/1")
    with pytest.raises(SettingsError, match="was not wrapped with this secret key"):
        open_secret_key(Settings(data=tmp_path)).unwrap(wrapped, name="token/2")
    with pytest.raises(SettingsError, match="token/1"):
        open_secret_key(Settings(data=tmp_path / "other")).unwrap(wrapped, name="token/1")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 44, "ü".encode(), b"a" * 43 + b"!"])
def test_a_secret_key_file_that_holds_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "given"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="must hold 32 bytes"):
        open_secret_key(Settings(data=tmp_path, secret_key_file=path))


def test_a_secret_key_file_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        open_secret_key(Settings(data=tmp_path, secret_key_file=tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


async def test_passwords() -> None:
    passwords = Passwords()
    try:
        stored = await passwords.hash("correct horse")
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$"), "OWASP's least"
        assert await passwords.verify(stored, "correct horse")
        assert not await passwords.verify(stored, "correct horse ")
        assert not await passwords.verify(None, "nobody has this password")
        assert not await passwords.verify(stored, "x" * 1_000_000)
        for bad in ("short", "x" * 257, new_token()):
            with pytest.raises(RequestInvalidError, match="a password has 12 to 256 characters"):
                await passwords.hash(bad)
    finally:
        passwords.close()


def test_a_cache_forgets_with_its_epoch() -> None:
    cache: EpochCache[str] = EpochCache()
    cache.put(b"k", "old", epoch=1, seconds=60)
    assert _value(cache, b"k", epoch=1) == "old"
    assert cache.get(b"k", epoch=2) is None
    cache.put(b"other", "new", epoch=2, seconds=60)
    assert cache.get(b"k", epoch=2) is None
    # A slow reader that began before the change comes last.
    cache.put(b"k", "stale", epoch=1, seconds=60)
    assert cache.get(b"k", epoch=2) is None
    assert _value(cache, b"other", epoch=2) == "new"


def test_a_cache_forgets_with_time_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cache: EpochCache[int] = EpochCache()
    cache.put(b"k", 1, epoch=1, seconds=0)
    assert cache.get(b"k", epoch=1) is None
    monkeypatch.setattr(epochcache, "MAX_ENTRIES", 10)
    for number in range(25):
        cache.put(b"%d" % number, number, epoch=1, seconds=60)
    assert sum(cache.get(b"%d" % number, epoch=1) is not None for number in range(25)) <= 10
    assert _value(cache, b"24", epoch=1) == 24


def _value(cache: EpochCache[Any], key: bytes, *, epoch: int) -> object:
    found = cache.get(key, epoch=epoch)
    return None if found is None else found[0]


def test_what_the_docs_tell_scanners_is_so() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/tokens.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    told: dict[str, Any] = {}
    exec(code, told)
    (expression,) = re.findall(r"^seatrial_\[.*$", page, flags=re.MULTILINE)
    for prefix in (PREFIX, REFRESH_PREFIX):
        text = new_token(prefix)
        wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
        found = [told["is_token"](each) for each in (text, wrong, text + "0", "")]
        assert found == [True, False, False, False]
    assert re.fullmatch(expression, new_token())
