"""Markdown of strangers as a part of a page: CommonMark with tables, and nothing in it that could do harm.

What is HTML in it is shown as text. A link leads to another site, to a path or a heading of this one, or is
none. Pictures are not loaded, for a reader of this registry is no news to other servers: they are named.
What nobody could see is spelt out, as everywhere (:mod:`~registry.pages.visible`).

To draw takes time that grows with the text and no faster: what has no end is not looked into, and links are
no longer together than so much.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from registry.pages.texts import text
from registry.pages.visible import visible

if TYPE_CHECKING:
    from markdown_it.rules_core import StateCore
    from markdown_it.utils import OptionsDict

PIECE_MAX = 2048
"""Characters of a paragraph, heading or cell; a longer one is shown as it stands. Within one, some marks take
the parser time that grows with the square of their number."""
LINKS_MAX = 128 * 1024
"""Characters of all addresses together: one that is written once can be named by thousands of links."""
_ADDRESS_MAX = 2000
_KEPT = 32
_LEADS_TO = ("https://", "http://", "/", "#")
_DEEPER = 2
"""The first heading of a text stands below two of its page."""
_DEEPEST = 6
_ALL = 1 << 30
_PLAIN = "plain"


@lru_cache(maxsize=_KEPT)
def drawn(source: str) -> Markup:
    """The text as HTML. It may take tens of milliseconds: not for the event loop."""
    # All that is in it comes from the rules below, and they escape what they are given.
    return Markup(_parser().render(source))  # noqa: S704


def leads_somewhere(address: str) -> bool:
    """Whether a link may have this address."""
    return len(address) <= _ADDRESS_MAX and address.lower().startswith(_LEADS_TO)


@cache
def _parser() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    made.disable(["html_block", "html_inline"])
    setattr(made, "validateLink", leads_somewhere)  # noqa: B010  (its type is that of a method)
    made.core.ruler.before("inline", "endless", _leave_what_is_endless)
    made.core.ruler.push("harmless", _make_harmless)
    made.add_render_rule("image", _picture)
    made.render("")  # the rules are put in order by the first that asks, and threads share them
    return made


def _leave_what_is_endless(state: StateCore) -> None:
    for token in state.tokens:
        if token.type == "inline" and len(token.content) > PIECE_MAX:
            token.meta[_PLAIN], token.content = token.content, ""


def _make_harmless(state: StateCore) -> None:
    left, heading = LINKS_MAX, _DEEPER
    for token in state.tokens:
        if _PLAIN in token.meta:
            token.children = [Token("text", "", 0, content=token.meta[_PLAIN])]
    for token in _with_children(state.tokens):
        token.content = visible(token.content, characters=_ALL)
        token.info = ""
        kept: dict[str, str | int | float] = {}
        if token.type == "link_open":
            address = str(token.attrs.get("href", ""))
            left -= len(address)
            if left >= 0:
                kept = {"href": address, "rel": "nofollow noopener noreferrer"}
        elif token.type == "ordered_list_open" and "start" in token.attrs:
            kept = {"start": token.attrs["start"]}
        # Of the others one is a style, which a page may not have.
        token.attrs = kept
        if token.type == "heading_open":
            # Who hears a page finds a way by its headings, of which none is left out.
            heading = min(int(token.tag[1:]) + _DEEPER, _DEEPEST, heading + 1)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{heading}"


def _with_children(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from token.children or ()


def _picture(
    renderer: Any, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]
) -> str:
    words = renderer.renderInlineAsText(tokens[at].children, options, env)
    said = (
        text("readme.picture", words=visible(words, characters=_ALL)) if words else text("readme.a_picture")
    )
    return str(Markup('<span class="picture">{}</span>').format(said))
