"""The description of ``/api/v1`` (OpenAPI 3.1), made from the table of routes and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from registry.auth.idempotency import MAX_LENGTH, MIN_LENGTH
from registry.errors import (
    CODES,
    ConflictError,
    ContentTooLargeError,
    DeniedError,
    IdempotencyKeyReusedError,
    MediaTypeUnsupportedError,
    PreconditionFailedError,
    RequestInvalidError,
    RequestTimeoutError,
    SeatrialError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from registry.http.api import once
from registry.http.api.fields import ENTITY_TAGS
from registry.http.api.models import Nothing
from registry.http.api.routes import PREFIX, Route
from registry.http.api.shape import Shape, shape_of
from registry.http.cookies import NAME, SECURE_NAME

Document = dict[str, Any]
_SCHEMAS = "#/components/schemas/{model}"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_EVERYWHERE = (
    RequestInvalidError,
    UnauthorizedError,
    DeniedError,
    TooManyRequestsError,
    SeatrialError,
    UnavailableError,
)
_WITH_BODY = (RequestTimeoutError, ContentTooLargeError, MediaTypeUnsupportedError)
_ENTITY_TAGS = {"type": "string", "pattern": ENTITY_TAGS}
_COOKIE = f"The cookie of POST {PREFIX}/sessions; {SECURE_NAME} over HTTPS."
_DESCRIPTION = """\
The admin API of Seatrial. Errors are problem documents (RFC 9457) with a `code` of
docs/reference/errors.md. A name with slashes is one part of a path: its slashes are written `%2F`."""


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class _Described:
    route: Route
    shape: Shape

    @property
    def schemas(self) -> Iterator[tuple[str, JsonSchemaMode, TypeAdapter[Any]]]:
        """What a schema is needed for: a part of this operation, the way it goes, and its type."""
        for name, kind in self.shape.path.items():
            yield f"path {name}", "validation", TypeAdapter(kind)
        for name, field in self.shape.query.model_fields.items():
            whole: Any = Annotated[field.annotation, field]
            yield f"query {name}", "validation", TypeAdapter(whole)
        if self.shape.body is not Nothing:
            yield "body", "validation", TypeAdapter(self.shape.body)
        if self.shape.answer is not None and not self.shape.is_raw:
            yield "answer", "serialization", TypeAdapter(self.shape.answer)


def describe(table: Sequence[Route]) -> Document:
    """The document that describes ``table``."""
    described = [_Described(route, shape_of(route.handler)) for route in table]
    wanted = [
        ((each.route.handler.__name__, part), mode, kind)
        for each in described
        for part, mode, kind in each.schemas
    ]
    wanted.append((("", "problem"), "serialization", TypeAdapter(Problem)))
    schemas, shared = TypeAdapter.json_schemas(wanted, ref_template=_SCHEMAS)
    by_part = {key: schema for (key, _mode), schema in schemas.items()}
    paths: dict[str, Document] = {}
    for each in described:
        name = each.route.handler.__name__
        parts = {part: schema for (owner, part), schema in by_part.items() if owner == name}
        operation = _operation(each, parts)
        paths.setdefault(PREFIX + each.route.path, {})[each.route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Seatrial", "version": version("seatrial"), "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": shared.get("$defs", {}),
            "responses": _refusals(described),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API token."},
                "basic": {"type": "http", "scheme": "basic", "description": "User name and password."},
                "session": {"type": "apiKey", "in": "cookie", "name": NAME, "description": _COOKIE},
            },
        },
    }


def _operation(each: _Described, parts: Mapping[str, Document]) -> Document:
    route, shape = each.route, each.shape
    refused = {
        status: {"$ref": f"#/components/responses/{'.'.join(codes)}"}
        for status, codes in _refused(route, shape).items()
    }
    operation: Document = {
        "operationId": route.handler.__name__,
        "summary": shape.summary,
        "tags": [route.path.split("/")[1]],
        "security": _security(route),
        "parameters": [*_parameters(each, parts)],
        "responses": {**_success(each, parts), **refused},
    }
    if shape.description:
        operation["description"] = shape.description
    if "body" in parts:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": parts["body"]}},
        }
    return operation


def _security(route: Route) -> list[Document]:
    if route.right == "signing":
        return []
    nobody: list[Document] = [{}] if route.right == "anyone" else []
    return [{"bearer": []}, {"basic": []}, {"session": []}, *nobody]


def _parameters(each: _Described, parts: Mapping[str, Document]) -> Iterator[Document]:
    for part, schema in parts.items():
        place, _, name = part.partition(" ")
        if place not in ("path", "query"):
            continue
        shown = {key: value for key, value in schema.items() if key not in ("description", "title")}
        description = {"description": schema["description"]} if "description" in schema else {}
        required = place == "path" or each.shape.query.model_fields[name].is_required()
        yield {"name": name, "in": place, "required": required, **description, "schema": shown}
    if each.route.method == "POST" and each.route.right != "signing":
        yield {
            "name": once.HEADER,
            "in": "header",
            "description": "A new UUID: sent again with it, the request is carried out once.",
            "schema": {"type": "string", "pattern": f"^[ -~]{{{MIN_LENGTH},{MAX_LENGTH}}}$"},
        }
    if each.route.tagged:
        meaning = "Entity tags of what you have: if one of them is still that of the answer, it is 304."
        yield {"name": "If-None-Match", "in": "header", "description": meaning, "schema": _ENTITY_TAGS}
    if each.shape.is_conditional:
        for name, meaning in (
            ("If-Match", "Only if this is still the entity tag of what is there."),
            ("If-None-Match", "`*`: only if there is nothing yet."),
        ):
            yield {"name": name, "in": "header", "description": meaning, "schema": _ENTITY_TAGS}


def _success(each: _Described, parts: Mapping[str, Document]) -> Document:
    route, shape = each.route, each.shape
    if shape.answer is None:
        return {"204": {"description": "Done."}}
    schema = parts.get("answer", {"type": "string"})
    answer: Document = {"description": "Done.", "content": {route.media_type: {"schema": schema}}}
    if shape.has_entity_tag:
        answer["headers"] = {"ETag": {"description": "For If-Match.", "schema": {"type": "string"}}}
    if route.tagged:
        answer["headers"] = {"ETag": {"description": "For If-None-Match.", "schema": {"type": "string"}}}
        return {"200": answer, "304": {"description": "What you have is still the answer."}}
    statuses = (200, 201) if shape.makes_or_replaces else (route.status,)
    return {str(status): answer for status in statuses}


def _refused(route: Route, shape: Shape) -> dict[str, tuple[str, ...]]:
    """Which codes each status that refuses can have."""
    possible: set[type[SeatrialError]] = {*_EVERYWHERE, *route.errors}
    if route.method != "GET":
        possible |= {*_WITH_BODY}
    if route.method == "POST" and route.right != "signing":
        possible |= {ConflictError, IdempotencyKeyReusedError}
    if shape.is_conditional or route.tagged:
        possible.add(PreconditionFailedError)
    codes = sorted({kind.code for kind in possible}, key=lambda code: (CODES[code].status, code))
    return {
        str(status): tuple(found) for status, found in groupby(codes, key=lambda code: CODES[code].status)
    }


def _refusals(described: Sequence[_Described]) -> Document:
    """Each combination of codes once, by its name."""
    combinations = {codes for each in described for codes in _refused(each.route, each.shape).values()}
    return {
        ".".join(codes): {
            "description": "; ".join(f"`{code}`: {CODES[code].meaning}" for code in codes),
            "content": _PROBLEM,
        }
        for codes in sorted(combinations)
    }
