"""Markdown of strangers: what is drawn of it, and that nothing in it does harm or takes for ever."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.content.readmes import README_MAX_BYTES
from registry.pages.markdown import LINKS_MAX, PIECE_MAX, drawn
from registry.pages.rendering import whole

KNOWN = {
    "a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "span",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {("a", "href"), ("a", "rel"), ("ol", "start"), ("span", "class")}
SECONDS_MAX = 3.0
"""What takes the longest takes a fifth of it here."""


class Read(HTMLParser):
    """What a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.links: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("# app", "<h3>app</h3>\n"),
        ("###### deep", "<h3>deep</h3>\n"),
        ("# a\n## b\n# c", "<h3>a</h3>\n<h4>b</h4>\n<h3>c</h3>\n"),
        ("**it** *runs* `x` ~~not~~", "<p><strong>it</strong> <em>runs</em> <code>x</code> <s>not</s></p>\n"),
        (
            "[a](https://x.example/?q=1)",
            '<p><a href="https://x.example/?q=1" rel="nofollow noopener noreferrer">a</a></p>\n',
        ),
        ("[a](/r/team/b)", '<p><a href="/r/team/b" rel="nofollow noopener noreferrer">a</a></p>\n'),
        ("![a *logo*](https://x.example/l.png)", '<p><span class="picture">[picture: a logo]</span></p>\n'),
        ("![](https://x.example/l.png)", '<p><span class="picture">[a picture]</span></p>\n'),
        ("```sh\nls <x>\n```", "<pre><code>ls &lt;x&gt;\n</code></pre>\n"),
        ("7. seven", '<ol start="7">\n<li>seven</li>\n</ol>\n'),
    ],
)
def test_what_is_drawn(source: str, shown: str) -> None:
    assert drawn(source) == shown


def test_a_table_has_no_style() -> None:
    seen = Read(drawn("| a | b |\n|:-:|--:|\n| 1 | 2 |\n"))
    assert {"table", "thead", "tbody", "tr", "th", "td"} <= seen.tags
    assert not seen.attributes


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java&#10;script:alert(1)",
        "&#x6A;avascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "data:image/png;base64,AAAA",
        "vbscript:x",
        "file:///etc/passwd",
        "docs/install.md",
        "ftp://x.example/",
        "https://x.example/" + "y" * 2000,
    ],
)
@pytest.mark.parametrize("form", ["[a]({})", "[a]\n\n[a]: {}", "<{}>"])
def test_no_link_leads_elsewhere(address: str, form: str) -> None:
    seen = Read(drawn(form.format(address)))
    assert all(link.startswith(("https://x.example/", "/", "#")) for link in seen.links)
    assert "a" not in seen.tags or seen.links == []


@pytest.mark.parametrize(
    "source",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        'a <b onclick="x">b</b>',
        "<!-- -->",
        '```"><script>alert(1)</script>\n```',
        '``` "onclick=x\ncode\n```',
        '[a](https://x.example "\\"><script>alert(1)</script>")',
        '[a](https://x.example/"onmouseover=x)',
        "![<script>alert(1)</script>](x)",
        "![![<script>](/x)](/y)",
        "`<script>`",
        "| <script> |\n|---|\n| <img src=x onerror=x> |",
        "    <script>alert(1)</script>",
        "x" * (PIECE_MAX + 1) + "<script>",
        "&lt;script&gt; &#60;script&#62;",
    ],
)
def test_html_is_text(source: str) -> None:
    seen = Read(drawn(source))
    assert seen.tags <= KNOWN
    assert seen.attributes <= ATTRIBUTES
    assert "<script" not in drawn(source)


@given(st.text(alphabet=st.sampled_from(list("<>&\"'`*_[]()!#|-:\\~ \n\ta1/=\u202e\x1b")), max_size=400))
def test_only_what_is_known_comes_out(source: str) -> None:
    shown = drawn(source)
    seen = Read(shown)
    assert seen.tags <= KNOWN
    assert seen.attributes <= ATTRIBUTES
    assert "\u202e" not in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    "source",
    ["a\u202eb", "`a\u202eb`", "```\na\u202eb\n```", "![a\u202eb](/x)", "    a\u202eb", "# a\u202eb"],
)
def test_nothing_turns_the_direction_of_writing(source: str) -> None:
    assert "a&lt;U+202E&gt;b" in drawn(source)


def test_a_paragraph_without_end_stands_as_it_is() -> None:
    assert drawn("*" + "x" * PIECE_MAX + "*") == f"<p>*{'x' * PIECE_MAX}*</p>\n"


def test_an_address_that_is_named_often_fills_no_page() -> None:
    source = f"[a]: https://x.example/{'y' * 1900}\n\n" + "[a]\n\n" * 12_000
    shown = drawn(source)
    assert sum(map(len, Read(shown).links)) <= LINKS_MAX
    assert len(shown) < 700_000


@pytest.mark.parametrize(
    "piece",
    ["[", "![", "*a_", "**", "`", "> ", "- ", "- - ", "1. ", "[a](", "<", "&", "\\", "|", "a|", "~", "((",
     "[[]](", "*a **a ", "`a``", "_a_*", "\n- ", "\n\t", "[a]: x\n", "a\n===\n",
     "|a|\n|-|\n", "<http://a", "]", "x "],
)  # fmt: skip
def test_time_does_not_outgrow_the_text(piece: str) -> None:
    for source in (
        piece * (README_MAX_BYTES // len(piece)),
        ((piece * (PIECE_MAX // len(piece)) + "\n\n") * (README_MAX_BYTES // PIECE_MAX))[:README_MAX_BYTES],
    ):
        begun = time.process_time()
        shown = drawn(source)
        assert time.process_time() - begun < SECONDS_MAX
        assert len(shown) < 1_500_000


def test_a_field_has_the_text_as_it_is() -> None:
    source = "</textarea><script>\n\u202e\"'& ä"
    field = str(whole(source))
    assert "\u202e" not in field
    assert re.search(r"[<>]", field) is None
    read = Read(f"<p>{field}</p>")
    assert read.words == source
