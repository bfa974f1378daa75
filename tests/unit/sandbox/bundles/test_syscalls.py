"""The list of system calls is what the review makes of it, and the review leaves none out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.bundles.seccomp import ARGUMENT_CALLS, HELD_OPTIONS, allowed_syscalls, make_seccomp
from scripts.syscalls import LIST, make_list, read_review

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
MOST = 220


def known(architecture: int) -> Iterator[str]:
    """The calls that the host's libseccomp has a number for."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    for number in range(512):
        found = library.seccomp_syscall_resolve_num_arch(ctypes.c_uint32(architecture), number)
        if found:
            yield ctypes.string_at(found).decode()


def test_the_list_is_what_the_review_makes() -> None:
    assert LIST.read_text() == make_list(read_review()), "make syscalls"


def test_each_group_has_a_reason_and_calls() -> None:
    assert all(group.reason and group.calls for group in read_review())


@pytest.mark.parametrize("architecture", [X86_64, AARCH64])
def test_every_call_is_reviewed(architecture: int) -> None:
    reviewed = {call for group in read_review() for call in group.calls}
    assert set(known(architecture)) - reviewed == set()


@pytest.mark.parametrize("architecture", [X86_64, AARCH64])
def test_how_many_can_be_reached(architecture: int) -> None:
    reachable = {*allowed_syscalls(), *ARGUMENT_CALLS}
    assert 0 < len(reachable.intersection(known(architecture))) <= MOST


def test_the_rules_name_what_the_review_says_has_rules() -> None:
    by_argument = {call for group in read_review() if group.kind == "arguments" for call in group.calls}
    assert by_argument == set(ARGUMENT_CALLS)
    for machine in ("x86_64", "aarch64", "s390x"):
        rules: Any = make_seccomp(machine)["syscalls"]
        assert rules[0] == {"names": list(allowed_syscalls()), "action": "SCMP_ACT_ALLOW"}
        assert {name for rule in rules[1:] for name in rule["names"]} == by_argument
        assert all(rule["args"] for rule in rules[1:])


def test_no_rule_is_about_one_argument_twice() -> None:
    """Runtimes take such conditions apart: each alone would allow."""
    rules: Any = make_seccomp("x86_64")["syscalls"]
    for rule in rules[1:]:
        indexes = [one["index"] for one in rule["args"]]
        assert len(indexes) == len(set(indexes))


@pytest.mark.parametrize("level", HELD_OPTIONS)
def test_which_options_of_sockets_and_tcp_are_allowed(level: int) -> None:
    """Each number once, but those that have the kernel keep what it counts to nobody."""
    rules: Any = make_seccomp("x86_64")["syscalls"]
    masks = [
        (one["args"][1]["value"], one["args"][1]["valueTwo"])
        for one in rules
        if one["names"] == ["setsockopt"] and one["action"] == "SCMP_ACT_ALLOW"
        if one["args"][0]["value"] == level
    ]
    allowed = [number for number in range(512) for mask, value in masks if number & mask == value]
    assert sorted(allowed) == [number for number in range(128) if number not in HELD_OPTIONS[level]]
