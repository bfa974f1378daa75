"""``seatrial migrate``: from another registry to this one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.addresses import parse_address, require_private
from registry.cli.asking import read_credential
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, read_text
from registry.cli.durations import parse_coming
from registry.cli.logins import Login, load_logins
from registry.cli.output import print_json
from registry.errors import RequestInvalidError
from registry.oci.names import parse_repository_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.cli.bringing import Brought, Wanted
    from registry.cli.client import Server
    from registry.cli.otherregistry import OtherRegistry

app = typer.Typer(help="Move in from another registry.", no_args_is_help=True)
_FAILED = 2
_UNTIL = "Seatrial-Grandfathered-Until"


@app.callback()
def group() -> None:
    """Move in from another registry."""


@app.command()
def registry(
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="The other registry, as in https://old.example.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|PATTERN]...",
            help="Its repositories, as in library/app or 'library/*'. [default: all that it lists]",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="NAME|PATTERN", help="But not these; may be given again."),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tags", metavar="PATTERN", help="Only tags such as 'v1.*'; may be given again. [default: all]"
        ),
    ] = None,
    versions: Annotated[
        list[str] | None,
        typer.Option(
            "--versions", metavar="RANGE", help="Only tags that are versions such as '>=1.4.0 <2.0.0'."
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="NAME", help="Below what they come to lie. [default: the same names]"),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Leave tags that are here where they are, also if they stand elsewhere."),
    ] = False,
    username: Annotated[
        str | None, typer.Option("--username", metavar="USER", help="Whom the other registry is asked as.")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="FILE|-",
            help="Where the password is; - reads standard input. [default: asked for, with --username]",
        ),
    ] = None,
    bearer_file: Annotated[
        Path | None,
        typer.Option(
            "--bearer-file",
            metavar="FILE|-",
            help="A token that it takes itself, in the place of a password.",
        ),
    ] = None,
    token_host: Annotated[
        str,
        typer.Option(
            "--token-host",
            metavar="HOST[:PORT]",
            help="Where its token service is, if elsewhere: that is told the password as well.",
        ),
    ] = "",
    grandfathered_until: Annotated[
        str | None,
        typer.Option(
            "--grandfathered-until",
            metavar="30d|TIME",
            help="Admit it for so long without a verdict, and try it behind what others push: for "
            "maintainers. [default: it is tried as any push]",
        ),
    ] = None,
    parallel: Annotated[
        int, typer.Option("--parallel", min=1, max=32, help="How many images are brought at once.")
    ] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be brought; change nothing.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the repositories of a registry that runs: tags, images, and what refers to them, with the digests
    that they have there. What is here is not sent again: done once more, it goes on, and brings what is new.

    Exits 2 if something could not be brought.
    """
    from registry.cli.bringing import Wanted  # noqa: PLC0415  (slow to import)

    credential = read_credential(username, password_file, bearer_file)
    other = _other(url, server, username, credential, token_host)
    means = tag_tests(tags or (), versions or ())
    wanted = Wanted(
        [(name, f"{into}/{name}" if into else name) for name in other.names(names or (), exclude or ())],
        means,
        keep=keep,
        headers={} if grandfathered_until is None else {_UNTIL: parse_coming(grandfathered_until)},
        dry_run=dry_run,
        parallel=parallel,
    )
    if not wanted.names:
        raise RequestInvalidError(f"{other.host} has no such repository")
    for _, here in wanted.names:
        parse_repository_name(here)
    done = _bring(other, wanted, server, token_file, as_json=as_json)
    failed = sum(len(one.failed) for one in done)
    if as_json:
        print_json({"source": other.url, "dry_run": dry_run, "repositories": [asdict(one) for one in done]})
    else:
        _tell(done, dry_run=dry_run)
    if failed:
        raise typer.Exit(_FAILED)


@app.command()
def config(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG.YML]", help="The settings of distribution, registry:2 or 3."),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file", metavar="FILE", help="Lines REGISTRY_NAME=VALUE, which count before the file."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the settings of this registry that are like those of another, as a settings file, with what
    remains to be done and what has no equal here as comments. Passwords and keys are not printed.
    """
    from registry.cli.registryconfig import (  # noqa: PLC0415  (slow to import)
        read_config,
        read_environment,
        toml_of,
        translate,
    )

    if file is None and env_file is None:
        raise RequestInvalidError("name a config.yml, or an environment with --env-file")
    values: dict[str, Any] = {}
    if file is not None:
        values |= read_config(read_text(file, what="config file"))
    if env_file is not None:
        values |= read_environment(read_text(env_file, what="environment file").splitlines())
    done = translate(values)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(toml_of(done))


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


def _other(
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


def _bring(
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
                typer.echo(_line(one))
    return done


def _line(one: Brought) -> str:
    parts = [
        f"{len(one.new)} new",
        f"{len(one.moved)} moved",
        f"{one.same} as they were",
        *([f"{len(one.kept)} kept"] if one.kept else []),
        *([f"{one.other} not wanted"] if one.other else []),
    ]
    failed = f"; {len(one.failed)} FAILED" if one.failed else ""
    return (
        f"{one.repository} -> {one.into}: tags {', '.join(parts)}; {one.referrers} referrers, "
        f"{one.blobs} blobs, {one.bytes} bytes{failed}"
    )


def _tell(done: Sequence[Brought], *, dry_run: bool) -> None:
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
