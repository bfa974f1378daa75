"""``seatrial advisories``: the file of advisories, made and looked at without a server."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.addresses import parse_address, require_private
from registry.cli.client import JsonOption, read_token
from registry.cli.logins import Login, load_logins
from registry.cli.options import ConfigOption, DataOption
from registry.cli.output import print_json, print_table
from registry.cli.progress import progress_bar
from registry.cli.rematching import matching, rematch
from registry.errors import NotFoundError, RequestInvalidError
from registry.oci.names import parse_image_name
from registry.oci.printable import printable
from registry.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.advisories.file import Source, Status
    from registry.advisories.importing import Given
    from registry.cli.artifactclient import ArtifactClient

MAX_DOWNLOAD_BYTES = 8 * 1024**3
app = typer.Typer(help="Advisories: what is known to be wrong with packages.", no_args_is_help=True)
app.command()(matching)
app.command()(rematch)

FileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The file of advisories, if not that of the server."),
]
PathsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="OSV exports (folder, zip, tar, JSON), Debian's tracker, bulletins or changelogs, Alpine's "
        "secdb, lists of CISA (KEV) and of EPSS. A folder with PyPI/all.zip, npm/all.zip is a source each.",
    ),
]
FromOption = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="URL", help="Fetch a source from here (https); may be repeated."),
]
NameOption = Annotated[
    str,
    typer.Option("--name", metavar="NAME", help="What the source is called; it replaces that of the name."),
]
LicenceOption = Annotated[
    str, typer.Option("--licence", metavar="TEXT", help="The licence of the data, to be shown beside it.")
]
AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
        help="When the data was as it is (UTC), if not when its file was written.",
    ),
]
EcosystemOption = Annotated[
    str,
    typer.Option("--ecosystem", metavar="NAME", help="Which release changelogs are of, as in 'Debian:12'."),
]

NameArgument = Annotated[
    str, typer.Argument(metavar="HOST/NAME:TAG", help="Where they are in a registry; @DIGEST pins them.")
]
UsernameOption = Annotated[str | None, typer.Option("--username", help="User of that registry.")]
PasswordFileOption = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="File with the user's password.")
]


@app.command()
def build(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; must not be there yet.")],
    sources: PathsArgument = None,
    *,
    urls: FromOption = None,
    name: NameOption = "",
    licence: LicenceOption = "",
    as_of: AsOfOption = None,
    ecosystem: EcosystemOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a file of advisories from sources, for another machine. The same sources give the same bytes."""
    if target.exists():
        raise RequestInvalidError(f"{target} is there already; seatrial advisories import --file adds to it")
    asked = _Asked(sources or [], urls or [], name, licence, as_of, ecosystem, _ca_file(context))
    _import(target, asked, as_json=as_json)


@app.command("import")
def import_(
    context: typer.Context,
    sources: PathsArgument = None,
    *,
    urls: FromOption = None,
    name: NameOption = "",
    licence: LicenceOption = "",
    as_of: AsOfOption = None,
    ecosystem: EcosystemOption = "",
    file: FileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put sources into the file of advisories, each in the place of the one of its name.

    What is left out is counted, with the reason. Nothing changes if nothing is left of a source. A running
    server reads the new file by itself.
    """
    asked = _Asked(sources or [], urls or [], name, licence, as_of, ecosystem, _ca_file(context))
    _import(advisories_file(file, data, config), asked, as_json=as_json)


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Sources, as status lists them.")],
    *,
    file: FileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take sources out of the file of advisories."""
    from registry.advisories.building import build as write  # noqa: PLC0415  (slow to import)

    path = _existing(advisories_file(file, data, config))
    write(path, [], drop=names)
    _tell(path, as_json=as_json)


@app.command()
def status(
    *,
    file: FileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    max_age_days: Annotated[
        int | None,
        typer.Option("--max-age-days", min=0, help="End with 1 if a source is older, for a monitor."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which sources are in the file of advisories, and how old each is."""
    path = advisories_file(file, data, config)
    found = _tell(path, as_json=as_json)
    if max_age_days is not None and any(_days(one.as_of) > max_age_days for one in found.sources):
        raise typer.Exit(1)


@app.command()
def push(
    context: typer.Context,
    image: NameArgument,
    *,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    file: FileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push the file of advisories to a registry, this one or another, as an artifact that others pull."""
    from registry.cli.advisoriesartifact import push as put  # noqa: PLC0415  (slow to import)

    path = _existing(advisories_file(file, data, config))
    client = _client(context, image, username, password_file)
    client.actions = "pull,push"
    with progress_bar("push", path.stat().st_size, of_bytes=True) as advance:
        moved = put(path, client, advance)
    if as_json:
        print_json({"image": str(client.name), "digest": str(moved.digest), "file": str(path)})
    else:
        typer.echo(f"{client.name} is {moved.digest}")


@app.command()
def pull(
    context: typer.Context,
    image: NameArgument,
    *,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    file: FileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the advisories of a registry in the place of the file: all its sources, once they are verified."""
    from registry.cli.advisoriesartifact import pull as get  # noqa: PLC0415  (slow to import)

    path = advisories_file(file, data, config)
    client = _client(context, image, username, password_file)
    with progress_bar("pull", None, of_bytes=True) as advance:
        moved = get(path, client, advance)
    if as_json:
        print_json(
            {
                "image": str(client.name),
                "digest": str(moved.digest),
                "file": str(path),
                "changed": moved.changed,
            }
        )
        return
    typer.echo(f"{client.name} is {moved.digest}{'' if moved.changed else ', which is there already'}")
    _tell(path, as_json=False)


@dataclass(frozen=True, slots=True)
class _Asked:
    paths: Sequence[Path]
    urls: Sequence[str]
    name: str
    licence: str
    as_of: datetime | None
    ecosystem: str
    ca_file: Path | None

    def given(self, path: Path, origin: str = "", changed_at: datetime | None = None) -> Given:
        from registry.advisories.importing import Given  # noqa: PLC0415  (slow to import)

        as_of = self.as_of.replace(tzinfo=UTC) if self.as_of else changed_at
        return Given(path, origin, self.name, self.licence, as_of, self.ecosystem)


def advisories_file(file: Path | None, data: Path | None, config: Path | None) -> Path:
    """The file that is meant: the one named, else that of the server's settings."""
    return file or load_settings(config, data=data).advisories_file


def _existing(path: Path) -> Path:
    if not path.exists():
        raise NotFoundError(f"there is no file of advisories at {path}; seatrial advisories import makes it")
    return path


def _import(path: Path, asked: _Asked, *, as_json: bool) -> None:
    from registry.advisories.building import build as write  # noqa: PLC0415  (slow to import)
    from registry.advisories.importing import source_of, spread  # noqa: PLC0415
    from registry.advisories.reading import size_of  # noqa: PLC0415

    if not asked.paths and not asked.urls:
        raise typer.BadParameter("name a SOURCE, or an address with --from")
    with tempfile.TemporaryDirectory(prefix="seatrial-advisories-") as folder:
        given = [one for each in asked.paths for one in spread(asked.given(each))]
        fetched = [_fetch(path, url, Path(folder) / str(n), asked) for n, url in enumerate(asked.urls)]
        given += [one for each in fetched if each for one in spread(each)]
        if asked.name and len(given) > 1:
            raise typer.BadParameter("--name is for one source", param_hint="'--name'")
        with progress_bar("import", sum(size_of(one.path) for one in given), of_bytes=True) as advance:
            if given:
                write(path, (source_of(one, advance) for one in given))
    if not as_json:
        for url, one in zip(asked.urls, fetched, strict=True):
            if one is None:
                typer.echo(f"{url} has not changed.")
    _tell(path, as_json=as_json)


def _fetch(path: Path, url: str, folder: Path, asked: _Asked) -> Given | None:
    from registry.cli.downloading import download  # noqa: PLC0415  (slow to import)

    with progress_bar(f"fetch {url}", None, of_bytes=True) as advance:
        found = download(
            url,
            folder,
            ca_file=asked.ca_file,
            since=_since(path, url),
            max_bytes=MAX_DOWNLOAD_BYTES,
            advance=advance,
        )
    return None if found is None else asked.given(found.path, url, found.changed_at)


def _ca_file(context: typer.Context) -> Path | None:
    found: Path | None = context.find_root().params.get("ca_file")
    return found


def _client(
    context: typer.Context, image: str, username: str | None, password_file: Path | None
) -> ArtifactClient:
    """The repository that is meant, asked as ``--username``, else as seatrial login has kept."""
    from registry.cli.artifactclient import ArtifactClient  # noqa: PLC0415  (slow to import)

    name = parse_image_name(image)
    if (username is None) != (password_file is None):
        raise typer.BadParameter("--username and --password-file go together")
    address = parse_address(name.host)
    login = load_logins().servers.get(address, Login())
    given = context.find_root().params
    plain_http = bool(given.get("plain_http")) or login.plain_http
    credentials = None
    if username is not None and password_file is not None:
        credentials = (username, read_token(str(password_file)))
    authorization = f"Bearer {login.token}" if login.token and credentials is None else None
    if plain_http:
        address = address.replace("https://", "http://", 1)
    if credentials or authorization:
        require_private(address, plain_http=plain_http)
    return ArtifactClient(address, name, credentials, authorization, _ca_file(context) or login.ca_file)


def _since(path: Path, url: str) -> datetime | None:
    """When the source that was fetched from there was as it is here."""
    from registry.advisories.file import open_advisories  # noqa: PLC0415  (slow to import)

    if not path.exists():
        return None
    with closing(open_advisories(path)) as advisories:
        return next((one.as_of for one in advisories.status().sources if one.origin == url), None)


def _tell(path: Path, *, as_json: bool) -> Status:
    from registry.advisories.file import open_advisories  # noqa: PLC0415  (slow to import)

    with closing(open_advisories(path)) as advisories:
        found = advisories.status()
    rows = [row_of(one) for one in found.sources]
    if as_json:
        print_json({"file": str(path), "generation": found.generation, "sources": rows})
        return found
    typer.echo(f"{path}, generation {found.generation}")
    print_table(
        [{**row, "skipped": sum(one["count"] for one in row["skipped"])} for row in rows],
        (
            "name",
            "format",
            "records",
            "informational",
            "skipped",
            "as_of",
            "age_days",
            "fixed_only",
            "licence",
        ),
    )
    for row in rows:
        for one in row["skipped"]:
            typer.echo(
                f"{row['name']}: {one['count']} skipped: {one['reason']} (as {printable(one['example'])})"
            )
    for row in rows:
        if row["fixed_only"]:
            typer.echo(
                f"{row['name']} tells of what is fixed only: nothing found by it is not no vulnerability."
            )
    return found


def row_of(source: Source) -> dict[str, Any]:
    """A source as JSON has it."""
    newest = source.newest_at.isoformat() if source.newest_at else None
    return {
        "name": source.name,
        "format": source.format,
        "origin": source.origin,
        "records": source.records,
        "informational": source.informational,
        "fixed_only": source.fixed_only,
        "licence": source.licence,
        "as_of": source.as_of.isoformat(),
        "age_days": _days(source.as_of),
        "newest_at": newest,
        "digest": source.digest,
        "skipped": [
            {"reason": reason, "count": count, "example": example}
            for reason, count, example in source.skipped
        ],
    }


def _days(at: datetime) -> int:
    return max((datetime.now(UTC) - at).days, 0)
