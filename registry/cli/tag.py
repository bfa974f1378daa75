"""``seatrial tag``: where tags stand, where they stood, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import Client, JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_past
from registry.cli.output import print_fields, print_json, print_list
from registry.errors import RequestInvalidError
from registry.oci.names import split_repository_reference

app = typer.Typer(
    help="Tags: list, show, history, move, copy, rollback, restore, delete, protect.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in team/app.")]
NameAndTag = Annotated[str, typer.Argument(metavar="NAME:TAG", help="As in team/app:1.2.")]
Reason = Annotated[
    str | None,
    typer.Option("--reason", help="Why, for the tag's history, which everybody reads who may pull."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Try it, and change nothing.")]
_PAGE = 1000
_FIELDS = ("name", "digest", "media_type", "size", "updated_at", "updated_by")
_LISTED = ("name", "digest", "updated_at", "updated_by", "platforms", "state")
_DELETED = ("name", "digest", "at", "actor", "is_there", "restorable_until", "reason")
_MOVES = ("at", "action", "old_digest", "new_digest", "actor", "address", "token_name", "reason")


@app.command("list")
def list_tags(
    name: Name,
    *,
    glob: Annotated[
        str | None, typer.Option("--name", metavar="PATTERN", help="Named so; '*' is any text, as in 'v1.*'.")
    ] = None,
    regex: Annotated[
        str | None, typer.Option("--regex", metavar="RE2", help="Whose whole name this pattern matches.")
    ] = None,
    semver: Annotated[
        str | None,
        typer.Option(
            "--semver", metavar="RANGE", help="Versions in a range, as in '>=1.2 <2 stable' or '*'."
        ),
    ] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="That stand at this image.")] = None,
    platform: Annotated[
        str | None, typer.Option("--platform", metavar="OS/ARCH", help="Of images for it, as in linux/arm64.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="NAME[=VALUE]", help="Of images with this label or annotation."),
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="Of images in this state, as in pass or fail.")
    ] = None,
    signed: Annotated[
        bool | None, typer.Option("--signed/--unsigned", help="Of images with a signature, or without.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGE|TIME", help="That moved since, as in 7d.")
    ] = None,
    before: Annotated[
        str | None, typer.Option("--before", metavar="AGE|TIME", help="That have not moved since.")
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            "--order",
            metavar="name|updated|version",
            help="By name; the last moved, or newest version first.",
        ),
    ] = "name",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many at most.")] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that were deleted, and until when they can come back.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tags of a repository, those that are asked for."""
    query: dict[str, object] = {
        "glob": glob,
        "regex": regex,
        "semver": semver,
        "digest": digest,
        "platform": platform,
        "label": label,
        "state": state,
        "signed": None if signed is None else str(signed).lower(),
        "updated_since": None if since is None else parse_past(since),
        "updated_before": None if before is None else parse_past(before),
        "order": None if order == "name" else order,
    }
    query = {key: value for key, value in query.items() if value is not None}
    if deleted and query:
        raise RequestInvalidError("--deleted takes nothing else but --limit: what is deleted is in no order")
    path = f"/repositories/{part(name)}/{'deleted-tags' if deleted else 'tags'}"
    query["limit"] = min(limit or _PAGE, _PAGE)
    items = connect(server, token_file).items(path, query)
    found = [item for _, item in zip(range(limit), items, strict=False)] if limit else list(items)
    print_list(found, _DELETED if deleted else _LISTED, as_json=as_json)


@app.command()
def show(
    tag: NameAndTag,
    *,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="AGE|TIME", help="Where it stood then, as in 7d or 2026-01-31T12:00."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a tag stands, or stood at a time."""
    query = {} if at is None else {"at": parse_past(at)}
    _print(connect(server, token_file).get(_path(tag), query), as_json=as_json)


@app.command()
def history(
    tag: NameAndTag,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the moves of a tag, newest first; also of one that was deleted.

    From where and with which API token is told to those who manage the repository, and to auditors.
    """
    found = list(connect(server, token_file).items(f"{_path(tag)}/history"))
    print_list(found, _MOVES, as_json=as_json)


@app.command()
def move(
    tag: NameAndTag,
    to: Annotated[str, typer.Argument(metavar="DIGEST|TAG", help="An image of the same repository.")],
    *,
    stands_at: Annotated[
        str | None, typer.Option("--from", metavar="DIGEST", help="Only if it stands there by now.")
    ] = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point a tag at another image of its repository; into another repository goes seatrial promote."""
    change = _Change("move", tag, to, reason, dry_run, stands_at)
    change.carry_out(connect(server, token_file), as_json=as_json)


@app.command()
def copy(
    tag: NameAndTag,
    to: Annotated[str, typer.Argument(metavar="NEW_TAG", help="A tag of the same repository.")],
    *,
    reason: Reason = None,
    dry_run: DryRun = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make another tag that stands where this one does."""
    change = _Change("copy", tag, to, reason, dry_run)
    change.carry_out(connect(server, token_file), as_json=as_json)


@app.command()
def rollback(
    tag: NameAndTag,
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="DIGEST", help="Where to. [default: where it stood before its last move]"
        ),
    ] = None,
    stands_at: Annotated[
        str | None,
        typer.Option("--from", metavar="DIGEST", help="Only if it stands there, or 'nowhere', by now."),
    ] = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point a tag at where it stood before; a deleted tag comes back."""
    change = _Change("rollback", tag, to, reason, dry_run, stands_at)
    change.carry_out(connect(server, token_file), as_json=as_json)


@app.command()
def restore(
    tag: NameAndTag,
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="DIGEST", help="Where to. [default: where it stood when it was deleted]"
        ),
    ] = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back a tag that was deleted; its image too, if that was deleted no longer ago than the grace of
    collections and you may delete."""
    change = _Change("restore", tag, to, reason, dry_run)
    change.carry_out(connect(server, token_file), as_json=as_json)


@app.command()
def delete(
    tag: NameAndTag,
    *,
    reason: Reason = None,
    dry_run: DryRun = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a tag; the image stays, by digest. seatrial tag restore brings the tag back."""
    query = {"reason": reason, "dry_run": "true" if dry_run else None}
    connect(server, token_file).remove(_path(tag), query)
    if as_json:
        print_json({"tag": tag, "deleted": not dry_run})
    elif dry_run:
        typer.echo("nothing was changed; it would be deleted")


@dataclass(frozen=True, slots=True)
class _Change:
    """What is done to a tag."""

    word: str
    tag: str
    to: str | None
    reason: str | None
    dry_run: bool
    stands_at: str | None = None

    def carry_out(self, client: Client, *, as_json: bool) -> None:
        """Have it done, and print where the tag stands then."""
        given = {
            "to": self.to,
            "reason": self.reason,
            "dry_run": self.dry_run or None,
            "stands_at": self.stands_at,
        }
        body = {key: value for key, value in given.items() if value is not None}
        found = client.send("POST", f"{_path(self.tag)}/{self.word}", body)
        if self.dry_run and not as_json:
            typer.echo("nothing was changed; this is where it would stand")
        _print(found, as_json=as_json)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_fields(found, _FIELDS)


def split_tag(text: str) -> tuple[str, str]:
    """The repository and the tag that ``NAME:TAG`` says.

    Raises:
        NameInvalidError, TagInvalidError, DigestInvalidError: with the part that is wrong.
        RequestInvalidError: a part is missing, or there is a digest.
    """
    name, tag, digest = split_repository_reference(text)
    if tag is None or digest is not None:
        raise RequestInvalidError(f"{text[:80]!r} is not NAME:TAG")
    return name, tag


def _path(text: str) -> str:
    name, tag = split_tag(text)
    return f"/repositories/{part(name)}/tags/{part(tag)}"
