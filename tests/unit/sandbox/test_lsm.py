"""AppArmor and SELinux: what is shipped can be loaded, and each state of a host is told apart."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from registry.contract.capabilities import GRANTABLE, KEPT
from sandbox.errors import SandboxError
from sandbox.lsm.apparmor import (
    RUN_PROFILE,
    apparmor_active,
    begin_unconfined,
    loaded_profiles,
    profile_text,
    profiles_of,
    why_no_profile,
)
from sandbox.lsm.selinux import Labels, module_text, run_labels, selinux_enforcing, why_no_label
from sandbox.runtimes.modules import module_refusal, profile_line, verify_modules

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def test_the_profile_compiles(tmp_path: Path) -> None:
    path = tmp_path / RUN_PROFILE
    path.write_text(profile_text(RUN_PROFILE))
    command = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--names", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": PATH}, check=False)
    assert (done.returncode, done.stdout) == (0, f"{RUN_PROFILE}\n"), done.stderr
    compiled = subprocess.run(
        [*command[:-2], "--stdout", str(path)], capture_output=True, env={"PATH": PATH}, check=True
    ).stdout
    assert RUN_PROFILE.encode() in compiled


def test_the_profile_grants_what_a_run_may_have_and_nothing_that_reaches_out() -> None:
    rules = [line.strip() for line in profile_text(RUN_PROFILE).splitlines()]
    granted = {
        line.removeprefix("capability ").rstrip(",") for line in rules if line.startswith("capability")
    }
    assert granted == {name.lower() for name in (*KEPT, *GRANTABLE)}
    networks = {line.removeprefix("network ").rstrip(",") for line in rules if line.startswith("network")}
    assert {line.split()[0] for line in networks} == {"inet", "inet6", "netlink", "unix"}
    assert not {line for line in networks if line.startswith("inet") and line.endswith("raw")}
    allowed = [line for line in rules if not line.startswith("deny")]
    assert not [
        line for line in allowed if line.startswith(("mount", "umount", "pivot_root", "change_profile"))
    ]


# What of a system's policy our domain refers to, so that the compiler can be asked without one.
BASE = """
(handleunknown deny) (mls false) (policycap open_perms)
(sid kernel) (sidorder (kernel)) (user system_u) (role system_r) (role object_r) (role unconfined_r)
(sensitivity s0) (sensitivityorder (s0)) (category c0) (categoryorder (c0)) (sensitivitycategory s0 (c0))
(typeattribute domain) (typeattribute file_type) (typeattribute port_type) (typeattribute node_type)
(typeattribute sysctl_type)
(userrole system_u system_r) (userlevel system_u (s0)) (userrange system_u ((s0) (s0 (c0))))
(roletype system_r kernel_t) (sidcontext kernel (system_u system_r kernel_t ((s0) (s0))))
"""


def test_the_domain_compiles(tmp_path: Path) -> None:
    text = module_text()
    classes: dict[str, set[str]] = {}
    for name, permissions in re.findall(r"\((\w+) \(([a-z_ ]+)\)\)\)", text):
        classes.setdefault(name, set()).update(permissions.split())
    # Without the seams that drop what a policy lacks, so that a misspelt name is seen.
    own = {"seatrial_run_t", "seatrial_run_file_t"}
    types = set(re.findall(r"\b[a-z_]+_t\b", text)) - own | {"kernel_t"}
    base = tmp_path / "base.cil"
    base.write_text(
        BASE
        + f"(classorder ({' '.join(classes)}))\n"
        + "".join(f"(class {name} ({' '.join(sorted(each))}))\n" for name, each in classes.items())
        + "".join(f"(type {name})\n" for name in types)
    )
    module = tmp_path / "module.cil"
    module.write_text(re.sub(r"\(optional ", "(block ", text))
    command = ["secilc", "-o", tmp_path / "policy", "-f", tmp_path / "contexts", base, module]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": PATH}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not {"sys_admin", "net_raw", "net_admin", "sys_ptrace"} & {
        one for each in classes.values() for one in each
    }
    assert re.search(r"allow seatrial_run_t self \(process \([^)]*ptrace", text) is None


def apparmor_host(folder: Path, *, enabled: str, profiles: str | None) -> dict[str, Path]:
    (folder / "module/parameters").mkdir(parents=True)
    (folder / "module/parameters/enabled").write_text(enabled)
    (folder / "security/apparmor").mkdir(parents=True)
    if profiles is not None:
        (folder / "security/apparmor/profiles").write_text(profiles)
    return {"security": folder / "security", "module": folder / "module"}


@pytest.mark.parametrize(
    ("enabled", "profiles", "why"),
    [
        ("N\n", "seatrial-run (enforce)\n", "not active"),
        ("Y\n", "/usr/bin/man (enforce)\nrunc (unconfined)\n", "is not loaded"),
        ("Y\n", None, "is not loaded"),
        ("Y\n", "man (enforce)\nseatrial-run (enforce)\n", None),
        ("Y\n", "seatrial-run (complain)\n", None),
    ],
)
def test_why_there_is_no_profile(tmp_path: Path, enabled: str, profiles: str | None, why: str | None) -> None:
    found = why_no_profile(**apparmor_host(tmp_path, enabled=enabled, profiles=profiles))
    assert found is None if why is None else why in (found or "")


def test_no_apparmor_at_all(tmp_path: Path) -> None:
    assert not apparmor_active(module=tmp_path)
    assert loaded_profiles(security=tmp_path) == {}
    assert why_no_profile(security=tmp_path, module=tmp_path) == "not active on this host"


def test_the_profile_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "7/attr/apparmor").mkdir(parents=True)
    assert profiles_of(7, proc=tmp_path) == ((), "")
    (tmp_path / "7/attr/current").write_text("unconfined\n")
    assert profiles_of(7, proc=tmp_path) == (("unconfined",), "")
    (tmp_path / "7/attr/apparmor/current").write_text("seatrial-run (complain)\n")
    assert profiles_of(7, proc=tmp_path) == (("seatrial-run",), "complain")
    (tmp_path / "7/attr/apparmor/current").write_text("seatrial-run//&seatrial-worker (mixed)\n")
    assert profiles_of(7, proc=tmp_path) == (("seatrial-run", "seatrial-worker"), "mixed")


@pytest.mark.parametrize(
    ("shown", "loaded", "applied", "detail"),
    [
        ("seatrial-run (enforce)", "enforce", True, "seatrial-run (enforce)"),
        ("seatrial-run (complain)", "complain", False, "seatrial-run is loaded in the mode complain"),
        # As crun does it, where it is under a profile itself.
        ("crun//&seatrial-run (mixed)", "enforce", True, "seatrial-run (enforce), beside crun"),
        ("seatrial-run//&box (enforce)", "enforce", True, "seatrial-run (enforce), beside box"),
        ("crun//&seatrial-run (mixed)", "complain", False, "seatrial-run is loaded in the mode complain"),
        ("crun//&seatrial-run (mixed)", None, False, "seatrial-run is loaded in the mode unknown"),
    ],
)
def test_a_run_under_the_profile_alone_or_beside_others(
    tmp_path: Path, shown: str, loaded: str | None, applied: bool, detail: str
) -> None:
    profiles = None if loaded is None else f"seatrial-run ({loaded})\n"
    security = apparmor_host(tmp_path, enabled="Y\n", profiles=profiles)["security"]
    (tmp_path / "7/attr").mkdir(parents=True)
    (tmp_path / "7/attr/current").write_text(f"{shown}\n")
    line = profile_line(RUN_PROFILE, *profiles_of(7, proc=tmp_path), security=security)
    assert (line.applied, line.detail) == (applied, detail)


@pytest.mark.parametrize("names", ["", "unconfined", "crun", "seatrial-run2", "seatrial-worker crun"])
def test_a_run_under_other_profiles_alone_is_refused(names: str) -> None:
    with pytest.raises(SandboxError, match="not under the AppArmor profile seatrial-run"):
        profile_line(RUN_PROFILE, names.split(), "enforce")


def test_a_runtime_begins_under_no_profile(tmp_path: Path) -> None:
    begin_unconfined(proc=tmp_path)
    assert list(tmp_path.iterdir()) == []
    for place in ("thread-self/attr", "thread-self/attr/apparmor"):
        (tmp_path / place).mkdir(parents=True)
        begin_unconfined(proc=tmp_path)
        assert (tmp_path / place / "exec").read_text() == "exec unconfined"


def test_labels_are_ours_with_our_own_user_and_role(tmp_path: Path) -> None:
    selinuxfs, own = tmp_path / "selinux", tmp_path / f"proc/{os.getpid()}/attr"
    selinuxfs.mkdir()
    own.mkdir(parents=True)
    places = {"selinuxfs": selinuxfs, "proc": tmp_path / "proc"}
    assert why_no_label(**places) == "not active on this host"
    (selinuxfs / "enforce").write_text("0")
    assert not selinux_enforcing(selinuxfs=selinuxfs)
    assert "seatrial_run_t" in (why_no_label(**places) or "")
    (own / "current").write_text("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0")
    # No "context" to ask: as where the kernel refuses the label.
    assert run_labels(**places) is None
    (selinuxfs / "context").write_text("")
    assert run_labels(**places) == Labels(
        "unconfined_u:unconfined_r:seatrial_run_t:s0", "unconfined_u:object_r:seatrial_run_file_t:s0"
    )
    assert why_no_label(**places) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "unable to apply apparmor profile: write /proc/self/attr/apparmor/exec: no such file",
            "AppArmor",
        ),
        ("write file `/proc/thread-self/attr/exec`: No such file or directory", "AppArmor"),
        ("selinux label is specified in config, but selinux is disabled or not supported", "without SELinux"),
        ("write /proc/thread-self/attr/keycreate: invalid argument", "SELinux policy"),
    ],
)
def test_what_runtimes_say_is_put_in_words(text: str, reason: str) -> None:
    assert reason in (module_refusal(text) or "")
    assert module_refusal("exec: not found") is None


@pytest.mark.parametrize("member", ["apparmorProfile", "selinuxLabel"])
def test_a_process_that_is_not_confined_is_not_taken_for_a_run(member: str) -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(SandboxError, match="the run is not"):
            verify_modules(process.pid, {"process": {member: "a:b:c:s0"}})


def test_a_run_without_them_says_why() -> None:
    lines = verify_modules(os.getpid(), {"process": {}})
    assert [(one.name, one.applied) for one in lines] == [("AppArmor", False), ("SELinux", False)]
    assert all(one.detail for one in lines)
