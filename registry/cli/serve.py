"""``seatrial serve``: the registry, without a worker."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.options import (
    ConfigOption,
    DataOption,
    ExternalUrlOption,
    GateOption,
    ListenOption,
    LogFormatOption,
    TlsOption,
    VisibilityOption,
    server_settings,
)
from registry.cli.trust import trust_lines

if TYPE_CHECKING:
    from registry.auth.firststart import FirstStart
    from registry.cli.process import Started
    from registry.settings import Settings


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
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
    own_worker: Annotated[str | None, typer.Option("--own-worker", hidden=True)] = None,
    own_worker_token: Annotated[str | None, typer.Option("--own-worker-token", hidden=True)] = None,
) -> None:
    """Serve the registry.

    All settings can be given in a TOML file (--config) or as SEATRIAL_NAME in the environment; the command
    line wins. First start makes the account 'admin' and writes its token to DATA/admin.token.
    """
    settings = server_settings(
        config,
        data=data,
        listen=listen,
        gate=gate,
        visibility=visibility,
        external_url=external_url,
        tls=tls,
        log_format=log_format,
    )
    # Only now: these need the server's libraries, and take most of the time to start.
    import uvloop  # noqa: PLC0415

    from registry.cli.process import OwnWorker, serve  # noqa: PLC0415
    from registry.cli.upgrading import upgrade_and_tell  # noqa: PLC0415
    from registry.http.logs import configure_logs  # noqa: PLC0415

    configure_logs(settings)
    upgrade_and_tell(settings)

    def ready(started: Started) -> None:
        typer.echo(f"Seatrial listens on {started.address}")
        if settings.read_only:
            typer.echo("It is read-only (SEATRIAL_READ_ONLY): pushes, deletes and tag moves are refused.")
        if started.certificate is not None and (started.certificate.made or started.first is not None):
            typer.echo("\n".join(trust_lines(clients_host(settings, started.address), started.certificate)))
        if started.first is not None:
            typer.echo("\n".join(first_start_lines(settings, started.address, started.first)))
        if ready_fd is not None:
            # What "up" waits for; only the two processes have this pipe.
            told = {"address": started.address, "worker_token": started.worker_token}
            os.write(ready_fd, json.dumps(told).encode())
            os.close(ready_fd)

    worker = OwnWorker(own_worker, own_worker_token) if own_worker else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, ready=ready, worker=worker))


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
