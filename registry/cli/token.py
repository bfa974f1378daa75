"""``seatrial token``: API tokens, for people, programs and workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_duration_seconds, parse_past
from registry.cli.output import print_fields, print_json, print_list
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="API tokens: create, list, show, rotate, set, revoke, revoke-all.", no_args_is_help=True
)
_SHOWN = ("id", "token", "scopes", "expires_at")
_FIELDS = (
    "id",
    "name",
    "account",
    "scopes",
    "networks",
    "state",
    "created_at",
    "expires_at",
    "revoked_at",
    "last_used_at",
    "last_used_address",
    "last_used_client",
    "made_by",
    "replaces",
    "replaced_by",
)
TokenId = Annotated[str, typer.Argument(metavar="ID")]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="CIDR", help="Let it be used from there only, as in 10.0.0.0/8. Can be repeated."
    ),
]


@app.command()
def create(
    *,
    name: Annotated[str | None, typer.Option("--name", help="What it is for.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="repository:NAME:ACTIONS|account|admin|audit",
            help="What it may do: pull, push, trial, delete, configure, administer in repositories ('*' in "
            "NAME is any text), manage, or read the audit trail. Can be repeated; needed without --worker.",
        ),
    ] = None,
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="NAME", help="Make a worker's token instead.")
    ] = None,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="NAME", help="For this user or robot instead of yourself."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="1h|30d|never",
            help="How long it works. [default: as the server says, a year if nothing is set]",
        ),
    ] = None,
    network: Networks = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it; nobody can read it again later.

    It is a password too, under any user name: podman login -u x --password-stdin HOST.
    """
    if (name is None) == (worker is None):
        raise RequestInvalidError("give --name with --scope, or --worker")
    if name is not None and not scope:
        raise RequestInvalidError("give at least one --scope, as in repository:team/app:pull,push")
    wanted: dict[str, Any] = {
        "name": name,
        "scopes": scope,
        "networks": network,
        "worker": worker,
        "account": account,
    }
    wanted = {field: value for field, value in wanted.items() if value}
    if expires is not None:
        wanted["expires_seconds"] = None if expires == "never" else parse_duration_seconds(expires)
    _print_made(connect(server, token_file).send("POST", "/tokens", wanted), as_json=as_json)


@app.command("list")
def list_tokens(
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Those of this user, robot or worker.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="active|expired|revoked", help="Those in this state.")
    ] = None,
    expiring_within: Annotated[
        str | None,
        typer.Option("--expiring-within", metavar="7d", help="Those that end within this time."),
    ] = None,
    unused_for: Annotated[
        str | None,
        typer.Option(
            "--unused-for", metavar="90d", help="Those not revoked that nobody has used for this time."
        ),
    ] = None,
    made_by: Annotated[
        str | None, typer.Option("--made-by", metavar="ID", help="Those made with this token.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List tokens: an administrator sees all, others their own."""
    query = {
        "account": account,
        "state": state,
        "expiring_within": parse_duration_seconds(expiring_within) if expiring_within else None,
        "unused_for": parse_duration_seconds(unused_for) if unused_for else None,
        "made_by": made_by,
    }
    found = list(connect(server, token_file).items("/tokens", query))
    print_list(
        found, ("id", "name", "account", "scopes", "state", "last_used_at", "expires_at"), as_json=as_json
    )


@app.command()
def show(
    token_id: TokenId,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one token: what it may, from where, and when and by what it was last used."""
    _print(connect(server, token_file).get(f"/tokens/{part(token_id)}"), as_json=as_json)


@app.command()
def rotate(
    token_id: TokenId,
    *,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="1h|0", help="How long the old one works beside the new one.")
    ] = "1h",
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a token by one with the same name, scopes and networks, and print the new one."""
    body = {"overlap_seconds": 0 if overlap == "0" else parse_duration_seconds(overlap)}
    path = f"/tokens/{part(token_id)}/rotate"
    _print_made(connect(server, token_file).send("POST", path, body), as_json=as_json)


@app.command("set")
def change(
    token_id: TokenId,
    *,
    name: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    network: Networks = None,
    expires_at: Annotated[
        str | None,
        typer.Option("--expires-at", metavar="TIME", help="An earlier end, as in 2030-01-31T12:00:00Z."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a token another name, fewer networks or an earlier end."""
    wanted = {"name": name, "networks": network, "expires_at": expires_at}
    wanted = {field: value for field, value in wanted.items() if value}
    if not wanted:
        raise RequestInvalidError("nothing to change: give --name, --network or --expires-at")
    _print(connect(server, token_file).send("PATCH", f"/tokens/{part(token_id)}", wanted), as_json=as_json)


@app.command()
def revoke(
    token_id: TokenId,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a token open nothing from now on, nor the tokens that were made with it."""
    connect(server, token_file).send("DELETE", f"/tokens/{part(token_id)}")
    if as_json:
        print_json({"id": token_id, "revoked": True})


@app.command("revoke-all")
def revoke_all(
    *,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Of this account.")] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Of all accounts, yours too.")] = False,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="7d|TIME", help="What was issued before. [default: until now]"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let nothing that an account, or everybody, was given open anything: tokens, sessions, registry tokens.

    Passwords stay.
    """
    if everybody is (account is not None):
        raise RequestInvalidError("give --account NAME or --everybody")
    whose: dict[str, Any] = {"everybody": True} if everybody else {"account": account}
    body = {**whose, **({"before": parse_past(before)} if before else {})}
    what = f"issued before {body['before']}" if before else "issued until now"
    of = f"of {account}" if account else "of everybody, this command's own too,"
    require_yes(f"Revoke all tokens and end all sessions {of} that were {what}?", yes=yes)
    done = connect(server, token_file).send("POST", "/tokens/revoke", body)
    if as_json:
        print_json(done)
    else:
        typer.echo(f"{done['tokens']} tokens revoked")


def _print_made(made: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({field: made[field] for field in _SHOWN})
    else:
        typer.echo(made["token"])


def _print(token: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(token)
    else:
        print_fields(token, _FIELDS)
