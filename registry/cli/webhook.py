"""``seatrial webhook``: whom events are sent to, and what became of each delivery."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import Client, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_past
from registry.cli.output import print_fields, print_json, print_list
from registry.cli.places import NamespaceOption, RepositoryOption
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Webhooks: create, list, show, set, delete, test, rotate, and their deliveries.",
    no_args_is_help=True,
)
_SHOWN = (
    "id",
    "place",
    "url",
    "kinds",
    "format",
    "ordered",
    "created_by",
    "created_at",
    "last_delivered_at",
    "failing_since",
    "disabled_at",
    "disabled_reason",
    "old_secret_until",
)
_DELIVERY = ("id", "kind", "repository", "state", "attempts", "created_at", "due_at", "finished_at")
_ATTEMPT = ("at", "seconds", "status", "error", "answer")
_LOOK_SECONDS = 0.3

WebhookId = Annotated[str, typer.Argument(metavar="ID", help="Of a webhook.")]
KindsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        metavar="KIND",
        help="Kinds of events, as tag.moved or 'trial.*'; again for more. [default: those of images]",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="cloudevents|docker", help="How events look. [default: cloudevents]"),
]
OrderedOption = Annotated[
    bool | None,
    typer.Option(
        "--ordered/--no-ordered", help="Each repository's events one after the other. [default: no]"
    ),
]


@app.command()
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent to, by POST.")],
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    event: KindsOption = None,
    format_: FormatOption = None,
    ordered: OrderedOption = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send events to an address from now on; prints the secret that signs them, which is not shown again.

    Without --repository and --namespace: those of everything, for administrators.
    """
    body = _given(
        url=url, repository=repository, namespace=namespace, kinds=event, format=format_, ordered=ordered
    )
    made = connect(server, token_file).send("POST", "/webhooks", body)
    _print(made, as_json=as_json, fields=("secret", *_SHOWN))


@app.command("list")
def list_webhooks(
    *,
    repository: RepositoryOption = None,
    namespace: NamespaceOption = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List webhooks of a place, or all."""
    asked = {"repository": repository, "namespace": namespace}
    found = list(connect(server, token_file).items("/webhooks", asked))
    columns = ("id", "place", "url", "kinds", "format", "failing_since", "disabled_at")
    print_list(found, columns, as_json=as_json)


@app.command()
def show(
    webhook: WebhookId,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a webhook and how it stands; never its secret."""
    _print(connect(server, token_file).get(f"/webhooks/{part(webhook)}"), as_json=as_json)


@app.command("set")
def set_webhook(
    webhook: WebhookId,
    *,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Another address.")] = None,
    event: KindsOption = None,
    format_: FormatOption = None,
    ordered: OrderedOption = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Enabled again it goes on with what waits.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given; the kinds are replaced as a whole."""
    body = _given(url=url, kinds=event, format=format_, ordered=ordered, enabled=enabled)
    if not body:
        raise RequestInvalidError("nothing to change was given")
    _print(connect(server, token_file).send("PATCH", f"/webhooks/{part(webhook)}", body), as_json=as_json)


@app.command()
def delete(
    webhook: WebhookId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a webhook with its deliveries; what waits is not sent."""
    require_yes(f"Delete the webhook {webhook} and its deliveries?", yes=yes)
    connect(server, token_file).send("DELETE", f"/webhooks/{part(webhook)}")
    if as_json:
        print_json({"id": webhook, "deleted": True})


@app.command()
def rotate(
    webhook: WebhookId,
    *,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="The old one signs no more: it was stolen.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the secret and print the new one. For a day the old one signs each delivery as well."""
    made = connect(server, token_file).send("POST", f"/webhooks/{part(webhook)}/rotate", {"at_once": at_once})
    _print(made, as_json=as_json, fields=("secret", "id", "old_secret_until"))


@app.command("test")
def send_test(
    webhook: WebhookId,
    *,
    timeout: Annotated[int, typer.Option("--timeout", metavar="S", min=0, help="Wait so long.")] = 20,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an event of kind webhook.test and say what was answered; exit 0 delivered, 1 not."""
    client = connect(server, token_file)
    sent = client.send("POST", f"/webhooks/{part(webhook)}/test")
    told = _attempted(client, webhook, sent["id"], timeout)
    _print_delivery(told, as_json=as_json)
    if told["state"] != "delivered":
        raise typer.Exit(1)


@app.command()
def deliveries(
    webhook: WebhookId,
    delivery: Annotated[
        str | None, typer.Argument(metavar="[DELIVERY]", help="Show this one, with all that is known.")
    ] = None,
    *,
    state: Annotated[
        str | None, typer.Option("--state", metavar="pending|delivered|failed", help="Those in this state.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="7d|TIME", help="Not made before.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many at most.")] = 100,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, the newest first, or show one: what is sent and what was answered."""
    client = connect(server, token_file)
    if delivery is not None:
        told = client.get(f"/webhooks/{part(webhook)}/deliveries/{part(delivery)}")
        _print_delivery(told, as_json=as_json)
        return
    asked = {
        "state": state,
        "since": None if since is None else parse_past(since),
        "limit": min(limit, 1000),
    }
    found = []
    for each in client.items(f"/webhooks/{part(webhook)}/deliveries", asked):
        found.append(each)
        if len(found) == limit:
            break
    print_list(found, _DELIVERY, as_json=as_json)


@app.command()
def redeliver(
    webhook: WebhookId,
    delivery: Annotated[str | None, typer.Argument(metavar="[DELIVERY]", help="This one.")] = None,
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="7d|TIME", help="All that were made since then.")
    ] = None,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="With --since: only those that were given up.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a delivery again, or all since a time, with their ids and bodies of before."""
    if (delivery is None) == (since is None):
        raise RequestInvalidError("give either DELIVERY or --since")
    client = connect(server, token_file)
    if delivery is not None:
        path = f"/webhooks/{part(webhook)}/deliveries/{part(delivery)}/redeliver"
        _print_delivery(client.send("POST", path), as_json=as_json)
        return
    body = {"since": parse_past(since or ""), "only_failed": only_failed}
    told = client.send("POST", f"/webhooks/{part(webhook)}/redeliver", body)
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{told['deliveries']} deliveries are sent again")


def _attempted(client: Client, webhook: str, delivery: str, timeout: int) -> Any:
    """The delivery once it was tried, or as it stands when time is up."""
    end = time.monotonic() + timeout
    while True:
        told = client.get(f"/webhooks/{part(webhook)}/deliveries/{part(delivery)}")
        if told["attempts"] or time.monotonic() > end:
            return told
        time.sleep(_LOOK_SECONDS)


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _print(webhook: dict[str, Any], *, as_json: bool, fields: tuple[str, ...] = _SHOWN) -> None:
    if as_json:
        print_json(webhook)
    else:
        print_fields(webhook, fields)


def _print_delivery(delivery: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(delivery)
        return
    print_fields(delivery, (*_DELIVERY, "content_type", "body"))
    for attempt in delivery["last_attempts"]:
        typer.echo("")
        print_fields(attempt, [name for name in _ATTEMPT if name in attempt])
