from __future__ import annotations

import json
from typing import Any

import pytest

from registry.contract.limits import Limits
from registry.contract.plan import DEFAULT_PATH, NoCommandError, Plan, make_plan
from registry.contract.runspec import IMAGE_LABEL, RunSpec
from registry.contract.specfile import parse_run_spec
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import Healthcheck, ImageConfig, Port
from registry.oci.platform import Platform

LIMITS = Limits()


def image(**members: Any) -> ImageConfig:
    return ImageConfig(Platform("linux", "amd64"), (), **({"cmd": ("/app",)} | members))


def spec(**members: Any) -> RunSpec:
    return parse_run_spec(json.dumps({"version": 1, **members}))


def plan(
    config: ImageConfig,
    run_spec: RunSpec | None = None,
    *,
    ceiling: Limits = LIMITS,
    allowed: bool = False,
) -> Plan:
    return make_plan(config, run_spec, limits=LIMITS, ceiling=ceiling, image_spec_allowed=allowed)


def test_the_healthcheck_goes_before_ports_and_exit() -> None:
    check = Healthcheck(("true",), shell=False)
    made = plan(image(healthcheck=check, exposed_ports=(Port(80),)))
    assert (made.healthcheck, made.any_tcp, made.exit_zero_or_alive) == (check, (), False)
    assert made.tested == "the image's HEALTHCHECK succeeds"


def test_tcp_ports_go_before_exit_and_other_protocols_do_not_count() -> None:
    made = plan(image(exposed_ports=(Port(53, "udp"), Port(80), Port(443))))
    assert made.any_tcp == (80, 443)
    assert made.tested == "TCP port 80 or 443 accepts within 5 s"
    assert plan(image(exposed_ports=(Port(53, "udp"),))).exit_zero_or_alive


def test_else_the_command_ends_well_or_stays() -> None:
    made = plan(image())
    assert made.exit_zero_or_alive
    assert made.tested == "the command exits 0 or is alive after 5 s"


def test_a_spec_with_expectations_replaces_what_the_image_suggests() -> None:
    made = plan(image(exposed_ports=(Port(80),)), spec(expect={"exit": 3, "log": [{"match": "done"}]}))
    assert (made.exit_code, made.any_tcp, made.exit_zero_or_alive) == (3, (), False)
    assert made.tested == "the command exits 3; the log matches 'done'"


def test_a_spec_without_expectations_keeps_what_the_image_suggests() -> None:
    made = plan(image(exposed_ports=(Port(80),)), spec(command=["/other", "x"]))
    assert (made.command, made.any_tcp) == (("/other", "x"), (80,))


def test_entrypoint_and_command_make_one() -> None:
    assert plan(image(entrypoint=("/init",), cmd=("a", "b"))).command == ("/init", "a", "b")


@pytest.mark.parametrize("config", [image(cmd=()), image(cmd=("",))])
def test_no_command_is_an_error_of_its_own(config: ImageConfig) -> None:
    with pytest.raises(NoCommandError):
        plan(config)


def test_environment_is_the_image_s_with_the_spec_s_on_top() -> None:
    made = plan(image(env=("A=1", "B=2", "PATH=/x")), spec(env={"B": "3", "C": "4"}))
    assert made.env == ("A=1", "PATH=/x", "B=3", "C=4")
    assert plan(image()).env == (DEFAULT_PATH,)


def test_limits_of_a_spec_stop_at_the_ceiling() -> None:
    ceiling = LIMITS.model_copy(update={"pids": 300})
    made = plan(image(), spec(limits={"pids": 5000, "cpus": 0.5}), ceiling=ceiling)
    assert (made.limits.pids, made.limits.cpus) == (300, 0.5)


def labelled(**members: Any) -> ImageConfig:
    return image(labels={IMAGE_LABEL: json.dumps({"version": 1, **members})})


def test_the_image_s_own_label_is_not_read_unless_allowed() -> None:
    assert plan(labelled(expect={"log": [{"match": "x"}]})).log == ()
    assert plan(labelled(command=["/other"])).command == ("/app",)


def test_the_image_s_own_label_adds_expectations_and_lowers_limits() -> None:
    made = plan(
        labelled(expect={"log": [{"match": "x"}]}, limits={"pids": 10, "memory_bytes": 2**40}), allowed=True
    )
    assert [one.match for one in made.log] == ["x"]
    assert (made.limits.pids, made.limits.memory_bytes) == (10, LIMITS.memory_bytes)


def test_the_image_s_own_label_cannot_say_how_the_run_of_a_spec_ends() -> None:
    made = plan(labelled(expect={"exit": 3}), spec(expect={"exit": 0}), allowed=True)
    assert made.exit_code == 0
    made = plan(labelled(expect={"exit": 3}), spec(expect={"alive": True}), allowed=True)
    assert (made.exit_code, made.alive_seconds) == (None, 5.0)


@pytest.mark.parametrize("member", ["command", "env", "user", "profile"])
def test_the_image_s_own_label_replaces_nothing(member: str) -> None:
    with pytest.raises(RequestInvalidError, match=member):
        plan(labelled(**{member: "x"}), allowed=True)


def test_the_image_s_own_label_cannot_say_how_long_it_is_watched() -> None:
    with pytest.raises(RequestInvalidError, match="alive_seconds"):
        plan(labelled(limits={"alive_seconds": 0.001}), allowed=True)


def test_commands_files_and_the_stop_are_planned_and_said() -> None:
    expect = {
        "exec": [{"command": ["/bin/check", "a b"], "exit": 2, "match": "^ok"}],
        "file": [{"path": "/out/r", "mode": "0640", "match": "x"}, {"path": "/tmp/lock", "absent": True}],
        "stop": {"within_seconds": 3, "exit": 0},
    }
    made = plan(image(exposed_ports=(Port(80),)), spec(init=True, expect=expect))
    assert (made.init, made.alive_seconds, made.any_tcp) == (True, None, ())
    assert (len(made.exec), len(made.file)) == (1, 2)
    assert made.tested == (
        "\"/bin/check 'a b'\" exits 2 with output that matches '^ok'; a file or folder is at /out/r with "
        "mode 0640 with content that matches 'x'; nothing is at /tmp/lock; ends with exit code 0 within 3 s "
        "of its stop signal"
    )


def test_a_stop_alone_waits_until_the_command_has_stayed_up() -> None:
    made = plan(image(exposed_ports=(Port(80),)), spec(expect={"stop": {}}))
    assert (made.alive_seconds, made.any_tcp, made.stop is not None) == (5.0, (), True)
    assert plan(image(), spec(expect={"stop": {}, "log": [{"match": "x"}]})).alive_seconds is None


def test_an_image_may_ask_to_be_stopped_unless_it_is_to_end_by_itself() -> None:
    label = {IMAGE_LABEL: '{"version": 1, "expect": {"stop": {}, "file": [{"path": "/a"}]}}'}
    assert plan(image(labels=label), allowed=True).stop is not None
    made = plan(image(labels=label), spec(expect={"exit": 0}), allowed=True)
    assert (made.stop, len(made.file)) == (None, 1)
    init = {IMAGE_LABEL: '{"version": 1, "init": true}'}
    with pytest.raises(RequestInvalidError, match="init"):
        plan(image(labels=init), allowed=True)


def test_more_expectations_than_a_report_has_room_for() -> None:
    many = {"file": [{"path": f"/{n}"} for n in range(32)], "tcp": [{"port": n} for n in range(1, 33)]}
    more = many | {"log": [{"match": "x"}] * 32, "http": [{"port": 1}] * 32}
    label = {IMAGE_LABEL: json.dumps({"version": 1, "expect": many})}
    with pytest.raises(RequestInvalidError, match="192 expectations; 190 are the limit"):
        plan(image(labels=label), spec(expect=more), allowed=True)
