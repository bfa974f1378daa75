"""What commands that bring images from another registry have in common: how it is reached, what of it is
wanted, and what is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from registry.cli.addresses import parse_address, require_private
from registry.cli.client import connect
from registry.cli.logins import Login, load_logins
from registry.errors import RequestInvalidError
from registry.oci.names import parse_repository_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.cli.bringing import Brought, Wanted
    from registry.cli.client import Server
    from registry.cli.otherregistry import OtherRegistry


def other_registry(
    url: str, server: Server, username: str | None, credential: str | None, token_host: str
) -> OtherRegistry:
    """The other registry, asked with what was given, else as seatrial login has kept."""
    from registry.cli.otherregistry import OtherRegistry  # noqa: PLC0415  (slow to import)

    address = parse_address(url)
    login = load_logins().servers.get(address, Login())
    secret = credential or login.token
    if secret is not None:
        require_private(address, plain_http=server.plain_http or login.plain_http)
    basic = (username, credential) if username is not None and credential is not None else None
    bearer = f"Bearer {secret}" if secret is not None and basic is None else None
    return OtherRegistry(address, basic, bearer, server.ca_file or login.ca_file, token_host)


def name_here(name: str, into: str | None) -> str:
    """What a repository is called here."""
    return parse_repository_name(f"{into}/{name}" if into else name)


def tag_tests(patterns: Sequence[str], versions: Sequence[str]) -> list[Any]:
    """Whether a tag is meant by one of these.

    Raises:
        RequestInvalidError: one is no pattern, or no range of versions.
    """
    if not (patterns or versions):
        return []
    from registry.content.tagmatching import parse_matcher  # noqa: PLC0415  (slow to import)

    return [
        *(parse_matcher("glob", one) for one in patterns),
        *(parse_matcher("semver", one) for one in versions),
    ]


def bring_all(
    other: OtherRegistry, wanted: Wanted, server: Server, token_file: str | None, *, as_json: bool
) -> list[Brought]:
    from registry.cli.bringing import bring  # noqa: PLC0415  (slow to import)
    from registry.cli.progress import progress_bar  # noqa: PLC0415
    from registry.cli.repositoryclient import repository_client  # noqa: PLC0415

    client = connect(server, token_file)
    if client.server == other.url and all(name == here for name, here in wanted.names):
        raise RequestInvalidError("both are the same registry; --into NAME brings them elsewhere in it")
    done = []
    with progress_bar("Tags brought", None) as advance:
        for one in bring(
            other,
            lambda name: repository_client(client, name, actions="pull,push"),
            wanted,
            advance=advance,
        ):
            done.append(one)
            if not as_json:
                typer.echo(line_of(one))
    return done


def line_of(one: Brought) -> str:
    parts = [
        f"{len(one.new)} new",
        f"{len(one.moved)} moved",
        f"{one.same} as they were",
        *([f"{len(one.kept)} kept"] if one.kept else []),
        *([f"{one.other} not wanted"] if one.other else []),
    ]
    failed = f"; {len(one.failed)} FAILED" if one.failed else ""
    shared = f", {one.shared} blobs not copied" if one.shared else ""
    return (
        f"{one.repository} -> {one.into}: tags {', '.join(parts)}; {one.referrers} referrers, "
        f"{one.blobs} blobs, {one.bytes} bytes{shared}{failed}"
    )


def tell_all(done: Sequence[Brought], *, dry_run: bool) -> None:
    for one in done:
        for failed in one.failed:
            typer.echo(f"failed: {one.repository}: {failed['reference']}: {failed['reason']}", err=True)
        for absent in one.absent:
            typer.echo(f"listed there by an index, and missing there: {one.repository}@{absent}", err=True)
    typer.echo(
        f"{len(done)} repositories, {sum(len(one.new) + len(one.moved) for one in done)} tags, "
        f"{sum(one.manifests for one in done)} manifests, {sum(one.blobs for one in done)} blobs with "
        f"{sum(one.bytes for one in done)} bytes"
        + (": that would be brought. Nothing was changed." if dry_run else " brought.")
    )
