"""JSON as I-JSON (RFC 7493): one meaning for every reader.

``json`` alone accepts duplicate names (last wins), NaN, infinities, a byte order mark, UTF-16 and lone
surrogates. Two readers that resolve those differently disagree about what an image is, so none is accepted.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

MAX_DEPTH = 64
# A string that never ends is one match up to the end: looking again from each quote inside would take a time
# that grows with the square of the length. What is plain in it is one step, which by letters it was not.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER_MAX = 2**63 - 1


class JsonInvalidError(ValueError):
    """The text is not JSON with one meaning; the message says why."""


def parse_json(raw: bytes, *, max_depth: int = MAX_DEPTH) -> object:
    """Parse UTF-8 JSON strictly. The caller has capped the size.

    Raises:
        JsonInvalidError: not UTF-8, a byte order mark, too deep, a name twice, a number out of range or not
            finite, a lone surrogate, or plainly not JSON.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonInvalidError(f"not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise JsonInvalidError("starts with a byte order mark")
    _check_depth(text, max_depth)
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except JsonInvalidError:
        raise
    except RecursionError:
        raise JsonInvalidError("nested too deeply") from None
    except ValueError as error:
        raise JsonInvalidError(str(error)) from None
    _check_strings([value])  # what stands in no object
    return value


def parse_json_object(raw: bytes, *, max_depth: int = MAX_DEPTH) -> dict[str, object]:
    """Parse a JSON object strictly.

    Raises:
        JsonInvalidError: as :func:`parse_json`, or the document is not an object.
    """
    value = parse_json(raw, max_depth=max_depth)
    if not isinstance(value, dict):
        raise JsonInvalidError(f"must be a JSON object, not {json_type(value)}")
    return value


def json_type(value: object) -> str:
    """The JSON word for a parsed value, for error messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def _check_depth(text: str, max_depth: int) -> None:
    if text.count("[") + text.count("{") <= max_depth:
        return
    # Strings are stepped over whole; what is not JSON is left for the parser to name.
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > max_depth:
                raise JsonInvalidError(f"nested deeper than {max_depth}")
        elif first in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, value in pairs:
        if name in result:
            raise JsonInvalidError(f"the name {name[:80]!r} stands twice in one object")
        if _is_torn(name) or (isinstance(value, str) and _is_torn(value)):
            raise JsonInvalidError("a lone surrogate in a string")
        if isinstance(value, list):
            _check_strings(value)
        result[name] = value
    return result


def _check_strings(values: list[object]) -> None:
    for value in values:
        if isinstance(value, str) and _is_torn(value):
            raise JsonInvalidError("a lone surrogate in a string")
        if isinstance(value, list):
            _check_strings(value)


def _is_torn(text: str) -> bool:
    # Most text is ASCII, and knows it.
    return not text.isascii() and _SURROGATE.search(text) is not None


def _refuse_constant(text: str) -> NoReturn:
    raise JsonInvalidError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise JsonInvalidError(f"the number {text[:40]} is out of range")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) > _INTEGER_MAX:
        raise JsonInvalidError(f"the number {text[:40]} is out of range")
    return value
