"""``seatrial tag protect`` and its rules: tags that stand where they stand for good."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list
from registry.cli.places import OnArgument
from registry.cli.tag import NameAndTag, split_tag
from registry.errors import RequestInvalidError

app = typer.Typer(no_args_is_help=True)
_SHOWN = ("id", "on", "by", "pattern", "exceptions", "reason", "created_by", "created_at")
_KINDS = ("glob", "regex", "semver")

Reason = Annotated[
    str | None, typer.Option("--reason", help="Why; whoever is refused, and may pull, reads it.")
]


@app.command()
def protect(
    tag: NameAndTag,
    *,
    off: Annotated[bool, typer.Option("--off", help="Let it move again, if no other rule holds.")] = False,
    reason: Reason = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let one tag stand where it stands for good: a rule of its repository for this name alone."""
    name, only = split_tag(tag)
    client = connect(server, token_file)
    if not off:
        body = {"on": name, "by": "glob", "pattern": only} | ({} if reason is None else {"reason": reason})
        _print(client.send("POST", "/tag-rules", body), as_json=as_json)
        return
    rules = client.get("/tag-rules", {"on": name})
    own = [rule for rule in rules if (rule["by"], rule["pattern"]) == ("glob", only)]
    if not own:
        raise RequestInvalidError(
            f"{name} has no rule for {only} alone; seatrial tag rules {name} lists those that it has"
        )
    for rule in own:
        client.send("DELETE", f"/tag-rules/{part(str(rule['id']))}")
    if as_json:
        print_json({"tag": tag, "deleted": [rule["id"] for rule in own]})


@app.command()
def rules(
    on: Annotated[
        str,
        typer.Argument(
            metavar="NAME|NAMESPACE/|NAME:TAG",
            help="A repository, a namespace with a slash at its end, or one tag.",
        ),
    ],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the rules on a place by which tags stand for good; those on namespaces above count as well. Of one
    tag, list all rules that hold for it."""
    place, _, tag = on.partition(":")
    found = connect(server, token_file).get("/tag-rules", {"on": place, "tag": tag or None})
    print_list(found if as_json else [_flat(rule) for rule in found], _SHOWN, as_json=as_json)


@app.command("add-rule")
def add_rule(
    on: OnArgument,
    *,
    glob: Annotated[
        str | None, typer.Option("--name", metavar="PATTERN", help="Tags named so; '*' is any text.")
    ] = None,
    regex: Annotated[
        str | None, typer.Option("--regex", metavar="RE2", help="Tags whose whole name this pattern matches.")
    ] = None,
    semver: Annotated[
        str | None,
        typer.Option("--semver", metavar="RANGE", help="Versions in a range, as in '>=1.0.0' or '*'."),
    ] = None,
    exceptions: Annotated[
        list[str] | None,
        typer.Option(
            "--except",
            metavar="[KIND=]PATTERN",
            help="But not these: a name with '*', or regex=…, semver=…; again for more.",
        ),
    ] = None,
    reason: Reason = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let tags of a place stand for good, once they are there: nobody moves or deletes them then."""
    given = {kind: text for kind, text in zip(_KINDS, (glob, regex, semver), strict=True) if text is not None}
    if len(given) != 1:
        raise RequestInvalidError("say which tags, by one of --name, --regex and --semver")
    ((kind, pattern),) = given.items()
    body: dict[str, Any] = {"on": on, "by": kind, "pattern": pattern}
    body["exceptions"] = [_exception(text) for text in exceptions or ()]
    if reason is not None:
        body["reason"] = reason
    _print(connect(server, token_file).send("POST", "/tag-rules", body), as_json=as_json)


@app.command("delete-rule")
def delete_rule(
    rule: Annotated[str, typer.Argument(metavar="ID", help="Of the rule (seatrial tag rules).")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let tags move again."""
    # It loads what reads secrets, which the other commands about tags do without.
    from registry.cli.asking import require_yes  # noqa: PLC0415

    require_yes(f"Delete the rule {rule} for tags?", yes=yes)
    connect(server, token_file).send("DELETE", f"/tag-rules/{part(rule)}")
    if as_json:
        print_json({"id": rule, "deleted": True})


def _exception(text: str) -> dict[str, str]:
    kind, equals, pattern = text.partition("=")
    if equals and kind in _KINDS:
        return {"by": kind, "pattern": pattern}
    return {"by": "glob", "pattern": text}


def _flat(rule: dict[str, Any]) -> dict[str, Any]:
    return rule | {"exceptions": [f"{each['by']}={each['pattern']}" for each in rule["exceptions"]]}


def _print(rule: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(rule)
    else:
        print_fields(_flat(rule), _SHOWN)
