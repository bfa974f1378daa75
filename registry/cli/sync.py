"""``seatrial sync``: what rules say is brought from other registries, once or again and again."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.asking import read_credential
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, read_text
from registry.cli.durations import parse_coming, parse_duration_seconds
from registry.cli.movingin import bring_all, name_here, other_registry, tag_tests, tell_all
from registry.cli.output import print_json
from registry.errors import ConflictError, RequestInvalidError, SeatrialError
from registry.oci.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.cli.client import Server
    from registry.cli.syncrules import Rule

_FAILED = 2
_LEAST_SECONDS = 10


def command(
    *,
    rules: Annotated[Path, typer.Argument(metavar="RULES.TOML", help="What is brought, and from where.")],
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="15m", help="Again and again, so long after each end. [default: once]"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be brought; change nothing.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring from other registries what rules say: tags that are new there or have moved, with what refers to
    them. Nothing is deleted here. What fails is told, and the other rules go on; once, it exits 2 then.

    The file is read anew each time, and only one sync runs by it.
    """
    seconds = None if every is None else parse_duration_seconds(every)
    if seconds is not None and seconds < _LEAST_SECONDS:
        raise RequestInvalidError(f"--every is {_LEAST_SECONDS}s at least")
    with _alone(rules):
        # What is wrong at the start is told at once; a file that is edited later may be half written.
        _read(rules)
        while True:
            failed = _once(rules, server, token_file, dry_run=dry_run, as_json=as_json)
            if seconds is None:
                break
            time.sleep(seconds)
    if failed:
        raise typer.Exit(_FAILED)


def _read(path: Path) -> list[Rule]:
    from registry.cli.syncrules import parse_rules  # noqa: PLC0415  (slow to import)

    found = parse_rules(read_text(path, what="rules file"))
    for one in found:
        tag_tests(one.tags, one.versions)
        if one.grandfathered is not None:
            parse_duration_seconds(one.grandfathered)
    return list(found)


def _once(path: Path, server: Server, token_file: str | None, *, dry_run: bool, as_json: bool) -> bool:
    """Carry all rules out; whether something failed."""
    told: list[dict[str, Any]] = []
    failed = False
    try:
        rules = _read(path)
    except RequestInvalidError as error:
        typer.echo(f"{path}: {error.message}", err=True)
        return True
    for rule in rules:
        one: dict[str, Any] = {"source": rule.url, "repositories": [], "error": None}
        try:
            done = _carry_out(rule, path.parent, server, token_file, dry_run=dry_run, as_json=as_json)
            one["repositories"] = [asdict(each) for each in done]
            failed = failed or any(each.failed for each in done)
            if not as_json:
                tell_all(done, dry_run=dry_run)
        except SeatrialError as error:
            failed, one["error"] = True, printable(error.message)
            typer.echo(f"failed: {printable(rule.url[:200])}: {one['error']}", err=True)
        told.append(one)
    if as_json:
        print_json({"dry_run": dry_run, "rules": told})
    return failed


def _carry_out(
    rule: Rule, folder: Path, server: Server, token_file: str | None, *, dry_run: bool, as_json: bool
) -> list[Any]:
    from registry.cli.bringing import UNTIL, Wanted  # noqa: PLC0415  (slow to import)

    credential = read_credential(
        rule.username, _beside(folder, rule.password_file), _beside(folder, rule.bearer_file)
    )
    other = other_registry(rule.url, server, rule.username, credential, rule.token_host)
    names = other.names(rule.repositories, rule.exclude)
    if not names:
        raise RequestInvalidError(f"{other.host} has no such repository")
    wanted = Wanted(
        [(name, name_here(name, rule.into)) for name in names],
        tag_tests(rule.tags, rule.versions),
        keep=rule.keep,
        headers={} if rule.grandfathered is None else {UNTIL: parse_coming(rule.grandfathered)},
        dry_run=dry_run,
        parallel=rule.parallel,
    )
    return bring_all(other, wanted, server, token_file, as_json=as_json)


def _beside(folder: Path, name: str | None) -> Path | None:
    return None if name is None else folder / name


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other sync goes by the same file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RequestInvalidError(f"the rules file {path} cannot be read: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConflictError(f"another sync by {path} is running") from None
    finally:
        os.close(fd)
