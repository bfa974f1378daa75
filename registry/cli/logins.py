"""What ``seatrial login`` keeps: a token for each server, in a file that nobody else reads."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from registry.auth.privatefiles import write_private
from registry.errors import RequestInvalidError


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """How to reach one server. ``token_id`` is that of a token that login has made, for logout to revoke."""

    token: str | None = None
    token_id: str | None = None
    ca_file: Path | None = None
    plain_http: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Logins:
    """All servers signed in to, by address; ``current`` is the last one."""

    servers: Mapping[str, Login] = field(default_factory=lambda: MappingProxyType({}))
    current: str | None = None

    def with_login(self, address: str, login: Login) -> Logins:
        """These and one more, which becomes the current one."""
        return Logins({**self.servers, address: login}, address)

    def without(self, address: str) -> Logins:
        """These without one; none is the current one then, if that was it."""
        servers = {name: login for name, login in self.servers.items() if name != address}
        return replace(self, servers=servers, current=None if self.current == address else self.current)


def logins_file() -> Path:
    """Where they are: ``~/.config/seatrial/logins.json``, or in ``XDG_CONFIG_HOME``."""
    return Path(typer.get_app_dir("seatrial")) / "logins.json"


def load_logins() -> Logins:
    """What is kept; nothing where there is no file.

    Raises:
        RequestInvalidError: others may read the file, or it is not what login writes.
    """
    path = logins_file()
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            kept: Any = json.load(file)
        servers = {address: _login(login) for address, login in kept["servers"].items()}
        logins = Logins(MappingProxyType(servers), kept["current"])
    except FileNotFoundError:
        return Logins()
    except OSError as error:
        raise RequestInvalidError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RequestInvalidError(
            f"{path} is not what seatrial login writes; remove it and sign in again"
        ) from None
    if mode & 0o077:
        raise RequestInvalidError(f"{path} has tokens and others may read it; do: chmod 600 {path}")
    return logins


def save_logins(logins: Logins) -> None:
    """Keep these, in place of what was kept before.

    Raises:
        RequestInvalidError: the file cannot be written.
    """
    path = logins_file()
    servers = {address: asdict(login) for address, login in logins.servers.items()}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps({"servers": servers, "current": logins.current}, default=str))
    except OSError as error:
        raise RequestInvalidError(f"{path} cannot be written: {error.strerror}") from None


def _login(kept: Mapping[str, Any]) -> Login:
    login = Login(**kept)
    return replace(login, ca_file=None if login.ca_file is None else Path(login.ca_file))
