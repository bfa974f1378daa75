"""Ubuntu 24.04: what doctor says as it comes, and what ``doctor --fix`` mends. In this order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.hosts import ask_doctor
from tests.kit.plainuser import as_user, plain_user
from tests.vm.inside.kernel import new_lines
from tests.vm.inside.tell import Record, keep

RESTRICTION = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    with plain_user() as name:
        yield name


def lines(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document["mechanisms"]}


def test_control_groups_of_version_2() -> None:
    said = ask_doctor(())
    keep("cgroup-v2", said)
    assert said["exit_code"] == 0, json.dumps([one for one in said["mechanisms"] if one["proven"] is False])
    assert said["host"]["cgroup_version"] == 2
    found = lines(said)
    for name in ("cgroup limits", "network fence", "cpu set", "block io"):
        assert found[name]["available"] is True, found[name]
    assert found["cgroup limits"]["proven"] is True, found["cgroup limits"]
    assert found["AppArmor"]["available"] is False
    assert found["AppArmor"]["fix"] == "seatrial doctor --fix"


def test_a_plain_user_is_refused(user: str, record_property: Record) -> None:
    assert RESTRICTION.read_text() == "1\n"
    with new_lines() as log:
        said = ask_doctor(as_user(user), name=user)
    keep("ubuntu-24.04", said)
    record_property("log", next(line for line in log if "userns_create" in line and "seatrial" in line))
    assert said["exit_code"] == 2, json.dumps(said)
    assert "AppArmor" in lines(said)["user namespace"]["detail"]
    assert "seatrial doctor --fix" in lines(said)["user namespace"]["fix"]


def test_both_are_mended_at_once(user: str, record_property: Record) -> None:
    said = ask_doctor((), "--fix", "--yes", "--for", user)
    fixes = {one["name"]: one for one in said.pop("fixes")}
    assert {"apparmor-profile", "apparmor-userns"} <= fixes.keys()
    assert {one["state"] for one in fixes.values()} == {"done"}, json.dumps(fixes)
    keep("apparmor", said)
    record_property("AppArmor", lines(said)["AppArmor"]["detail"])
    assert lines(said)["AppArmor"]["proven"] is True
    assert said["exit_code"] == 0, json.dumps([one for one in said["mechanisms"] if one["proven"] is False])


def test_the_plain_user_may_now(user: str) -> None:
    said = ask_doctor(as_user(user), name=user)
    keep("ubuntu-24.04-mended", said)
    assert lines(said)["user namespace"]["available"] is True, json.dumps(said)
    assert said["exit_code"] == 1, json.dumps(said)
    assert RESTRICTION.read_text() == "1\n"
