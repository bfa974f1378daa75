"""Options that commands share: settings, from the command line.

``None`` is not given: then the environment, the settings file or the default decides.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.errors import NotFoundError, UnavailableError
from registry.settings import Settings, SettingsError, load_settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="SEATRIAL_CONFIG", metavar="FILE", help="Settings file (TOML)."),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder for database, blobs and keys. [default: data]"),
]
ListenOption = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="Address to listen on. [default: 127.0.0.1:8470]"),
]
GateOption = Annotated[
    str | None,
    typer.Option("--gate", metavar="off|warn|enforce|hold", help="Gate of new repositories. [default: warn]"),
]
VisibilityOption = Annotated[
    str | None,
    typer.Option(
        "--visibility",
        metavar="public|internal|private",
        help="Visibility of new repositories. [default: private]",
    ),
]
ExternalUrlOption = Annotated[
    str | None,
    typer.Option("--external-url", metavar="URL", help="Address that clients use, behind a proxy."),
]
TlsOption = Annotated[
    str | None,
    typer.Option(
        "--tls",
        metavar="self-signed",
        help="Serve HTTPS with a certificate made in the data folder; prints how clients come to trust it.",
    ),
]
LogFormatOption = Annotated[
    str | None, typer.Option("--log-format", metavar="json|text", help="Form of log lines.")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", metavar="N", help="Registry processes behind the one port. [default: 1]"),
]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        help="Keys for S3 as in ~/.aws/credentials. [default: SEATRIAL_STORAGE_CREDENTIALS_FILE]",
    ),
]
IdentityOption = Annotated[
    Path | None,
    typer.Option("--identity", metavar="FILE", help="The private key that reads encrypted backups."),
]


def existing_settings(config: Path | None, *, data: Path | None) -> Settings:
    """The settings of a server that has been started before: the data folder with its database is there.

    Raises:
        UnavailableError: the server's libraries are not installed.
        NotFoundError: it is not.
        SettingsError: a setting, or the data folder, cannot be used.
    """
    require_server_libraries()
    settings = load_settings(config, data=data)
    if settings.database_url is None and not settings.data.is_dir():
        raise NotFoundError(f"there is no folder {settings.data}; --data names that of the server")
    return server_settings(config, data=data)


def server_settings(config: Path | None, **given: Any) -> Settings:
    """The settings, with the data folder made where it is missing, and readable by its owner only.

    Raises:
        UnavailableError: the server's libraries are not installed.
        SettingsError: a setting, or the data folder, cannot be used.
    """
    require_server_libraries()
    settings = load_settings(config, **given)
    try:
        settings.data.parent.mkdir(parents=True, exist_ok=True)  # as open as the caller makes folders
        os.umask(0o077)
        settings.data.mkdir(exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data: {settings.data} cannot be made: {error.strerror}") from None
    if not os.access(settings.data, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"data: {settings.data} cannot be written to by this user")
    return settings


def command_line(**given: object) -> list[str]:
    """Options of another ``serve`` that give it the same; what was not given here is not given there."""
    return [
        text
        for name, value in given.items()
        if value is not None
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]


def require_server_libraries() -> None:
    """Say so where only the worker's half is installed.

    Raises:
        UnavailableError: what to install.
    """
    if importlib.util.find_spec("sqlalchemy") is None:
        raise UnavailableError("this command needs the server's libraries: pip install 'seatrial[server]'")
