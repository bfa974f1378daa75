"""Paths below ``/v2/``: the name of a repository may hold any keyword, so the last one decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from registry.errors import NameInvalidError, NotFoundError
from registry.oci.names import parse_repository_name

Keyword = Literal[
    "base",
    "catalog",
    "tags",
    "manifests",
    "blobs",
    "uploads",
    "upload",
    "referrers",
    "extensions",
    "repository-extensions",
    "tag-history",
]
PATH_MAX = 1024
_PREFIX = "/v2/"
_UNSAFE = re.compile(r"%(?:2f|5c|00)|%(?![0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: the keyword, the repository, and what follows the keyword, unchecked.

    ``name`` and ``reference`` are empty where the keyword has none.
    """

    keyword: Keyword
    name: str = ""
    reference: str = ""


def parse_path(raw_path: str) -> Target:
    """Read a request's path as it came over the wire. It is decoded once, and never cleaned.

    Raises:
        NotFoundError: no address of the distribution API.
        NameInvalidError: the repository's name breaks the grammar, or the path hides a slash or a NUL.
    """
    if raw_path in ("/v2", _PREFIX):
        return Target("base")
    path = decoded(raw_path, _PREFIX)
    if path == "_catalog":
        return Target("catalog")
    if path == "_oci/ext/discover":
        return Target("extensions")
    keyword, name, reference = _split(path.split("/"))
    return Target(keyword, parse_repository_name(name), reference)


def decoded(raw_path: str, prefix: str) -> str:
    """What follows the prefix, decoded once.

    Raises:
        NameInvalidError: it is too long, no UTF-8, or hides a slash or a NUL.
    """
    if len(raw_path) > PATH_MAX:
        raise NameInvalidError(f"the path has {len(raw_path)} characters; {PATH_MAX} are the limit")
    if _UNSAFE.search(raw_path):
        raise NameInvalidError("the path has an encoded slash, backslash or NUL, or an incomplete escape")
    try:
        return unquote(raw_path.removeprefix(prefix), errors="strict")
    except UnicodeDecodeError:
        raise NameInvalidError("the path is not UTF-8") from None


def _split(parts: list[str]) -> tuple[Keyword, str, str]:
    match parts:
        case [*name, "_oci", "ext", "discover"]:
            return "repository-extensions", "/".join(name), ""
        case [*name, "_seatrial", "tags", "history"]:
            return "tag-history", "/".join(name), ""
        case [*name, "tags", "list"]:
            return "tags", "/".join(name), ""
        case [*name, "manifests", reference]:
            return "manifests", "/".join(name), reference
        case [*name, "referrers", reference]:
            return "referrers", "/".join(name), reference
        case [*name, "blobs", "uploads"] | [*name, "blobs", "uploads", ""]:
            return "uploads", "/".join(name), ""
        case [*name, "blobs", "uploads", reference]:
            return "upload", "/".join(name), reference
        case [*name, "blobs", reference]:
            return "blobs", "/".join(name), reference
    raise NotFoundError("the distribution API has nothing at this address")
