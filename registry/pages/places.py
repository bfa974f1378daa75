"""Pages about a place, a repository or a namespace with all below it: ``?on=team/app``, ``?on=team/``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from registry.auth.policy import decide
from registry.errors import RequestInvalidError
from registry.http.api.fields import PlaceKey
from registry.http.api.models import Query, problems
from registry.pages.rendering import chosen
from registry.pages.serving import CursorQuery

if TYPE_CHECKING:
    from registry.auth.policy import Action
    from registry.http.api.routes import Call
    from registry.pages.serving import Fields

_FIELDS_MAX = 200
Q = TypeVar("Q", bound=Query)


class OnQuery(CursorQuery):
    """About which place, and which part of its list."""

    on: PlaceKey


def path_on(path: str, on: str, cursor: str | None = None) -> str:
    """The address of a page about a place."""
    return path + chosen([("on", on), ("cursor", cursor)])


def named_on(on: str) -> dict[str, str]:
    """The place as requests name it that tell repositories and namespaces apart."""
    return {"namespace": on.removesuffix("/")} if on.endswith("/") else {"repository": on}


def may(call: Call, action: Action, on: str) -> bool:
    """Whether the visitor may do that at the place, as far as his roles and his credential say."""
    return decide(call.actor, action, on, None).allowed


def query_and_fields(call: Call, kind: type[Q]) -> tuple[Q, Fields]:
    """The query of a page that a form leads to: its own parameters, and the fields of the form, of which
    those that nobody filled in are left out.

    Raises:
        RequestInvalidError: a parameter that is not valid, or given twice, or too many.
    """
    pairs = [(name, value) for name, value in call.request.query.items() if value]
    given = dict(pairs)
    if len(given) != len(pairs) or len(given) > _FIELDS_MAX or any("\0" in value for _, value in pairs):
        raise RequestInvalidError("a parameter is there twice, or has a NUL character, or there are too many")
    try:
        query = kind.model_validate({name: given[name] for name in kind.model_fields if name in given})
    except ValidationError as error:
        raise RequestInvalidError(f"the query is not valid: {problems(error)}") from None
    return query, {name: value for name, value in given.items() if name not in kind.model_fields}
