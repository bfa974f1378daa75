"""What can be done about what a host lacks: found once, done once, and nothing left of what failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from registry.errors import RequestInvalidError
from sandbox.errors import SandboxError
from sandbox.lsm.apparmor import RUN_PROFILE, profile_text
from sandbox.mend import Places, User, carry_out, find_fixes, find_user, load_profile, worker_profile
from sandbox.runtimes.oci import SEARCH

USER = User("ada", 4242)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host that lacks nothing, and has neither AppArmor nor SELinux, nor systemd."""
    for folder in ("etc", "settings/user", "settings/kernel", "bin", "security", "selinux", "cgroup"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("runc", "ip", "tc", "nft", "newuidmap"):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (tmp_path / "etc/os-release").write_text("ID=debian\n")
    for table in ("subuid", "subgid"):
        (tmp_path / "etc" / table).write_text("ada:100000:65536\n")
    (tmp_path / "settings/user/max_user_namespaces").write_text("96365\n")
    return Places(
        etc=tmp_path / "etc",
        settings=tmp_path / "settings",
        security=tmp_path / "security",
        apparmor=tmp_path / "module",
        selinuxfs=tmp_path / "selinux",
        systemd=tmp_path / "systemd",
        unified=tmp_path / "cgroup",
        search=f"{tmp_path}/bin",
    )


def names(user: User | None, places: Places) -> list[str]:
    return [one.name for one in find_fixes(user, places=places)]


def test_a_host_that_lacks_nothing(places: Places) -> None:
    assert names(None, places) == names(USER, places) == []


def test_packages_that_are_missing(places: Places, tmp_path: Path) -> None:
    for name in ("runc", "newuidmap"):
        (tmp_path / "bin" / name).unlink()
    assert "apt-get install --yes runc" in find_fixes(None, places=places)[0].says
    (fix,) = find_fixes(USER, places=places)
    assert "apt-get install --yes runc uidmap" in fix.says
    assert fix.gives == "runtime, user namespace"
    assert carry_out(fix) == "there is no program apt-get"
    (places.etc / "os-release").write_text("ID=fedora\n")
    (tmp_path / "bin/tc").unlink()
    assert "dnf install --assumeyes runc iproute-tc shadow-utils" in find_fixes(USER, places=places)[0].says
    (places.etc / "os-release").write_text("ID=unheard-of\n")
    assert names(USER, places) == []


def test_a_setting_holds_now_and_at_every_start(places: Places) -> None:
    count = places.settings / "user/max_user_namespaces"
    clone = places.settings / "kernel/unprivileged_userns_clone"
    count.write_text("0\n")
    clone.write_text("0\n")
    assert names(None, places) == ["user.max_user_namespaces"]
    fixes = find_fixes(USER, places=places)
    assert [carry_out(one) for one in fixes] == [None, None]
    assert (count.read_text(), clone.read_text()) == ("15000", "1")
    file = places.etc / "sysctl.d/60-seatrial-unprivileged-userns-clone.conf"
    assert file.read_text() == "kernel.unprivileged_userns_clone = 1\n"
    assert f"rm {file}" in fixes[1].undo
    assert names(USER, places) == []


def test_a_setting_that_cannot_be_made_leaves_no_file(places: Places) -> None:
    count = places.settings / "user/max_user_namespaces"
    count.write_text("0\n")
    (fix,) = find_fixes(None, places=places)
    count.unlink()
    count.mkdir()
    assert carry_out(fix) == f"{count}: Is a directory"
    assert not (places.etc / "sysctl.d").exists()


def test_profiles_where_apparmor_is_active(places: Places, tmp_path: Path) -> None:
    (tmp_path / "module/parameters").mkdir(parents=True)
    (tmp_path / "module/parameters/enabled").write_text("Y\n")
    (tmp_path / "security/apparmor").mkdir()
    loaded = tmp_path / "security/apparmor/profiles"
    loaded.write_text("other (enforce)\n")
    parser = tmp_path / "bin/apparmor_parser"
    assert names(None, places) == ["packages", "apparmor-profile"]
    assert carry_out(find_fixes(None, places=places)[1]) == (
        "there is no program apparmor_parser; apt-get install --yes apparmor"
    )
    assert not (places.etc / "apparmor.d/seatrial-run").exists()
    # Stands in for the kernel: what is loaded is listed.
    parser.write_text(f'#!/bin/sh\nset -e\ntest "$1" = --replace\necho "${{2##*/}} (enforce)" >> {loaded}\n')
    parser.chmod(0o755)
    (places.settings / "kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    fixes = find_fixes(USER, places=replace(places, search=f"{tmp_path}/bin:{SEARCH}"))
    assert [one.name for one in fixes] == ["apparmor-profile", "apparmor-userns"]
    assert [carry_out(one) for one in fixes] == [None, None]
    assert (places.etc / "apparmor.d/seatrial-run").read_text() == profile_text(RUN_PROFILE)
    assert 'bin/seatrial" flags=(unconfined)' in (places.etc / "apparmor.d/seatrial-worker").read_text()
    assert names(USER, places) == []
    loaded.write_text(f"{RUN_PROFILE} (complain)\nseatrial-worker (unconfined)\n")
    assert names(USER, places) == ["apparmor-profile"]


def test_a_profile_that_is_refused_leaves_what_was_there(places: Places, tmp_path: Path) -> None:
    real = Places(etc=places.etc)
    file = tmp_path / "etc/apparmor.d/seatrial-run"
    with pytest.raises(SandboxError, match="apparmor_parser failed"):
        load_profile(file, "profile broken {", places=real)
    assert not file.exists()
    file.write_text("# before\n")
    with pytest.raises(SandboxError, match="apparmor_parser failed"):
        load_profile(file, "profile broken {", places=real)
    assert file.read_text() == "# before\n"


def test_the_profile_of_a_worker_names_its_program() -> None:
    text = worker_profile(Path("/opt/sea trial/bin/seatrial"))
    assert 'profile seatrial-worker "/opt/sea trial/bin/seatrial" flags=(unconfined) {\n  userns,\n}' in text


def test_a_module_where_selinux_is_active(places: Places, tmp_path: Path) -> None:
    (tmp_path / "selinux/enforce").write_text("1")
    assert names(None, places) == ["packages", "selinux-module"]
    taken = tmp_path / "taken"
    semodule = tmp_path / "bin/semodule"
    semodule.write_text(f'#!/bin/sh\ntest "$1" = --install && exec cp "$2" {taken}\n')
    semodule.chmod(0o755)
    (fix,) = find_fixes(None, places=replace(places, search=f"{tmp_path}/bin:{SEARCH}"))
    assert carry_out(fix) is None
    assert "(type seatrial_run_t)" in taken.read_text()


def test_ids_that_nobody_has(places: Places) -> None:
    (places.etc / "subuid").write_text("bob:100000:65536\ncarl:300000:1\nbroken\nada:5:6\n")
    (places.etc / "subgid").write_text("bob:100000:65536\n")
    (fix,) = find_fixes(USER, places=places)
    assert fix.name == "subordinate-ids"
    # The first multiple of 65536 above all that is given.
    assert "the ids 327680 to 393215" in fix.says
    assert fix.undo == "usermod --del-subuids 327680-393215 --del-subgids 327680-393215 ada"
    (places.etc / "subuid").write_text("4242:100000:65536\n")
    (fix,) = find_fixes(USER, places=places)
    assert fix.undo == "usermod --del-subgids 196608-262143 ada"


def test_a_group_to_divide_where_systemd_hands_them_out(places: Places, tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    assert names(USER, places) == []  # version 1
    (tmp_path / "cgroup/cgroup.controllers").write_text("memory pids\n")
    assert names(None, places) == []
    (fix,) = find_fixes(USER, places=places)
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text('#!/bin/sh\ntest "$1" = daemon-reload\n')
    systemctl.chmod(0o755)
    assert carry_out(fix) is None
    file = places.etc / "systemd/system/user@4242.service.d/seatrial.conf"
    assert file.read_text() == "[Service]\nDelegate=cpu cpuset io memory pids\n"
    assert names(USER, places) == []


def test_whom_it_is_for() -> None:
    with pytest.raises(RequestInvalidError, match="no user 'nobody-here'"):
        find_user("nobody-here")
    with pytest.raises(RequestInvalidError, match="root needs nothing"):
        find_user("root")
    assert find_user("daemon").uid == 1
