"""``seatrial quota``: what places may hold, and what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_json, print_table
from registry.cli.places import OnArgument
from registry.contract.sizes import parse_size_bytes, shown_size
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Quotas: how much repositories and namespaces may hold: set, show, list, delete.",
    no_args_is_help=True,
)
_COLUMNS = ("on", "resource", "used", "quota", "percent")
_DIGITS_MAX = 12


@app.command("set")
def change(
    on: OnArgument,
    *,
    size: Annotated[
        str | None,
        typer.Option(
            "--bytes",
            metavar="SIZE|none",
            help="Logical bytes, as in 500MiB or 20GB: the sizes of blobs and manifests, in each repository.",
        ),
    ] = None,
    repositories: Annotated[
        str | None,
        typer.Option("--repositories", metavar="N|none", help="Repositories below a namespace."),
    ] = None,
    tags: Annotated[str | None, typer.Option("--tags", metavar="N|none", help="Tags.")] = None,
    uploads: Annotated[
        str | None,
        typer.Option("--uploads", metavar="N|none", help="Upload sessions that are open at once."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Limit what a repository, or all below a namespace together, may hold; for administrators.

    Less than it holds is allowed: more is refused then. Pulls never are.
    """
    wanted: dict[str, int | None] = {}
    if size is not None:
        wanted["bytes"] = None if size == "none" else parse_size_bytes(size)
    for resource, text in (("repositories", repositories), ("tags", tags), ("uploads", uploads)):
        if text is not None:
            wanted[resource] = _count(resource, text)
    if not wanted:
        raise RequestInvalidError("nothing to change: give --bytes, --repositories, --tags or --uploads")
    changed = connect(server, token_file).send("PATCH", "/quota", {"on": on, **wanted})
    _print(changed, as_json=as_json)


@app.command()
def show(
    on: OnArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a place holds and may hold, and the quotas of namespaces above, which count as well."""
    _print(connect(server, token_file).get("/quota", {"on": on}), as_json=as_json)


@app.command("list")
def list_quotas(
    *,
    over: Annotated[
        int | None,
        typer.Option("--over", metavar="PERCENT", min=0, max=100, help="Only quotas used so far, or more."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all quotas with what is used of them; for administrators and auditors."""
    found = list(connect(server, token_file).items("/quotas"))
    if over is not None:
        found = [place for place in found if any(share >= over for share in map(_share, _limited([place])))]
    if as_json:
        print_json(found)
        return
    rows = [row for row in _limited(found) if over is None or _share(row) >= over]
    print_table([_shown(row) for row in rows], _COLUMNS)


@app.command()
def delete(
    on: OnArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take all quotas of a place away; those of namespaces above count on."""
    require_yes(f"Take all quotas of {on} away?", yes=yes)
    connect(server, token_file).remove("/quota", {"on": on})
    if as_json:
        print_json({"on": on, "deleted": True})


def _count(resource: str, text: str) -> int | None:
    if text == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise RequestInvalidError(f"--{resource}: {text[:80]!r} is neither a number nor 'none'")
    return int(text)


def _rows(place: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each resource."""
    return [
        {"on": place["on"], "resource": name, "used": used, "quota": place["quota"][name]}
        for name, used in place["used"].items()
    ]


def _limited(places: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for place in places for row in _rows(place) if row["quota"] is not None]


def _share(row: dict[str, Any]) -> int:
    """Percent of its quota."""
    quota: int = row["quota"]
    return 100 if quota == 0 else int(row["used"]) * 100 // quota


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """For people: sizes with units."""
    limited = row["quota"] is not None
    shown = row | {"percent": f"{_share(row)} %" if limited else None}
    if row["resource"] == "bytes":
        sizes = {name: shown_size(row[name]) for name in ("used", "quota") if row[name] is not None}
        return shown | sizes
    return shown


def _print(place: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(place)
        return
    own = [row for row in _rows(place) if row["resource"] != "repositories" or place["on"].endswith("/")]
    rows: Sequence[dict[str, Any]] = [*own, *_limited(place["above"])]
    print_table([_shown(row) for row in rows], _COLUMNS)
