"""``seatrial retention``: what repositories keep, and what goes."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import Client, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_duration_seconds
from registry.cli.output import print_fields, print_json, print_list, print_table
from registry.cli.places import OnArgument
from registry.cli.progress import progress_bar
from registry.errors import RequestInvalidError

app = typer.Typer(
    no_args_is_help=True,
    help="What repositories keep, and what goes: set it, see what would go, run it, undo it.",
)
_LOOK_SECONDS = 0.5
_KINDS = ("glob", "regex", "semver")
_SHOWN = ("on", "next_at", "created_by", "created_at")
_RUNS = (
    *("id", "repository", "asked_by", "asked_at", "outcome", "tags_deleted", "manifests_deleted"),
    *("ended_at", "detail"),
)
_ITEMS = ("tag", "digest", "why", "undone")
_PREVIEWED = ("repository", "goes", "tag", "digest", "why")

Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="RULE",
        help="Tags that stay, as in 'v*,last=5' or 'semver=*,last=10,order=version' or 'pulled=30d'; again "
        "for more. Tags that no rule keeps go.",
    ),
]
Failed = Annotated[
    str | None, typer.Option("--failed", metavar="DAYS", help="Tags of images that failed so long ago go.")
]
Untagged = Annotated[
    str | None,
    typer.Option("--untagged", metavar="DAYS", help="What no tag reaches goes after so long, as in 14d."),
]
Referrers = Annotated[
    str | None, typer.Option("--referrers", metavar="DAYS", help="Referrers that are older go, as in 90d.")
]
ReferrersLast = Annotated[
    int, typer.Option("--referrers-last", min=1, help="But not the last so many of their type.")
]
Every = Annotated[
    str | None, typer.Option("--every", metavar="DURATION", help="Carry it out so often, as in 24h.")
]
At = Annotated[str | None, typer.Option("--at", metavar="HH:MM", help="Each day at this time of UTC.")]
Cap = Annotated[
    int | None,
    typer.Option("--cap", min=1, help="A run that would delete more than so many deletes nothing."),
]
CapPercent = Annotated[
    int | None,
    typer.Option(
        "--cap-percent", min=1, max=100, help="Nor one that would delete more of all that is there."
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="As seatrial retention history names it.")]


@app.command("set")
def set_policy(
    on: OnArgument,
    *,
    keep: Keep = None,
    failed: Failed = None,
    untagged: Untagged = None,
    referrers: Referrers = None,
    referrers_last: ReferrersLast = 1,
    every: Every = None,
    at: At = None,
    cap: Cap = None,
    cap_percent: CapPercent = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a policy count on a repository, or in all below a namespace that have no nearer one.

    It takes the place of the one that is set there. Nothing goes before it is carried out: see first what
    would, by seatrial retention preview.
    """
    body = _policy(
        keep=keep,
        failed=failed,
        untagged=untagged,
        referrers=referrers,
        referrers_last=referrers_last,
        every=every,
        at=at,
        cap=cap,
        cap_percent=cap_percent,
    )
    _print(connect(server, token_file).send("PUT", "/retention", {"on": on, **body}), as_json=as_json)


@app.command()
def show(
    on: OnArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the policy that counts on a place: its own, else that of the nearest namespace above."""
    _print(connect(server, token_file).get("/retention", {"on": on}), as_json=as_json)


@app.command("list")
def list_policies(
    on: OnArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the policies on a place and above it. The first one counts, alone."""
    found = connect(server, token_file).get("/retention/policies", {"on": on})
    rows = found if as_json else [_flat(one) for one in found]
    print_list(rows, ("on", "keep", "untagged_days", "next_at", "created_by"), as_json=as_json)


@app.command()
def preview(
    on: OnArgument,
    *,
    keep: Keep = None,
    failed: Failed = None,
    untagged: Untagged = None,
    referrers: Referrers = None,
    referrers_last: ReferrersLast = 1,
    cap: Cap = None,
    cap_percent: CapPercent = None,
    staying: Annotated[
        bool, typer.Option("--staying", help="Show tags that stay, and why, as well.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=0, max=10_000, help="So many of each repository are shown.")
    ] = 1000,
    skip: Annotated[
        int, typer.Option("--skip", min=0, max=100_000, help="But not the first so many of each.")
    ] = 0,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would go now, and why: by the policy that counts, or by one that is given like that of
    seatrial retention set. Nothing is changed."""
    client = connect(server, token_file)
    body: dict[str, Any] = {"on": on, "limit": limit, "staying": limit if staying else 0}
    body |= {"skip": skip} if skip else {}
    if any(given is not None for given in (keep, failed, untagged, referrers)):
        body["policy"] = _policy(
            keep=keep,
            failed=failed,
            untagged=untagged,
            referrers=referrers,
            referrers_last=referrers_last,
            cap=cap,
            cap_percent=cap_percent,
        )
    elif cap is not None or cap_percent is not None or referrers_last != 1:
        raise RequestInvalidError("give a whole policy, or none: seatrial retention run takes --cap alone")
    found: list[dict[str, Any]] = []
    while True:
        page = client.send("POST", "/retention/preview", body)
        if page["repository"] is not None:
            found.append(page)
        if page["next"] is None:
            break
        body["cursor"] = page["next"]
    if as_json:
        print_json(found)
        return
    for page in found:
        items = [{**item, "repository": page["repository"]} for item in page["items"]]
        if items:
            print_table(items, _PREVIEWED)
        typer.echo(
            f"{page['repository']}: {page['tags_going']} of {page['tags']} tags and "
            f"{page['manifests_going']} of {page['manifests']} manifests would go"
            f"{', not all of which are shown' if page['more'] else ''}"
        )
        if page["refusal"] is not None:
            typer.echo(f"{page['repository']}: a run would delete nothing, as {page['refusal']}")
    if found and "policy" not in body:
        typer.echo(
            f"seatrial retention run {on} --policies {found[0]['policies']} carries out these and no other"
        )


@app.command()
def run(
    on: OnArgument,
    *,
    cap: Cap = None,
    cap_percent: CapPercent = None,
    policies: Annotated[
        str | None,
        typer.Option("--policies", metavar="DIGEST", help="Only if these count, as a preview named them."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it has ended; Ctrl-C does not stop it.")
    ] = True,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry the policy of a repository out now, or those of all below a namespace.

    Exit code 2 where a run was stopped.
    """
    # It loads what reads secrets, which the other commands do without.
    from registry.cli.asking import require_yes  # noqa: PLC0415

    require_yes(f"Delete what the retention policy of {on} does not keep?", yes=yes)
    client = connect(server, token_file)
    given = {"on": on, "cap": cap, "cap_percent": cap_percent, "policies": policies}
    body = {name: value for name, value in given.items() if value is not None}
    asked = client.send("POST", "/retention/runs", body)
    runs = _ended(client, asked["items"]) if wait else asked["items"]
    if as_json:
        print_json({"runs": asked["runs"], "items": runs})
    else:
        print_table(runs, _RUNS)
        if asked["runs"] > len(runs):
            typer.echo(f"{asked['runs']} repositories in all; seatrial retention history {on} lists them")
    if any(one["outcome"] == "stopped" for one in runs):
        raise typer.Exit(2)


@app.command()
def history(
    on: OnArgument,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many at most.")] = 100,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs in a repository, or in all below a namespace, newest first."""
    page = connect(server, token_file).get("/retention/runs", {"on": on, "limit": str(limit)})
    print_list(page["items"], _RUNS, as_json=as_json)


@app.command()
def deleted(
    number: RunArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what a run has deleted, and why."""
    items = list(connect(server, token_file).items(f"/retention/runs/{part(number)}/items"))
    print_list(items, _ITEMS, as_json=as_json)


@app.command()
def undo(
    number: RunArgument,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back what a run has deleted; images within the grace of collections.

    The next run deletes it again where the policy still says so. Exit code 2 where not all came back.
    """
    client = connect(server, token_file)
    restored, failed = 0, []
    path = f"/retention/runs/{part(number)}"
    shown = client.get(path)
    total = shown["tags_deleted"] + shown["manifests_deleted"]
    with progress_bar("restoring", total) as tell:
        while True:
            done = client.send("POST", f"{path}/undo")
            restored += done["restored"]
            failed += done["not_restored"]
            tell(done["restored"] + len(done["not_restored"]))
            if not done["left"]:
                break
    if as_json:
        print_json({"restored": restored, "not_restored": failed})
    else:
        typer.echo(f"{restored} restored, {len(failed)} not")
        if failed:
            print_table(failed, ("tag", "digest", "why"))
    if failed:
        raise typer.Exit(2)


@app.command()
def delete(
    on: OnArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a place's own policy away; one on a namespace above counts then."""
    from registry.cli.asking import require_yes  # noqa: PLC0415

    require_yes(f"Delete the retention policy of {on}?", yes=yes)
    connect(server, token_file).remove("/retention", {"on": on})
    if as_json:
        print_json({"on": on, "deleted": True})


def _policy(
    *,
    keep: list[str] | None,
    failed: str | None,
    untagged: str | None,
    referrers: str | None,
    referrers_last: int,
    every: str | None = None,
    at: str | None = None,
    cap: int | None,
    cap_percent: int | None,
) -> dict[str, Any]:
    body: dict[str, Any] = {"keep": [parse_rule(text) for text in keep or ()], "at": at}
    for name, text in (("failed", failed), ("untagged", untagged), ("referrers", referrers)):
        body[f"{name}_days"] = None if text is None else _whole(text, 24 * 3600, "days, such as 14d")
    body["every_hours"] = None if every is None else _whole(every, 3600, "hours, such as 12h or 7d")
    body |= {"cap": cap, "cap_percent": cap_percent}
    body = {name: value for name, value in body.items() if value is not None}
    return body if referrers is None else {**body, "referrers_last": referrers_last}


def parse_rule(text: str) -> dict[str, Any]:
    """A rule as the API takes it, from parts between commas: which tags, and what keeps them.

    Raises:
        RequestInvalidError: a part that is none, or given twice.
    """
    rule: dict[str, Any] = {}
    for piece in _pieces(text):
        name, equals, value = piece.partition("=")
        if not equals or name in _KINDS:
            kind, pattern = (name, value) if equals else ("glob", piece)
            key = "tags"
            given: object = {"by": kind, "pattern": pattern}
        elif name == "last" and value.isascii() and value.isdigit():
            key, given = "last", int(value)
        elif name == "order" and value in ("updated", "version"):
            key, given = "order", value
        elif name in ("pulled", "moved"):
            key, given = f"{name}_days", _whole(value, 24 * 3600, "days, such as 30d")
        else:
            raise RequestInvalidError(
                f"--keep: {piece[:80]!r} is none of PATTERN, regex=…, semver=…, last=N, order=version, "
                "pulled=30d, moved=30d"
            )
        if key in rule:
            raise RequestInvalidError(f"--keep: {text[:80]!r} says {key} twice")
        rule[key] = given
    if rule.get("tags") == {"by": "glob", "pattern": "*"}:
        del rule["tags"]
    return rule


def _pieces(text: str) -> list[str]:
    """What stands between commas; a regular expression may have some itself, and is the last part then."""
    before, found, pattern = text.partition("regex=")
    pieces = [piece.strip() for piece in before.rstrip(", ").split(",") if before.strip(", ")]
    return [*pieces, f"regex={pattern}"] if found else pieces


def _whole(text: str, unit: int, what: str) -> int:
    seconds = parse_duration_seconds(text)
    if seconds % unit:
        raise RequestInvalidError(f"{text[:80]} is not a number of whole {what}")
    return seconds // unit


def _ended(client: Client, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ended = []
    with progress_bar("carrying out", len(runs)) as tell:
        for one in runs:
            current = one
            while current["ended_at"] is None:
                time.sleep(_LOOK_SECONDS)
                current = client.get(f"/retention/runs/{one['id']}")
            ended.append(current)
            tell(1)
    return ended


def _flat(placed: dict[str, Any]) -> dict[str, Any]:
    policy = placed["policy"]
    return {**policy, **placed, "keep": [_said(rule) for rule in policy["keep"]]}


def _said(rule: dict[str, Any]) -> str:
    tags = rule["tags"]
    said = [tags["pattern"] if tags["by"] == "glob" else f"{tags['by']}={tags['pattern']}"]
    if rule["last"] is not None:
        said.append(f"last={rule['last']}")
        said += ["order=version"] if rule["order"] == "version" else []
    said += [
        f"{name}={rule[f'{name}_days']}d" for name in ("pulled", "moved") if rule[f"{name}_days"] is not None
    ]
    return ",".join(said)


def _print(placed: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(placed)
        return
    flat = _flat(placed)
    limits = ("failed_days", "untagged_days", "referrers_days", "referrers_last")
    print_fields(flat, ("on", "keep", *limits, "every_hours", "at", "cap", "cap_percent", *_SHOWN[1:]))
