"""From a run spec and an image config to what is run and what is expected: one pure function.

Without a spec the image suggests its own smoke test: its HEALTHCHECK if it has one; else, if it exposes TCP
ports, one of them accepts within ``alive_seconds``; else the command exits 0 or is alive after
``alive_seconds``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from registry.contract.expectations import (
    ExecExpectation,
    Expectations,
    FileExpectation,
    HttpExpectation,
    LogExpectation,
    StopExpectation,
    TcpExpectation,
)
from registry.contract.limits import Limits, lowered
from registry.contract.runspec import IMAGE_LABEL, ImageSpec, NetworkSpec, RunSpec, parse_image_spec
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import Healthcheck, ImageConfig

MAX_EXPECTATIONS = 190
"""Of one run, its image's own included: a report has room for a few more."""
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoCommandError(RequestInvalidError):
    """Neither the image nor the spec says what to run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One container execution and everything it is held against."""

    command: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    working_dir: str
    profile: Literal["standard", "restricted"]
    limits: Limits
    exit_code: int | None = None
    """The command must end with this code."""
    alive: bool = False
    """The command must still run after ``limits.alive_seconds``."""
    exit_zero_or_alive: bool = False
    """The command ends with 0 before ``limits.alive_seconds``, or still runs then."""
    healthcheck: Healthcheck | None = None
    any_tcp: tuple[int, ...] = ()
    """One of these ports accepts."""
    log: tuple[LogExpectation, ...] = ()
    http: tuple[HttpExpectation, ...] = ()
    tcp: tuple[TcpExpectation, ...] = ()
    exec: tuple[ExecExpectation, ...] = ()
    file: tuple[FileExpectation, ...] = ()
    stop: StopExpectation | None = None
    """Once everything else has been seen, the command ends so when it is asked to."""
    init: bool = False
    """A small init of the worker's goes before the command."""
    network: NetworkSpec | None = None
    """Asked for by the spec, never by the image."""
    require: tuple[str, ...] = ()
    """Mechanisms of isolation that the run must have."""
    capabilities: tuple[str, ...] = ()
    """Asked for by the spec, never by the image; without ``CAP_``."""
    tested: str = ""
    """What is tested, in words, for the verdict."""


def make_plan(
    config: ImageConfig,
    spec: RunSpec | None,
    *,
    limits: Limits,
    ceiling: Limits,
    image_spec_allowed: bool,
) -> Plan:
    """Decide what is run.

    Raises:
        NoCommandError: there is no command.
        RequestInvalidError: the image's own label is not valid where it is read, or there are too many
            expectations.
    """
    command = (spec.command if spec else None) or (*config.entrypoint, *config.cmd)
    if not command or not command[0]:
        raise NoCommandError("the image has no entrypoint and no command, and the run spec gives none")
    plan = Plan(
        command=command,
        env=_environment(config, spec),
        user=(spec.user if spec else None) or config.user,
        working_dir=config.working_dir or "/",
        profile=spec.profile if spec else "standard",
        limits=lowered(spec.limits.over(limits) if spec else limits, ceiling),
        init=bool(spec and spec.init),
        network=spec.network if spec else None,
        require=(spec.require if spec else None) or (),
        capabilities=(spec.capabilities if spec else None) or (),
    )
    plan = _expect(plan, config, spec)
    label = config.labels.get(IMAGE_LABEL)
    if label is not None and image_spec_allowed:
        plan = _add_image_spec(plan, parse_image_spec(label))
    count = len((*plan.log, *plan.http, *plan.tcp, *plan.exec, *plan.file))
    if count > MAX_EXPECTATIONS:
        raise RequestInvalidError(f"there are {count} expectations; {MAX_EXPECTATIONS} are the limit")
    return replace(plan, tested=_in_words(plan))


def _environment(config: ImageConfig, spec: RunSpec | None) -> tuple[str, ...]:
    added = spec.env if spec else {}
    kept = [entry for entry in config.env if entry.partition("=")[0] not in added]
    entries = [*kept, *(f"{name}={value}" for name, value in added.items())]
    if not any(entry.startswith("PATH=") for entry in entries):
        entries.insert(0, DEFAULT_PATH)
    return tuple(entries)


def _expect(plan: Plan, config: ImageConfig, spec: RunSpec | None) -> Plan:
    expect = spec.expect if spec else Expectations()
    if expect.tells() or expect.stop is not None:
        return replace(
            plan,
            exit_code=expect.exit,
            # To be stopped it must have stayed up, where nothing else says until when.
            alive=bool(expect.alive) or (expect.stop is not None and not expect.tells()),
            log=expect.log,
            http=expect.http,
            tcp=expect.tcp,
            exec=expect.exec,
            file=expect.file,
            stop=expect.stop,
        )
    if config.healthcheck is not None:
        return replace(plan, healthcheck=config.healthcheck)
    ports = tuple(port.number for port in config.exposed_ports if port.protocol == "tcp")
    if ports:
        return replace(plan, any_tcp=ports)
    return replace(plan, exit_zero_or_alive=True)


def _add_image_spec(plan: Plan, image: ImageSpec) -> Plan:
    asked = image.limits.over(plan.limits)
    expect = image.expect
    return replace(
        plan,
        limits=lowered(asked, plan.limits),
        # An image cannot replace how its own run must end, only ask for more.
        exit_code=plan.exit_code if plan.exit_code is not None or plan.alive else expect.exit,
        alive=plan.alive or (bool(expect.alive) and plan.exit_code is None),
        log=plan.log + expect.log,
        http=plan.http + expect.http,
        tcp=plan.tcp + expect.tcp,
        exec=plan.exec + expect.exec,
        file=plan.file + expect.file,
        stop=plan.stop or (expect.stop if plan.exit_code is None else None),
    )


def _in_words(plan: Plan) -> str:
    within = f"within {plan.limits.alive_seconds:g} s"
    words = []
    if plan.healthcheck is not None:
        words.append("the image's HEALTHCHECK succeeds")
    if plan.any_tcp:
        ports = " or ".join(str(port) for port in plan.any_tcp)
        words.append(f"TCP port {ports} accepts {within}")
    if plan.exit_zero_or_alive:
        words.append(f"the command exits 0 or is alive after {plan.limits.alive_seconds:g} s")
    if plan.exit_code is not None:
        words.append(f"the command exits {plan.exit_code}")
    if plan.alive:
        words.append(f"the command is alive after {plan.limits.alive_seconds:g} s")
    words += [f"the log matches {one.match!r}" for one in plan.log]
    words += [f"HTTP {one.status} from port {one.port}{one.path} {within}" for one in plan.http]
    words += [f"TCP port {one.port} accepts {within}" for one in plan.tcp]
    words += [one.in_words() for one in plan.exec]
    words += [one.in_words() for one in plan.file]
    if plan.stop is not None:
        words.append(plan.stop.in_words())
    return "; ".join(words)[:300]
