"""Run specs and findings policies as people write them: YAML, of which JSON is a part, with a place for each
mistake."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from registry.contract.base import Wire
from registry.contract.findingspolicy import FindingsPolicy
from registry.contract.runspec import ImageSpec, RunSpec
from registry.errors import RequestInvalidError

MAX_BYTES = 64 * 1024
_PROBLEMS_MAX = 5
_DEPTH_MAX = 32
T = TypeVar("T", bound=Wire)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where in the document, what, and on which line and column, counted from 1."""

    path: str
    message: str
    line: int
    column: int


class SpecInvalidError(RequestInvalidError):
    """A run spec, or what else ``what`` says, that is none."""

    def __init__(self, problems: Sequence[Problem], *, several_lines: bool, what: str = "run spec") -> None:
        said = []
        for one in problems[:_PROBLEMS_MAX]:
            # What came as an object has been written on one line by us.
            place = f"line {one.line}, column {one.column}: " if several_lines else ""
            said.append(f"{place}{one.path}: {one.message}")
        more = f"; and {len(problems) - _PROBLEMS_MAX} more" if len(problems) > _PROBLEMS_MAX else ""
        super().__init__(f"the {what} is not valid: {'; '.join(said)}{more}")
        self.problems = tuple(problems)


def parse_run_spec(text: str) -> RunSpec:
    """Read a run spec.

    Raises:
        SpecInvalidError: too long, not YAML, aliases, or a key or value that is not allowed; each with its
            path.
    """
    return _validated(RunSpec, text)


def parse_image_spec(text: str) -> ImageSpec:
    """Read what an image's label or referrer says.

    Raises:
        SpecInvalidError: as :func:`parse_run_spec`; it has only ``version``, ``limits`` and ``expect``.
    """
    return _validated(ImageSpec, text)


def parse_findings_policy(text: str) -> FindingsPolicy:
    """Read a findings policy.

    Raises:
        SpecInvalidError: as :func:`parse_run_spec`.
    """
    return _validated(FindingsPolicy, text, what="findings policy")


def as_yaml(document: Mapping[str, Any]) -> str:
    """A stored run spec or findings policy as people write it: what reads it again reads the same."""
    text = _dumped(document, allow_unicode=True)
    # What nobody could see is spelt out.
    return text if text.replace("\n", "").isprintable() else _dumped(document, allow_unicode=False)


def run_spec_schema() -> dict[str, Any]:
    """The JSON Schema of run specs."""
    return dict(_schema(RunSpec))


def _validated(kind: type[T], text: str, *, what: str = "run spec") -> T:
    lines = "\n" in text.strip()
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise SpecInvalidError(
            [Problem("spec", f"a {what} has at most {MAX_BYTES} bytes", 1, 1)], several_lines=False, what=what
        )
    try:
        node = yaml.compose(text, Loader=_NoAliases)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = f"not YAML: {error.problem or error.context or error}"[:300]
        raise SpecInvalidError(
            [Problem("spec", said, line, column)], several_lines=lines, what=what
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = "it is nested too deep" if isinstance(error, RecursionError) else str(error)[:300]
        problem = Problem("spec", f"not YAML: {said}", 1, 1)
        raise SpecInvalidError([problem], several_lines=False, what=what) from None
    problems = list(_of_the_text(node))
    if problems:
        raise SpecInvalidError(problems, several_lines=lines, what=what)
    try:
        document = None if node is None else _NoAliases("").construct_document(node)
        # JSON mode lets YAML's lists become tuples while everything else stays strict.
        return kind.model_validate_json(json.dumps(document))
    except ValidationError as error:
        found = sorted(_of_the_model(kind, node, error), key=lambda one: (one.line, one.column))
        raise SpecInvalidError(found, several_lines=lines, what=what) from None
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        problem = Problem("spec", f"not YAML: {str(error)[:300]}", 1, 1)
        raise SpecInvalidError([problem], several_lines=False, what=what) from None


class _NoAliases(yaml.SafeLoader):
    """YAML as data: no aliases, which make much of little, and a date is only a text."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise self._refused("aliases are not allowed")
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise self._refused("it is nested too deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refused(self, problem: str) -> yaml.MarkedYAMLError:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_NoAliases.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# As JSON writes 0.00001: to YAML 1.1 that is a text, and a spec that was stored could not be read.
_EXPONENT = re.compile(r"-?[0-9]+(?:\.[0-9]+)?[eE][-+]?[0-9]+\Z")
_NoAliases.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-0123456789"))


class _Writer(yaml.SafeDumper):
    """YAML as :class:`_NoAliases` reads it."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


_Writer.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-0123456789"))
_Writer.add_representer(
    str,
    lambda writer, text: writer.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _dumped(document: Mapping[str, Any], *, allow_unicode: bool) -> str:
    ordered = {"version": document.get("version"), **document}
    written: str = yaml.dump(ordered, Dumper=_Writer, allow_unicode=allow_unicode, sort_keys=False, width=100)
    return written


def _of_the_text(node: yaml.Node | None, path: str = "") -> Iterator[Problem]:
    """What the models never see: keys that are there twice, or are no text."""
    if isinstance(node, yaml.SequenceNode):
        for number, one in enumerate(node.value):
            yield from _of_the_text(one, f"{path}.{number}" if path else str(number))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        where = f"{path}.{name}" if path else name
        if not name or key.tag == "tag:yaml.org,2002:merge":
            yield _problem(key, path or "spec", "a key is a plain text")
        elif name in seen:
            yield _problem(key, where, "this key is there twice")
        seen.add(name)
        yield from _of_the_text(value, where)


def _of_the_model(kind: type[Wire], node: yaml.Node | None, error: ValidationError) -> Iterator[Problem]:
    schema = _schema(kind)
    told: set[tuple[str, str]] = set()
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        found = _find(one["loc"], node, schema)
        path, place, message = found.path, found.value, one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            place, message = found.key, _unknown(str(one["loc"][-1]), found.known)
        # A value of several kinds is refused once for each of them.
        if (path, message) not in told:
            told.add((path, message))
            yield _problem(place, path, message)


@cache
def _schema(kind: type[Wire]) -> Mapping[str, Any]:
    return kind.model_json_schema()


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"there is no such key; did you mean {close[0]!r}?"
    return f"there is no such key; known are {', '.join(known)}" if known else "there is no such key"


@dataclass(frozen=True, slots=True)
class _Found:
    """A place in the document: its path, its key and value, and the keys that there could be beside it."""

    path: str
    key: yaml.Node | None
    value: yaml.Node | None
    known: Sequence[str]


def _find(loc: Sequence[int | str], node: yaml.Node | None, schema: Mapping[str, Any]) -> _Found:
    """Where something is. Pydantic also names the kind that it tried of several, which is no part of the
    document."""
    names: list[str] = []
    key, value, here, known = node, node, schema, sorted(_properties(schema, schema))
    for part in loc:
        below = _below(value, part)
        properties = _properties(here, schema)
        if below is None:
            if isinstance(value, yaml.MappingNode) and part in properties:
                names.append(str(part))  # one that is missing
            continue
        names.append(str(part))
        known = sorted(properties)
        here = properties.get(part, {}) if isinstance(part, str) else _items(here, schema)
        key, value = below
    return _Found(".".join(names) or "spec", key, value, known)


def _below(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return (node.value[part], node.value[part]) if part < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in node.value if pair[0].value == str(part)), None)
    return None


def _kinds(here: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a schema may be, with its references followed."""
    for one in here.get("anyOf", (here,)):
        reference = one.get("$ref")
        yield schema["$defs"][reference.rpartition("/")[2]] if reference else one


def _properties(here: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: one for kind in _kinds(here, schema) for name, one in kind.get("properties", {}).items()}


def _items(here: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((kind["items"] for kind in _kinds(here, schema) if "items" in kind), {})


def _problem(node: yaml.Node | None, path: str, message: str) -> Problem:
    line, column = (node.start_mark.line + 1, node.start_mark.column + 1) if node else (1, 1)
    # A key may be as long as the spec.
    return Problem(path[:300], message[:500], line, column)
