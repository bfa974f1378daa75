"""Writes the pages of docs/reference that are generated from the code; ``make docs`` runs it.

A test holds that the pages in the clone are what this would write.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import typer
import typer.core
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from registry.contract.examples import EXAMPLES
from registry.contract.specfile import parse_run_spec, run_spec_schema
from registry.db.eventkinds import MEANINGS
from registry.errors import CODES
from registry.http.api.routes import Right, Route
from registry.http.api.shape import shape_of
from registry.http.api.table import ROUTES, description
from registry.main import ALTERNATIVES, alternative, app
from registry.settings import PREFIX, SECRET_FILES, Settings
from sandbox.scanners.content.catalogue import CATALOGUE
from sandbox.scanners.content.engine import Engine, compile_rules
from scripts.hosts import hosts_page
from scripts.refusals import refusals_page

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
HOST_DEPENDENT = {"trial_platforms": "the host's own"}
FROM_FILES = " and ".join(f"`{PREFIX}{name.upper()}`" for name in SECRET_FILES)
SETTINGS_INTRODUCTION = f"""\
Generated from the code. Later wins: default, TOML file (`--config`), environment, command line. In TOML a
setting has the name below and a group is a table. A wrong name or value stops the start with the name and the
reason. {FROM_FILES} can be given as a file that holds the value: add `_FILE` to the variable.
`seatrial settings` tells administrators what a registry was started with; no secrets."""
API_INTRODUCTION = """\
Generated from the code; the paths come after `/api/v1`. [openapi.json](openapi.json) has bodies, queries,
answers and errors, and every server has its own at `/api/v1/openapi.json`. [The admin API](../api.md) says
what they have in common."""
RIGHTS: Mapping[Right, str] = types.MappingProxyType(
    {
        "admin": "administrators",
        "user": "users",
        "account": "users and robots",
        "anyone": "whoever has the right to what it names",
        "signing": "whoever signs in or out",
    }
)
ERRORS_INTRODUCTION = """\
Generated from the code. Under `/v2/` the body is the envelope of the distribution specification,
`{"errors": [{"code", "message", "detail"}]}`; under `/api/` it is RFC 9457 problem+json with the same
code."""

EXAMPLES_INTRODUCTION = """\
Generated from the code. `seatrial spec init --example NAME` prints one, [run specs](../run-spec.md) says what
each key means. Ports, paths and figures are those of the example: put in your image's."""

MISCONFIGURATIONS_INTRODUCTION = """\
Generated from the code. What a scan tells of how an image is made, of its files and of its configuration; see
[scanning](../scanning.md). An id stays as it is, for whoever names it elsewhere."""

RULES_INTRODUCTION = """\
Generated from the rules in `sandbox/scanners/rules`. What a scan looks for in the content of files, in
variables, labels, commands and the history; see [scanning](../scanning.md). A secret of which the checksum is
wrong is `low`, and what looks like one in a folder of libraries may be `info`."""

EVENTS_INTRODUCTION = """\
Generated from the code. What is recorded, each in the transaction of its cause; see
[the audit trail](../audit.md)."""


def pages() -> dict[str, str]:
    """File name -> content."""
    return {
        "settings.md": settings_page(),
        "errors.md": errors_page(),
        "events.md": events_page(),
        "misconfigurations.md": misconfigurations_page(),
        "content-rules.md": content_rules_page(),
        "commands.md": commands_page(),
        "refusals.md": refusals_page(),
        "hosts.md": hosts_page(),
        "api.md": api_page(),
        "openapi.json": json.dumps(description(), indent=1) + "\n",
        "run-spec-examples.md": examples_page(),
        "run-spec.schema.json": json.dumps(run_spec_schema(), indent=2) + "\n",
    }


def examples_page() -> str:
    """Each example of a run spec: for which images, and the spec."""
    lines = ["# Run specs for common shapes of images", "", EXAMPLES_INTRODUCTION, ""]
    lines += ["| the image is | example | checked by |", "|---|---|---|"]
    for name, example in EXAMPLES.items():
        spec = parse_run_spec(example.spec)
        what = ", ".join([*spec.checks, *(case.name for case in spec.cases)]) or "one run"
        lines.append(f"| {example.shape} | [`{name}`](#{name}) | {what} |")
    for name, example in EXAMPLES.items():
        lines += ["", f"## {name}", "", f"For {example.shape}.", "", "```yaml", example.spec.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting with its variable, type, default and meaning."""
    lines = ["# Settings", "", SETTINGS_INTRODUCTION, ""]
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            defaults = field.default
            lines += [f"## {name}", "", f"A group: {field.description}.", ""]
            lines += ["| setting | variable | type | default | meaning |", "|---|---|---|---|---|"]
            for member, inner in kind.model_fields.items():
                variable = f"{PREFIX}{name}__{member}".upper()
                lines.append(
                    f"| `{name}.{member}` | `{variable}` | {_type(inner)} | `{getattr(defaults, member)}` "
                    f"| {inner.description} |"
                )
            lines.append("")
            continue
        lines += [f"## {name}", "", f"{field.description}.", ""]
        lines += [f"`{PREFIX}{name.upper()}`: {_type(field)}, default {_default(name, field)}.", ""]
    return "\n".join(lines)


def errors_page() -> str:
    """Every error code with its status and meaning."""
    lines = ["# Error codes", "", ERRORS_INTRODUCTION, "", "| code | status | meaning |", "|---|---|---|"]
    lines += [f"| `{code}` | {row.status} | {row.meaning} |" for code, row in CODES.items()]
    return "\n".join(lines) + "\n"


def events_page() -> str:
    """Every kind of event with its meaning."""
    lines = ["# Events", "", EVENTS_INTRODUCTION, "", "| kind | meaning |", "|---|---|"]
    lines += [f"| `{kind}` | {meaning} |" for kind, meaning in MEANINGS.items()]
    return "\n".join(lines) + "\n"


def misconfigurations_page() -> str:
    """Every misconfiguration with why it is one and how to mend it."""
    lines = ["# Misconfigurations", "", MISCONFIGURATIONS_INTRODUCTION, ""]
    lines += ["| id | severity | what | why | how to mend it |", "|---|---|---|---|---|"]
    lines += [
        f"| `{rule}` | {entry.severity} | {entry.title} | {entry.why} | {entry.remedy} |"
        for rule, entry in CATALOGUE.items()
    ]
    return "\n".join(lines) + "\n"


def content_rules_page() -> str:
    """Every rule for content, ours."""
    lines = ["# Rules for content", "", RULES_INTRODUCTION, ""]
    rules = Engine(compile_rules()).rules
    for kind, heading in (("secret", "Secrets"), ("malware", "Malware")):
        lines += [f"## {heading}", "", "| id | severity | what | only in |", "|---|---|---|---|"]
        lines += [
            f"| `{rule.id}` | {rule.severity} | {rule.title} | {rule.only or ''} |"
            for rule in rules
            if rule.kind == kind
        ]
        lines.append("")
    return "\n".join(lines)


def api_page() -> str:
    """Every route of the admin API, by noun."""
    lines = ["# The admin API, route by route", "", API_INTRODUCTION, ""]
    for noun, routes in groupby(sorted(ROUTES, key=_noun), key=_noun):
        lines += [f"## {noun}", "", "| route | for | does |", "|---|---|---|"]
        for route in routes:
            shape = shape_of(route.handler)
            conditional = "; `If-Match`, `If-None-Match`" if shape.is_conditional else ""
            lines.append(
                f"| `{route.method} {route.path}` | {RIGHTS[route.right]} | {shape.summary}{conditional} |"
            )
        lines.append("")
    return "\n".join(lines)


def _noun(route: Route) -> str:
    return route.path.split("/")[1]


def commands_page() -> str:
    """Every command with its help."""
    lines = ["# Commands", "", "Generated from the code. Wrong usage exits 64.", ""]
    for path, command in _commands(typer.main.get_command(app), ("seatrial",)):
        lines += [f"## {' '.join(path)}", "", (command.help or "").strip(), ""]
        rows = [
            _parameter(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)
        ]
        if rows:
            lines += ["| option or argument | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    if isinstance(command, typer.core.TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if not inner.hidden:
                yield from _commands(inner, (*path, name))
            if len(path) == 1 and name in ALTERNATIVES:
                yield (*path, name, ALTERNATIVES[name][0]), alternative(name)


def _parameter(parameter: typer.core.TyperOption | typer.core.TyperArgument) -> str:
    default, meaning = "", parameter.help or ""
    if isinstance(parameter, typer.core.TyperOption):
        given = f" {parameter.metavar}" if parameter.metavar else ""
        names = ", ".join(f"`{name}{given}`" for name in (*parameter.opts, *parameter.secondary_opts))
        if parameter.default not in (None, False, ()) and not callable(parameter.default):
            default = f"`{parameter.default}`"
    else:
        names = f"`{parameter.metavar or (parameter.name or '').upper()}`"
    if parameter.required:
        meaning = f"{meaning} (required)".strip()
    cells = (text.replace("|", "\\|") for text in (names, default, meaning))
    return f"| {' | '.join(cells)} |"


def _default(name: str, field: FieldInfo) -> str:
    if name in HOST_DEPENDENT:
        return HOST_DEPENDENT[name]
    if field.default is None:
        return "none"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


def _type(field: FieldInfo) -> str:
    words = {str: "text", int: "integer", float: "number", bool: "`true` or `false`", Path: "path"}
    kind = field.annotation
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(argument for argument in arguments if argument is not types.NoneType)
        arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if typing.get_origin(kind) is tuple:
        return "list, commas between"
    bounds = [
        f"{word} {getattr(constraint, name)}"
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"))
        for constraint in field.metadata
        if hasattr(constraint, name)
    ]
    return ", ".join([words[kind], *bounds])


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in pages().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
