"""Each row of the table of ``/api/v1`` declares all that serving and describing it needs."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from openapi_spec_validator import validate
from pydantic import TypeAdapter

from registry.errors import SeatrialError
from registry.http.api.models import Body, Nothing, Page
from registry.http.api.openapi import describe
from registry.http.api.routes import Call, Route
from registry.http.api.shape import shape_of
from registry.http.api.table import ROUTES
from registry.oci.conditions import Conditions


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_row_is_declared_whole(route: Route) -> None:
    shape = shape_of(route.handler)
    assert list(shape.path) == re.findall(r"{(\w+)}", route.path)
    assert shape.summary.endswith("."), "the docstring's first line is the summary"
    assert all(issubclass(error, SeatrialError) for error in route.errors)
    if shape.answer is None:
        assert route.status == 200, "without an answer the status is 204"
    elif not shape.is_raw:
        properties = TypeAdapter(shape.answer).json_schema(mode="serialization").get("properties", {})
        assert set(route.secrets) <= set(properties)
    if route.method in ("GET", "DELETE"):
        assert shape.body is Nothing
    if shape.is_conditional:
        assert route.method in ("PUT", "PATCH", "DELETE")


def test_names_and_addresses_stand_for_one_row_each() -> None:
    names = Counter(route.handler.__name__ for route in ROUTES)
    addresses = Counter((route.method, re.sub("{.*?}", "{}", route.path)) for route in ROUTES)
    assert max(names.values()) == max(addresses.values()) == 1


class Wanted(Body):
    """What is wanted."""

    size: int


async def untyped(call: Call, body) -> None:  # type: ignore[no-untyped-def]
    """Take a body without a type."""


async def without_answer(call: Call):  # type: ignore[no-untyped-def]
    """Answer nobody knows what."""


async def undocumented(call: Call) -> None:
    pass


async def loose(call: Call, body: dict[str, str]) -> None:
    """Take whatever comes."""


@pytest.mark.parametrize("handler", [untyped, without_answer, undocumented, loose])
def test_a_handler_that_declares_too_little_is_refused(handler: object) -> None:
    with pytest.raises(TypeError):
        shape_of(handler)  # type: ignore[arg-type]


def test_the_signature_is_what_is_declared() -> None:
    async def change_it(call: Call, name: str, body: Wanted, conditions: Conditions) -> Page[int]:
        """Change it.

        At once.
        """
        raise AssertionError

    shape = shape_of(change_it)
    assert dict(shape.path) == {"name": str}
    assert (shape.body, shape.answer, shape.is_conditional) == (Wanted, Page[int], True)
    assert (shape.summary, shape.description) == ("Change it.", "At once.")


def test_the_description_is_valid_and_has_every_row() -> None:
    document = describe(ROUTES)
    validate(document)
    described = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert described == {(route.method, route.path) for route in ROUTES}
    # Two types of one name would be called by their modules, or by the way they go.
    assert [name for name in document["components"]["schemas"] if "__" in name or "-" in name] == []
