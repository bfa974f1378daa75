"""``/api/v1/repositories/NAME/readme``: what is said of a repository to those who come to look at it."""

from __future__ import annotations

from pydantic import Field

from registry.content import readmes as use
from registry.errors import NameUnknownError, NotFoundError
from registry.http.api.fields import RepositoryName
from registry.http.api.models import Body, Stored
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions


class NewReadme(Body):
    """Markdown: CommonMark, with tables. HTML in it is shown as text, and pictures are named, not loaded."""

    text: str = Field(min_length=1, max_length=use.README_MAX_BYTES, examples=["# app\n\nWhat it does."])


async def show_readme(call: Call, name: RepositoryName) -> use.Readme:
    """The README of a repository, as it was given."""
    return await use.show(call.services.database, actor=call.actor, name=name)


async def put_readme(
    call: Call, name: RepositoryName, body: NewReadme, conditions: Conditions
) -> Stored[use.Readme]:
    """Let a text be the README of a repository. For those who may push."""
    services = call.services
    made, is_new = await use.put(
        services.database,
        services.settings,
        actor=call.actor,
        name=name,
        text=body.text,
        conditions=conditions,
    )
    return Stored(made, is_new)


async def clear_readme(call: Call, name: RepositoryName, conditions: Conditions) -> None:
    """Take the README of a repository away."""
    services = call.services
    await use.clear(services.database, services.settings, actor=call.actor, name=name, conditions=conditions)


_PATH = "/repositories/{name}/readme"
_ERRORS = (NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", _PATH, "anyone", show_readme, errors=_ERRORS),
    Route("PUT", _PATH, "anyone", put_readme, errors=(NameUnknownError,)),
    Route("DELETE", _PATH, "anyone", clear_readme, errors=_ERRORS),
)
