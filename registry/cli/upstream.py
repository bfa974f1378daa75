"""``seatrial upstream``: other registries whose images are tried."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.asking import read_credential, require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list
from registry.contract.sizes import parse_size_bytes
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Upstreams, other registries whose images are tried: add, list, show, set, delete.",
    no_args_is_help=True,
)
_SHOWN = (
    "name", "place", "host", "plain_http", "token_host", "repositories", "max_bytes", "username",
    "has_secret", "created_by", "created_at",
)  # fmt: skip
Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called here.")]
Namespace = Annotated[
    str, typer.Option("--namespace", metavar="NAME", help="Whose writers may have its images tried.")
]
Username = Annotated[
    str | None, typer.Option("--username", metavar="USER", help="Whom it is asked as, by password.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE|-",
        help="Where the password is; - reads standard input. [default: asked for, with --username]",
    ),
]
BearerFile = Annotated[
    Path | None,
    typer.Option(
        "--bearer-file", metavar="FILE|-", help="A token that it takes itself, in the place of a password."
    ),
]


@app.command()
def add(
    name: Name,
    host: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Where it is, as in docker.example.")],
    *,
    namespace: Namespace,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="PATTERN",
            help="Repositories there, as in library/*; may be given again. [default: *]",
        ),
    ] = None,
    username: Username = None,
    password_file: PasswordFile = None,
    bearer_file: BearerFile = None,
    token_host: Annotated[
        str | None,
        typer.Option(
            "--token-host",
            metavar="HOST[:PORT]",
            help="Where its token service is, if elsewhere: that is told the password as well.",
        ),
    ] = None,
    plain_http: Annotated[
        bool,
        typer.Option("--without-tls", help="Ask it in clear, in a network that the operator lists."),
    ] = False,
    max_size: Annotated[
        str, typer.Option("--max-size", metavar="SIZE", help="Largest image that is copied.")
    ] = "10GiB",
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the writers of a namespace have images of another registry tried. Its password is shown nowhere."""
    secret = read_credential(username, password_file, bearer_file)
    given = {
        "name": name,
        "namespace": namespace,
        "host": host,
        "repositories": allow or None,
        "username": username,
        "secret": secret,
        "token_host": token_host,
        "plain_http": plain_http,
        "max_bytes": parse_size_bytes(max_size),
    }
    body = {member: value for member, value in given.items() if value is not None}
    _print(connect(server, token_file).send("POST", "/upstreams", body), as_json=as_json)


@app.command("list")
def list_upstreams(
    *,
    namespace: Namespace,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the upstreams of a namespace."""
    found = list(connect(server, token_file).items("/upstreams", {"namespace": namespace}))
    print_list(found, ("name", "host", "repositories", "username", "created_at"), as_json=as_json)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show an upstream; never its password or token."""
    _print(connect(server, token_file).get(f"/upstreams/{part(name)}"), as_json=as_json)


@app.command("set")
def set_credential(
    name: Name,
    *,
    username: Username = None,
    password_file: PasswordFile = None,
    bearer_file: BearerFile = None,
    as_nobody: Annotated[
        bool, typer.Option("--as-nobody", help="Ask it without any password or token.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask an upstream with another password or token from the next copy on."""
    client = connect(server, token_file)
    if as_nobody is not (username is None and password_file is None and bearer_file is None):
        raise RequestInvalidError(
            "say what it is asked with: --username, --password-file, --bearer-file, or --as-nobody alone"
        )
    if password_file is not None and username is None:
        username = client.get(f"/upstreams/{part(name)}")["username"]
    body = {"username": username, "secret": read_credential(username, password_file, bearer_file)}
    _print(client.send("PATCH", f"/upstreams/{part(name)}", body), as_json=as_json)


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget an upstream with its password, what was copied from it, and the trials of that."""
    require_yes(f"Delete the upstream {name} with all trials of its images?", yes=yes)
    connect(server, token_file).send("DELETE", f"/upstreams/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


def _print(upstream: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(upstream)
    else:
        print_fields(upstream, _SHOWN)
