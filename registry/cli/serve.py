"""``seatrial serve``: the registry, without a worker."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.apart import do_apart
from registry.cli.options import (
    ConfigOption,
    DataOption,
    ExternalUrlOption,
    GateOption,
    ListenOption,
    LogFormatOption,
    ProcessesOption,
    TlsOption,
    VisibilityOption,
    command_line,
    server_settings,
)
from registry.cli.trust import trust_lines

if TYPE_CHECKING:
    from registry.auth.firststart import FirstStart
    from registry.cli.process import Started
    from registry.settings import Settings

_ALLOCATIONS = (700, 10, 10)
"""When a server looks for garbage, as Python does where nothing else is said."""


def command(
    *,
    data: DataOption = None,
    listen: ListenOption = None,
    config: ConfigOption = None,
    gate: GateOption = None,
    visibility: VisibilityOption = None,
    external_url: ExternalUrlOption = None,
    tls: TlsOption = None,
    log_format: LogFormatOption = None,
    processes: ProcessesOption = None,
    listen_fds: Annotated[str | None, typer.Option("--listen-fds", hidden=True)] = None,
    again: Annotated[bool, typer.Option("--again", hidden=True)] = False,
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
    own_worker: Annotated[str | None, typer.Option("--own-worker", hidden=True)] = None,
    own_worker_token: Annotated[str | None, typer.Option("--own-worker-token", hidden=True)] = None,
) -> None:
    """Serve the registry.

    All settings can be given in a TOML file (--config) or as SEATRIAL_NAME in the environment; the command
    line wins. First start makes the account 'admin' and writes its token to DATA/admin.token.

    SIGTERM, Ctrl-C and closing the terminal end it: /readyz says no, running transfers are finished. A second
    one ends it at once.
    """
    given = {
        "data": data,
        "listen": listen,
        "gate": gate,
        "visibility": visibility,
        "external_url": external_url,
        "tls": tls,
        "log_format": log_format,
        "processes": processes,
    }
    settings = server_settings(config, **given)
    if settings.processes > 1 and listen_fds is None:
        from registry.cli.crew import Crew  # noqa: PLC0415

        crew = Crew(
            settings=settings,
            options=command_line(config=config, **given),
            first_options=command_line(own_worker=own_worker, own_worker_token=own_worker_token),
            ready=lambda told: _tell(ready_fd, told),
        )
        raise typer.Exit(asyncio.run(crew.run()))
    # Only now: these need the server's libraries, and take most of the time to start. The first is loaded for
    # the process that upgrades as well.
    import registry.db.engine  # noqa: F401, PLC0415
    from registry.http.logs import configure_logs  # noqa: PLC0415

    configure_logs(settings)
    do_apart(partial(_upgrade, settings))
    # And what takes longest only for a database that can be used.
    import uvloop  # noqa: PLC0415

    from registry.cli.process import OwnWorker, serve  # noqa: PLC0415

    def ready(started: Started) -> None:
        if not again:
            # Who reads this may be a file on a disk that is full: no reason not to serve.
            with suppress(OSError):
                typer.echo("\n".join(_ready_lines(settings, started)))
        told = {"address": started.address, "worker_token": started.worker_token}
        _tell(ready_fd, json.dumps(told).encode())

    worker = OwnWorker(own_worker, own_worker_token) if own_worker else None
    # What was imported serves to the end: no look for garbage while it serves goes through it.
    gc.freeze()
    gc.set_threshold(*_ALLOCATIONS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sockets = [socket.socket(fileno=int(text)) for text in listen_fds.split(",")] if listen_fds else None
        runner.run(serve(settings, ready=ready, worker=worker, sockets=sockets))


def _upgrade(settings: Settings) -> None:
    from registry.cli.upgrading import upgrade_and_tell  # noqa: PLC0415

    upgrade_and_tell(settings)


def _tell(ready_fd: int | None, told: bytes) -> None:
    """Tell whoever started this process and waits; only the two have this pipe."""
    if ready_fd is not None:
        os.write(ready_fd, told)
        os.close(ready_fd)


def _ready_lines(settings: Settings, started: Started) -> list[str]:
    lines = [f"Seatrial listens on {started.address}"]
    if settings.read_only:
        lines.append("It is read-only (SEATRIAL_READ_ONLY): pushes, deletes and tag moves are refused.")
    if started.certificate is not None and (started.certificate.made or started.first is not None):
        lines += trust_lines(clients_host(settings, started.address), started.certificate)
    if started.first is not None:
        lines += first_start_lines(settings, started.address, started.first)
    return lines


def clients_host(settings: Settings, address: str) -> str:
    """HOST:PORT as clients write it."""
    host = (settings.external_url or address).partition("://")[2]
    return host.replace("0.0.0.0", "localhost").replace("[::]", "localhost")  # noqa: S104


def first_start_lines(settings: Settings, address: str, first: FirstStart) -> list[str]:
    """What a person does next, to copy."""
    host = clients_host(settings, address)
    plain = "" if (settings.external_url or address).startswith("https://") else " --tls-verify=false"
    lines = [
        f"First start: the account '{first.account}' was made; its token, which is also its password, is in",
        f"  {first.token_file}",
        "To push and pull:",
        f"  podman login{plain} -u {first.account} --password-stdin {host} < {first.token_file}",
        f"  podman push{plain} IMAGE {host}/team/app:1",
        f"  podman pull{plain} {host}/team/app:1",
    ]
    if settings.gate == "warn":
        lines.append(
            "The gate of new repositories is 'warn': verdicts are recorded and block nothing. "
            "To let them decide: seatrial repo set NAME --gate enforce, or --gate enforce here."
        )
    return lines
