"""``seatrial session``: people who are signed in by a cookie."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_json, print_list
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="People who are signed in to the pages: list them, sign them out.", no_args_is_help=True
)


@app.command("list")
def list_sessions(
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Only this account's.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List sessions: an administrator sees all, others their own."""
    found = list(connect(server, token_file).items("/sessions", {"account": account}))
    print_list(
        found,
        ("id", "account", "address", "client", "created_at", "last_used_at", "expires_at"),
        as_json=as_json,
    )


@app.command()
def revoke(
    session_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One session.")] = None,
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Or all of this account.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign somebody out, at once: one session, or all of an account."""
    if (session_id is None) == (account is None):
        raise RequestInvalidError("give the ID of a session, or --account")
    registry = connect(server, token_file)
    if account is not None:
        ended = registry.send("DELETE", f"/sessions?account={part(account)}")["ended"]
        done: dict[str, object] = {"account": account, "ended": ended}
    else:
        registry.send("DELETE", f"/sessions/{part(session_id or '')}")
        done = {"id": session_id, "ended": 1}
    if as_json:
        print_json(done)
    else:
        typer.echo(f"{done['ended']} ended")
