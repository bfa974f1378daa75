"""What a handler's signature says of request and answer: read once, for serving and for describing."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any

from aiohttp import web

from registry.http.api.models import Body, Nothing, Query, Stored
from registry.oci.conditions import Conditions

Handler = Callable[..., Awaitable[object]]
_NOT_OF_THE_PATH = frozenset({"call", "body", "query", "conditions", "return"})


@dataclass(frozen=True, slots=True)
class Shape:
    """``path``: each part's type by its name. ``answer`` is ``None`` where there is none, and
    :class:`aiohttp.web.StreamResponse` where the handler makes it itself."""

    path: Mapping[str, Any]
    body: type[Body]
    query: type[Query]
    is_conditional: bool
    answer: Any
    makes_or_replaces: bool
    summary: str
    description: str

    @property
    def is_raw(self) -> bool:
        """Whether the handler makes the response itself."""
        return isinstance(self.answer, type) and issubclass(self.answer, web.StreamResponse)

    @property
    def has_entity_tag(self) -> bool:
        """Whether the answer has an ``etag``, as a property or as a field that is not shown."""
        fields = getattr(self.answer, "model_fields", {})
        return not self.is_raw and ("etag" in fields or hasattr(self.answer, "etag"))


@cache
def shape_of(handler: Handler) -> Shape:
    """Read a handler's signature and docstring.

    Raises:
        TypeError: a parameter or the answer has no type, or one that cannot be here; or no docstring.
    """
    hints = typing.get_type_hints(handler, include_extras=True)
    missing = {*inspect.signature(handler).parameters, "return"} - set(hints)
    if missing or not handler.__doc__:
        raise TypeError(f"{handler.__name__} does not declare {', '.join(sorted(missing)) or 'what it does'}")
    body, query = hints.get("body", Nothing), hints.get("query", Query)
    if not issubclass(body, Body) or not issubclass(query, Query):
        raise TypeError(f"{handler.__name__}: body must be a Body and query a Query")
    answer = hints["return"]
    makes_or_replaces = typing.get_origin(answer) is Stored
    if makes_or_replaces:
        (answer,) = typing.get_args(answer)
    summary, _, description = inspect.cleandoc(handler.__doc__).partition("\n")
    return Shape(
        path=MappingProxyType({name: hints[name] for name in hints if name not in _NOT_OF_THE_PATH}),
        body=body,
        query=query,
        is_conditional=hints.get("conditions") is Conditions,
        answer=None if answer is NoneType else answer,
        makes_or_replaces=makes_or_replaces,
        summary=summary.strip(),
        description=description.strip(),
    )
