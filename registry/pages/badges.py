"""Badges: the state of a tag as a small picture, for a README elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from registry.http.api.gate import ExplainQuery, explain
from registry.http.api.routes import Call
from registry.http.conditions import is_known
from registry.pages.rendering import environment
from registry.pages.texts import text

_GOOD, _SO_SO, _BAD, _NEUTRAL = "#1a7f37", "#8a5a00", "#b3261e", "#57606a"
_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "pass": _GOOD,
        "warn": _SO_SO,
        "expired": _SO_SO,
        "fail": _BAD,
        "error": _BAD,
        "blocked": _BAD,
        "unsigned": _BAD,
    }
)
_LETTER = 6.6
_MARGIN = 12


async def show_badge(call: Call) -> web.Response:
    """What the gate sees of the image that the tag names."""
    matched = call.request.match_info
    seen = await explain(call, ExplainQuery(image=f"{matched['name']}:{matched['tag']}"))
    label, word = text("badge.label"), text(f"state.{seen.state}")
    left, right = _width(label), _width(word)
    drawn = (
        environment()
        .get_template("badge.svg")
        .render(
            label=label,
            word=word,
            left=left,
            right=right,
            width=left + right,
            colour=_COLOURS.get(seen.state, _NEUTRAL),
        )
    )
    tag = hashlib.sha256(drawn.encode()).hexdigest()
    headers = {
        "ETag": f'"{tag}"',
        # Asked each time, so that it says what is so now.
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Vary": "Authorization, Cookie",
    }
    if is_known(call.request, tag):
        return web.Response(status=304, headers=headers)
    return web.Response(text=drawn, content_type="image/svg+xml", charset="utf-8", headers=headers)


def _width(words: str) -> int:
    return round(len(words) * _LETTER) + _MARGIN
