"""``seatrial repo``: repositories, who sees them, and what a verdict does in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part, read_text
from registry.cli.durations import parse_past
from registry.cli.numbers import parse_number_or_default
from registry.cli.output import print_fields, print_json, print_list
from registry.cli.switches import parse_switch
from registry.contract.sizes import parse_size_bytes
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Repositories: create, list, show, set, readme, rename, transfer, delete.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in team/app.")]
Visibility = Annotated[
    str | None,
    typer.Option(
        "--visibility",
        metavar="public|internal|private",
        help="Who may pull: everybody, everybody signed in, or those who have a role.",
    ),
]
Gate = Annotated[
    str | None,
    typer.Option(
        "--gate",
        metavar="off|warn|enforce|hold",
        help="What a verdict does: nothing, a header, it decides, or tags also move only after it.",
    ),
]
TrialOnPush = Annotated[
    bool | None, typer.Option("--trial-on-push/--no-trial-on-push", help="Whether each push is tried.")
]
TrialTags = Annotated[
    str | None,
    typer.Option(
        "--trial-tags",
        metavar="PATTERN,…",
        help="Try only what is pushed under such a tag, as in 'v*,release-*'; '*' is all.",
    ),
]
Scan = Annotated[
    str | None,
    typer.Option("--scan", metavar="on|off", help="Whether its images are scanned when they are tried."),
]
ImageSpec = Annotated[
    bool | None,
    typer.Option(
        "--image-spec/--no-image-spec",
        help="Whether an image's label io.seatrial.smoke, and what is attached to it, may add expectations.",
    ),
]
RunSpec = Annotated[
    str | None, typer.Option("--run-spec", metavar="FILE|none", help="Run spec (YAML) of all its trials.")
]
Quota = Annotated[
    str | None,
    typer.Option(
        "--quota",
        metavar="SIZE|none",
        help="How much it may hold, as in 500MiB or 20GB: the sizes of its blobs and manifests.",
    ),
]
WorkerLabel = Annotated[
    str | None,
    typer.Option(
        "--worker-label", metavar="LABEL|none", help="Let only workers with this label try its images."
    ),
]
TurnedBad = Annotated[
    str | None,
    typer.Option(
        "--turned-bad",
        metavar="keep|warn|block|default",
        help="What an image does that passed and is judged otherwise later.",
    ),
]
TurnedBadDays = Annotated[
    str | None,
    typer.Option("--turned-bad-days", metavar="N|default", help="How many days before it is blocked."),
]
TrialKeepDays = Annotated[
    str | None,
    typer.Option("--trial-keep-days", metavar="N|default", help="How many days its trials are kept."),
]
LogKeep = Annotated[
    str | None,
    typer.Option(
        "--log-keep",
        metavar="SIZE|default",
        help="How much of the logs of its runs is kept, as in 200MiB: the newest.",
    ),
]
HistoryDays = Annotated[
    str | None,
    typer.Option(
        "--history-keep-days",
        metavar="N|default",
        help="How many days a tag's history says where the tag stood, after it moved on.",
    ),
]
HistoryLines = Annotated[
    str | None,
    typer.Option("--history-keep-lines", metavar="N|default", help="How many moves of each tag are kept."),
]
_FIELDS = (
    "name",
    "visibility",
    "gate",
    "trial_on_push",
    "trial_tags",
    "scan",
    "image_spec_allowed",
    "run_spec",
    "worker_label",
    "turned_bad",
    "turned_bad_days",
    "trial_keep_days",
    "log_keep_bytes",
    "history_keep_days",
    "history_keep_lines",
    "quota_bytes",
    "used_bytes",
    "tags",
    "images",
    "created_at",
)


@app.command()
def create(
    name: Name,
    *,
    visibility: Visibility = None,
    gate: Gate = None,
    trial_on_push: TrialOnPush = None,
    trial_tags: TrialTags = None,
    scan: Scan = None,
    image_spec: ImageSpec = None,
    run_spec: RunSpec = None,
    worker_label: WorkerLabel = None,
    turned_bad: TurnedBad = None,
    turned_bad_days: TurnedBadDays = None,
    trial_keep_days: TrialKeepDays = None,
    log_keep: LogKeep = None,
    history_keep_days: HistoryDays = None,
    history_keep_lines: HistoryLines = None,
    quota: Quota = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty repository. A push makes one too, with the server's defaults."""
    wanted = _wanted(
        visibility,
        gate,
        trial_on_push=trial_on_push,
        trial_tags=trial_tags,
        scan=scan,
        image_spec=image_spec,
        run_spec=run_spec,
        worker_label=worker_label,
        turned_bad=turned_bad,
        turned_bad_days=turned_bad_days,
        trial_keep_days=trial_keep_days,
        log_keep=log_keep,
        history_keep_days=history_keep_days,
        history_keep_lines=history_keep_lines,
        quota=quota,
    )
    made = connect(server, token_file).send("POST", "/repositories", {"name": name, **wanted})
    _print(made, as_json=as_json)


@app.command("set")
def change(
    name: Name,
    *,
    visibility: Visibility = None,
    gate: Gate = None,
    trial_on_push: TrialOnPush = None,
    trial_tags: TrialTags = None,
    scan: Scan = None,
    image_spec: ImageSpec = None,
    run_spec: RunSpec = None,
    worker_label: WorkerLabel = None,
    turned_bad: TurnedBad = None,
    turned_bad_days: TurnedBadDays = None,
    trial_keep_days: TrialKeepDays = None,
    log_keep: LogKeep = None,
    history_keep_days: HistoryDays = None,
    history_keep_lines: HistoryLines = None,
    quota: Quota = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a repository.

    When the gate becomes stricter, images that were there before and never tried stay admitted for some
    time (the setting grandfather_days).
    """
    wanted = _wanted(
        visibility,
        gate,
        trial_on_push=trial_on_push,
        trial_tags=trial_tags,
        scan=scan,
        image_spec=image_spec,
        run_spec=run_spec,
        worker_label=worker_label,
        turned_bad=turned_bad,
        turned_bad_days=turned_bad_days,
        trial_keep_days=trial_keep_days,
        log_keep=log_keep,
        history_keep_days=history_keep_days,
        history_keep_lines=history_keep_lines,
        quota=quota,
    )
    if not wanted:
        raise RequestInvalidError("nothing to change: give --visibility, --gate, --run-spec, …")
    changed = connect(server, token_file).send("PATCH", f"/repositories/{part(name)}", wanted)
    _print(changed, as_json=as_json)


@app.command("list")
def list_repositories(
    *,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Only those below this namespace.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the repositories that you may pull from."""
    found = list(connect(server, token_file).items("/repositories", {"namespace": namespace}))
    print_list(found, ("name", "visibility", "gate", "tags", "images", "created_at"), as_json=as_json)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show one repository."""
    _print(connect(server, token_file).get(f"/repositories/{part(name)}"), as_json=as_json)


@app.command()
def preview(
    name: Name,
    *,
    visibility: Annotated[
        str,
        typer.Option("--visibility", metavar="internal|private", help="The visibility that there would be."),
    ] = "private",
    since: Annotated[
        str,
        typer.Option("--since", metavar="30d|TIME", help="Pulls since then: so long ago, or a day of UTC."),
    ] = "30d",
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say who pulled from a repository and could not any more by another visibility. Nothing changes."""
    asked = {"visibility": visibility, "since": parse_past(since)}
    found = list(connect(server, token_file).items(f"/repositories/{part(name)}/visibility/preview", asked))
    print_list(found, ("actor", "count", "last_at"), as_json=as_json)
    if not as_json:
        typer.echo(f"{len(found)} of those who pulled could not any more")


@app.command()
def rename(
    name: Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME", help="The whole new name, as in team/app2.")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a repository another name, with all it holds.

    Nothing leads from the old name to the new one, and tokens that name the old one open nothing any more.
    """
    moved = connect(server, token_file).send("POST", f"/repositories/{part(name)}/rename", {"name": new_name})
    _print(moved, as_json=as_json)


@app.command()
def transfer(
    name: Name,
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="Where it goes, as in other/team.")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a repository to another namespace, with all it holds; you have to be an owner of both.

    Roles that were given on the namespace it leaves are not taken along.
    """
    path = f"/repositories/{part(name)}/transfer"
    _print(connect(server, token_file).send("POST", path, {"namespace": namespace}), as_json=as_json)


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a repository with its tags, images and trials."""
    require_yes(f"Delete {name} with all it holds?", yes=yes)
    connect(server, token_file).send("DELETE", f"/repositories/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


def _wanted(
    visibility: str | None,
    gate: str | None,
    *,
    trial_on_push: bool | None,
    trial_tags: str | None,
    scan: str | None,
    image_spec: bool | None,
    run_spec: str | None,
    worker_label: str | None,
    turned_bad: str | None,
    turned_bad_days: str | None,
    trial_keep_days: str | None,
    log_keep: str | None,
    history_keep_days: str | None,
    history_keep_lines: str | None,
    quota: str | None,
) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "visibility": visibility,
        "gate": gate,
        "trial_on_push": trial_on_push,
        "image_spec_allowed": image_spec,
    }
    wanted = {field: value for field, value in wanted.items() if value is not None}
    if trial_tags is not None:
        wanted["trial_tags"] = None if trial_tags == "*" else trial_tags.split(",")
    if scan is not None:
        wanted["scan"] = parse_switch("--scan", scan)
    if run_spec is not None:
        wanted["run_spec"] = None if run_spec == "none" else read_text(Path(run_spec), what="run spec")
    if worker_label is not None:
        wanted["worker_label"] = None if worker_label == "none" else worker_label
    if turned_bad is not None:
        wanted["turned_bad"] = None if turned_bad == "default" else turned_bad
    if turned_bad_days is not None:
        wanted["turned_bad_days"] = parse_number_or_default("--turned-bad-days", turned_bad_days)
    if trial_keep_days is not None:
        wanted["trial_keep_days"] = parse_number_or_default("--trial-keep-days", trial_keep_days)
    if log_keep is not None:
        wanted["log_keep_bytes"] = None if log_keep == "default" else parse_size_bytes(log_keep)
    if history_keep_days is not None:
        wanted["history_keep_days"] = parse_number_or_default("--history-keep-days", history_keep_days)
    if history_keep_lines is not None:
        wanted["history_keep_lines"] = parse_number_or_default("--history-keep-lines", history_keep_lines)
    if quota is not None:
        wanted["quota_bytes"] = None if quota == "none" else parse_size_bytes(quota)
    return wanted


def _print(repository: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(repository)
    else:
        print_fields(repository, _FIELDS)
