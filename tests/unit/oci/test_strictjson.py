"""JSON with one meaning (RFC 7493)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.strictjson import MAX_DEPTH, JsonInvalidError, json_type, parse_json, parse_json_object

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_writes_is_read_the_same(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except JsonInvalidError:
        return
    assert json.loads(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"x":{"a":1,"a":1}}]',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        b'{"a":"\xff"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":["x","\\ud800"]}',
        b'{"a":[[["\\ud800"]]]}',
        b'["\\ud800"]',
        b'"\\ud800"',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"[-1e999]",
        b"9" * 19 + b"9",
        b"9" * 5000,
        b"9223372036854775808",
        b"{'a':1}",
        b'{"a":1,}',
        b"{} {}",
        b"{}\0",
        b'{"a":"\n"}',
    ],
)
def test_what_has_no_meaning_or_two(raw: bytes) -> None:
    with pytest.raises(JsonInvalidError):
        parse_json(raw)


def test_escaped_pairs_are_characters() -> None:
    assert parse_json(b'"\\ud83d\\udea2"') == "\N{SHIP}"


def test_depth_is_bounded_and_brackets_in_strings_are_none() -> None:
    nested = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(nested) is not None
    for raw in (b"[" + nested + b"]", b"[" * 200_000 + b"]" * 200_000, b'{"a":' * 100_000):
        with pytest.raises(JsonInvalidError, match="nested deeper than 64"):
            parse_json(raw)
    assert parse_json(b'["' + b"[" * 1000 + b'\\"[{"]') == ["[" * 1000 + '"[{']


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "raw", [b'"' + b'\\"' * 1_000_000, b'"' * 2_000_001, b'"' + b"\\" * 2_000_001, b"[" + b'"\\",' * 500_000]
)
def test_strings_without_an_end_cost_what_their_length_is(raw: bytes) -> None:
    with pytest.raises(JsonInvalidError):
        parse_json(raw)


def test_objects() -> None:
    assert parse_json_object(b'{"a":{}}') == {"a": {}}
    for raw, word in ((b"[]", "an array"), (b"null", "null"), (b'"x"', "a string"), (b"1.5", "a number")):
        with pytest.raises(JsonInvalidError, match=f"must be a JSON object, not {word}"):
            parse_json_object(raw)
    assert json_type(True) == "a boolean"
    assert json_type({}) == "an object"
