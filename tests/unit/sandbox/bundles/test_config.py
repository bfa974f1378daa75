"""The hardened document, and that each check refuses a document that lacks what it is for."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.contract.limits import Limits
from registry.contract.plan import Plan, make_plan
from registry.contract.runspec import RunSpec
from registry.oci.imageconfig import ImageConfig, Port
from registry.oci.platform import Platform
from sandbox.bundles.capabilities import require_allowed
from sandbox.bundles.checks import CONFIG_CHECKS, Bundle, check_config
from sandbox.bundles.config import ROOT_CAPABILITIES, Bind, Surroundings, make_annotations, make_config
from sandbox.bundles.rootfs import Rootfs
from sandbox.bundles.seccomp import make_seccomp
from sandbox.bundles.users import ContainerUser
from sandbox.errors import SandboxError
from sandbox.ids import IdRange

HERE = Surroundings("x86_64", {"NOFILE": 512}, oom_score_adj=700, swap_limit=True, time_namespace=False)
MIB = 1024 * 1024
ROOT = ContainerUser(0, 0)


def image(**members: Any) -> ImageConfig:
    return ImageConfig(Platform("linux", "amd64"), (), cmd=("/bin/true",), **members)


def plan(config: ImageConfig, **spec: Any) -> Plan:
    return make_plan(
        config, RunSpec(version=1, **spec), limits=Limits(), ceiling=Limits(), image_spec_allowed=False
    )


def document(
    config: ImageConfig | None = None,
    *,
    user: ContainerUser = ROOT,
    here: Surroundings = HERE,
    downgrades: frozenset[str] = frozenset(),
    **spec: Any,
) -> dict[str, Any]:
    config = config or image()
    return make_config(
        plan(config, **spec),
        config,
        ids=IdRange(100000),
        user=user,
        root=Path("/"),
        cgroups_path="/seatrial/x/run",
        surroundings=here,
        downgrades=downgrades,
    )


def test_root_gets_the_seven_and_a_user_none() -> None:
    sets = document()["process"]["capabilities"]
    assert sets["bounding"] == sets["effective"] == sets["permitted"] == list(ROOT_CAPABILITIES)
    assert sets["inheritable"] == sets["ambient"] == []
    for none in (document(user=ContainerUser(1, 0)), document(profile="restricted")):
        assert not any(none["process"]["capabilities"].values())


def test_what_a_spec_was_given_comes_on_top_and_another_user_keeps_it() -> None:
    sets = document(capabilities=("KILL", "SYS_CHROOT"))["process"]["capabilities"]
    assert sets["bounding"] == sets["effective"] == [*ROOT_CAPABILITIES, "CAP_SYS_CHROOT"]
    assert sets["inheritable"] == sets["ambient"] == []
    sets = document(user=ContainerUser(1, 0), capabilities=("KILL",))["process"]["capabilities"]
    assert list(sets.values()) == [["CAP_KILL"]] * 5


def test_the_operator_decides_what_goes_beyond_the_seven() -> None:
    require_allowed(("CHOWN", "KILL"), ())
    require_allowed(("CHOWN", "SETFCAP"), {"SETFCAP"})
    with pytest.raises(SandboxError, match="--allow-capability SETFCAP --allow-capability SETPCAP") as caught:
        require_allowed(("KILL", "SETFCAP", "SETPCAP"), {"IPC_OWNER"})
    assert caught.value.reason == "capability-refused"


@pytest.mark.parametrize("own_kernel", [False, True])
def test_who_may_chroot_can_call_it(own_kernel: bool) -> None:
    here = replace(HERE, own_kernel=own_kernel)
    with_it, without = document(here=here, capabilities=("SYS_CHROOT",)), document(here=here)
    lists = [
        {name for rule in one["linux"]["seccomp"]["syscalls"] for name in rule["names"]}
        for one in (with_it, without)
    ]
    assert lists[0] ^ lists[1] == {"chroot"}
    check_config(bundle(with_it, given=frozenset({"SYS_CHROOT"})))
    with pytest.raises(SandboxError, match="CAP_SYS_CHROOT"):
        check_config(bundle(with_it))


def test_limits() -> None:
    made = document(limits={"memory_bytes": 64 * MIB, "cpus": 0.5, "pids": 7, "written_bytes": 9 * MIB})
    resources = made["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 * MIB, "swap": 64 * MIB}
    assert resources["cpu"] == {"quota": 50_000, "period": 100_000}
    assert resources["pids"] == {"limit": 7}
    rlimits = {one["type"]: (one["soft"], one["hard"]) for one in made["process"]["rlimits"]}
    assert rlimits["RLIMIT_NOFILE"] == (512, 512)  # clamped to the worker's own
    assert rlimits["RLIMIT_FSIZE"] == (9 * MIB, 9 * MIB)
    assert rlimits["RLIMIT_CORE"] == (0, 0)
    assert "RLIMIT_DATA" not in rlimits
    # The control group counts what it refuses, and so refuses first.
    assert rlimits["RLIMIT_NPROC"] == (8, 8)
    assert made["process"]["oomScoreAdj"] == 700
    own = document(here=replace(HERE, own_kernel=True), limits={"pids": 7})["process"]["rlimits"]
    assert {one["type"]: one["hard"] for one in own}["RLIMIT_NPROC"] == 7


def test_without_cgroup_limits_each_process_has_its_own() -> None:
    made = document(downgrades=frozenset({"cgroup-limits"}))
    assert list(made["linux"]["resources"]) == ["devices"]
    rlimits = {one["type"]: one["soft"] for one in made["process"]["rlimits"]}
    assert rlimits["RLIMIT_DATA"] == 512 * MIB
    assert rlimits["RLIMIT_CPU"] == 61
    assert rlimits["RLIMIT_NPROC"] == 256


def test_a_restricted_root_is_read_only_with_memory_to_write_to() -> None:
    made = document(image(volumes=("/data",)), profile="restricted")
    assert made["root"]["readonly"] is True
    destinations = [mount["destination"] for mount in made["mounts"]]
    assert {"/tmp", "/run", "/var/tmp", "/data"} <= set(destinations)
    plain = document(image(volumes=("/data",)))
    assert plain["root"]["readonly"] is False
    assert "/data" not in [mount["destination"] for mount in plain["mounts"]]


def test_every_memory_file_system_is_bounded() -> None:
    for mount in document(profile="restricted")["mounts"]:
        if mount["type"] == "tmpfs":
            assert any(option.startswith("size=") for option in mount["options"]), mount
            assert any(option.startswith("nr_inodes=") for option in mount["options"]), mount
            assert "nosuid" in mount["options"]


def test_time_namespace_only_where_it_is_known() -> None:
    known = Surroundings(
        "x86_64", {}, oom_score_adj=0, swap_limit=False, time_namespace=True, time_offsets={"boottime": -9}
    )
    assert document(here=known)["linux"]["timeOffsets"] == {"boottime": {"secs": -9}}
    assert "timeOffsets" not in document()["linux"]
    assert {"type": "time"} in document(here=known)["linux"]["namespaces"]
    assert {"type": "time"} not in document()["linux"]["namespaces"]
    assert "swap" not in document(here=known)["linux"]["resources"]["memory"]


def test_environment() -> None:
    config = image(env=("HOME=/own", "A=b"))
    env = document(config, user=ContainerUser(1, 1, home="/srv"))["process"]["env"]
    assert "HOME=/own" in env
    assert "HOME=/srv" not in env
    assert "HOSTNAME=trial" in env
    assert "HOME=/srv" in document(user=ContainerUser(1, 1, home="/srv"))["process"]["env"]


def test_annotations() -> None:
    config = image(
        author="A",
        stop_signal="SIGQUIT",
        exposed_ports=(Port(80), Port(53, "udp")),
        labels={
            "": "dropped",
            "org.opencontainers.image.author": "label wins",
            "run.oci.hooks.stdout": "/etc/cron.d/x",
            "org.systemd.property.ExecStart": "evil",
            "org.criu.config": "/etc/shadow",
            "dev.gvisor.flag.network": "host",
            "module.wasm.image/variant": "compat",
            "krun.cpus": "64",
            "plain": "kept",
        },
    )
    assert make_annotations(config) == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "amd64",
        "org.opencontainers.image.author": "label wins",
        "org.opencontainers.image.stopSignal": "SIGQUIT",
        "org.opencontainers.image.exposedPorts": "80/tcp,53/udp",
        "plain": "kept",
    }


def test_seccomp() -> None:
    made = make_seccomp("x86_64")
    assert made["architectures"] == ["SCMP_ARCH_X86_64"]
    assert (made["defaultAction"], made["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    with pytest.raises(SandboxError, match="architecture 'pdp11'"):
        make_seccomp("pdp11")


def bundle(
    made: dict[str, Any], downgrades: frozenset[str] = frozenset(), given: frozenset[str] = frozenset()
) -> Bundle:
    return Bundle(made, Rootfs(-1), (), downgrades, "/app", capabilities=given)


def test_what_is_made_passes_the_checks() -> None:
    for made in (document(), document(user=ContainerUser(5, 5)), document(profile="restricted")):
        check_config(bundle(made))
    without = frozenset({"seccomp"})
    check_config(bundle(document(downgrades=without), without))


@pytest.mark.parametrize(
    "changed",
    [
        {"options": ["bind", "rw", "nosuid", "nodev", "noexec"]},
        {"options": ["bind", "ro", "nosuid", "nodev"]},
        {"options": ["rbind", "ro", "nosuid", "nodev", "noexec"]},
        {"source": "/etc"},
        {"destination": "/elsewhere"},
    ],
)
def test_only_what_is_to_be_looked_at_is_bound_and_only_to_be_read(changed: dict[str, Any]) -> None:
    binds = (Bind(Path("/worker/target"), "/target"), Bind(Path("/worker/0"), "/layers/0"))
    made = document(here=replace(HERE, binds=binds))
    check_config(replace(bundle(made), binds=binds))
    with pytest.raises(SandboxError, match="not only fresh file systems"):
        check_config(bundle(made))
    mount = next(one for one in made["mounts"] if one["destination"] == "/target")
    mount.update(changed)
    with pytest.raises(SandboxError, match="not only fresh file systems"):
        check_config(replace(bundle(made), binds=binds))


def _drop(kind: str) -> Callable[[dict[str, Any]], None]:
    def change(made: dict[str, Any]) -> None:
        made["linux"]["namespaces"] = [one for one in made["linux"]["namespaces"] if one["type"] != kind]

    return change


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    *(_drop(kind) for kind in ("pid", "network", "mount", "ipc", "uts", "user", "cgroup")),
    lambda made: made["linux"]["namespaces"][0].update(path="/proc/1/ns/pid"),
    lambda made: made["linux"]["namespaces"].append({"type": "pid"}),
    lambda made: made["linux"]["uidMappings"][0].update(hostID=0),
    lambda made: made["linux"]["gidMappings"].append({"containerID": 70000, "hostID": 0, "size": 1}),
    lambda made: made["mounts"].append(
        {"destination": "/host", "type": "bind", "source": "/", "options": []}
    ),
    lambda made: made.update(mounts=[one for one in made["mounts"] if one["destination"] != "/dev"]),
    lambda made: made.update(hooks={"prestart": []}),
    lambda made: made["linux"]["devices"].append({"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}),
    lambda made: made["linux"]["resources"]["devices"].append({"allow": True, "access": "rwm"}),
    lambda made: made["linux"]["resources"].update(devices=[]),
    lambda made: made["process"]["capabilities"]["bounding"].append("CAP_SYS_ADMIN"),
    lambda made: made["process"]["capabilities"]["ambient"].append("CAP_CHOWN"),
    lambda made: made["process"]["user"].update(uid=5),
    lambda made: made["process"].update(noNewPrivileges=False),
    lambda made: made["linux"].pop("seccomp"),
    lambda made: made["linux"]["seccomp"].update(defaultAction="SCMP_ACT_ALLOW"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_each_weakening_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    made = copy.deepcopy(document())
    change(made)
    with pytest.raises(SandboxError) as caught:
        check_config(bundle(made))
    assert caught.value.reason == "isolation-missing"


def test_the_root_must_be_reachable(tmp_path: Path) -> None:
    made = document()
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/root").mkdir()
    (tmp_path / "link").symlink_to("closed")
    check = CONFIG_CHECKS[-1]
    for path in ("relative", str(tmp_path / "link"), str(tmp_path / "closed/root")):
        made["root"]["path"] = path
        with pytest.raises(SandboxError):
            check(bundle(made))
    assert os.path.realpath("/") == "/"
