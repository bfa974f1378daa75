"""Paths into JSON: the part of RFC 9535 that takes linear time on whatever an image answers.

Names, indexes and wildcards (2.3.1 to 2.3.3, in both notations); no slices, no descendants, no filters. Each
segment visits a node of the document at most once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MAX_SEGMENTS = 32
_SEGMENT = re.compile(
    r"""\.(?P<plain>[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)
    | \.(?P<star>\*)
    | \[(?P<any>\*)\]
    | \[(?P<index>-?(?:0|[1-9][0-9]{0,8}))\]
    | \['(?P<single>(?:[^'\\\x00-\x1f]|\\['\\/])*)'\]
    | \["(?P<double>(?:[^"\\\x00-\x1f]|\\["\\/])*)"\]""",
    re.VERBOSE,
)


Segment = str | int | None
"""A member by its name, an element by its place (from the end where it is negative), or ``None`` for all."""


def parse_path(text: str) -> Sequence[Segment]:
    """The segments of a path.

    Raises:
        ValueError: it is none, or asks for more than is understood here.
    """
    if not text.startswith("$"):
        raise ValueError("a JSON path begins with '$'")
    segments: list[Segment] = []
    at = 1
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if found is None:
            raise ValueError(
                f"not a JSON path from {text[at : at + 20]!r} on; it has names, indexes and '*', as in "
                "$.items[0].name, $['a b'] and $.items[*].id"
            )
        segments.append(_segment(found))
        at = found.end()
    if len(segments) > MAX_SEGMENTS:
        raise ValueError(f"a JSON path has at most {MAX_SEGMENTS} segments")
    return tuple(segments)


def _segment(found: re.Match[str]) -> Segment:
    if found["star"] or found["any"]:
        return None
    if found["index"] is not None:
        return int(found["index"])
    if found["plain"] is not None:
        return found["plain"]
    quoted = found["single"] if found["single"] is not None else found["double"]
    return re.sub(r"\\(.)", r"\1", quoted)


def find(path: Sequence[Segment], document: object) -> Sequence[Any]:
    """The values at the path, in the order of the document."""
    nodes: list[Any] = [document]
    for segment in path:
        nodes = [below for node in nodes for below in _children(segment, node)]
    return nodes


def _children(segment: Segment, node: Any) -> Sequence[Any]:
    if segment is None:
        return list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(segment, str):
        return (node[segment],) if isinstance(node, dict) and segment in node else ()
    inside = isinstance(node, list) and -len(node) <= segment < len(node)
    return (node[segment],) if inside else ()
