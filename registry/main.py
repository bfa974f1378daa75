"""The entry point ``seatrial``: finds the module of the command that was asked for, and only that one.

A command is a module of ``registry.cli`` or ``sandbox.cli`` named in the table below. It offers either
``app``, a typer app that is a group of commands, or ``command``, a function that typer makes one command of.
Two modules may share a name; their groups are then one. A single command may have an alternative, in the
table below that, which an option or a first word chooses. What is slow to import, a module imports inside
its functions; what a command may load is held in tests/unit/cli/test_main.py.

Exit codes: 0; 1 for a verdict of ``fail`` where a command says so; 2 for an error; 64 for wrong usage or
settings; 130 for Ctrl-C.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from registry.cli.progress import leave_out_rich
from registry.errors import SeatrialError
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

EXIT_ERROR = 2
EXIT_USAGE = 64
EXIT_INTERRUPTED = 130
_ALLOCATIONS = 50_000
"""More objects than before are looked through for garbage when there are so many new ones."""

COMMANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "serve": ("registry.cli.serve",),
        "up": ("registry.cli.up",),
        "login": ("registry.cli.login",),
        "logout": ("registry.cli.logout",),
        "whoami": ("registry.cli.whoami",),
        "attention": ("registry.cli.attention",),
        "settings": ("registry.cli.settings",),
        "worker": ("sandbox.cli.worker", "registry.cli.worker"),
        "run": ("sandbox.cli.run",),
        "scan": ("sandbox.cli.scan",),
        "spec": ("sandbox.cli.spec",),
        "bundle": ("sandbox.cli.bundle",),
        "doctor": ("sandbox.cli.doctor",),
        "user": ("registry.cli.user", "registry.cli.userimport"),
        "robot": ("registry.cli.robot",),
        "group": ("registry.cli.group",),
        "member": ("registry.cli.member",),
        "token": ("registry.cli.token",),
        "refresh-token": ("registry.cli.refreshtoken",),
        "session": ("registry.cli.session",),
        "keys": ("registry.cli.keys",),
        "issuer": ("registry.cli.issuer",),
        "workload": ("registry.cli.workload",),
        "access": ("registry.cli.access",),
        "namespace": ("registry.cli.namespace",),
        "repo": ("registry.cli.repo", "registry.cli.reporeadme"),
        "tag": ("registry.cli.tag", "registry.cli.tagrule"),
        "retention": ("registry.cli.retention",),
        "quota": ("registry.cli.quota",),
        "image": ("registry.cli.image",),
        "promote": ("registry.cli.promote",),
        "promotion": ("registry.cli.promotion",),
        "trial": ("registry.cli.trial",),
        "gate": ("registry.cli.gate",),
        "schedule": ("registry.cli.schedule",),
        "policy": ("registry.cli.policy",),
        "scanner": ("registry.cli.scanner",),
        "signature": ("registry.cli.signature",),
        "verify": ("registry.cli.verify",),
        "import": ("registry.cli.importing",),
        "export": ("registry.cli.export",),
        "migrate": ("registry.cli.migrate",),
        "sync": ("registry.cli.sync",),
        "waiver": ("registry.cli.waiver",),
        "audit": ("registry.cli.audit",),
        "events": ("registry.cli.events",),
        "webhook": ("registry.cli.webhook",),
        "hook": ("registry.cli.hook",),
        "secret": ("registry.cli.secret",),
        "upstream": ("registry.cli.upstream",),
        "advisories": ("registry.cli.advisories",),
        "db": ("registry.cli.db",),
        "storage": ("registry.cli.storage",),
        "backup": ("registry.cli.backup",),
        "gc": ("registry.cli.gc",),
        "scrub": ("registry.cli.scrub",),
        "fsck": ("registry.cli.fsck",),
    }
)
ALTERNATIVES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "scan": ("diff", "sandbox.cli.scandiff"),
        "doctor": ("--server", "registry.cli.doctor"),
        "export": ("--with-evidence", "registry.cli.evidence"),
    }
)
"""The option, or first word, that chooses another command of that name, and the module of that."""
# What typer raises for wrong usage; it keeps the class itself to itself.
_CLICK_ERROR: type[Any] = typer.BadParameter.__mro__[2]
_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]


class _Commands(TyperGroup):
    """The table above as a group of commands."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """The command of that name, imported now."""
        modules = [importlib.import_module(name) for name in COMMANDS.get(cmd_name, ())]
        return _command(cmd_name, modules) if modules else None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The command that the arguments ask for, and what is left of them."""
        name, command, rest = super().resolve_command(ctx, args)
        word, _ = ALTERNATIVES.get(name or "", (None, None))
        if name is None or word is None:
            return name, command, rest
        if not word.startswith("-"):
            chosen = rest[:1] == [word]
            return (f"{name} {word}", alternative(name), rest[1:]) if chosen else (name, command, rest)
        if any(text.partition("=")[0] == word for text in rest):
            return name, alternative(name), rest
        return name, command, rest


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(version("seatrial"))
        raise typer.Exit


@app.callback()
def root(
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda value: _print_version(wanted=value),
            help="Print the version and stop.",
        ),
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            envvar="SEATRIAL_CA_FILE",
            exists=True,
            dir_okay=False,
            help="Trust this authority as well when a command speaks to a registry.",
        ),
    ] = None,
    plain_http: Annotated[
        bool,
        typer.Option(
            "--plain-http",
            envvar="SEATRIAL_PLAIN_HTTP",
            help="Let a command send its token in clear over a network.",
        ),
    ] = False,
) -> None:
    """The OCI registry that tries every image before anyone else runs it."""


def main() -> None:
    """Run the command line and exit."""
    # What a command imports stays to its end. To look through it for garbage again and again, and once more
    # at the end, is a third of what ``serve`` takes to start and to stop.
    gc.set_threshold(_ALLOCATIONS)
    # Nor does a package beside this one change how messages are read; to ask each for that takes a while.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # noqa: TID251  (there is no other switch)
    leave_out_rich()
    try:
        sys.exit(run(sys.argv[1:]))
    finally:
        gc.freeze()


def run(arguments: list[str]) -> int:
    """Run one command; the exit code."""
    try:
        code = get_command(app).main(args=arguments, prog_name="seatrial", standalone_mode=False)
    except _USAGE_ERROR as error:
        hint = f" (try: {error.ctx.command_path} --help)" if error.ctx else ""
        typer.echo(f"{error.format_message()}{hint}", err=True)
        return EXIT_USAGE
    except _CLICK_ERROR as error:
        typer.echo(f"seatrial: {error.format_message()}", err=True)
        return EXIT_ERROR
    except typer.Abort:
        return EXIT_INTERRUPTED
    except SeatrialError as error:
        typer.echo(f"seatrial: {error.message}", err=True)
        return EXIT_USAGE if error.status == HTTPStatus.BAD_REQUEST else EXIT_ERROR
    except SandboxError as error:
        typer.echo(f"seatrial: {error.message}", err=True)
        return EXIT_ERROR
    return code if isinstance(code, int) else 0


def alternative(name: str) -> Any:
    """The other command of that name.

    Raises:
        KeyError: there is one only.
    """
    return _command(name, [importlib.import_module(ALTERNATIVES[name][1])])


def _command(name: str, modules: list[ModuleType]) -> Any:
    if not hasattr(modules[0], "app"):
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name)(modules[0].command)
        return get_command(single)
    groups = []
    for module in modules:
        module.app.rich_markup_mode = None
        groups.append(get_group(module.app))
    merged = groups[0]
    for group in groups[1:]:
        merged.commands.update(group.commands)
    merged.name = name
    return merged


if __name__ == "__main__":
    main()
