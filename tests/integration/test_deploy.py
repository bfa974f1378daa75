"""The deployment files: well-formed, and what they start is started as they say."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.hardening import hardened
from tests.kit.sources import ROOT
from tests.kit.wheel import Installed, build_wheel, install

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
# Tenths, as `systemd-analyze security` counts; 0 is none, 100 is all. Who makes namespaces has some.
EXPOSURE = {"seatrial-serve": 20, "seatrial-up": 60, "seatrial-worker": 60}
CONTAINERFILE = ROOT / "deploy" / "Containerfile"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    wheel = build_wheel(tmp_path_factory.mktemp("dist"))
    return install(wheel, tmp_path_factory.mktemp("deployed"), extras=["server"])


def directive(unit: Path, name: str) -> list[str]:
    """All values that a unit gives to ``name``."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@contextmanager
def started(
    installed: Installed, arguments: list[str], environment: dict[str, str], through: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``seatrial ARGUMENTS`` until it says where it listens."""
    process = subprocess.Popen(
        [*through, installed.folder / "bin" / "seatrial", *arguments],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}, cwd=installed.folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process, _said(process, "listens on")
    finally:
        process.terminate()
        try:
            process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _said(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    deadline, said = time.monotonic() + 120, b""
    while time.monotonic() < deadline:
        # Not by readline(): what it has read beyond a line, nobody would be told of.
        if select.select([process.stdout], [], [], 1)[0]:
            piece = os.read(process.stdout.fileno(), 65536)
            said += piece
            lines = said.decode().splitlines(keepends=True)
            found = next((line for line in lines if words in line and line.endswith("\n")), None)
            if found is not None:
                return found
            if not piece:
                break
    raise AssertionError(f"it never said {words!r}: {said.decode()}")


def environment_of(unit: Path, tmp_path: Path) -> dict[str, str]:
    """The unit's own environment, with a folder and a port that are free."""
    given = dict(line.split("=", 1) for line in directive(unit, "Environment"))
    return {name: value.replace("/var/lib", str(tmp_path)) for name, value in given.items()} | {
        "SEATRIAL_LISTEN": "127.0.0.1:0"
    }


def arguments_of(unit: Path) -> list[str]:
    (command,) = directive(unit, "ExecStart")
    program, *arguments = shlex.split(command)
    assert program == "/opt/seatrial/bin/seatrial"
    return arguments


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    # The same unit, but for the program, which is not installed there on this machine.
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/seatrial/bin/seatrial", "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_has_hardly_a_right_that_it_does_not_need(unit: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[unit.stem]}", unit],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["seatrial-serve", "seatrial-up"])
def test_what_the_unit_starts_listens(installed: Installed, tmp_path: Path, name: str) -> None:
    unit = ROOT / "deploy" / "systemd" / f"{name}.service"
    through = hardened(unit, (tmp_path, Path("/run/seatrial"))) if name == "seatrial-up" else ()
    with started(installed, arguments_of(unit), environment_of(unit, tmp_path), through) as (process, line):
        assert "http://127.0.0.1:" in line
        assert (tmp_path / "seatrial" / "admin.token").stat().st_mode & 0o777 == 0o600
        process.terminate()
        assert process.wait(timeout=120) == 0


def of_the_pod() -> list[str]:
    """What the container of the Kubernetes manifest runs, as its unit would write it."""
    (container,) = manifest()["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    arguments = " ".join(container["args"]).replace("/run/secrets/seatrial", "${CREDENTIALS_DIRECTORY}")
    arguments = re.sub(r"--registry=\S+", "--registry=${SEATRIAL_REGISTRY}", arguments)
    return [*container["command"], *arguments.replace("0.0.0.0:9464", "127.0.0.1:0").split()]


def of_the_unit() -> list[str]:
    """What the worker's unit runs, without systemd."""
    return ["seatrial", *arguments_of(ROOT / "deploy" / "systemd" / "seatrial-worker.service")]


@pytest.mark.parametrize("command", [of_the_unit, of_the_pod])
def test_what_starts_the_worker_lets_it_report_for_work(
    installed: Installed, tmp_path: Path, command: Callable[[], list[str]]
) -> None:
    unit = ROOT / "deploy" / "systemd" / "seatrial-serve.service"
    with (
        tempfile.TemporaryDirectory(prefix="seatrial-worker-", dir="/tmp") as name,
        started(installed, arguments_of(unit), environment_of(unit, tmp_path)) as (_, line),
    ):
        # As in /var/lib, where the users of images may pass through.
        state = Path(name)
        state.chmod(0o711)
        server = ["--server", line.split()[-1], "--token-file", str(tmp_path / "seatrial" / "admin.token")]
        made = installed.run("seatrial", "token", "create", "--worker", "one", "--json", *server)
        (state / "token").write_text(json.loads(made.stdout)["token"])
        arguments = [
            argument.replace("${SEATRIAL_REGISTRY}", server[1])
            .replace("${CREDENTIALS_DIRECTORY}", name)
            .replace("/var/lib", name)
            for argument in command()
        ]
        process = subprocess.Popen(
            arguments,
            env={"PATH": f"{installed.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd=installed.folder, umask=0o077,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            seen = None
            while seen is None and process.poll() is None and time.monotonic() < deadline:
                listed = installed.run("seatrial", "worker", "list", "--json", *server)
                (worker,) = json.loads(listed.stdout)
                seen = worker["last_seen_at"]
        finally:
            process.terminate()
            said = process.communicate(timeout=120)[1]
        assert seen is not None, said
        assert process.returncode == 0, said


def assert_takes(installed: Installed, arguments: list[str]) -> None:
    """Whether the command has the options that are given to it."""
    words = [word for word in arguments if not word.startswith("-")]
    path = words[: 2 if words[0] == "worker" else 1]
    shown = installed.run("seatrial", *path, "--help")
    assert shown.returncode == 0, shown.stderr
    for option in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{option}\b", shown.stdout), option


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word
    ]


def test_the_containerfile_copies_what_there_is() -> None:
    for word, rest in instructions():
        sources = rest.split()[:-1]
        if word == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in sources), rest


@pytest.mark.parametrize("tls", [{}, {"SEATRIAL_TLS": "self-signed"}], ids=["http", "https"])
def test_the_container_starts_what_it_says(installed: Installed, tmp_path: Path, tls: dict[str, str]) -> None:
    said = {
        word: rest for word, rest in instructions() if word in ("ENTRYPOINT", "CMD", "HEALTHCHECK", "ENV")
    }
    assert json.loads(said["ENTRYPOINT"]) == ["seatrial"]
    environment = dict(pair.split("=", 1) for pair in shlex.split(said["ENV"]))
    environment |= {"SEATRIAL_DATA": str(tmp_path / "data"), "SEATRIAL_LISTEN": "127.0.0.1:0"} | tls
    with started(installed, json.loads(said["CMD"]), environment) as (_, line):
        port = line.rsplit(":", 1)[1].strip()
        check = json.loads(said["HEALTHCHECK"].removeprefix("CMD "))
        healthy = [part.replace("127.0.0.1:8470", f"127.0.0.1:{port}") for part in check]
        subprocess.run(healthy, check=True, timeout=120)


def test_the_services_of_compose_are_commands(installed: Installed) -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    build = compose["services"]["registry"]["build"]
    assert (ROOT / "deploy" / build["context"] / build["dockerfile"]).resolve() == CONTAINERFILE
    for service in compose["services"].values():
        assert_takes(installed, service["command"])


def manifest() -> dict[str, Any]:
    """The objects of the Kubernetes manifest, by kind."""
    text = (ROOT / "deploy" / "kubernetes" / "worker.yaml").read_text()
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def test_the_pod_is_alone_on_its_nodes_and_has_time_to_end() -> None:
    objects = manifest()
    assert {one["apiVersion"] for one in objects.values()} == {"v1", "apps/v1", "networking.k8s.io/v1"}
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    ((key, value),) = pod["nodeSelector"].items()
    assert pod["tolerations"] == [{"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}]
    labels = objects["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    for one in (objects["DaemonSet"]["spec"]["selector"], objects["NetworkPolicy"]["spec"]["podSelector"]):
        assert one == {"matchLabels": labels}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    given = dict(argument.split("=", 1) for argument in container["args"])
    assert pod["terminationGracePeriodSeconds"] >= 2 * float(given["--grace"])
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts.keys() == {one["name"] for one in pod["volumes"]}
    assert given["--state"] == mounts["state"]
    assert given["--token-file"] == f"{mounts['token']}/token"
    assert int(given["--total-memory-bytes"]) < 7 * 1024**3
    assert container["resources"]["limits"]["memory"] == "7Gi"
    assert given["--metrics"].endswith(f":{container['ports'][0]['containerPort']}")
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == container["ports"][0]["name"]
    held = re.findall(r"\+(\w+)", " ".join(container["command"]))
    (unit,) = directive(ROOT / "deploy" / "systemd" / "seatrial-worker.service", "CapabilityBoundingSet")
    assert [f"CAP_{name.upper()}" for name in held] == unit.split()


def test_the_locks_hold_what_the_project_asks_for() -> None:
    """Each direct dependency is pinned, in a version that its range allows, in the lock that installs it."""
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    server = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["server"]
    for lock, wanted in (
        ("deploy/requirements.lock", server),
        ("deploy/build.lock", project["build-system"]["requires"]),
        ("requirements.lock", server + project["dependency-groups"]["dev"]),
    ):
        pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))
        for text in wanted:
            requirement = Requirement(text)
            version = pinned.get(canonicalize_name(requirement.name))
            assert version is not None, f"{lock} lacks {requirement.name}"
            assert requirement.specifier.contains(version), f"{lock}: {requirement.name} {version}"
