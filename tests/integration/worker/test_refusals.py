"""What a worker says where its host, its registry or its operator lets it down: one line, what and how."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.workplace import opened_workplace
from tests.integration.worker.conftest import Yard
from tests.kit.images import busybox_image
from tests.kit.plainuser import as_user, plain_user
from tests.kit.server import RegistryProcess
from tests.kit.worker import PATH, WorkerProcess, eventually, worker_process

RUNC = shutil.which("runc", path=PATH)
CEILING = ("--total-memory-bytes", "134217728")


def without(*commands: str) -> tuple[str, ...]:
    """Run what follows in a mount namespace of its own, after these."""
    return ("unshare", "--mount", "sh", "-ec", "; ".join(commands) + '; exec "$@"', "sh")


NO_CGROUPS = without("umount -R -l /sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Case:
    """``words`` are in its last line."""

    words: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    code: int = 2


CASES = {
    "no runtime": Case(("runc",), ("--runtime", "runc"), without(f"mount --bind /dev/null {RUNC}")),
    "no runtime of that name": Case(("nonesuch",), ("--runtime", "nonesuch")),
    "no control groups": Case(
        ("cgroup-limits: no cgroup controller for memory", "--allow-downgrade cgroup-limits"), (), NO_CGROUPS
    ),
    "no control groups for a ceiling": Case(
        ("there can be no ceiling for all runs",),
        ("--allow-downgrade", "cgroup-limits", *CEILING),
        NO_CGROUPS,
    ),
    "closed folder": Case(("chmod o+x",), ("--state", "CLOSED/state")),
    "read-only folder": Case(("/proc/state cannot be used",), ("--state", "/proc/state")),
    "port in use": Case(
        ("--metrics: cannot listen at 127.0.0.1:", "in use"), ("--metrics", "127.0.0.1:TAKEN")
    ),
    "unknown token": Case(("the registry refuses this worker", "seatrial token create --worker NAME")),
    "no address": Case(("is not http(s)://HOST[:PORT]",), ("--registry", "registry.example"), code=64),
    "no token": Case(("holds no token",), ("--token-file", "/dev/null"), code=64),
    "no token file": Case(
        ("the token file /nonesuch cannot be read: No such file",), ("--token-file", "/nonesuch"), code=64
    ),
    "no place for metrics": Case(("neither HOST:PORT nor unix:PATH",), ("--metrics", "9464"), code=64),
    "no cache": Case(("--cache-size 0: that leaves no room",), ("--cache-size", "0"), code=64),
    "no disk": Case(("--keep-free 100%: that leaves no room",), ("--keep-free", "100%"), code=64),
    "no such processor": Case(("there is no processor 4095",), ("--cpu-set", "4095"), code=64),
    "no such downgrade": Case(("known are cgroup-limits",), ("--allow-downgrade", "all"), code=64),
    "no size": Case(("lots",), ("--cache-size", "lots"), code=64),
    "no slots": Case(("--slots",), ("--slots", "0"), code=64),
}


@pytest.fixture(scope="module")
def yard(make_yard: Callable[..., Yard]) -> Yard:
    """A registry."""
    return make_yard()


@pytest.fixture(scope="module")
def ended(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, str]]]:
    """Exit code and log by case; all are started at once."""
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    with ExitStack() as stack:
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        replaced = {"CLOSED": str(closed), "TAKEN": str(taken.getsockname()[1])}
        workers: dict[str, WorkerProcess] = {}
        for name, case in CASES.items():
            worker = stack.enter_context(worker_process(yard.registry.url, "seatrial_unknown"))
            worker.through = case.through
            arguments = case.arguments
            for old, new in replaced.items():
                arguments = tuple(argument.replace(old, new) for argument in arguments)
            worker.start(*arguments)
            workers[name] = worker
        yield {name: (worker.wait(), worker.log) for name, worker in workers.items()}


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_and_how(name: str, ended: dict[str, tuple[int, str]]) -> None:
    code, log = ended[name]
    case = CASES[name]
    assert code == case.code, log
    assert "Traceback" not in log
    assert "seatrial_unknown" not in log
    text = " ".join(log.split()) if case.code == 64 else log.strip().splitlines()[-1]
    assert all(words in text for words in case.words), log


def test_a_folder_that_is_no_workers_is_left_as_it_is(tmp_path: Path) -> None:
    """Who owns it could exchange what a run is made of; and a worker sweeps its folder when it starts."""
    folders = {name: tmp_path / name for name in ("open to all", "somebody's", "linked", "a registry's")}
    for folder in folders.values():
        folder.mkdir()
    folders["open to all"].chmod(0o1777)
    (folders["open to all"] / "of others").touch()
    os.chown(folders["somebody's"], 1000, 1000)
    folders["linked"].rmdir()
    folders["linked"].symlink_to(folders["a registry's"])
    for name in ("uploads", "blobs", "snapshots"):
        (folders["a registry's"] / name).mkdir()
    before = {name: (folder.lstat(), sorted(folder.iterdir())) for name, folder in folders.items()}
    said = {}
    for name, folder in folders.items():
        opened = opened_workplace(folder, runtime="auto", allowed_downgrades=frozenset())
        with pytest.raises(SandboxError) as caught, opened:
            pass
        said[name] = caught.value.message
    assert {name: (folder.lstat(), sorted(folder.iterdir())) for name, folder in folders.items()} == before
    assert "can be written to by everybody" in said["open to all"]
    assert "belongs to somebody else" in said["somebody's"]
    assert "the data of a registry" in said["a registry's"]
    assert "the data of a registry" in said["linked"]


def test_a_plain_user_without_ids(yard: Yard) -> None:
    with plain_user(ids=False) as user, worker_process(yard.registry.url, "seatrial_unknown") as worker:
        worker.through = tuple(as_user(user))
        token_file = worker.folder / "readable"
        token_file.write_text("seatrial_unknown")
        token_file.chmod(0o644)
        worker.start("--token-file", str(token_file))
        assert worker.wait() == 2, worker.log
        assert "has no range of 65536 ids in /etc/subuid; as root:" in worker.log, worker.log
        assert len(worker.log.splitlines()) == 1


def test_a_revoked_worker_ends_while_it_waits(yard: Yard) -> None:
    worker = yard.worker("revoked")
    worker.start()
    eventually(lambda: yard.call("GET", "/api/v1/workers/revoked")["last_seen_at"], what="it waits")
    yard.call("POST", "/api/v1/workers/revoked/revoke")
    assert worker.wait() == 2
    assert "seatrial token create --worker NAME" in worker.log.splitlines()[-1]


def test_what_may_yet_come_is_waited_for(yard: Yard, make_yard: Callable[..., Yard]) -> None:
    secure = make_yard(tls="self-signed")
    cases = {
        "http://registry.invalid:1": "cannot be reached: .*registry.invalid",
        secure.registry.url: "certificate is not trusted here .*SSL_CERT_FILE",
        yard.registry.url.replace("http:", "https:"): "there is no TLS at this address",
    }
    with ExitStack() as stack:
        workers = [stack.enter_context(worker_process(url, "seatrial_unknown")) for url in cases]
        for worker in workers:
            worker.start()
        for worker, words in zip(workers, cases.values(), strict=True):
            eventually(lambda w=worker: "waiting for the registry" in w.log, what=words, worker=worker)
            line = json.loads(worker.log.splitlines()[-1])
            assert all(part in line["reason"] for part in words.split(".*")), line
            worker.send_signal(signal.SIGTERM)
            assert worker.wait() == 0
        plain = stack.enter_context(
            worker_process(secure.registry.url.replace("https:", "http:"), "seatrial_unknown")
        )
        plain.start()
        assert plain.wait() == 2
        assert "speaks HTTPS" in plain.log


def test_a_full_disk_takes_no_jobs(yard: Yard) -> None:
    worker = yard.worker("full")
    fill = "dd if=/dev/zero of=$0/filler bs=64k 2>/dev/null || :"
    worker.state.mkdir(mode=0o711)
    mounted = f"mount -t tmpfs -o size=1m,mode=711 none {worker.state}"
    worker.through = without(mounted, fill.replace("$0", str(worker.state)))
    yard.push(busybox_image(("true",)), "full")
    worker.start()
    eventually(lambda: "no room for images" in worker.log, what="it says so", worker=worker)
    said = "no worker is large enough: the image needs about "
    eventually(lambda: said in yard.newest("full")["reason"], what="the registry knows", worker=worker)
    assert yard.newest("full")["state"] == "queued"
    (told,) = [one for one in yard.call("GET", "/api/v1/workers")["items"] if one["name"] == "full"]
    assert told["disk_bytes"] < told["disk_most_bytes"] < 1024 * 1024 < told["needed_bytes"]
    assert told["waiting_parts"] == 1
    # It hears of this as any other does.
    yard.call("PUT", "/api/v1/workers/full/drain")
    assert worker.wait() == 0
    assert "trying" not in worker.log


def test_clocks_that_differ_are_said_and_do_no_harm(tmp_path: Path) -> None:
    if not list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")):
        pytest.skip("needs faketime; CI has it")
    preload = "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1"
    clock = ("/usr/bin/env", preload, "FAKETIME=+40d", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    settings = {"trial_on_push": "true", "limits__alive_seconds": "1"}
    process = RegistryProcess(tmp_path / "data", through=clock, **settings)
    with ExitStack() as stack:
        stack.callback(process.stop)
        yard = Yard(process, process.start(), stack)
        worker = yard.worker("late")
        worker.start()
        yard.push(busybox_image(("/bin/sh", "-c", "echo late")), "late")
        trial = yard.verdict("late")
        assert trial["verdict"] == "pass", trial["reason"]
        (line,) = (json.loads(one) for one in worker.log.splitlines() if "clocks differ" in one)
        assert abs(line["registry_ahead_seconds"] - 40 * 86400) < 3600
        worker.stop()
        assert worker.left_behind() == []
