"""``seatrial member``: who holds which role on a repository or a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import CallError, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_json, print_list

app = typer.Typer(
    no_args_is_help=True,
    help="Roles on a repository (team/app) or on a namespace and all below it (team/): list, set, remove. "
    "From least to most: reader, writer, maintainer, owner.",
)

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="A repository, or a namespace with a slash at its end.")
]
Who = Annotated[
    str,
    typer.Argument(metavar="MEMBER", help="A user, a robot (NAMESPACE+NAME) or a group (group:NAME)."),
]


@app.command("list")
def list_members(
    target: Target,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who holds a role there, also by a namespace above."""
    with _hint(target):
        found = list(connect(server, token_file).items(f"{_path(target)}/members"))
    print_list(found, ("member", "role", "on", "inherited", "created_at"), as_json=as_json)


@app.command("set")
def give(
    target: Target,
    member: Who,
    role: Annotated[str, typer.Argument(metavar="reader|writer|maintainer|owner")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a role, in place of the one that the member was given there."""
    path = f"{_path(target)}/members/{part(_member(member))}"
    with _hint(target):
        given = connect(server, token_file).send("PUT", path, {"role": role})
    if as_json:
        print_json(given)


@app.command()
def remove(
    target: Target,
    member: Who,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the role that a member was given there. One that it has by a group or a namespace above stays."""
    with _hint(target):
        connect(server, token_file).send("DELETE", f"{_path(target)}/members/{part(_member(member))}")
    if as_json:
        print_json({"member": _member(member), "on": target, "removed": True})


@contextmanager
def _hint(target: str) -> Iterator[None]:
    """Say how a namespace is written where none of its name is found as a repository."""
    try:
        yield
    except CallError as error:
        if not error.message.startswith("there is no repository"):
            raise
        raise CallError(f"{error.message} (a namespace is written {target}/)", status=error.status) from None


def _path(target: str) -> str:
    if target.endswith("/"):
        return f"/namespaces/{part(target.removesuffix('/'))}"
    return f"/repositories/{part(target)}"


def _member(text: str) -> str:
    if ":" in text:
        return text
    return f"robot:{text}" if "+" in text else f"user:{text}"
