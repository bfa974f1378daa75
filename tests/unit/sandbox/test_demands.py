"""What run specs may demand of isolation, and what becomes of a run that does not have it."""

from __future__ import annotations

from typing import Any

import pytest

from registry.contract.base import as_before
from registry.contract.isolation import DEMANDABLE, why_not_isolated
from registry.contract.job import ClaimRequest
from registry.contract.judge import judge
from registry.contract.report import Mechanism
from registry.contract.specfile import parse_run_spec
from registry.errors import RequestInvalidError
from sandbox.errors import SandboxError
from sandbox.runtimes.verify import applied_at_start, check_demand
from tests.unit.contract.test_judge import report, run

HAD = (
    Mechanism(name="seccomp", applied=True),
    Mechanism(name="AppArmor", applied=False, detail="not active"),
)


def test_a_demand_has_one_form() -> None:
    spec = parse_run_spec("version: 1\nrequire: [seccomp, AppArmor, seccomp]\n")
    assert spec.require == ("AppArmor", "seccomp")
    assert spec.canonical() == '{"require":["AppArmor","seccomp"],"version":1}'
    assert "require" not in parse_run_spec("version: 1").model_dump_json()
    assert parse_run_spec(f"version: 1\nrequire: {list(DEMANDABLE)}\n").require == tuple(sorted(DEMANDABLE))


@pytest.mark.parametrize(
    "said", ["[]", "[Seccomp]", "seccomp", "[1]", "['seccomp ']", "[seccomp, [AppArmor]]"]
)
def test_what_cannot_be_demanded(said: str) -> None:
    with pytest.raises(RequestInvalidError, match="require"):
        parse_run_spec(f"version: 1\nrequire: {said}\n")


def test_what_a_run_did_not_have() -> None:
    assert why_not_isolated(HAD, ()) is None
    assert why_not_isolated(HAD, ("seccomp",)) is None
    said = "the run spec demands what the run did not have: AppArmor (not active), SELinux"
    assert why_not_isolated(HAD, ("seccomp", "SELinux", "AppArmor")) == said


def test_before_the_command_begins_only_what_comes_with_it_may_be_missing() -> None:
    document: dict[str, Any] = {"linux": {"seccomp": {"syscalls": []}}, "process": {"selinuxLabel": "a:b:c"}}
    coming = applied_at_start(document)
    assert coming == {"no_new_privs", "capabilities", "outer seccomp", "seccomp", "SELinux"}
    check_demand((), ("seccomp", "SELinux"), coming=coming)
    for required in (("seccomp", "AppArmor"), ("pivot_root",)):
        with pytest.raises(SandboxError, match=required[-1]) as refused:
            check_demand(HAD, required, coming=coming)
        assert refused.value.reason == "isolation-missing"
    with pytest.raises(SandboxError, match="SELinux"):
        check_demand(HAD, ("seccomp", "SELinux"))
    check_demand(HAD, ("seccomp",))


def test_a_run_without_what_was_demanded_is_no_pass_and_no_fail() -> None:
    for met in (True, False):
        judgement = judge(report(run(met), mechanisms=HAD), required=("AppArmor",))
        assert (judgement.verdict, judgement.reason.partition(":")[0]) == ("error", "isolation-missing")
    assert judge(report(run(True), mechanisms=HAD), required=("seccomp",)).verdict == "pass"


def test_an_older_side_gets_what_it_knows() -> None:
    asked = ClaimRequest(protocol=1, platforms=("linux/amd64",), disk_bytes=5, mechanisms=("seccomp",))
    assert set(as_before(asked).model_dump()) == {"protocol", "platforms", "wait_seconds", "slots"}
    assert as_before(asked).platforms == asked.platforms
