"""What bodies, queries and answers of ``/api/v1`` are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import RequestInvalidError

T = TypeVar("T")
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


class Body(BaseModel):
    """A request's body: JSON, strict, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    def clears(self, member: str) -> bool:
        """Whether null was given for a member, which says another thing than to leave it out."""
        return member in self.model_fields_set and getattr(self, member) is None


class Nothing(Body):
    """The body of a request that has none; an empty object is as good."""


class Query(BaseModel):
    """A request's query: each parameter once, and none that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Answer(BaseModel):
    """An answer that is not a use case's own value: named otherwise, or with less in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True, defer_build=True)

    @classmethod
    def of(cls, value: object) -> Self:
        """The answer that has the attributes of ``value``."""
        return cls.model_validate(value)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; ``next`` is the cursor of the following one, or null."""

    items: Sequence[T]
    next: str | None


class PageQuery(Query):
    """Which part of a list is asked for: so many entries, those after a cursor."""

    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="How many entries at most.")
    cursor: str | None = Field(default=None, max_length=1024, description="What `next` of a page said.")

    @property
    def number(self) -> int | None:
        """The cursor of a list whose key is a number.

        Raises:
            RequestInvalidError: it is none.
        """
        if self.cursor is None:
            return None
        if not (self.cursor.isascii() and self.cursor.isdigit() and len(self.cursor) < 19):
            raise RequestInvalidError(f"{self.cursor[:80]!r} is no cursor of this list")
        return int(self.cursor)

    def page(self, found: Sequence[T], key: Callable[[T], str]) -> Page[T]:
        """One page of up to ``limit + 1`` entries; ``key`` gives the cursor that follows an entry."""
        shown = found[: self.limit]
        return Page(items=shown, next=key(shown[-1]) if len(found) > self.limit else None)


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """The answer of a PUT: 201 where it made the thing, 200 where it replaced one."""

    thing: T
    is_new: bool


@runtime_checkable
class Versioned(Protocol):
    """An answer with an entity tag: that of what a change can change, not of counters beside it."""

    @property
    def etag(self) -> str:
        """The entity tag, without its quotes."""
        ...


def problems(error: ValidationError) -> str:
    """What is wrong with a document: each place and why, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    places = [".".join(str(part) for part in problem["loc"]) or "body" for problem in found]
    reasons = [problem["msg"].removeprefix("Value error, ") for problem in found]
    return "; ".join(f"{place}: {reason}" for place, reason in list(zip(places, reasons, strict=True))[:10])
