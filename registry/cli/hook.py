"""``seatrial hook``: addresses to which others send messages that ask for trials."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from registry.cli.asking import require_yes
from registry.cli.claims import pairs
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list
from registry.cli.places import NamespaceOption, RepositoryOption
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Hooks, by which others ask for trials: create, list, show, delete, rotate.", no_args_is_help=True
)
_SHOWN = (
    "name",
    "path",
    "place",
    "scheme",
    "mapping",
    "webhook_id",
    "upstream",
    "created_by",
    "created_at",
    "old_secret_until",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The last part of its address.")]


@app.command()
def create(
    name: Name,
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    scheme: Annotated[
        str,
        typer.Option("--scheme", metavar="standard|github|gitlab|bearer", help="How it is signed."),
    ] = "standard",
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="MEMBER=POINTER",
            help="Where image, repository, tag, digest or spec stands, as in tag=/release/tag_name. "
            "[default: image=/image]",
        ),
    ] = None,
    docker: Annotated[
        bool, typer.Option("--docker", help="Messages are notifications of Docker's registry.")
    ] = False,
    call_back: Annotated[
        str | None,
        typer.Option("--call-back", metavar="URL", help="Where ends of its trials are sent to."),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            metavar="NAME",
            help="Messages name images of this other registry; --namespace is its.",
        ),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take messages at /hooks/NAME; prints the secret that signs them, which is not shown again."""
    if docker and map_:
        raise RequestInvalidError("--docker is a mapping itself: give it or --map")
    mapping: Any = "docker" if docker else pairs(map_, "--map") if map_ else None
    given = {
        "name": name,
        "repository": repository,
        "namespace": namespace,
        "scheme": scheme,
        "mapping": mapping,
        "call_back": call_back,
        "upstream": upstream,
    }
    body = {member: value for member, value in given.items() if value is not None}
    made = connect(server, token_file).send("POST", "/hooks", body)
    _print(made, as_json=as_json, fields=("secret", "call_back_secret", *_SHOWN))


@app.command("list")
def list_hooks(
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List hooks of a place, or all."""
    asked = {"repository": repository, "namespace": namespace}
    found = list(connect(server, token_file).items("/hooks", asked))
    print_list(found, ("name", "place", "scheme", "webhook_id", "created_at"), as_json=as_json)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show a hook; never its secret."""
    _print(connect(server, token_file).get(f"/hooks/{part(name)}"), as_json=as_json)


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take no more messages at this address; the webhook that calls back for it goes too."""
    require_yes(f"Delete the hook {name}?", yes=yes)
    connect(server, token_file).send("DELETE", f"/hooks/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


@app.command()
def rotate(
    name: Name,
    *,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="The old one is taken no more: it was stolen.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the secret and print the new one. For a day messages with the old one are taken as well."""
    made = connect(server, token_file).send("POST", f"/hooks/{part(name)}/rotate", {"at_once": at_once})
    _print(made, as_json=as_json, fields=("secret", "old_secret_until"))


def _print(hook: dict[str, Any], *, as_json: bool, fields: tuple[str, ...] = _SHOWN) -> None:
    if as_json:
        print_json(hook)
    else:
        print_fields(hook, fields)
