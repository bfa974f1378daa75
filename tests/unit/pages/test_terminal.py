"""What programs write for terminals: colours are kept, and nothing else of it does anything."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.pages.terminal import Terminal, shown_log


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain\n", "plain\n"),
        ("<b>&'\"", "&lt;b&gt;&amp;&#39;&#34;"),
        ("\x1b[31mred\x1b[0m rest", '<span class="t-red">red</span> rest'),
        ("\x1b[1;32ma\x1b[39mb\x1b[m", '<span class="t-bold t-green">a</span><span class="t-bold">b</span>'),
        ("\x1b[38;5;196mx\x1b[48;2;1;2;3my", "xy"),
        ("\x1b[91m<i>", '<span class="t-red">&lt;i&gt;</span>'),
        ("a\x1b[2J\x1b[10;10Hb\x1b[99999999999Cc", "abc"),
        ("\x1b]0;a title\x07x\x1b]8;;http://evil\x1b\\link", "xlink"),
        ("\x1bPq#0;2\x1b\\x\x1b(Bz", "xz"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}\x08\x9b31m", "&lt;U+202E&gt;&lt;U+0008&gt;&lt;U+009B&gt;31m"),
        ("\x1b[31" + "m" * 3, '<span class="t-red">mm</span>'),
        ("\x1b[?25!px", "x"),
    ],
)  # fmt: skip
def test_what_is_shown(written: str, shown: str) -> None:
    assert shown_log(written) == shown


class Parsed(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert [name for name, _ in attrs] == ["class"]
        assert all(one.startswith("t-") for one in str(attrs[0][1]).split())

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Parsed:
    parsed = Parsed()
    parsed.feed(markup)
    parsed.close()
    return parsed


@given(
    st.text(alphabet=st.sampled_from("\x1b[]m;0139<>&\"'ax\r\n\x07\\P\x9b\u202e"), max_size=60),
    st.integers(0, 60),
)
def test_cut_anywhere_it_is_the_same_and_nothing_but_colours(written: str, cut: int) -> None:
    whole = read(shown_log(written))
    terminal = Terminal()
    pieces = read(terminal.take(written[:cut]) + terminal.take(written[cut:]))
    assert pieces.text == whole.text
    assert whole.tags <= {"span"}
    assert "\x1b" not in whole.text
    assert "\r" not in whole.text


@pytest.mark.parametrize("begin", ["\x1b[", "\x1b", "\x1b]", "\x1b[1"])
@pytest.mark.parametrize("filler", ["!", " ", "1", "?", "/"])
def test_what_is_no_sequence_after_all_is_seen_at_once(begin: str, filler: str) -> None:
    written = begin + filler * 100_000 + "\n"
    started = time.process_time()
    read(shown_log(written))
    assert time.process_time() - started < 5, "in proportion to its length: else it is some minutes"


def test_what_begins_and_never_ends_takes_no_memory() -> None:
    terminal = Terminal()
    for _ in range(100):
        terminal.take("\x1b]" + "x" * 10_000)
    assert len(terminal.take("x")) < 30_000
