"""``seatrial up``: registry and worker on one machine, as two processes that know each other by HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from registry.auth.privatefiles import write_private
from registry.cli.dropping import Identity, choose_identity, give, why_unable
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
from registry.cli.supervision import Child, ending_signals, keep_running, seatrial
from registry.contract.capabilities import parse_allowed
from registry.errors import SeatrialError, UnavailableError
from registry.settings import Settings

WORKER_GRACE_SECONDS = 30
WORKER_UMASK = 0o022
"""Mapped users pass through the worker's folders; the registry's are its own."""
_DOCTOR_SECONDS = 60
_REGISTRY_ONLY = 2


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
    worker_state: Annotated[
        Path | None,
        typer.Option(
            "--worker-state",
            metavar="DIR",
            help="The worker's folder, never served from. [default: DATA-worker beside DATA, or DATA/worker "
            "where DATA is a file system of its own]",
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            metavar="auto|runsc|runc|crun",
            help="The OCI runtime to run images with; auto takes the strongest that works.",
        ),
    ] = "auto",
    allow_downgrade: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-downgrade",
            metavar="NAME",
            help="Run without this isolation where the host lacks it; the verdict says so. Can be repeated.",
        ),
    ] = None,
    allow_egress: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-egress",
            metavar="CIDR:PORT",
            help="Let run specs ask for these addresses (/udp behind the port: by UDP). Can be repeated. "
            "[default: runs have no network]",
        ),
    ] = None,
    egress_bits_per_second: Annotated[
        int | None,
        typer.Option(
            "--egress-bits-per-second",
            min=64_000,
            help="The most that a run with a network gets each way. [default: 100000000]",
        ),
    ] = None,
    allow_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-capability",
            metavar="NAME",
            help="Let run specs ask for this capability beyond the seven of the profile standard. Can be "
            "repeated.",
        ),
    ] = None,
    cpu_set: Annotated[
        str | None,
        typer.Option("--cpu-set", metavar="LIST", help="The only processors that runs are put on."),
    ] = None,
) -> None:
    """Run registry and worker together.

    Two processes: started as root, the registry drops to a user who owns the data folder, and the worker
    keeps what it needs to isolate what it runs. Where nothing can be isolated the registry serves alone.
    SIGTERM, Ctrl-C and closing the terminal end both; a second Ctrl-C ends runs at once.
    """
    # What "serve" shares with this command, it gets as it was given here; the rest it reads by itself.
    shared = {
        "gate": gate,
        "visibility": visibility,
        "external_url": external_url,
        "tls": tls,
        "log_format": log_format,
        "processes": processes,
    }
    allowed = parse_allowed(allow_capability or ())
    settings = server_settings(config, data=data, listen=listen, **shared)
    state = worker_state or _default_state(settings.data)
    house = _House(
        settings=settings,
        serve_options=command_line(config=config, data=settings.data, **shared),
        state=state,
        worker_options=[
            *("--runtime", runtime, "--grace", str(WORKER_GRACE_SECONDS)),
            *(text for name in allow_downgrade or () for text in ("--allow-downgrade", name)),
            *(text for permit in allow_egress or () for text in ("--allow-egress", permit)),
            *_given("--egress-bits-per-second", egress_bits_per_second),
            *(text for name in sorted(allowed) for text in ("--allow-capability", name)),
            *_given("--cpu-set", cpu_set),
        ],
        identity=_identity(settings.data, state),
        with_worker=_can_isolate(state, frozenset(allow_downgrade or ())),
    )
    code = asyncio.run(house.run())
    raise typer.Exit(code)


@dataclass(slots=True)
class _House:
    """Both processes and what they are started with."""

    settings: Settings
    serve_options: list[str]
    state: Path
    worker_options: list[str]
    identity: Identity | None
    with_worker: bool
    address: str | None = None
    registry: Child = field(init=False)
    worker: Child = field(init=False)

    def __post_init__(self) -> None:
        self.registry = Child(
            name="registry",
            command=self._serve_command,
            stop_seconds=self.settings.shutdown_seconds + 10,
            identity=self.identity,
        )
        self.worker = Child(
            name="worker",
            command=self._worker_command,
            stop_seconds=WORKER_GRACE_SECONDS + 30,
            umask=WORKER_UMASK,
        )

    async def run(self) -> int:
        """Run until told to stop; the exit code."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupt, stop)
        stopped = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start())
        tasks: list[asyncio.Task[Any]] = [starting]
        try:
            await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                failed = starting.result()
                if failed is not None:
                    return failed
                tasks.append(asyncio.create_task(keep_running(self.registry, self._start_registry)))
                if self.with_worker:
                    tasks.append(asyncio.create_task(keep_running(self.worker, self._start_worker)))
                await asyncio.wait([*tasks[1:], stopped], return_when=asyncio.FIRST_COMPLETED)
            return 0
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await self.worker.stop()
            await self.registry.stop()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            _raise_first(ended)

    async def _start(self) -> int | None:
        """Start both; the exit code of a registry that could not start."""
        process = await self._start_registry()
        if self.address is None:
            return await process.wait()
        if self.with_worker:
            await self._start_worker()
        return None

    async def _start_registry(self) -> Process:
        process, told = await self.registry.start_and_hear()
        if told:
            ready = json.loads(told)
            self.address = ready["address"]
            if ready["worker_token"]:
                write_private(self.state / "worker.token", ready["worker_token"])
        return process

    async def _start_worker(self) -> Process:
        return await self.worker.start()

    def _serve_command(self) -> list[str]:
        # The address of the first start stays, also where any free port would do.
        listen = urlsplit(self.address).netloc if self.address else self.settings.listen
        command = seatrial("serve", *self.serve_options, "--listen", listen)
        if not self.with_worker:
            return command
        command += ["--own-worker", _worker_name()]
        token_file = self.state / "worker.token"
        if token_file.exists():
            hashed = sha256(token_file.read_text(encoding="ascii").strip().encode()).hexdigest()
            command += ["--own-worker-token", hashed]
        return command

    def _worker_command(self) -> list[str]:
        assert self.address is not None
        local = self.address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        return seatrial(
            *("worker", "run", "--registry", local, "--token-file", str(self.state / "worker.token")),
            *("--state", str(self.state), *self.worker_options),
            *self._certificate_options(),
        )

    def _certificate_options(self) -> list[str]:
        # The worker speaks to a loopback address, which no certificate names: it takes this one by itself.
        if self.settings.scheme == "http":
            return []
        file = self.settings.tls_certificate_file or self.settings.data / "tls" / "certificate.pem"
        return ["--registry-certificate", str(file)]

    def _interrupt(self, stop: asyncio.Event) -> None:
        process = self.worker.process
        if stop.is_set() and process is not None and process.returncode is None:
            process.send_signal(signal.SIGINT)
        stop.set()


def _default_state(data: Path) -> Path:
    # Not inside a folder that the registry's user owns: who owns a folder can exchange what is in it. But a
    # data folder with a file system of its own is a volume, and what is beside it may be none.
    data = data.resolve()
    return data / "worker" if data.is_mount() else data.with_name(f"{data.name}-worker")


def _identity(data: Path, state: Path) -> Identity | None:
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o711)  # whatever the umask: the users of images pass through
    if os.geteuid() != 0:
        return None
    identity = choose_identity(data)
    why = why_unable(identity, data)
    if why is not None:
        typer.echo(
            f"WARNING: the registry keeps running as root: user {identity.uid} cannot run it here ({why}).\n"
            "  Install Seatrial and keep its data where other users may pass, as in /opt and /var/lib.",
            err=True,
        )
        return None
    give(data, identity, leave=state.resolve())
    return identity


def _can_isolate(state: Path, allowed: frozenset[str]) -> bool:
    try:
        done = subprocess.run(
            seatrial("doctor", "--json", "--state", str(state)),
            umask=WORKER_UMASK,
            capture_output=True,
            text=True,
            timeout=_DOCTOR_SECONDS,
            check=False,
        )
        mechanisms = json.loads(done.stdout)["mechanisms"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        raise UnavailableError("'seatrial doctor' does not say what this host can isolate") from None
    missing = [
        one
        for one in mechanisms
        if one["need"] != "stated" and (not one["available"] or one["proven"] is False)
    ]
    if done.returncode == _REGISTRY_ONLY:
        typer.echo("WARNING: no image can be run isolated here, so no worker is started:", err=True)
        _tell(missing)
        typer.echo(
            "  The registry serves; images stay pending until a worker elsewhere tries them.", err=True
        )
        return False
    unmet = [one for one in missing if one["downgrade"] not in allowed]
    if unmet:
        typer.echo(
            "WARNING: this host lacks isolation that was not waived, so no worker is started:", err=True
        )
        _tell(unmet)
        names = " ".join(f"--allow-downgrade {one['downgrade']}" for one in unmet)
        typer.echo(f"  To run without it, and have each verdict say so: seatrial up {names}", err=True)
    return not unmet


def _tell(missing: list[dict[str, Any]]) -> None:
    for one in missing:
        typer.echo(f"  {one['name']}: {one['detail']}", err=True)
        if one.get("fix"):
            typer.echo(f"    to have it: {one['fix']}", err=True)


def _given(option: str, value: object) -> tuple[str, ...]:
    return () if value is None else (option, str(value))


def _worker_name() -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:64].strip("-")
    return f"{name}-up"[-64:] if name else "up"


def _raise_first(ended: list[Any]) -> None:
    for result in ended:
        if isinstance(result, SeatrialError | OSError):
            raise result
