"""``seatrial worker run``: try what the registry hands out."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from registry.contract.capabilities import parse_allowed
from registry.errors import RequestInvalidError
from sandbox.cli.cache import app as cache_app
from sandbox.cli.cache import cache_limits as limits_of
from sandbox.cli.workshop import (
    CapabilityOption,
    DowngradeOption,
    EgressOption,
    EgressRateOption,
    PlatformOption,
    RulesOption,
    RuntimeOption,
    chosen_platform,
    configure_logs,
    let_others_pass,
    network_policy,
    read_small_file,
    scanner_with,
)
from sandbox.network.permits import DEFAULT_BITS_PER_SECOND

if TYPE_CHECKING:
    from sandbox.attempt import Workplace
    from sandbox.pinning import Pin
    from sandbox.scanners.layers import Scanner
    from sandbox.worker import Drain

app = typer.Typer(no_args_is_help=True, help="Run a worker, and manage workers.")
app.add_typer(cache_app, name="cache")
CLOCKS_SECONDS = 60
"""More than clocks of a network may differ by."""
_FIXES = {401: "make another token: seatrial token create --worker NAME"}
_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


@app.command("run")
def run(
    *,
    registry: Annotated[
        str, typer.Option("--registry", metavar="URL", help="Address of the registry, http(s)://HOST[:PORT].")
    ],
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="FILE", help="File with the worker's token.")
    ],
    state: Annotated[
        Path, typer.Option("--state", metavar="DIR", help="Folder for runs; this worker's alone.")
    ],
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            help="Folder for layers, which several workers of this host may share. [default: below --state]",
        ),
    ] = None,
    cache_size: Annotated[
        str | None,
        typer.Option(
            "--cache-size",
            metavar="SIZE",
            help="What the cache may hold: a size (20GiB) or a share of the disk (30%). "
            "[default: half of the disk, at most 100 GiB]",
        ),
    ] = None,
    keep_free: Annotated[
        str | None,
        typer.Option(
            "--keep-free",
            metavar="SIZE",
            help="Disk that is left free, as --cache-size. [default: 5% of the disk, at most 10 GiB]",
        ),
    ] = None,
    runtime: RuntimeOption = "auto",
    allow_downgrade: DowngradeOption = None,
    allow_egress: EgressOption = None,
    egress_bits_per_second: EgressRateOption = DEFAULT_BITS_PER_SECOND,
    allow_capability: CapabilityOption = None,
    cpu_set: Annotated[
        str | None,
        typer.Option(
            "--cpu-set", metavar="LIST", help="The only processors that runs are put on, as in 0-2,7."
        ),
    ] = None,
    total_memory_bytes: Annotated[
        int | None,
        typer.Option(
            "--total-memory-bytes",
            min=64 * 1024 * 1024,
            help="Memory of all runs together. [default: the host's but for a reserve]",
        ),
    ] = None,
    total_pids: Annotated[
        int | None,
        typer.Option(
            "--total-pids",
            min=64,
            help="Processes and threads of all runs together. [default: half the host's]",
        ),
    ] = None,
    total_cpus: Annotated[
        float | None,
        typer.Option("--total-cpus", min=0.01, help="Processor time of all runs together. [default: all]"),
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, max=64, help="Runs at once.")] = 1,
    platform: PlatformOption = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0, help="Seconds that a run may take to end after SIGTERM.")
    ] = 60.0,
    rules: RulesOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="HOST:PORT|unix:PATH",
            help="Tell Prometheus of the worker here, to whoever asks. [default: nowhere]",
        ),
    ] = None,
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="auto|json|text", help="Form of log lines on stderr.")
    ] = "auto",
    registry_certificate: Annotated[Path | None, typer.Option("--registry-certificate", hidden=True)] = None,
) -> None:
    """Claim images from the registry, run each in isolation, and report what was seen.

    SIGTERM drains: runs end within --grace seconds or are given back. A second one, or Ctrl-C, gives them
    back at once.
    """
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    enter_user_namespace()
    if not _URL.fullmatch(registry.rstrip("/")):
        raise RequestInvalidError(f"--registry {registry[:200]!r} is not http(s)://HOST[:PORT]")
    token = read_small_file(token_file, "the token file").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise RequestInvalidError(f"the token file {token_file} holds no token")
    let_others_pass()
    configure_logs(log_format)
    # Only now: it takes most of the time to start.
    from sandbox.metrics import parse_metrics_address  # noqa: PLC0415
    from sandbox.pinning import Pin  # noqa: PLC0415
    from sandbox.promises import promised_mechanisms  # noqa: PLC0415
    from sandbox.runtimes.cgroups import find_cgroups  # noqa: PLC0415
    from sandbox.runtimes.isolation import check_downgrades, missing_isolation  # noqa: PLC0415
    from sandbox.runtimes.parent import Ceiling, parse_processors  # noqa: PLC0415
    from sandbox.workplace import opened_workplace  # noqa: PLC0415

    pin = Pin(registry_certificate) if registry_certificate else None
    told_at = None if metrics is None else parse_metrics_address(metrics)
    scanner = scanner_with(rules)
    platforms = (str(chosen_platform(platform)),)
    allowed = frozenset(allow_downgrade or ())
    log = structlog.get_logger("seatrial.worker")
    opened = opened_workplace(
        state,
        runtime=runtime,
        allowed_downgrades=allowed,
        cache=cache,
        cache_limits=partial(limits_of, cache_size, keep_free),
        network=network_policy(allow_egress, egress_bits_per_second),
        allowed_capabilities=parse_allowed(allow_capability or ()),
        ceiling=Ceiling(
            memory_bytes=total_memory_bytes,
            pids=total_pids,
            cpus=total_cpus,
            cpu_set=None if cpu_set is None else parse_processors(cpu_set),
        ),
    )
    with opened as (workplace, swept):
        # One that can only refuse its runs would take them from workers that can do better.
        check_downgrades(missing_isolation(workplace.runtime.info, find_cgroups()), allowed)
        for line in swept:
            log.warning("swept", what=line)
        mechanisms = promised_mechanisms(workplace)
        log.info(
            "worker starts",
            registry=registry,
            runtime=str(workplace.runtime.info),
            platforms=platforms,
            isolation=mechanisms,
            together=asdict(workplace.room.budget),
        )
        code = asyncio.run(
            _work(
                registry,
                token,
                workplace,
                pin=pin,
                platforms=platforms,
                mechanisms=mechanisms,
                slots=slots,
                grace_seconds=grace,
                told_at=told_at,
                scanner=scanner,
            )
        )
    raise typer.Exit(code)


async def _work(
    registry: str,
    token: str,
    workplace: Workplace,
    *,
    pin: Pin | None,
    platforms: tuple[str, ...],
    mechanisms: tuple[str, ...],
    slots: int,
    grace_seconds: float,
    told_at: tuple[str, int] | Path | None,
    scanner: Scanner,
) -> int:
    from sandbox.client import RegistryRefusal, registry_client  # noqa: PLC0415
    from sandbox.metrics import WorkerMetrics, serving  # noqa: PLC0415
    from sandbox.worker import Drain, Post, run_worker  # noqa: PLC0415

    counted = WorkerMetrics(workplace.room, slots=slots, runtime=str(workplace.runtime.info))
    drain = Drain(asked=asyncio.Event(), now=asyncio.Event())
    _listen_to_signals(drain, grace_seconds)
    log = structlog.get_logger("seatrial.worker")
    warned = False

    def heard(ahead_seconds: float | None) -> None:
        nonlocal warned
        counted.heard(ahead_seconds)
        if not warned and ahead_seconds is not None and abs(ahead_seconds) > CLOCKS_SECONDS:
            warned = True
            log.warning("clocks differ", registry_ahead_seconds=round(ahead_seconds), fix="set this host's")

    try:
        async with AsyncExitStack() as stack:
            if told_at is not None:
                where = await stack.enter_async_context(serving(counted, told_at))
                log.info("tells Prometheus", at=where)
            client = await stack.enter_async_context(registry_client(registry, token, pin=pin, heard=heard))
            post = Post(client, workplace, counted, drain, mechanisms, scanner)
            await run_worker(post, platforms=platforms, slots=slots)
    except RegistryRefusal as refusal:
        log.error("the registry refuses this worker", reason=str(refusal), fix=_FIXES.get(refusal.status, ""))
        return 2
    log.info("worker ends")
    return 0


def _listen_to_signals(drain: Drain, grace_seconds: float) -> None:
    loop = asyncio.get_running_loop()

    def terminate() -> None:
        if drain.asked.is_set():
            drain.now.set()
        drain.asked.set()
        loop.call_later(grace_seconds, drain.now.set)

    def interrupt() -> None:
        drain.asked.set()
        drain.now.set()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    # From a terminal that is closed; nohup has it ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # A shell tells of it again.
        loop.add_signal_handler(signal.SIGHUP, lambda: None if drain.asked.is_set() else terminate())
    loop.add_signal_handler(signal.SIGINT, interrupt)
