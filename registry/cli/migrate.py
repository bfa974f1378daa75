"""``seatrial migrate``: from another registry to this one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.asking import read_credential
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, read_text
from registry.cli.durations import parse_coming
from registry.cli.movingin import bring_all, line_of, name_here, other_registry, tag_tests, tell_all
from registry.cli.options import ConfigOption, DataOption, existing_settings
from registry.cli.output import print_json
from registry.errors import RequestInvalidError
from registry.layouts.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry.cli.bringing import Brought
    from registry.layouts.folders import KeptRepository

app = typer.Typer(help="Move in from another registry.", no_args_is_help=True)
_FAILED = 2
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME|PATTERN]...",
        help="Its repositories, as in library/app or 'library/*'. [default: all that it lists]",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="NAME|PATTERN", help="But not these; may be given again."),
]
TagsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tags", metavar="PATTERN", help="Only tags such as 'v1.*'; may be given again. [default: all]"
    ),
]
VersionsOption = Annotated[
    list[str] | None,
    typer.Option("--versions", metavar="RANGE", help="Only tags that are versions such as '>=1.4.0 <2.0.0'."),
]
IntoOption = Annotated[
    str | None,
    typer.Option("--into", metavar="NAME", help="Below what they come to lie. [default: the same names]"),
]
KeepOption = Annotated[
    bool,
    typer.Option("--keep", help="Leave tags that are here where they are, also if they stand elsewhere."),
]
GrandfatheredOption = Annotated[
    str | None,
    typer.Option(
        "--grandfathered-until",
        metavar="30d|TIME",
        help="Admit it for so long without a verdict, and try it behind what others push: for "
        "maintainers. [default: it is tried as any push]",
    ),
]
ParallelOption = Annotated[
    int, typer.Option("--parallel", min=1, max=32, help="How many images are brought at once.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be brought; change nothing.")]


@app.callback()
def group() -> None:
    """Move in from another registry."""


@app.command()
def registry(
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="The other registry, as in https://old.example.")],
    names: NamesArgument = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    versions: VersionsOption = None,
    into: IntoOption = None,
    keep: KeepOption = False,
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
    grandfathered_until: GrandfatheredOption = None,
    parallel: ParallelOption = 4,
    dry_run: DryRunOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the repositories of a registry that runs: tags, images, and what refers to them, with the digests
    that they have there. What is here is not sent again: done once more, it goes on, and brings what is new.

    Exits 2 if something could not be brought.
    """
    from registry.cli.bringing import UNTIL, Wanted  # noqa: PLC0415  (slow to import)

    credential = read_credential(username, password_file, bearer_file)
    other = other_registry(url, server, username, credential, token_host)
    means = tag_tests(tags or (), versions or ())
    wanted = Wanted(
        [(name, name_here(name, into)) for name in other.names(names or (), exclude or ())],
        means,
        keep=keep,
        headers={} if grandfathered_until is None else {UNTIL: parse_coming(grandfathered_until)},
        dry_run=dry_run,
        parallel=parallel,
    )
    if not wanted.names:
        raise RequestInvalidError(f"{other.host} has no such repository")
    done = bring_all(other, wanted, server, token_file, as_json=as_json)
    _finish(other.url, done, dry_run=dry_run, as_json=as_json)


@app.command()
def folder(
    *,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The folder of the other registry: of distribution, zot or olareg."
        ),
    ],
    names: NamesArgument = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    versions: VersionsOption = None,
    untagged: Annotated[
        bool, typer.Option("--untagged", help="Bring also what no tag leads to, if it was not deleted.")
    ] = False,
    into: IntoOption = None,
    keep: KeepOption = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy all bytes, also where files could be shared.")
    ] = False,
    grandfathered_until: GrandfatheredOption = None,
    parallel: ParallelOption = 4,
    dry_run: DryRunOption = False,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the folder of another registry, on the host that has both; as whoever holds the data folder. On
    one file system no bytes are copied: files are cloned, or get a second name. All are read and verified.

    The other registry is to be stopped, or read-only; this one may serve. Done once more, it goes on. Exits 2
    if something could not be brought.
    """
    settings = existing_settings(config, data=data)
    from registry.cli.bringing import Brought  # noqa: PLC0415  (slow to import)
    from registry.cli.folderbringing import Taking, take_folder  # noqa: PLC0415
    from registry.cli.otherregistry import chosen  # noqa: PLC0415
    from registry.cli.progress import progress_bar  # noqa: PLC0415
    from registry.layouts.folders import kept_repositories  # noqa: PLC0415

    kept = dict(kept_repositories(source))
    wanted = [(name, name_here(name, into)) for name in chosen(kept, names or (), exclude or ())]
    if not wanted:
        raise RequestInvalidError(f"{source} has no such repository")
    until = None if grandfathered_until is None else datetime.fromisoformat(parse_coming(grandfathered_until))
    taking = Taking(
        tag_tests(tags or (), versions or ()),
        untagged=untagged,
        keep=keep,
        copy=copy,
        grandfathered_until=until,
        dry_run=dry_run,
        parallel=parallel,
    )
    done: list[Brought] = []
    with progress_bar("Repositories brought", len(wanted)) as advance:

        def tell(one: Brought) -> None:
            done.append(one)
            advance(1)
            if not as_json:
                typer.echo(line_of(one))

        brought = [(kept.get(name, _nothing(name)), Brought(name, here)) for name, here in wanted]
        take_folder(settings, brought, taking, done=tell)
    _finish(str(source), done, dry_run=dry_run, as_json=as_json)


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


def _nothing(name: str) -> Callable[[], KeptRepository]:
    def read() -> KeptRepository:
        raise LayoutError("missing", f"there is no repository {name}")

    return read


def _finish(source: str, done: Sequence[Brought], *, dry_run: bool, as_json: bool) -> None:
    """Tell what became of all, and end with what the command has to say."""
    if as_json:
        print_json({"source": source, "dry_run": dry_run, "repositories": [asdict(one) for one in done]})
    else:
        tell_all(done, dry_run=dry_run)
    if any(one.failed for one in done):
        raise typer.Exit(_FAILED)
