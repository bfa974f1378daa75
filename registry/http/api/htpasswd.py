"""``/api/v1/htpasswd-imports``: users of an htpasswd file."""

from __future__ import annotations

from pydantic import Field

from registry.auth import htpasswd as use
from registry.http.api.models import Body
from registry.http.api.routes import Call, Route


class Htpasswd(Body):
    """Lines of an htpasswd file, at most a thousand at once."""

    htpasswd: str = Field(
        description="`NAME:HASH` in each line; bcrypt is taken and nothing else.",
        json_schema_extra={"pattern": "^[^\\x00]*$"},
    )


async def import_users(call: Call, body: Htpasswd) -> use.Imported:
    """Make a user of each line that can be one, with the password that it stands for.

    The answer says which lines made none, and why; users that there are stay as they are.
    """
    return await use.import_users(call.services.database, actor=call.actor, text=body.htpasswd)


ROUTES = (Route("POST", "/htpasswd-imports", "admin", import_users),)
