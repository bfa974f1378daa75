"""From a run spec and an image config to what is run and what is expected: one pure function.

Without a spec the image suggests its own smoke test: its HEALTHCHECK if it has one; else, if it exposes TCP
ports, one of them accepts within ``alive_seconds``; else the command exits 0 or is alive after
``alive_seconds``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from registry.contract.asked import Asked, asked_by
from registry.contract.expectations import (
    NO_OUTBOUND,
    Below,
    ExecExpectation,
    Expectations,
    FileExpectation,
    HttpExpectation,
    LogExpectation,
    StopExpectation,
    StubExpectation,
    TcpExpectation,
    only_writes_in_words,
)
from registry.contract.fields import RANDOM_USER, NetworkSpec, Profile
from registry.contract.limits import Limits, lowered
from registry.contract.report import MAX_RUNS
from registry.contract.runspec import IMAGE_LABEL, ImageSpec, RunSpec
from registry.contract.secrets import SecretReference
from registry.contract.stubs import Stub, why_not_together
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import Healthcheck, ImageConfig

MAX_EXPECTATIONS = 190
"""Of all runs together, the image's own included: a report has room for a few more."""
TESTED_MAX = 300
NO_SECRETS: Mapping[str, str] = MappingProxyType({})
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoCommandError(RequestInvalidError):
    """Neither the image nor the spec says what to run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One container execution and everything it is held against."""

    command: tuple[str, ...]
    env: tuple[str, ...] = field(repr=False)
    """With the values of secrets."""
    user: str
    working_dir: str
    profile: Profile
    limits: Limits
    exit_code: int | Literal["nonzero"] | None = None
    """The command must end with this code; ``nonzero``: with one from 1 to 127."""
    alive_seconds: float | None = None
    """The command must still run after so long."""
    exit_zero_or_alive: bool = False
    """The command ends with 0 before ``limits.alive_seconds``, or still runs then."""
    healthcheck: Healthcheck | None = None
    healthcheck_missing: bool = False
    """A HEALTHCHECK is expected of an image that has none."""
    any_tcp: tuple[int, ...] = ()
    """One of these ports accepts."""
    log: tuple[LogExpectation, ...] = ()
    http: tuple[HttpExpectation, ...] = ()
    tcp: tuple[TcpExpectation, ...] = ()
    exec: tuple[ExecExpectation, ...] = ()
    file: tuple[FileExpectation, ...] = ()
    stub: tuple[StubExpectation, ...] = ()
    stop: StopExpectation | None = None
    """Once everything else has been seen, the command ends so when it is asked to."""
    below: tuple[Below, ...] = ()
    only_writes: tuple[tuple[str, ...], ...] = ()
    """Nothing is written in the image's own files but below one of the paths, of each of these lists."""
    no_outbound: bool = False
    """It tries to reach nothing that its network refuses."""
    init: bool = False
    """A small init of the worker's goes before the command."""
    random_user: bool = False
    """It runs as a user that the worker draws, instead of ``user``."""
    read_only: bool = False
    """The image's own files are read-only."""
    writable: tuple[str, ...] = ()
    """Folders in memory that it may write to all the same."""
    network: NetworkSpec | None = None
    """Asked for by the spec, never by the image."""
    stubs: tuple[Stub, ...] = ()
    """What listens on its loopback beside it; of the spec, never of the image."""
    services: bool = False
    """Whether the services of the spec are started before it."""
    require: tuple[str, ...] = ()
    """Mechanisms of isolation that the run must have."""
    capabilities: tuple[str, ...] = ()
    """Asked for by the spec, never by the image; without ``CAP_``."""
    asked: Asked = field(default_factory=Asked)
    """The case that this is a run of, and how many attempts it has."""
    tested: str = ""
    """What is tested, in words, for the verdict."""


def make_plans(
    config: ImageConfig,
    spec: RunSpec | None,
    *,
    limits: Limits,
    ceiling: Limits,
    image_spec_allowed: bool,
    secrets: Mapping[str, str] = NO_SECRETS,
    attached: Sequence[ImageSpec] = (),
) -> Sequence[Plan]:
    """Decide what is run: one plan for each case, in the order in which they are carried out. ``secrets`` are
    the values of those that the spec names, ``attached`` what referrers of the image add.

    Raises:
        NoCommandError: there is no command.
        RequestInvalidError: the image's own label is not valid where it is read, or the runs together are
            more than a report holds or the ceiling lets them take.
    """
    asked = asked_by(None if spec is None else spec.canonical())
    specs = {"": None} if spec is None else spec.by_case()
    plans = [
        replace(
            make_plan(
                config,
                specs[one.case],
                limits=limits,
                ceiling=ceiling,
                image_spec_allowed=image_spec_allowed,
                secrets=secrets,
                attached=attached,
            ),
            asked=one,
        )
        for one in asked
    ]
    _require_bounded(plans, ceiling)
    return plans


def make_plan(
    config: ImageConfig,
    spec: RunSpec | None,
    *,
    limits: Limits,
    ceiling: Limits,
    image_spec_allowed: bool,
    secrets: Mapping[str, str] = NO_SECRETS,
    attached: Sequence[ImageSpec] = (),
) -> Plan:
    """Decide what is run by a spec without cases; as :func:`make_plans`."""
    plan = Plan(
        command=_command(config, spec),
        env=_environment(config, spec, secrets),
        user=(spec.user if spec else None) or config.user,
        working_dir=config.working_dir or "/",
        profile=spec.profile if spec else "standard",
        limits=lowered(spec.limits.over(limits) if spec else limits, ceiling),
        init=bool(spec and spec.init),
        random_user=bool(spec and spec.user == RANDOM_USER),
        read_only=bool(spec and (spec.read_only or spec.profile == "restricted")),
        writable=(spec.writable if spec else None) or (),
        network=spec.network if spec else None,
        stubs=(spec.stub if spec else None) or (),
        services=bool(spec and spec.services),
        require=(spec.require if spec else None) or (),
        capabilities=(spec.capabilities if spec else None) or (),
    )
    plan = _expect(plan, config, spec.expect if spec else Expectations())
    label = config.labels.get(IMAGE_LABEL)
    if label is not None and image_spec_allowed:
        # Few images have one, and what reads YAML is a tenth of all that a supervisor loads.
        from registry.contract.specfile import parse_image_spec  # noqa: PLC0415

        plan = _add_image_spec(plan, config, parse_image_spec(label))
    for one in attached:
        plan = _add_image_spec(plan, config, one)
    count = _expectations(plan)
    if count > MAX_EXPECTATIONS:
        raise RequestInvalidError(f"there are {count} expectations; {MAX_EXPECTATIONS} are the limit")
    _require_possible(plan)
    _require_stubs(plan, config)
    return replace(plan, tested="; ".join(in_words(plan))[:TESTED_MAX])


def _command(config: ImageConfig, spec: RunSpec | None) -> tuple[str, ...]:
    given = spec.command if spec else None
    command = given or (*config.entrypoint, *config.cmd)
    if not command or not command[0]:
        raise NoCommandError("the image has no entrypoint and no command, and the run spec gives none")
    if spec is None or spec.args is None:
        return command
    program = config.entrypoint if config.entrypoint and given is None else command[:1]
    return (*program, *spec.args)


def _require_possible(plan: Plan) -> None:
    usual, most = plan.limits.alive_seconds, plan.limits.wall_seconds
    if plan.alive_seconds is not None and plan.alive_seconds > max(most, usual):
        raise RequestInvalidError(
            f"the command is to be alive after {plan.alive_seconds:g} s, and a run ends after {most:g} s "
            "(limits.wall_seconds)"
        )
    tells = (
        plan.any_tcp,
        plan.http,
        plan.tcp,
        plan.exec,
        plan.stub,
        [one for one in plan.log if not one.absent],
    )
    health = plan.healthcheck is not None or plan.healthcheck_missing
    if any(one.start_seconds is not None for one in plan.below) and not health and not any(tells):
        raise RequestInvalidError(
            "below.start_seconds needs something that tells that it has started: healthcheck, http, tcp, "
            "exec, log or stub"
        )


def _require_stubs(plan: Plan, config: ImageConfig) -> None:
    exposed = {port.number for port in config.exposed_ports if port.protocol == "tcp"}
    tested = {one.port for one in plan.http} | {one.port for one in plan.tcp}
    why = why_not_together(plan.stubs, plan.stub, of_the_image=exposed | tested)
    if why is not None:
        raise RequestInvalidError(why)


def _require_bounded(plans: Sequence[Plan], ceiling: Limits) -> None:
    """What the runs of a spec with cases or attempts come to, if each goes on until it must end."""
    runs = sum(plan.asked.attempts for plan in plans)
    if runs == 1:
        return
    if runs > MAX_RUNS:
        raise RequestInvalidError(f"the cases and their attempts are {runs} runs; {MAX_RUNS} are the limit")
    seconds = sum(plan.asked.attempts * plan.limits.wall_seconds for plan in plans)
    if seconds > ceiling.wall_seconds:
        raise RequestInvalidError(
            f"the cases and their attempts may take {seconds:g} s together, and the ceiling of wall_seconds "
            f"is {ceiling.wall_seconds:g} s: give them fewer attempts, or less of limits.wall_seconds"
        )
    count = sum(plan.asked.attempts * _expectations(plan) for plan in plans)
    if count > MAX_EXPECTATIONS:
        raise RequestInvalidError(
            f"the cases and their attempts have {count} expectations; {MAX_EXPECTATIONS} are the limit"
        )


def _expectations(plan: Plan) -> int:
    answers = (*plan.log, *plan.http, *plan.tcp, *plan.exec, *plan.file, *plan.stub)
    return len(answers) + len(plan.below) + len(plan.only_writes)


def _environment(config: ImageConfig, spec: RunSpec | None, secrets: Mapping[str, str]) -> tuple[str, ...]:
    given = spec.env if spec else {}
    missing = sorted(
        one.secret for one in given.values() if isinstance(one, SecretReference) and one.secret not in secrets
    )
    if missing:
        raise RequestInvalidError(f"the run spec names the secret {missing[0]!r}, and there is none here")
    added = {
        name: secrets[one.secret] if isinstance(one, SecretReference) else one for name, one in given.items()
    }
    kept = [entry for entry in config.env if entry.partition("=")[0] not in added]
    entries = [*kept, *(f"{name}={value}" for name, value in added.items())]
    if not any(entry.startswith("PATH=") for entry in entries):
        entries.insert(0, DEFAULT_PATH)
    return tuple(entries)


def _expect(plan: Plan, config: ImageConfig, expect: Expectations) -> Plan:
    plan = replace(
        plan,
        log=expect.log,
        stop=expect.stop,
        below=() if expect.below is None else (expect.below,),
        only_writes=() if expect.only_writes is None else (expect.only_writes,),
        no_outbound=bool(expect.no_outbound),
    )
    if expect.tells() or expect.stop is not None:
        return replace(
            plan,
            exit_code=expect.exit,
            # To be stopped it must have stayed up, where nothing else says until when.
            alive_seconds=_alive(expect, plan.limits) if expect.tells() else plan.limits.alive_seconds,
            http=expect.http,
            tcp=expect.tcp,
            exec=expect.exec,
            file=expect.file,
            stub=expect.stub,
            healthcheck=config.healthcheck if expect.healthcheck else None,
            healthcheck_missing=bool(expect.healthcheck) and config.healthcheck is None,
        )
    if config.healthcheck is not None:
        return replace(plan, healthcheck=config.healthcheck)
    ports = tuple(port.number for port in config.exposed_ports if port.protocol == "tcp")
    if ports:
        return replace(plan, any_tcp=ports)
    return replace(plan, exit_zero_or_alive=True)


def _alive(expect: Expectations, limits: Limits) -> float | None:
    """The seconds after which the command is to run; ``True`` leaves them to the limits."""
    if isinstance(expect.alive, float):
        return expect.alive
    return limits.alive_seconds if expect.alive else None


def _add_image_spec(plan: Plan, config: ImageConfig, image: ImageSpec) -> Plan:
    limits = lowered(image.limits.over(plan.limits), plan.limits)
    expect = image.expect
    asked = _alive(expect, plan.limits) if plan.exit_code is None else None
    both = [seconds for seconds in (plan.alive_seconds, asked) if seconds is not None]
    return replace(
        plan,
        limits=limits,
        # An image cannot replace how its own run must end, only ask for more.
        exit_code=expect.exit if plan.exit_code is None and plan.alive_seconds is None else plan.exit_code,
        alive_seconds=max(both, default=None),
        log=plan.log + expect.log,
        http=plan.http + expect.http,
        tcp=plan.tcp + expect.tcp,
        exec=plan.exec + expect.exec,
        file=plan.file + expect.file,
        stub=plan.stub + expect.stub,
        stop=plan.stop or (expect.stop if plan.exit_code is None else None),
        healthcheck=plan.healthcheck or (config.healthcheck if expect.healthcheck else None),
        healthcheck_missing=plan.healthcheck_missing
        or (bool(expect.healthcheck) and config.healthcheck is None),
        below=plan.below if expect.below is None else (*plan.below, expect.below),
        only_writes=plan.only_writes
        if expect.only_writes is None
        else (*plan.only_writes, expect.only_writes),
        no_outbound=plan.no_outbound or bool(expect.no_outbound),
    )


def in_words(plan: Plan) -> list[str]:
    """What is tested, one expectation after another."""
    usual = plan.limits.alive_seconds
    words: list[str] = []
    if plan.healthcheck is not None or plan.healthcheck_missing:
        words.append("the image's HEALTHCHECK succeeds")
    if plan.any_tcp:
        ports = " or ".join(str(port) for port in plan.any_tcp)
        words.append(f"TCP port {ports} accepts within {usual:g} s")
    if plan.exit_zero_or_alive:
        words.append(f"the command exits 0 or is alive after {usual:g} s")
    if plan.exit_code is not None:
        words.append(f"the command exits {plan.exit_code}")
    if plan.alive_seconds is not None:
        words.append(f"the command is alive after {plan.alive_seconds:g} s")
    words += [one.in_words() for one in plan.log]
    words += [f"{one.in_words()} within {one.within_seconds or usual:g} s" for one in plan.http]
    words += [f"TCP port {one.port} accepts within {one.within_seconds or usual:g} s" for one in plan.tcp]
    words += [one.in_words() for one in plan.exec]
    words += [one.in_words() for one in plan.file]
    words += [f"{one.in_words()} within {one.within_seconds or usual:g} s" for one in plan.stub]
    if plan.stop is not None:
        words.append(plan.stop.in_words())
    words += [one.in_words() for one in plan.below]
    words += [only_writes_in_words(paths) for paths in plan.only_writes]
    if plan.no_outbound:
        words.append(NO_OUTBOUND)
    return words
