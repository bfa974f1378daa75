"""The one base of everything that crosses the wire between registry and worker."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

LEASE = "^[A-Za-z0-9_-]{1,128}$"
"""What the name of a lease looks like."""


class Wire(BaseModel):
    """Frozen, strict, and closed: an unknown key is an error with its path, never ignored."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, serialize_by_alias=True
    )


W = TypeVar("W", bound=Wire)


def as_before(message: W) -> W:
    """The message without what has been added to it since the first version: as an older side takes it."""
    fields = type(message).model_fields.items()
    return message.model_copy(update={name: None for name, field in fields if field.exclude_if is is_none})


def canonical_json(document: Wire, **named: Any) -> str:
    """JSON with sorted keys, and nothing that is merely the default but what is ``named``: one for each
    meaning."""
    told = {**named, **document.model_dump(mode="json", exclude_defaults=True)}
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def is_none(value: object) -> bool:
    """For ``exclude_if``: what an older version does not know is sent only where it says something."""
    return value is None


def is_empty(value: object) -> bool:
    """As :func:`is_none`, for what is a list."""
    return value == ()


def is_false(value: object) -> bool:
    """As :func:`is_none`, for what is a switch."""
    return value is False


def first_problem(error: ValidationError) -> str:
    """What is wrong first with what was to be such a message, and where."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
