"""``seatrial namespace``: where roles are given, and what new repositories are like there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.numbers import parse_number_or_default
from registry.cli.output import print_fields, print_json, print_table
from registry.cli.switches import parse_switch
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Namespaces, the paths before the last part of names: create, list, show, set, rename, delete.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in team, or team/sub.")]
Visibility = Annotated[
    str | None,
    typer.Option(
        "--visibility",
        metavar="public|internal|private|default",
        help="Of new repositories; default is what a namespace above says, else the server.",
    ),
]
CreateOnPush = Annotated[
    str | None,
    typer.Option(
        "--create-on-push",
        metavar="yes|no|default",
        help="Whether the first push of a writer makes a repository; without it, a maintainer makes it.",
    ),
]
Gate = Annotated[
    str | None,
    typer.Option("--gate", metavar="off|warn|enforce|hold|default", help="Gate of new repositories."),
]
Scan = Annotated[
    str | None,
    typer.Option("--scan", metavar="on|off|default", help="Whether images of new repositories are scanned."),
]
WaiversByTwo = Annotated[
    str | None,
    typer.Option(
        "--waivers-by-two",
        metavar="yes|no|default",
        help="Whether somebody else than who asked for a waiver has to grant it.",
    ),
]
PromotionsByTwo = Annotated[
    str | None,
    typer.Option(
        "--promotions-by-two",
        metavar="yes|no|default",
        help="Whether somebody else than who asked has to grant a promotion into it.",
    ),
]
TrialQueueMax = Annotated[
    str | None,
    typer.Option(
        "--trial-queue-max",
        metavar="N|default",
        help="How many images may wait to be tried before more are refused that are asked for.",
    ),
]
TrialSecondsPerHour = Annotated[
    str | None,
    typer.Option(
        "--trial-seconds-per-hour",
        metavar="N|default",
        help="Seconds of runs within an hour, before the next ones wait.",
    ),
]
_YES_OR_NO: dict[str, bool | None] = {"yes": True, "no": False, "default": None}
_CAPS = ("trial_queue_max", "trial_seconds_per_hour")
_SETTINGS = ("visibility", "gate", "scan", "create_on_push", "waivers_by_two", "promotions_by_two", *_CAPS)
_FIELDS = ("name", *_SETTINGS, "repositories", "namespaces", "created_at")


@app.command()
def create(
    name: Name,
    *,
    visibility: Visibility = None,
    create_on_push: CreateOnPush = None,
    gate: Gate = None,
    scan: Scan = None,
    waivers_by_two: WaiversByTwo = None,
    promotions_by_two: PromotionsByTwo = None,
    trial_queue_max: TrialQueueMax = None,
    trial_seconds_per_hour: TrialSecondsPerHour = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a namespace, to give roles on it. The first repository in it makes one too."""
    yes_or_no = _yes_or_no(create_on_push, waivers_by_two, promotions_by_two)
    caps = _caps(trial_queue_max, trial_seconds_per_hour)
    wanted = {"name": name, **_wanted(visibility, gate, scan, yes_or_no), **caps}
    _print(connect(server, token_file).send("POST", "/namespaces", wanted), as_json=as_json)


@app.command("list")
def list_namespaces(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List the namespaces that you have a role on."""
    found = list(connect(server, token_file).items("/namespaces"))
    if as_json:
        print_json(found)
    else:
        print_table([_shown(each) for each in found], ("name", *_SETTINGS, "created_at"))


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show one namespace, and how much is in it."""
    _print(connect(server, token_file).get(f"/namespaces/{part(name)}"), as_json=as_json)


@app.command("set")
def change(
    name: Name,
    *,
    visibility: Visibility = None,
    create_on_push: CreateOnPush = None,
    gate: Gate = None,
    scan: Scan = None,
    waivers_by_two: WaiversByTwo = None,
    promotions_by_two: PromotionsByTwo = None,
    trial_queue_max: TrialQueueMax = None,
    trial_seconds_per_hour: TrialSecondsPerHour = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what new repositories are like, where those that are there stay as they are, and the caps on
    trials, for all of them; caps are for administrators."""
    yes_or_no = _yes_or_no(create_on_push, waivers_by_two, promotions_by_two)
    caps = _caps(trial_queue_max, trial_seconds_per_hour)
    wanted = {**_wanted(visibility, gate, scan, yes_or_no), **caps}
    if not wanted:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in _SETTINGS)
        raise RequestInvalidError(f"nothing to change: give one of {options}")
    changed = connect(server, token_file).send("PATCH", f"/namespaces/{part(name)}", wanted)
    _print(changed, as_json=as_json)


@app.command()
def rename(
    name: Name,
    to: Annotated[str, typer.Argument(metavar="NEW", help="The other name, at which there is nothing yet.")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rename a namespace with all that is in it; nothing leads from the old names to the new ones."""
    renamed = connect(server, token_file).send("POST", f"/namespaces/{part(name)}/rename", {"name": to})
    _print(renamed, as_json=as_json)


@app.command()
def delete(
    name: Name,
    *,
    with_content: Annotated[
        bool, typer.Option("--with-content", help="Also all repositories and namespaces below it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a namespace with its robots and the roles on it; only an empty one, if not told otherwise."""
    client = connect(server, token_file)
    path = f"/namespaces/{part(name)}"
    if not yes:
        question = f"Delete the namespace {name}"
        if with_content:
            question += f" with {_preview(client.get(path))}"
        require_yes(f"{question}?", yes=yes)
    client.send("DELETE", f"{path}?with_content=true" if with_content else path)
    if as_json:
        print_json({"name": name, "deleted": True})


def _preview(namespace: dict[str, Any]) -> str:
    """What goes with it, in words: counts end at 1000."""
    repositories, below = namespace["repositories"], namespace["namespaces"]
    first = namespace["first_repositories"]
    more = ", …" if repositories > len(first) else ""
    names = f" ({', '.join(first)}{more})" if first else ""
    words = [f"{_counted(repositories, 'repository', 'repositories')}{names} and all they hold"]
    if below:
        words.append(_counted(below, "namespace", "namespaces"))
    return ", and ".join(words)


def _counted(count: int, one: str, many: str) -> str:
    more = " or more" if count >= 1000 else ""
    return f"{count}{more} {one if count == 1 else many}"


def _yes_or_no(
    create_on_push: str | None, waivers_by_two: str | None, promotions_by_two: str | None
) -> dict[str, str | None]:
    return {
        "create_on_push": create_on_push,
        "waivers_by_two": waivers_by_two,
        "promotions_by_two": promotions_by_two,
    }


def _caps(*given: str | None) -> dict[str, int | None]:
    return {
        name: parse_number_or_default(f"--{name.replace('_', '-')}", text)
        for name, text in zip(_CAPS, given, strict=True)
        if text is not None
    }


def _wanted(
    visibility: str | None, gate: str | None, scan: str | None, yes_or_no: dict[str, str | None]
) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for name, word in (("visibility", visibility), ("gate", gate)):
        if word is not None:
            wanted[name] = None if word == "default" else word
    if scan is not None:
        wanted["scan"] = None if scan == "default" else parse_switch("--scan", scan)
    for name, word in yes_or_no.items():
        if word is None:
            continue
        if word not in _YES_OR_NO:
            option = name.replace("_", "-")
            raise RequestInvalidError(f"--{option} must be yes, no or default, not {word!r}")
        wanted[name] = _YES_OR_NO[word]
    return wanted


def _print(namespace: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(namespace)
    else:
        print_fields(_shown(namespace), _FIELDS)


def _shown(namespace: dict[str, Any]) -> dict[str, Any]:
    """For people: what it does not say itself is 'default', the word that sets it so."""
    return {name: "default" if value is None else value for name, value in namespace.items()}
