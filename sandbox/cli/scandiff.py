"""``seatrial scan diff``: what is different between two images, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandbox.cli.scan import (
    SEVERITIES,
    AdvisoriesOption,
    OutputOption,
    StateOption,
    Threshold,
    VexOption,
    is_unread,
    reports_of,
    say_age,
)
from sandbox.cli.workshop import (
    JsonOption,
    PasswordFileOption,
    PlainHttpOption,
    PlatformOption,
    RulesOption,
    UsernameOption,
    read_credentials,
)

_WHAT = "An image as of scan, or a file that scan or image report wrote with --format json."


def command(
    *,
    before: Annotated[str, typer.Argument(metavar="A", help=_WHAT)],
    after: Annotated[str, typer.Argument(metavar="B", help=_WHAT)],
    output: OutputOption = None,
    fail_on_new: Annotated[
        Threshold | None,
        typer.Option(
            "--fail-on-new",
            metavar="|".join(SEVERITIES),
            help="Exit with 1 where B has something of this severity or above that A has not. What has an "
            "unknown one counts.",
        ),
    ] = None,
    advisories: AdvisoriesOption = None,
    vex: VexOption = None,
    rules: RulesOption = None,
    platform: PlatformOption = None,
    state: StateOption = None,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    plain_http: PlainHttpOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is different from one image to another: packages, and what is wrong with them.

    A file of a report keeps what advisories said when it was written. Exit code 0; with --fail-on-new 1 where
    something of that severity or above is new, and 2 where nothing is but not all of B could be looked at; 2
    for an error, 64 for wrong usage.
    """
    from registry.formats.difference import (  # noqa: PLC0415
        difference,
        difference_document,
        difference_table,
        exit_code,
    )
    from registry.formats.putting import put_out, require_place  # noqa: PLC0415
    from registry.formats.reading import is_document, read_document  # noqa: PLC0415

    require_place(output)
    known = {name: read_document(Path(name)) for name in (before, after) if is_document(Path(name))}
    images = [name for name in dict.fromkeys((before, after)) if name not in known]
    if images:
        found = reports_of(
            images,
            advisories=advisories,
            vex=vex or (),
            rules=rules,
            platform=platform,
            state=state,
            credentials=read_credentials(username, password_file),
            plain_http=plain_http,
        )
        known |= {name: (name, one) for name, one in zip(images, found, strict=True)}
    (old_name, old), (new_name, new) = known[before], known[after]
    names = (f"{old_name} ({old.scan.digest})", f"{new_name} ({new.scan.digest})")
    result = difference(old, new, names=names)
    put_out(difference_document(result) if as_json else difference_table(result), output)
    for _, one in known.values():
        say_age(one)
    code = 0
    if fail_on_new is not None:
        code = exit_code(result, new, SEVERITIES[SEVERITIES.index(fail_on_new) :])
    unread = any(is_unread(known[name][1], advisories) for name in images)
    raise typer.Exit(2 if code == 0 and unread else code)
