"""Capabilities by name: each of the kernel's is decided, and a spec hears why it cannot have one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from registry.contract.capabilities import GRANTABLE, KEPT, NEVER, parse_allowed, parse_capability
from registry.contract.specfile import parse_image_spec, parse_run_spec
from registry.errors import RequestInvalidError

HEADER = Path("/usr/include/linux/capability.h")


def test_every_capability_of_the_kernel_is_decided_once() -> None:
    numbers = {name: int(bit) for name, bit in re.findall(r"#define CAP_(\w+)\s+(\d+)\n", HEADER.read_text())}
    assert len(numbers) == 41
    assert sorted((*KEPT, *GRANTABLE, *NEVER)) == sorted(numbers)
    for name, bit in {**KEPT, **GRANTABLE}.items():
        assert numbers[name] == bit


def test_a_name_in_whatever_case_and_with_its_prefix() -> None:
    assert parse_capability("cap_net_bind_service") == "NET_BIND_SERVICE"
    assert parse_allowed(["SETFCAP", "Cap_Setfcap"]) == {"SETFCAP"}
    assert parse_allowed([]) == frozenset()


@pytest.mark.parametrize("name", ["SYS_ADMIN", "NET_RAW", "CAP_MKNOD", "ALL", "", "CAP_"])
def test_what_no_run_is_given(name: str) -> None:
    with pytest.raises(RequestInvalidError, match=r"--allow-capability: .*(?:no run: it|no capability; a)"):
        parse_allowed([name])
    with pytest.raises(RequestInvalidError, match=r"capabilities: .*(?:no run: it|no capability; a)"):
        parse_run_spec(f"{{version: 1, capabilities: ['{name}']}}")


def test_a_spec_says_the_same_in_one_way() -> None:
    one = parse_run_spec("{version: 1, capabilities: [SETFCAP, cap_chown, CHOWN]}")
    assert one.capabilities == ("CHOWN", "SETFCAP")
    assert one.canonical() == parse_run_spec("{version: 1, capabilities: [CHOWN, SETFCAP]}").canonical()
    assert "capabilities" not in parse_run_spec("version: 1").model_dump_json()


@pytest.mark.parametrize("text", ["[]", "SETFCAP", "[1]", "[SETFCAP], profile: restricted"])
def test_what_a_spec_cannot_say(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="capabilities"):
        parse_run_spec(f"{{version: 1, capabilities: {text}}}")


def test_an_image_asks_for_none() -> None:
    with pytest.raises(RequestInvalidError, match="capabilities"):
        parse_image_spec("{version: 1, capabilities: [SETFCAP]}")
