"""What templates are given: text that hides nothing, sizes and times for people."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from jinja2 import UndefinedError

from registry.pages.assets import assets
from registry.pages.rendering import ago, environment, exact, iso, short_digest, shown_bytes
from registry.pages.visible import visible
from tests.kit.sources import ROOT

VENDORED = ROOT / "registry" / "pages" / "VENDORED.md"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcode 漢字", "plain Ünïcode 漢字"),
        ("gpj.\N{RIGHT-TO-LEFT OVERRIDE}exe", "gpj.<U+202E>exe"),
        ("\N{RIGHT-TO-LEFT ISOLATE}a\N{POP DIRECTIONAL ISOLATE}", "<U+2067>a<U+2069>"),
        ("\x1b[31mred", "<U+001B>[31mred"),
        ("a\0b\x9b", "a<U+0000>b<U+009B>"),
        ("two\nlines\tof", "two\nlines\tof"),
        ("\N{ZERO WIDTH SPACE}\N{LINE SEPARATOR}\ufeff\ud800", "<U+200B><U+2028><U+FEFF><U+D800>"),
        ("👩\N{ZERO WIDTH JOINER}🔧", "👩\N{ZERO WIDTH JOINER}🔧"),
    ],
)
def test_nothing_is_hidden(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_what_is_long_is_cut_and_says_so() -> None:
    assert visible("x" * 1_000_000, characters=10) == "xxxxxxxxxx… (999990 more characters)"


def test_templates_escape_and_show_what_is_hidden() -> None:
    drawn = environment().from_string("<p title='{{ given }}'>{{ given }}</p>")
    assert drawn.render(given="<script>'\"&\N{RIGHT-TO-LEFT OVERRIDE}") == (
        "<p title='&lt;script&gt;&#39;&#34;&amp;&lt;U+202E&gt;'>"
        "&lt;script&gt;&#39;&#34;&amp;&lt;U+202E&gt;</p>"
    )


def test_a_name_that_is_not_given_is_a_fault() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ missing }}").render()


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 * 1024, "150 KiB"), (3 * 2**30, "3.0 GiB"),
     (5000 * 2**40, "5000 TiB")],
)  # fmt: skip
def test_sizes(count: int, shown: str) -> None:
    assert shown_bytes(count) == shown


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=-3), "in a moment"),
        (timedelta(minutes=1), "a minute ago"),
        (timedelta(hours=5, minutes=59), "5 hours ago"),
        (timedelta(days=-2), "in 2 days"),
        (timedelta(days=800), "2 years ago"),
    ],
)
def test_how_long_ago(passed: timedelta, shown: str) -> None:
    assert ago(NOW - passed, now=NOW) == shown


def test_times_and_digests() -> None:
    assert (iso(NOW), exact(NOW)) == ("2026-11-30T12:00:00Z", "2026-11-30 12:00:00 UTC")
    assert short_digest("sha256:" + "0123456789abcdef" * 4) == "sha256:0123456789ab"


def test_an_address_has_the_hash_of_its_content() -> None:
    for name, asset in assets().items():
        content = (ROOT / "registry" / "pages" / "static" / name).read_bytes()
        assert asset.path == f"/assets/{hashlib.sha256(content).hexdigest()[:16]}/{name}"
        assert asset.body == content


def test_files_of_others_are_those_that_are_listed() -> None:
    listed = re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", VENDORED.read_text(), re.MULTILINE)
    assert {name for name, _ in listed} == {name for name in assets() if name.endswith(".min.js")}
    for name, expected in listed:
        assert hashlib.sha256(assets()[name].body).hexdigest() == expected, name


def test_no_style_and_no_script_stands_in_a_page() -> None:
    for path in (ROOT / "registry" / "pages" / "templates").glob("*.html"):
        source = path.read_text()
        assert "<style" not in source, path
        assert " style=" not in source, path
        assert "javascript:" not in source, path
        assert re.search(r"\son[a-z]+=", source) is None, path
        assert source.count("<script") == source.count("<script src="), path
        assert "|safe" not in source, path
