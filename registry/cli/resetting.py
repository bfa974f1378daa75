"""``seatrial user reset``: a new password from whoever holds the data folder."""

from __future__ import annotations

from registry.auth.accounts import new_password, set_password
from registry.auth.firststart import ADMIN, renew_admin_token
from registry.auth.passwords import Passwords
from registry.db.engine import Database
from registry.settings import Settings


async def reset_user(settings: Settings, name: str) -> dict[str, str]:
    """Reset one account; where its new token or password is.

    Raises:
        NotFoundError: there is no such account.
        SettingsError: the token file cannot be written.
    """
    database = Database(settings.effective_database_url)
    passwords = Passwords()
    try:
        if name == ADMIN:
            return {"name": name, "token_file": str(await renew_admin_token(database, settings))}
        password = new_password()
        await set_password(database, passwords, name=name, password=password)
        return {"name": name, "password": password}
    finally:
        passwords.close()
        await database.close()
