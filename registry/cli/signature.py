"""``seatrial signature``: who must have signed what is pulled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.keys import read_key_file
from registry.cli.output import print_fields, print_json, print_list, print_table
from registry.cli.places import OnArgument

app = typer.Typer(
    no_args_is_help=True, help="Required signatures: require, list and delete them; which tags have them."
)
_SHOWN = ("id", "name", "issuer", "subject", "created_by", "created_at")


@app.command()
def require(
    *,
    on: OnArgument,
    name: Annotated[str, typer.Option("--name", help="What the rule is called; who is refused reads it.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Public key (PEM), as cosign.pub.")
    ] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="OIDC issuer that named the signer.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", metavar="PATTERN", help="The signer; * stands for anything."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Require a signature of what is pulled. Of the rules on one place one must be met; a namespace and a
    repository in it that both have rules must each be satisfied."""
    wanted: dict[str, object] = {"on": on, "name": name}
    if key is not None:
        wanted["public_pem"] = read_key_file(key)
    wanted |= {one: text for one, text in (("issuer", issuer), ("subject", subject)) if text is not None}
    made = connect(server, token_file).send("POST", "/signature-rules", wanted)
    if as_json:
        print_json(made)
    else:
        print_fields(made, _SHOWN)


@app.command("list")
def list_rules(
    *,
    on: OnArgument,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the rules on a place; those on namespaces above count as well."""
    print_list(connect(server, token_file).get("/signature-rules", {"on": on}), _SHOWN, as_json=as_json)


@app.command()
def delete(
    rule: Annotated[str, typer.Argument(metavar="ID", help="Of the rule (seatrial signature list).")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Require a signature no longer."""
    require_yes(f"Delete the rule {rule} for signatures?", yes=yes)
    connect(server, token_file).send("DELETE", f"/signature-rules/{part(rule)}")
    if as_json:
        print_json({"id": rule, "deleted": True})


@app.command("tags")
def list_tags(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The repository.")],
    *,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Only tags that lack a signature that is required.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of each tag whether its image has the signatures that are required, and which rules they meet."""
    listed = connect(server, token_file).items(f"/repositories/{part(name)}/signatures")
    found = [one for one in listed if not (unsigned and one["signed"])]
    if as_json:
        print_json(found)
    else:
        shown = [{**one, "rules": ", ".join(one["rules"])} for one in found]
        print_table(shown, ("tag", "digest", "signed", "rules"))
