"""Extensions of the distribution API (distribution-spec, "extensions": ``_oci/ext/discover``), and ours: the
history of tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from registry.auth.access import require_sign_in
from registry.content import taghistory
from registry.errors import NameUnknownError, RequestInvalidError
from registry.http.v2.listings import ROW_DIGITS_MAX, json_answer, parse_limit, parse_number
from registry.oci.names import parse_tag

if TYPE_CHECKING:
    from aiohttp import web

    from registry.content.repositories import Repository
    from registry.content.taghistory import TagMove
    from registry.http.v2.call import Call

_PAGES = "https://github.com/opencontainers/distribution-spec/tree/main/extensions"


async def discover(call: Call) -> web.Response:
    """Which extensions there are of the registry as a whole, and of each repository."""
    require_sign_in(call.actor)
    return json_answer(call, {"extensions": [_discovery(), _seatrial()]})


async def discover_in(call: Call) -> web.Response:
    """Which extensions there are of a repository."""
    _require(call.repository)
    return json_answer(call, {"extensions": [_discovery(), _seatrial()]})


async def show_tag_history(call: Call) -> web.Response:
    """The moves of the tag that ``tag`` names, newest first, ``n`` of them, those before ``last``."""
    repository, query = _require(call.repository), call.request.query
    given = query.getall("tag", [])
    if len(given) != 1:
        raise RequestInvalidError(f"one tag must be given in the query (tag=), not {len(given)}")
    tag, limit = parse_tag(given[0]), parse_limit(call.request)
    last = query.get("last")
    moves = await taghistory.history(
        call.services.database,
        repository,
        tag,
        limit=limit + 1,
        before=None if last is None else parse_number(last, "last", digits=ROW_DIGITS_MAX),
        tells_sources=taghistory.sees_sources(call.actor, repository),
    )
    headers: dict[str, str] = {}
    if 0 < limit < len(moves):
        following = urlencode({"tag": tag, "n": limit, "last": moves[limit - 1].id})
        headers["Link"] = f'</v2/{call.name}/_seatrial/tags/history?{following}>; rel="next"'
    shown = [_shown(move) for move in moves[:limit]]
    return json_answer(call, {"name": call.name, "tag": tag, "history": shown}, headers)


def _require(repository: Repository | None) -> Repository:
    if repository is None:
        raise NameUnknownError("there is no such repository")
    return repository


def _shown(move: TagMove) -> dict[str, Any]:
    told = {
        "action": move.action,
        "oldDigest": move.old_digest,
        "newDigest": move.new_digest,
        "at": move.at.isoformat(),
        "actor": move.actor,
        "workload": None if move.workload is None else move.workload.told,
        "reason": move.reason,
        "address": move.address,
        "tokenId": move.token_id,
        "tokenName": move.token_name,
    }
    return {name: value for name, value in told.items() if value is not None}


def _discovery() -> dict[str, Any]:
    return {
        "name": "_oci",
        "url": f"{_PAGES}/_oci.md",
        "description": "which extensions there are",
        "endpoints": ["_oci/ext/discover"],
    }


def _seatrial() -> dict[str, Any]:
    return {
        "name": "_seatrial",
        "description": "the history of tags: where each stood, since when, by whom and why",
        "endpoints": ["_seatrial/tags/history"],
    }
