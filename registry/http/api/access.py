"""``/api/v1/access``: who may do what, and why."""

from __future__ import annotations

from pydantic import Field

from registry.auth.policy import Action
from registry.content import explaining
from registry.errors import NameInvalidError, NotFoundError
from registry.http.api.fields import Id
from registry.http.api.models import Query
from registry.http.api.routes import Call, Route


class Question(Query):
    """Who, what, where, and with which API token."""

    actor: str = Field(description="Name of a user, robot or worker, or `anonymous`.", examples=["alice"])
    action: Action = Field(description="What is to be done.")
    target: str = Field(
        description="A repository, which need not exist, or a namespace with a slash at its end.",
        examples=["team/app"],
    )
    token: Id | None = None


async def explain_access(call: Call, query: Question) -> explaining.Explanation:
    """Whether somebody may do something somewhere, and which rule decides.

    For administrators and auditors; for owners, about their namespaces and repositories; for everybody, about
    oneself.
    """
    return await explaining.explain(
        call.services.database,
        call.services.settings,
        caller=call.actor,
        account=query.actor,
        action=query.action,
        target=query.target,
        token_id=query.token,
    )


ROUTES = (
    Route("GET", "/access/explain", "anyone", explain_access, errors=(NotFoundError, NameInvalidError)),
)
