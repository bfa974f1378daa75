"""Bringing the database up to date, and saying what was done and what the way back is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from registry.db import migrate
from registry.db.migrate import Upgrade
from registry.db.reserve import reserve_for
from registry.errors import ConflictError
from registry.settings import Settings, SettingsError


def upgrade_and_tell(settings: Settings) -> Upgrade:
    """Migrate the database of these settings.

    Raises:
        ConflictError: it is newer than this code.
        SettingsError: it cannot be opened.
    """
    url = require_known(settings.effective_database_url, "database_url")
    # Opening a SQLite file takes some room too.
    reserve_for(url, settings.reserve_bytes).look()
    done = _on_database(settings, migrate.upgrade)
    if done.newer:
        typer.echo(
            f"The database has schema {done.after}, of a newer version; this one knows "
            f"{migrate.newest()} and runs on it.",
            err=True,
        )
    if done.backup is not None:
        typer.echo(
            f"The database was upgraded from schema {done.before} to {done.after}. The way back: stop, put\n"
            f"  {done.backup}\nin its place, and start the version that it is from.",
            err=True,
        )
    return done


def look(settings: Settings) -> Upgrade:
    """Where the database stands, without changing it.

    Raises:
        ConflictError, SettingsError: as :func:`upgrade_and_tell`.
    """
    return _on_database(settings, migrate.look)


def require_newest(settings: Settings) -> None:
    """For commands that mend a database and do not move it.

    Raises:
        ConflictError: it has not the schema of this code.
        SettingsError: it cannot be opened.
    """
    found = look(settings)
    if found.before is None:
        raise ConflictError(
            f"there is no registry in {settings.data}, or in the database that the settings name: "
            "--data or --config names that of the server"
        )
    if found.before != found.after:
        raise ConflictError(
            f"the database has schema {found.before} and this version needs {found.after}: "
            "seatrial db upgrade, or start the server"
        )


def _on_database(settings: Settings, call: Callable[[str], Upgrade]) -> Upgrade:
    with database_faults("database_url"):
        return call(require_known(settings.effective_database_url, "database_url"))


def require_known(url: str, name: str) -> str:
    """The address, if it is of a kind of database that there is; ``name`` is what the message calls it.

    Raises:
        SettingsError: it is not.
    """
    if not url.startswith(("sqlite:///", "postgresql://")):
        raise SettingsError(f"{name}: must be sqlite:///FILE or postgresql://…")
    try:
        make_url(url)
    except (ArgumentError, ValueError):  # which may show a part of a password
        raise SettingsError(f"{name}: cannot be read as an address") from None
    return url


@contextmanager
def database_faults(name: str) -> Iterator[None]:
    """Turn what drivers raise into a sentence about the address that is called ``name``.

    Raises:
        SettingsError: the database cannot be used.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        yield
    except ArgumentError:
        raise SettingsError(f"{name}: cannot be read as an address") from None
    except DBAPIError as error:
        # The driver's words, without the address: that may hold a password.
        reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
        raise SettingsError(f"{name}: the database cannot be used: {reason}") from None
    except OSError as error:
        raise SettingsError(f"{name}: the database cannot be used: {error.strerror}") from None
