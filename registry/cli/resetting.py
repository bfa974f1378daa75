"""``seatrial user reset``: a way in again from whoever holds the data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.accounts import new_password
from registry.auth.firststart import ADMIN, admin_token_file
from registry.auth.passwords import Passwords
from registry.auth.userpasswords import renew_admin_token, reset_on_host
from registry.db.engine import Database
from registry.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


async def reset_user(
    settings: Settings, name: str, *, file: Path | None, keep_tokens: bool
) -> dict[str, str]:
    """Reset one account; where its new token or password is: in ``file``, if that is given.

    Raises:
        NotFoundError: there is no such account.
        SettingsError: a file cannot be written.
    """
    database = Database(settings.effective_database_url)
    passwords = Passwords()
    try:
        if name == ADMIN:
            path = file or admin_token_file(settings)
            await renew_admin_token(database, path=path, keep_tokens=keep_tokens)
            return {"name": name, "token_file": str(path)}
        password = new_password()
        await reset_on_host(
            database, passwords, name=name, password=password, keep_tokens=keep_tokens, file=file
        )
        return {"name": name, **({"password": password} if file is None else {"password_file": str(file)})}
    finally:
        passwords.close()
        await database.close()
