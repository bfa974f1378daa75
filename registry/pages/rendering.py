"""How a page is drawn: the templates, what they may call, and the headers of every page.

Everything that a template shows is escaped, and what nobody could see is spelt out
(:mod:`~registry.pages.visible`). The policy lets a browser run and load what lies in ``static`` and nothing
else: no script and no style stands in a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from registry.auth.policy import may_audit
from registry.http.authentication import base_url
from registry.http.caller import ACTOR
from registry.pages.assets import asset_path
from registry.pages.texts import text
from registry.pages.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parent / "templates"
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A form says where it comes from, and another site is told nothing.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
SECTIONS: tuple[tuple[str, str], ...] = (("repositories", "/"), ("trials", "/trials"), ("search", "/search"))
_STEPS: tuple[tuple[int, str], ...] = (
    (365 * 86400, "year"),
    (30 * 86400, "month"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SHORT_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Lines:
    """How a program does what the page does: requests to the API, and commands."""

    api: Sequence[str]
    cli: Sequence[str]


def page(
    request: web.Request,
    template: str,
    *,
    title: str,
    lines: Lines | None = None,
    status: int = 200,
    **values: object,
) -> web.Response:
    """A page."""
    actor = request.get(ACTOR)
    drawn = environment().get_template(template).render(
        title=title,
        lines=lines,
        who=None if actor is None or actor.kind == "anonymous" else actor.shown,
        audits=actor is not None and may_audit(actor),
        here=request.path,
        here_query=request.rel_url.raw_path_qs if request.method == "GET" else "/",
        host=host_of(request),
        address=base_url(request),
        sections=SECTIONS,
        **values,
    )  # fmt: skip
    return web.Response(text=drawn, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


def host_of(request: web.Request) -> str:
    """What clients write before an image's name."""
    return urlsplit(base_url(request)).netloc


@cache
def environment() -> Environment:
    """The templates."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    made.globals |= {"t": text, "asset": asset_path}
    made.filters |= {
        "bytes": shown_bytes,
        "short": short_digest,
        "iso": iso,
        "exact": exact,
        "ago": ago,
        "cut": cut,
        "whole": whole,
    }
    return made


def _shown(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def shown_bytes(count: int) -> str:
    """A size for people."""
    size = float(count)
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit takes all")


def short_digest(digest: str) -> str:
    """As much of a digest as tells two apart."""
    algorithm, colon, digits = digest.partition(":")
    if not colon:
        return digest
    return f"{algorithm}:{digits[:_SHORT_DIGITS]}"


def cut(words: str, characters: int) -> str:
    """A text for a cell: no longer than so many characters."""
    return words if len(words) <= characters else f"{words[:characters]}…"


def whole(words: str) -> Markup:
    """A text for a field in which it is changed: all of it, as it is."""
    plain = words.translate({ord(letter): f"&#{ord(letter)};" for letter in "&<>\"'"})
    # Nothing that turns the direction of writing stands in the page itself.
    return Markup("".join(c if c.isprintable() or c in "\n\t" else f"&#{ord(c)};" for c in plain))  # noqa: S704


def shown_whole(words: str) -> Markup:
    """A text to be read: all of it, with what cannot be seen spelt out."""
    return escape(visible(words, characters=len(words)))


def iso(at: datetime) -> str:
    """A time for programs."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def exact(at: datetime) -> str:
    """A time for people, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(at: datetime, *, now: datetime | None = None) -> str:
    """How long ago a time is, or how long it is until then."""
    passed = (now or datetime.now(UTC)) - at
    is_to_come = passed < timedelta(0)
    seconds = abs(passed.total_seconds())
    for length, unit in _STEPS:
        if seconds >= length:
            count = int(seconds // length)
            key = f"time.{unit}" if count == 1 else f"time.{unit}s"
            return text("time.to_come" if is_to_come else "time.ago", span=text(key, count=count))
    return text("time.soon" if is_to_come else "time.now")


def chosen(values: Iterable[tuple[str, str | None]]) -> str:
    """A query of those that are given; empty where none is."""
    given = [(name, value) for name, value in values if value]
    return f"?{urlencode(given)}" if given else ""
