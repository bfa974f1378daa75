"""What was found in an image: what of it is the base's, what is excused and by whom, and the way to a
waiver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote

from registry.auth.policy import decide
from registry.content.bases import find_base
from registry.contract.scan import WORST_FIRST, Severity
from registry.errors import NotFoundError
from registry.formats.forms import FORMS
from registry.http.api.routes import Call, read_query
from registry.http.api.scans import find_scanned
from registry.http.parsers import PARSERS
from registry.pages.image import SHOWN, Of, may_read_pulls
from registry.pages.rendering import Lines, chosen, host_of, page
from registry.pages.serving import CursorQuery
from registry.pages.texts import text
from registry.trials import vulnerabilities
from registry.trials.scanreading import entries_of, read_scans
from registry.trials.scanreport import read_stated
from registry.trials.waiving import Waiver, list_of_findings

if TYPE_CHECKING:
    from aiohttp import web

    from registry.advisories.report import Excused
    from registry.contract.scan import Found
    from registry.trials.scanreading import Scanned
    from registry.trials.scanreport import Key
    from registry.trials.vulnerabilities import Vulnerability

OTHERS_SHOWN = 50
"""Of secrets, malware and the like; the whole list is in each report."""
Whose = Literal["own", "base"]
_LEAST = tuple(one for one in WORST_FIRST if one != "unknown")
"""Those of an unknown severity are always among them."""


class FindingsQuery(CursorQuery):
    """Which vulnerabilities: of which severity, and whose."""

    severity: Severity | None = None
    whose: Whose | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A vulnerability, with the waivers of it and what a statement of VEX says."""

    one: Vulnerability
    waivers: Sequence[Waiver]
    excused: Excused | None


async def show_findings(call: Call) -> web.Response:
    """What the newest scan found, the worst first; of an index, what was found in each platform."""
    query = read_query(call.request, FindingsQuery, leaves_out_empty=True)
    database, matched = call.services.database, call.request.match_info
    repository, manifest = await find_scanned(call, matched["name"], matched["digest"])
    of = Of(repository, manifest, None, True, may_read_pulls(call.actor, repository))
    scans = await read_scans(database, manifest)
    own = next((scan for scan in scans if scan.view.digest == of.digest), None)
    base = None if own is None else await find_base(database, call.actor, manifest)
    if base is None and query.whose is not None:
        raise NotFoundError(f"no base of {of.shown} is known here: nothing can be told apart")
    base_layers = None if base is None else base.layers
    found: Sequence[vulnerabilities.Listed] = ()
    others: Sequence[Found] = ()
    waivers: Sequence[Waiver] = ()
    vex: Mapping[Key, Excused] = {}
    if own is not None:
        found = await vulnerabilities.list_in_scan(
            database,
            own.id,
            own.layers,
            base_layers=base_layers,
            wanted=vulnerabilities.Wanted(
                query.severity, from_base=None if query.whose is None else query.whose == "base"
            ),
            limit=SHOWN + 1,
            after=query.cursor,
        )
        if found:
            waivers = await list_of_findings(database, repository_id=repository.id, digest=of.digest)
            vex = await read_stated(
                database,
                call.services.blobs,
                manifest,
                own,
                [one.vulnerability for one in found[:SHOWN]],
                name=of.name,
                image=f"{host_of(call.request)}/{of.name}@{of.digest}",
                parsers=call.request.app[PARSERS],
            )
        if own.view.found and query.cursor is None:
            others = await _others(call, own, query, base_layers)
    has_more = len(found) > SHOWN
    kept = [("severity", query.severity), ("whose", query.whose)]
    path = f"{of.path}/findings"
    api = f"{of.api}/scans/{of.digest}"
    return page(
        call.request,
        "findings.html",
        title=text("findings.title", image=of.titled),
        of=of,
        here_tab="findings",
        path=path,
        scans=[scan.view for scan in scans],
        own=own,
        base=base,
        found=[_row(one.vulnerability, waivers, vex) for one in found[:SHOWN]],
        others=others[:OTHERS_SHOWN],
        more_others=len(others) > OTHERS_SHOWN,
        base_layers=base_layers or 0,
        # Each with the address that has the others of what was chosen.
        severities=[(one, path + chosen([("severity", one), kept[1]])) for one in (None, *_LEAST)],
        severity=query.severity,
        whoses=[(one, path + chosen([kept[0], ("whose", one)])) for one in (None, *get_args(Whose))],
        whose=query.whose,
        formats=[(one, f"{api}/report?format={one}", _file(of, one)) for one in FORMS],
        pushes=decide(call.actor, "push", of.name, repository.visibility).allowed,
        blocks=decide(call.actor, "configure", of.name, repository.visibility).allowed,
        next_path=path + chosen([*kept, ("cursor", found[SHOWN - 1].position)]) if has_more else None,
        first_path=path + chosen(kept) if query.cursor else None,
        lines=Lines(
            api=[
                f"GET /api/v1/repositories/{quote(of.name, '')}/scans/{of.digest}/vulnerabilities",
                f"GET /api/v1/repositories/{quote(of.name, '')}/scans/{of.digest}/report?format=sarif",
            ],
            cli=[
                f"seatrial image findings {of.shown}{_options(query)}",
                f"seatrial image report {of.shown} --format sarif",
                f"seatrial waiver request {of.shown} --finding ID --for 30d --reason WHY",
            ],
        ),
    )


def _file(of: Of, form: str) -> str:
    """What a report is called on the visitor's disk."""
    ending = "txt" if form == "table" else "json" if form == "json" else f"{form}.json"
    return f"{of.name.replace('/', '-')}-{of.digest.partition(':')[2][:12]}.{ending}"


def _options(query: FindingsQuery) -> str:
    severity = "" if query.severity is None else f" --severity {query.severity}"
    return severity + ("" if query.whose is None else f" --{query.whose}")


def _row(one: Vulnerability, waivers: Sequence[Waiver], vex: Mapping[Key, Excused]) -> Row:
    names = (one.id, *one.aliases)
    its = [
        waiver
        for waiver in waivers
        if waiver.finding in names and waiver.package in (None, one.package, one.source)
    ]
    return Row(one, its, vex.get((one.id, one.package, one.version)))


async def _others(call: Call, own: Scanned, query: FindingsQuery, base_layers: int | None) -> Sequence[Found]:
    """What was found that does not depend on advisories, of those that are wanted."""
    least = len(WORST_FIRST) if query.severity is None else WORST_FIRST.index(query.severity) + 1
    severe = {*WORST_FIRST[:least], "unknown"}

    def takes(one: Found) -> bool:
        is_from_base = one.layer is not None and one.layer < (base_layers or 0)
        return one.severity in severe and (query.whose is None or is_from_base == (query.whose == "base"))

    found = await entries_of(
        call.services.blobs,
        own.kept,
        "found",
        takes=takes,
        first=0,
        limit=OTHERS_SHOWN + 1,
        parsers=call.request.app[PARSERS],
    )
    return [one for _, one in found]
