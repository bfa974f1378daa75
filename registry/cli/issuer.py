"""``seatrial issuer``: OIDC issuers whose people sign in here and whose jobs get tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.auth.oidc.conditiontext import shown_condition
from registry.cli.asking import require_yes
from registry.cli.claims import ConditionOption, conditions, pairs
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="OIDC issuers: create, list, show, set, check, delete, and who of them is which user.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME")]
Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="'sub' of the issuer's tokens.")]
ClientId = Annotated[
    str | None, typer.Option("--client-id", metavar="ID", help="Of this registry at the issuer: for people.")
]
SecretFile = Annotated[
    Path | None, typer.Option("--client-secret-file", metavar="FILE", help="Where the client's secret is.")
]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--ask", metavar="SCOPE", help="What to ask for besides openid. [default: profile]"),
]
NameClaim = Annotated[
    str | None,
    typer.Option("--name-claim", metavar="CLAIM", help="Names a new account. [default: preferred_username]"),
]
GroupsClaim = Annotated[
    str | None, typer.Option("--groups-claim", metavar="CLAIM", help="Lists a person's groups.")
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="VALUE=GROUP", help="Who is in VALUE there is in GROUP here."),
]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="VALUE=administrator|auditor", help="Who is in VALUE is that here."),
]
CreateAccounts = Annotated[
    bool | None,
    typer.Option(
        "--create-accounts/--no-create-accounts",
        help="Make an account at a first sign-in. [default: only who is linked signs in]",
    ),
]
RunUrl = Annotated[
    str | None,
    typer.Option("--run-url", metavar="URL", help="Address of a job's run; {CLAIM} is a claim's value."),
]
CommitClaim = Annotated[
    str | None, typer.Option("--commit-claim", metavar="CLAIM", help="The job's commit. [default: sha]")
]
_SHOWN = (
    "name",
    "url",
    "client_id",
    "has_client_secret",
    "scopes",
    "name_claim",
    "groups_claim",
    "groups",
    "roles",
    "conditions",
    "create_accounts",
    "run_url",
    "commit_claim",
    "created_at",
)


@app.command()
def create(
    name: Name,
    *,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Exactly as its tokens name it.")],
    client_id: ClientId = None,
    client_secret_file: SecretFile = None,
    ask: Scopes = None,
    name_claim: NameClaim = None,
    groups_claim: GroupsClaim = None,
    group: Groups = None,
    role: Roles = None,
    claim: ConditionOption = None,
    create_accounts: CreateAccounts = None,
    run_url: RunUrl = None,
    commit_claim: CommitClaim = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust an issuer: its people with --client-id, its jobs by 'workload create'.

    At the issuer, the address to come back to is https://HOST/oauth/callback/NAME.
    """
    body = _given(
        url=url,
        client_id=client_id,
        client_secret=_secret(client_secret_file),
        scopes=ask,
        name_claim=name_claim,
        groups_claim=groups_claim,
        groups=None if group is None else pairs(group, "--group"),
        roles=None if role is None else pairs(role, "--role"),
        conditions=None if claim is None else conditions(claim),
        create_accounts=create_accounts,
        run_url=run_url,
        commit_claim=commit_claim,
    )
    _print(connect(server, token_file).send("POST", "/issuers", {"name": name, **body}), as_json=as_json)


@app.command("list")
def list_issuers(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List issuers."""
    found = list(connect(server, token_file).items("/issuers"))
    print_list(found, ("name", "url", "client_id", "create_accounts", "created_at"), as_json=as_json)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show an issuer; never its secret."""
    _print(connect(server, token_file).get(f"/issuers/{part(name)}"), as_json=as_json)


@app.command("set")
def set_issuer(
    name: Name,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Another address: the secret and who was whom there are forgotten, the tokens of jobs end.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask about another address.")] = False,
    client_id: ClientId = None,
    client_secret_file: SecretFile = None,
    ask: Scopes = None,
    name_claim: NameClaim = None,
    groups_claim: GroupsClaim = None,
    group: Groups = None,
    role: Roles = None,
    claim: ConditionOption = None,
    create_accounts: CreateAccounts = None,
    run_url: RunUrl = None,
    commit_claim: CommitClaim = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given; a list is replaced as a whole."""
    if url is not None:
        require_yes(f"Forget the secret of {name} and who of it is which user, for another address?", yes=yes)
    body = _given(
        url=url,
        client_id=client_id,
        client_secret=_secret(client_secret_file),
        scopes=ask,
        name_claim=name_claim,
        groups_claim=groups_claim,
        groups=None if group is None else pairs(group, "--group"),
        roles=None if role is None else pairs(role, "--role"),
        conditions=None if claim is None else conditions(claim),
        create_accounts=create_accounts,
        run_url=run_url,
        commit_claim=commit_claim,
    )
    _print(connect(server, token_file).send("PATCH", f"/issuers/{part(name)}", body), as_json=as_json)


@app.command()
def check(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let the registry ask the issuer what it says of itself."""
    told = connect(server, token_file).send("POST", f"/issuers/{part(name)}/check")
    if as_json:
        print_json(told)
    else:
        keys = [f"{one['kid']} {'/'.join(one['algorithms'])}" for one in told["keys"]]
        fields = ("authorization_endpoint", "token_endpoint", "jwks_uri", "keys", "age_seconds")
        print_fields(told | {"keys": keys}, fields)


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust an issuer no longer. Its rules go, and the tokens of its jobs; accounts stay."""
    require_yes(f"Delete the issuer {name}, its rules, and who of it is which user?", yes=yes)
    connect(server, token_file).send("DELETE", f"/issuers/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


@app.command()
def link(
    name: Name,
    subject: Subject,
    user: Annotated[str, typer.Argument(metavar="USER")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let somebody of an issuer sign in as a user who is there."""
    body = {"subject": subject, "account": user}
    made = connect(server, token_file).send("POST", f"/issuers/{part(name)}/identities", body)
    if as_json:
        print_json(made)


@app.command()
def unlink(
    name: Name,
    subject: Subject,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let somebody of an issuer sign in as nobody; the user stays."""
    connect(server, token_file).send("DELETE", f"/issuers/{part(name)}/identities/{part(subject)}")
    if as_json:
        print_json({"subject": subject, "unlinked": True})


@app.command()
def identities(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List who of an issuer is which user."""
    found = list(connect(server, token_file).items(f"/issuers/{part(name)}/identities"))
    print_list(found, ("subject", "account", "created_at", "last_used_at"), as_json=as_json)


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalidError(f"the secret's file {path} cannot be read: {error}") from None


def _print(issuer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(issuer)
        return
    shown = {
        **issuer,
        "conditions": [shown_condition(each) for each in issuer["conditions"]],
        **{name: [f"{value}={ours}" for value, ours in issuer[name].items()] for name in ("groups", "roles")},
    }
    print_fields(shown, _SHOWN)
