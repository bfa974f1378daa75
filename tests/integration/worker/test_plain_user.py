"""A worker of a plain user: it does what can be done without root, and each report says what that was."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.integration.worker.conftest import Yard
from tests.kit.images import busybox_image
from tests.kit.plainuser import as_user, plain_user
from tests.kit.worker import WorkerProcess


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    with plain_user() as name:
        yield name


@pytest.fixture(scope="module")
def yard(user: str, make_yard: Callable[..., Yard]) -> Yard:
    # In this order: the user goes when the workers are gone.
    return make_yard(limits__written_bytes=str(64 * 1024 * 1024))


def given_to(user: str, worker: WorkerProcess) -> WorkerProcess:
    """The same worker, to be started by a plain user."""
    token = worker.folder / "token"
    token.touch()
    for path in (worker.folder, token):
        shutil.chown(path, user, user)
    worker.through = tuple(as_user(user))
    return worker


def test_its_verdicts_say_that_limits_are_partial(yard: Yard, user: str) -> None:
    worker = given_to(user, yard.worker("plain"))
    worker.start("--allow-downgrade", "cgroup-limits")
    script = "id -u; cat /proc/self/uid_map; head -c 2G /dev/zero > /fill; exit 0"
    yard.push(busybox_image(["/bin/sh", "-c", "id -u; echo fine"]), "good")
    trial = yard.verdict("good")
    assert (trial["verdict"], trial["runs"][0]["log"]) == ("warn", "0\nfine\n"), worker.log[-2000:]
    record = trial["parts"][0]["record"]
    assert record["downgrades"] == ["cgroup-limits"]
    lines = {one["name"]: one for one in record["mechanisms"]}
    assert not lines["cgroup limits"]["applied"]
    assert lines["cgroup limits"]["detail"].startswith("limits: partial")
    for name in ("user namespace", "network namespace", "seccomp", "no_new_privs", "capabilities"):
        assert lines[name]["applied"], lines[name]
    # What is written is bounded all the same, and nothing of it is the host's root's.
    yard.push(busybox_image(["/bin/sh", "-c", script]), "fills")
    trial = yard.verdict("fills")
    assert (trial["verdict"], trial["runs"][0]["reason"]) != ("error", "timeout"), trial
    uid = pwd.getpwnam(user).pw_uid
    assert {path.stat().st_uid for path in (worker.state, *worker.state.iterdir())} == {uid}
    worker.stop()
    assert worker.left_behind() == []


def test_without_ids_it_does_not_begin(yard: Yard) -> None:
    with plain_user(ids=False) as name:
        worker = given_to(name, yard.worker("bare"))
        worker.start()
        assert worker.wait() == 2
        assert "/etc/subuid" in worker.log
        assert "usermod --add-subuids" in worker.log


def test_without_the_operators_word_it_does_not_begin(yard: Yard, user: str) -> None:
    worker = given_to(user, yard.worker("strict"))
    worker.start()
    assert worker.wait() == 2
    assert "--allow-downgrade cgroup-limits" in worker.log
