"""``seatrial policy``: which findings of a scan verdicts rest on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, read_text
from registry.cli.output import print_fields, print_json, print_table
from registry.cli.places import OnArgument

app = typer.Typer(no_args_is_help=True, help="Findings policies: set, preview, show, delete.")
_FIELDS = ("on", "digest", "created_by", "created_at")
PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The findings policy (YAML or JSON).")]


@app.command("set")
def set_policy(
    *,
    on: OnArgument,
    file: PolicyFile,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a policy count on a repository, or in all below a namespace that have no nearer one.

    What is there is judged by it again, without a run.
    """
    body = {"on": on, "policy": read_text(file, what="findings policy")}
    _print(connect(server, token_file).send("PUT", "/findings-policy", body), as_json=as_json)


@app.command("preview")
def preview_policy(
    *,
    on: OnArgument,
    file: PolicyFile,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a policy would make of the images that are there, if it counted. Nothing changes.

    Where findings have a grace, from when on an image would be refused that passes now.
    """
    client = connect(server, token_file)
    body: dict[str, Any] = {"on": on, "policy": read_text(file, what="findings policy")}
    found: list[dict[str, Any]] = []
    while True:
        page = client.send("POST", "/findings-policy/preview", body)
        found += page["items"]
        if page["next"] is None:
            break
        body["cursor"] = page["next"]
    if as_json:
        print_json(found)
        return
    changed = [one for one in found if one["verdict"] != "pass" or one["refuses_at"]]
    columns = ("repository", "digest", "state", "verdict", "findings_count", "refuses_at", "reason")
    print_table(changed, columns)
    refused = sum(one["verdict"] in ("fail", "error") for one in found)
    later = sum(one["refuses_at"] is not None for one in found)
    said = f"; {later} more when a grace is over" if later else ""
    typer.echo(f"{refused} of {len(found)} images would be refused by what was found in them{said}")


@app.command("show")
def show_policy(
    *,
    on: OnArgument,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the policy that counts on a place: its own, else that of the nearest namespace above."""
    _print(connect(server, token_file).get("/findings-policy", {"on": on}), as_json=as_json)


@app.command("delete")
def delete_policy(
    *,
    on: OnArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a place's own policy away; one on a namespace above counts then."""
    require_yes(f"Delete the findings policy of {on}?", yes=yes)
    connect(server, token_file).remove("/findings-policy", {"on": on})
    if as_json:
        print_json({"on": on, "deleted": True})


def _print(placed: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(placed)
        return
    print_fields(placed, _FIELDS)
    typer.echo(json.dumps(placed["policy"], indent=2))
