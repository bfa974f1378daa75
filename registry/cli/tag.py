"""``seatrial tag``: where tags stand, where they stood, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list
from registry.errors import RequestInvalidError
from registry.oci.names import split_repository_reference

app = typer.Typer(help="Tags: list, show, history, rollback, delete.", no_args_is_help=True)

NameAndTag = Annotated[str, typer.Argument(metavar="NAME:TAG", help="As in team/app:1.2.")]
_FIELDS = ("name", "digest", "media_type", "size", "updated_at", "updated_by")


@app.command("list")
def list_tags(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in team/app.")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tags of a repository."""
    found = list(connect(server, token_file).items(f"/repositories/{part(name)}/tags"))
    print_list(found, ("name", "digest", "updated_at", "updated_by"), as_json=as_json)


@app.command()
def show(
    tag: NameAndTag,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a tag stands."""
    found = connect(server, token_file).get(_path(tag))
    if as_json:
        print_json(found)
    else:
        print_fields(found, _FIELDS)


@app.command()
def history(
    tag: NameAndTag,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the moves of a tag, newest first; also of one that was deleted."""
    found = list(connect(server, token_file).items(f"{_path(tag)}/history"))
    print_list(found, ("at", "action", "old_digest", "new_digest", "actor", "reason"), as_json=as_json)


@app.command()
def rollback(
    tag: NameAndTag,
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="DIGEST", help="Where to. [default: where it stood before its last move]"
        ),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point a tag at where it stood before; a deleted tag comes back."""
    body = {} if to is None else {"to": to}
    moved = connect(server, token_file).send("POST", f"{_path(tag)}/rollback", body)
    if as_json:
        print_json(moved)
    else:
        print_fields(moved, _FIELDS)


@app.command()
def delete(
    tag: NameAndTag,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a tag; the image stays, by digest."""
    connect(server, token_file).send("DELETE", _path(tag))
    if as_json:
        print_json({"tag": tag, "deleted": True})


def _path(text: str) -> str:
    name, tag, digest = split_repository_reference(text)
    if tag is None or digest is not None:
        raise RequestInvalidError(f"{text[:80]!r} is not NAME:TAG")
    return f"/repositories/{part(name)}/tags/{part(tag)}"
