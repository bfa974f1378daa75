"""``seatrial secret``: values that the environments of run specs name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.asking import read_value, require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import Client, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list
from registry.cli.places import NamespaceOption, RepositoryOption
from registry.errors import NotFoundError, RequestInvalidError

app = typer.Typer(
    help="Secrets, which run specs name in their environment: create, list, rotate, delete.",
    no_args_is_help=True,
)
_LISTED = ("name", "place", "used_by", "created_by", "created_at", "rotated_at")
_SHOWN = ("name", "place", "created_by", "created_at", "rotated_at", "id")
Name = Annotated[str, typer.Argument(metavar="NAME", help="What run specs name it by.")]
ValueOption = Annotated[
    Path | None,
    typer.Option(
        "--value-file",
        metavar="FILE|-",
        help="Where the value is, without a last newline; - reads standard input. [default: asked for]",
    ),
]


@app.command()
def create(
    name: Name,
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    value_file: ValueOption = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a value that run specs of a repository, or of all below a namespace, may name."""
    body = {
        **_place(repository, namespace),
        "name": name,
        "value": read_value(value_file, option="--value-file"),
    }
    made = connect(server, token_file).send("POST", "/secrets", body)
    _print(made, as_json=as_json)


@app.command("list")
def list_secrets(
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the secrets of a repository or a namespace, and whose run specs get them; never their values."""
    found = list(connect(server, token_file).items("/secrets", _place(repository, namespace)))
    rows = [one | {"used_by": [*one["used_by"], *(() if one["used_by_all"] else ("…",))]} for one in found]
    print_list(found if as_json else rows, _LISTED, as_json=as_json)


@app.command()
def rotate(
    name: Name,
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    value_file: ValueOption = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep another value under the same name; runs that are under way go on with the old one."""
    client = connect(server, token_file)
    found = _find(client, name, _place(repository, namespace))
    changed = client.send(
        "POST",
        f"/secrets/{part(found['id'])}/rotate",
        {"value": read_value(value_file, option="--value-file")},
    )
    _print(changed, as_json=as_json)


@app.command()
def delete(
    name: Name,
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a secret; trials whose run spec names it end with an error from now on."""
    client = connect(server, token_file)
    found = _find(client, name, _place(repository, namespace))
    require_yes(f"Delete the secret {name} of {found['place']}?", yes=yes)
    client.send("DELETE", f"/secrets/{part(found['id'])}")
    if as_json:
        print_json({"name": name, "place": found["place"], "deleted": True})


def _place(repository: str | None, namespace: str | None) -> dict[str, str]:
    if (repository is None) == (namespace is None):
        raise RequestInvalidError("give --repository or --namespace: a secret is of one of them")
    return {"repository": repository} if repository is not None else {"namespace": namespace or ""}


def _find(client: Client, name: str, place: dict[str, str]) -> dict[str, Any]:
    for one in client.items("/secrets", place):
        if one["name"] == name:
            return dict(one)
    raise NotFoundError(f"there is no secret {name[:80]!r} of {next(iter(place.values()))}")


def _print(secret: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(secret)
    else:
        print_fields(secret, _SHOWN)
