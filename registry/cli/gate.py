"""``seatrial gate``: who may pull what, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import (
    Client,
    ImageArgument,
    JsonOption,
    ServerOption,
    TokenOption,
    connect,
    part,
)
from registry.cli.durations import parse_coming, parse_past
from registry.cli.output import cell, print_fields, print_json, print_list, print_table
from registry.errors import RequestInvalidError
from registry.oci.digest import ALGORITHMS

app = typer.Typer(
    no_args_is_help=True, help="The gate: explain, preview, block, unblock, list, pause, resume, pauses."
)
_ALGORITHMS = tuple(f"{name}:" for name in ALGORITHMS)


Where = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="NAME|NAMESPACE/|*",
        help="Where a digest or package is blocked: a repository, a namespace with a slash at its end, or * "
        "for the whole registry.",
    ),
]


@app.command("block")
def block(
    *,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME@DIGEST|NAME:TAG|DIGEST]", help="An image, or with --in a digest alone."
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; everybody who is refused reads it.")
    ] = None,
    where: Where = None,
    layer: Annotated[
        bool, typer.Option("--layer", help="The digest is that of a layer: block all images with it.")
    ] = False,
    package: Annotated[
        str | None,
        typer.Option(
            "--package",
            metavar="ECOSYSTEM/NAME[RANGE]",
            help="All images that hold a package, by their scans, as 'npm/lodash<4.17.21'; without --in "
            "everywhere.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which images it would refuse now, and change nothing.")
    ] = False,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Refuse an image to everybody, above every verdict and every gate.

    By a digest with --in, also what is pushed later: an image, or with --layer all images that have a layer.
    By --package all images that scans found it in, also those that are scanned later.
    """
    if (target is None) == (package is None):
        raise RequestInvalidError("name an image, a digest, or with --package a package, and one of them")
    if not dry_run and reason is None:
        raise RequestInvalidError("say why with --reason: everybody who is refused reads it")
    reason = None if dry_run else reason
    client = connect(server, token_file)
    if package is not None:
        if layer:
            raise RequestInvalidError("--layer goes with a digest")
        _block(client, {"on": where or "*", "package": package}, reason, as_json=as_json)
        return
    assert target is not None
    if not target.startswith(_ALGORITHMS):
        if where is not None or layer:
            raise RequestInvalidError("--in and --layer go with a digest alone, as in sha256:…")
        if dry_run:
            image = client.get("/gate", {"image": target})
            _block(client, {"on": image["image"], "digest": image["digest"]}, None, as_json=as_json)
            return
        client.send("POST", "/gate/block", {"image": target, "reason": reason})
        if as_json:
            print_json({"image": target, "blocked": True})
        else:
            typer.echo(f"{target} is blocked")
        return
    if where is None:
        raise RequestInvalidError("say where with --in: a repository, a namespace as in team/, or '*'")
    _block(client, {"on": where, "digest": target, "layer": layer}, reason, as_json=as_json)


def _preview(client: Client, asked: Mapping[str, Any], *, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = client.send("POST", "/gate/blocks/preview", {**asked, **cursor})
        found += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    if as_json:
        print_json(found)
        return
    lists = ("tags", "packages")
    shown = [{**one, **{name: ", ".join(one[name]) for name in lists}} for one in found]
    print_table(shown, ("repository", "digest", "tags", "packages", "blocked"))
    typer.echo(f"{len(found)} images would be refused; nothing was changed")


def _block(client: Client, target: Mapping[str, Any], reason: str | None, *, as_json: bool) -> None:
    if reason is None:
        _preview(client, target, as_json=as_json)
        return
    made = client.send("POST", "/gate/blocks", {**target, "reason": reason})
    if as_json:
        print_json(made)
    else:
        what = f"{made['kind']} {made['package'] or made['digest']} in {made['on']}"
        typer.echo(f"block {made['id']}: {what}; {made['images']} images are there now")


@app.command("unblock")
def unblock(
    *,
    target: Annotated[
        str, typer.Argument(metavar="NAME@DIGEST|NAME:TAG|ID", help="An image, or the number of a block.")
    ],
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Let an image be what its verdict makes it, or take back a block by its number (seatrial gate list)."""
    client = connect(server, token_file)
    if target.isascii() and target.isdigit():
        client.send("DELETE", f"/gate/blocks/{target}")
        said, text = {"id": target, "deleted": True}, f"block {target} is deleted"
    else:
        client.send("POST", "/gate/unblock", {"image": target})
        said, text = {"image": target, "blocked": False}, f"{target} is not blocked"
    if as_json:
        print_json(said)
    else:
        typer.echo(text)


@app.command("list")
def list_blocks(
    *,
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|NAMESPACE/|*]", help="Of a repository, of all in a namespace, or of everywhere."
        ),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """List blocks: those of what is yours, and for administrators and auditors all."""
    asked = {} if where is None else {"on": where}
    found = list(connect(server, token_file).items("/gate/blocks", asked))
    columns = ("id", "on", "kind", "digest", "package", "images", "reason", "actor", "created_at")
    print_list(found, columns, as_json=as_json)


@app.command("pause")
def pause(
    *,
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="As in team, or team/sub.")],
    until: Annotated[
        str, typer.Option("--for", metavar="2h|TIME", help="How long, 7 days at most, or until when in UTC.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody who is let pass reads it.")],
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Let the gates below a namespace only warn for a while. Blocked images stay refused."""
    body = {"namespace": namespace.removesuffix("/"), "until": parse_coming(until), "reason": reason}
    made = connect(server, token_file).send("POST", "/gate/pauses", body)
    if as_json:
        print_json(made)
    else:
        typer.echo(f"the gates below {made['namespace']} only warn until {cell(made['until'])} UTC")


@app.command("resume")
def resume(
    *,
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="As in team, or team/sub.")],
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """End a pause before its time."""
    name = namespace.removesuffix("/")
    connect(server, token_file).send("DELETE", f"/gate/pauses/{part(name)}")
    if as_json:
        print_json({"namespace": name, "paused": False})
    else:
        typer.echo(f"the gates below {name} decide again")


@app.command("pauses")
def list_pauses(
    *,
    namespace: Annotated[
        str | None, typer.Argument(metavar="[NAMESPACE]", help="Of a namespace and those below it.")
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """List the pauses that have not ended."""
    asked = {} if namespace is None else {"namespace": namespace.removesuffix("/")}
    found = list(connect(server, token_file).items("/gate/pauses", asked))
    print_list(found, ("namespace", "until", "reason", "actor", "created_at"), as_json=as_json)


@app.command("preview")
def preview(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME|NAMESPACE/", help="A repository, or a namespace.")],
    mode: Annotated[
        str, typer.Option("--mode", metavar="warn|enforce|hold", help="The gate that there would be.")
    ] = "enforce",
    since: Annotated[
        str,
        typer.Option("--since", metavar="30d|TIME", help="Pulls since then: so long ago, or a day of UTC."),
    ] = "30d",
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Say which pulls of the past another gate would refuse now, and to whom."""
    asked = {"name": name, "gate": mode, "since": parse_past(since)}
    found = list(connect(server, token_file).items("/gate/preview", asked))
    if as_json:
        print_json(found)
        return
    columns = ("repository", "digest", "tags", "state", "decision", "admitted_until", "pulls", "pulled_by")
    shown = [{**one, "tags": " ".join(one["tags"]), "pulled_by": _pulled_by(one["pullers"])} for one in found]
    print_table(shown, columns)
    refused = sum(one["decision"] in ("refuse", "wait") for one in found)
    typer.echo(f"{refused} of the images that were pulled would be refused to readers")


def _pulled_by(pullers: Sequence[Mapping[str, Any]]) -> str:
    """Who pulled it; who may push reads it all the same."""
    return ", ".join(f"{one['actor']}{' (may push)' if one['may_push'] else ''}" for one in pullers) or "-"


@app.command("explain")
def explain(
    *,
    image: ImageArgument,
    actor: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="ACTOR", help="Who pulls it, if not you: a user, a robot, or anonymous."
        ),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Say what the gate answers to you, or to somebody else, who pulls an image, and why.

    Under hold, "digest" is where the tag was pushed to and "served" what who pulls it gets.
    """
    asked = {"image": image} if actor is None else {"image": image, "actor": actor}
    answer = connect(server, token_file).get("/gate", asked)
    if as_json:
        print_json(answer)
    else:
        print_fields(
            answer,
            (
                *("image", "actor", "digest", "served", "gate", "state", "reason", "may_push"),
                *("decision", "explain", "sentence", "waits_for"),
            ),
        )
