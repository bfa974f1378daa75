"""What commands print: JSON for scripts, plain columns for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import typer

from registry.oci.printable import printable


def print_json(value: object, *, err: bool = False) -> None:
    """Print ``value`` as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False), err=err)


def print_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Print the named columns of ``rows``, aligned, under their names."""
    table = [[column.replace("_", " ").upper() for column in columns]]
    table += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def print_list(rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print a list whole as JSON, or the named columns of it."""
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns)


def print_fields(row: Mapping[str, object], fields: Sequence[str]) -> None:
    """Print one thing, a line for each field."""
    width = max(len(field) for field in fields)
    for field in fields:
        typer.echo(f"{field.replace('_', ' '):{width}}  {cell(row.get(field))}")


def print_with_roles(
    thing: Mapping[str, object],
    fields: Sequence[str],
    roles: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Print one account, and below it the roles that it holds; or both as one piece of JSON."""
    if as_json:
        print_json({**thing, "roles": roles})
        return
    print_fields(thing, fields)
    if roles:
        typer.echo("")
        print_table(roles, columns)


def cell(value: object) -> str:
    """A JSON value as one word or line for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value) or "-"
    text = str(value) or "-"
    if len(text) >= 20 and text[4:5] == "-" and text[10:11] == "T":
        with suppress(ValueError):
            return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    return printable(text)
