"""``seatrial run``: one image, no server."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry.main import run
from tests.integration.worker.conftest import Yard
from tests.kit.images import Image, busybox_image, write_docker_archive, write_layout
from tests.kit.worker import (
    PATH,
    WorkerProcess,
    end_sleeps,
    eventually,
    processes_with,
    sleepers,
    why_no_runs,
)

BAD = busybox_image(("/bin/sh", "-c", "echo first; echo last words >&2; exit 3"))
SPEC = "version: 1\nlimits: {alive_seconds: 0.5}\n"


@dataclass(slots=True)
class Runner:
    """Types ``seatrial run`` and reads what it prints."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def remains(self) -> list[str]:
        """What is left of the runs on this host."""
        return WorkerProcess(self.folder / "runs", "", "", state_name="0").left_behind()

    def layout(self, image: Image, tag: str = "latest") -> str:
        """The image as a layout folder, as it is named on the command line."""
        into = Path(tempfile.mkdtemp(dir=self.folder))
        return f"oci:{write_layout(into, image, tag=tag)}"

    def __call__(self, *arguments: str, code: int) -> str:
        """What it prints, on stdout or else on stderr."""
        self.capsys.readouterr()
        assert run(["run", *arguments, "--state", str(self.folder / "runs")]) == code
        out, err = self.capsys.readouterr()
        return out or err

    def json(self, *arguments: str, code: int) -> Any:
        """The JSON that it prints."""
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def runner(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{PATH}")
    # Mapped users pass through: pytest's own folders are closed to them.
    folder = Path(tempfile.mkdtemp(prefix="seatrial-run-"))
    folder.chmod(0o711)
    try:
        yield Runner(folder, capsys)
    finally:
        shutil.rmtree(folder)


def test_a_good_image_and_the_shape_that_scripts_rely_on(runner: Runner) -> None:
    image = busybox_image()
    told = runner.json(runner.layout(image), code=0)
    assert {name: told[name] for name in ("digest", "state", "verdict", "error", "downgrades")} == {
        "digest": image.digest,
        "state": "done",
        "verdict": "pass",
        "error": None,
        "downgrades": [],
    }
    assert {"image", "reason", "platform", "tested", "runtime", "mechanisms", "steps"} <= set(told)
    (ran,) = told["runs"]
    assert {name: ran[name] for name in ("name", "exit_code", "reason", "log")} == {
        "name": "smoke",
        "exit_code": 0,
        "reason": "exited",
        "log": "hello\n",
    }
    assert runner.remains == []


def test_a_bad_image_says_how_it_ended(runner: Runner) -> None:
    said = runner(runner.layout(BAD), code=1)
    assert said.startswith("fail: expected: exit code is 0, or alive after 5 s; seen: exit code 3")
    assert said.endswith("  | first\n  | last words\n")
    assert runner.remains == []


def test_what_an_image_writes_moves_no_cursor(runner: Runner) -> None:
    image = busybox_image(("/bin/sh", "-c", "printf '\\033[2Jhidden\\007\\n'; exit 1"))
    said = runner(runner.layout(image), code=1)
    assert "?[2Jhidden" in said
    assert not {"\x1b", "\x07"} & set(said)


def test_a_spec_from_a_file(runner: Runner) -> None:
    spec = runner.folder / "spec.yaml"
    spec.write_text("version: 1\nexpect: {exit: 3, log: [{match: '^last'}]}\n")
    said = runner(runner.layout(BAD), "--spec", str(spec), code=0)
    tested = "the command exits 3; the log matches '^last'"
    assert said.startswith(f"pass: {tested}; seen: exit code 3; last words\n")


def test_cases_and_attempts_are_shown_one_by_one(runner: Runner) -> None:
    spec = runner.folder / "spec.yaml"
    spec.write_text(
        "version: 1\ncases: [{name: ends, expect: {exit: 3}}, {name: well, expect: {exit: 0}, attempts: 2}]\n"
    )
    layout = runner.layout(BAD)
    said = runner(layout, "--spec", str(spec), code=1)
    assert said.startswith(
        "fail: case well: attempt 1 of 2: expected: exit code is 0; seen: exit code 3 (and"
    )
    assert "\nends: exit code 3 after " in said
    assert "\nwell, attempt 2: exit code 3 after " in said
    assert said.count("  missed: exit code is 0; seen: exit code 3\n") == 2
    told = runner.json(layout, "--spec", str(spec), code=1)
    assert [(run["case"], run.get("attempt")) for run in told["runs"]] == [
        ("ends", None),
        ("well", 1),
        ("well", 2),
    ]
    assert (told["flaky"], told["flaky_attempts"]) == (False, 0)
    assert not any("writes" in run for run in told["runs"])
    refused = runner(layout, "--spec", str(spec), "--keep-writes", str(runner.folder / "kept"), code=64)
    assert "is for one run" in refused


def test_what_each_of_several_runs_wrote(runner: Runner) -> None:
    spec = runner.folder / "spec.yaml"
    spec.write_text(
        "version: 1\nexpect: {exit: 3}\n"
        "cases: [{name: one, env: {TO: /first}}, {name: two, env: {TO: /second}, attempts: 2, pass: all}]\n"
    )
    layout = runner.layout(busybox_image(("/bin/sh", "-c", "echo x > $TO; exit 3")))
    told = runner.json(layout, "--spec", str(spec), "--list-writes", code=0)
    assert "writes" not in told
    written = [[one["path"] for one in run["writes"]["entries"]] for run in told["runs"]]
    assert written == [["/first"], ["/second"], ["/second"]]
    said = runner(layout, "--spec", str(spec), "--list-writes", code=0)
    assert "\none wrote: 1 entries, 2 B of files\n  A /first" in said
    assert "\ntwo, attempt 2 wrote: 1 entries, 2 B of files\n  A /second" in said


def test_a_spec_asks_for_a_capability_and_the_operator_allows_it(runner: Runner) -> None:
    spec = runner.folder / "spec.yaml"
    spec.write_text("version: 1\ncapabilities: [SYS_CHROOT]\nexpect: {exit: 0}\n")
    layout = runner.layout(busybox_image(("busybox", "chroot", "/", "/bin/true")))
    refused = runner.json(layout, "--spec", str(spec), code=2)
    assert refused["error"]["reason"] == "capability-refused"
    option = refused["reason"].rpartition("may allow it with ")[2].split()
    assert option == ["--allow-capability", "SYS_CHROOT"]
    done = runner.json(layout, "--spec", str(spec), *option, code=0)
    said = {one["name"]: one["detail"] for one in done["mechanisms"]}
    assert said["capabilities"].endswith("SETUID; allowed by the operator: SYS_CHROOT")


def test_tars_of_both_layouts(runner: Runner) -> None:
    archive = write_docker_archive(runner.folder / "image.tar", BAD)
    assert runner.json(str(archive), code=1)["runs"][0]["exit_code"] == 3


def test_an_image_of_a_registry(runner: Runner, make_yard: Callable[..., Yard]) -> None:
    yard = make_yard(trial_on_push="false")
    yard.push(BAD, "bad")
    password = runner.folder / "password"
    password.write_text(yard.registry.token)
    name = f"{yard.registry.host}/team/app:bad"
    told = runner.json(name, "--username", "admin", "--password-file", str(password), code=1)
    assert told["digest"] == BAD.digest
    refused = runner(name, code=2)
    assert refused.startswith("error: pull-failed: ")
    # The services of its spec are images of the same registry, or those that are named; asked with the same
    # credential there, and with none elsewhere.
    serve = "mkdir /www; echo the database > /www/index.html; exec httpd -f -p 8080 -h /www"
    database = busybox_image(("/bin/sh", "-c", serve))
    yard.push(database, "1", repository="base/db")
    asks = busybox_image(("/bin/sh", "-c", "exec wget -qO- http://db:8080/"))
    yard.push(asks, "asks")
    spec = runner.folder / "spec.yaml"
    beside = "[{name: db, image: 'base/db:1', ready: {tcp: 8080}}]"
    spec.write_text(f"version: 1\nservices: {beside}\nexpect: {{exit: 0, log: [{{match: the database}}]}}\n")
    name = f"{yard.registry.host}/team/app:asks"
    known = ("--username", "admin", "--password-file", str(password), "--spec", str(spec))
    told = runner.json(name, *known, code=0)
    shown = {one["name"]: one["detail"] for one in told["mechanisms"]}
    assert shown["service db"].startswith(f"{yard.registry.host}/base/db:1@{database.digest}, ready after ")
    layouts = (runner.layout(asks), "--spec", str(spec), "--service")
    told = runner.json(*layouts, f"db={runner.layout(database)}", code=0)
    refused = runner(*layouts, f"db={yard.registry.host}/base/db:1", *known[:4], code=2)
    assert refused.startswith("error: pull-failed: the service db: ")
    assert runner.remains == []


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (busybox_image(()), "no-command"),
        (busybox_image(("/no/such",)), "start-failed"),
        (busybox_image(platform="linux/s390x"), "platform-unsupported"),
        (busybox_image(labels={"io.seatrial.smoke": "version: 9"}), "spec-invalid"),
    ],
)
def test_what_cannot_be_tried_is_an_error_with_a_reason(runner: Runner, image: Image, reason: str) -> None:
    told = runner.json(runner.layout(image), code=2)
    assert told["error"]["reason"] == reason
    assert (told["verdict"], told["runs"]) == ("error", [])
    assert told["reason"].startswith(f"{reason}: ")
    assert runner.remains == []


def test_secrets_are_given_by_file_and_never_shown(runner: Runner) -> None:
    spec, file, short = (runner.folder / name for name in ("spec.yaml", "secret", "short"))
    spec.write_text("version: 1\nenv: {A: {secret: DB}}\nexpect: {exit: 0}\n")
    file.write_text("not for anybody\n")
    short.write_text("short-x\n")
    script = 'test "$A" = "not for anybody" && echo "it is $A" && mkdir "/left-$A"'
    layout = runner.layout(busybox_image(("/bin/sh", "-c", script)))
    given = (layout, "--spec", str(spec))
    told = runner.json(*given, "--secret", f"DB={file}", "--list-writes", code=0)
    assert told["runs"][0]["log"] == "it is ***\n"
    # The image's own command has it as well, as it happens.
    assert "not for" not in json.dumps(told)
    assert [one["path"] for one in told["writes"]["entries"]] == ["/left-***"]
    shown = runner(*given, "--secret", f"DB={file}", "--list-writes", "--follow", code=0)
    assert "not for" not in shown
    for options, why in (
        ((), "give it with --secret DB=FILE"),
        (("--secret", "DB"), "NAME=FILE"),
        (("--secret", f"DB={file}", "--secret", f"DB={file}"), "each name once"),
        (("--secret", f"DB={file}", "--secret", f"OTHER={file}"), "OTHER: the run spec names no such secret"),
        (("--secret", f"DB={runner.folder / 'none'}"), "cannot be read"),
        (("--secret", f"DB={short}"), "has 7 bytes"),
        (("--secret", f"DB={file}", "--keep-writes", str(runner.folder / "kept.tar")), "keeps files as they"),
    ):
        said = runner(*given, *options, code=64)
        assert why in said
        assert "short-x" not in said
    assert not (runner.folder / "kept.tar").exists()
    assert runner.remains == []


def test_wrong_usage(runner: Runner) -> None:
    spec = runner.folder / "spec.yaml"
    spec.write_text("version: 1\nservices: [{name: db, image: base/db, ready: {tcp: 5432}}]\n")
    layout = runner.layout(busybox_image())
    for arguments, word in (
        ((layout, "--spec", str(spec)), "say which it is with --service db=IMAGE"),
        ((layout, "--spec", str(spec), "--service", "db"), "--service is NAME=IMAGE, each name once"),
        (
            (layout, "--spec", str(spec), "--service", f"web={layout}"),
            "web: the run spec has no such service",
        ),
        ((layout, "--spec", str(runner.folder / "none")), "cannot be read"),
        ((layout, "--allow-downgrade", "everything"), "no downgrade"),
        ((layout, "--username", "admin"), "go together"),
        ((layout, "--platform", "linux"), "--platform"),
        ((layout, "--allow-egress", "example.com:443"), "is not CIDR:PORT"),
        ((layout, "--allow-egress", "10.0.0.0/8:443"), "one by one"),
        ((layout, "--allow-capability", "SYS_ADMIN"), "SYS_ADMIN is given to no run: it undoes"),
        ((layout, "--allow-capability", "CAP_FLY"), "'CAP_FLY' is no capability; a run can have CHOWN"),
    ):
        assert word in runner(*arguments, code=64)
    assert "no such" in runner("oci:/no/such/folder", code=2).lower()


def test_a_folder_closed_to_others_is_refused_at_once(runner: Runner) -> None:
    closed = runner.folder / "closed"
    closed.mkdir(mode=0o700)
    assert run(["run", runner.layout(busybox_image()), "--state", str(closed / "state")]) == 2
    assert f"run 'chmod o+x {closed}'" in runner.capsys.readouterr().err


def test_a_strict_umask_does_no_harm(runner: Runner) -> None:
    before = os.umask(0o077)
    try:
        runner(runner.layout(busybox_image()), code=0)
    finally:
        os.umask(before)


def test_interrupted_it_takes_down_what_runs(runner: Runner) -> None:
    marker = f"613.{secrets.randbelow(10**9):09d}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "registry.main", "run", runner.layout(busybox_image(("sleep", marker)))),
            *("--state", str(runner.folder / "runs")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        eventually(
            lambda: [pid for pid in processes_with(marker) if pid != process.pid] != [], what="it runs"
        )
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 130, output
        assert b"Traceback" not in output
    finally:
        process.kill()
        process.communicate()
    assert processes_with(marker) == []
    assert runner.remains == []


def test_two_at_once_get_folders_of_their_own(runner: Runner) -> None:
    spec = runner.folder / "spec.yaml"
    spec.write_text("{version: 1, limits: {wall_seconds: 100}, expect: {exit: 0}}")
    marker = f"600.{secrets.randbelow(10**9):09d}"
    layout = runner.layout(busybox_image(("/bin/sh", "-c", f"sleep {marker}; exit 0")))
    base = runner.folder / "runs"
    command = [
        *(sys.executable, "-m", "registry.main", "run", layout, "--spec", str(spec)),
        *("--state", str(base)),
    ]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    eventually(lambda: len(sleepers(marker)) == 2, what="both run")
    end_sleeps(marker)
    for process in runs:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    assert sorted(entry.name for entry in base.iterdir()) == ["0", "1", "cache"]


def test_the_output_is_followed_on_standard_error(runner: Runner) -> None:
    """As it comes: the rest waits until the first line was seen. And it says what the run used."""
    spec = runner.folder / "spec.yaml"
    spec.write_text("{version: 1, limits: {wall_seconds: 60}, expect: {exit: 0}}")
    marker = f"600.{secrets.randbelow(10**9):09d}"
    write = "head -c 3000000 /dev/zero > /big"
    script = f"printf 'first\\033[2J\\n'; {write}; sleep 1.5; sleep {marker}; echo last"
    layout = runner.layout(busybox_image(("/bin/sh", "-c", script)))
    command = [
        *(sys.executable, "-m", "registry.main", "run", layout, "--spec", str(spec)),
        *("--state", str(runner.folder / "runs")),
    ]
    with subprocess.Popen(
        [*command, "--follow", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == b"  | first?[2J\n"
        eventually(lambda: end_sleeps(marker), what="the command is let go")
        assert process.stderr.read() == b"  | last\n"
        told = json.loads(process.stdout.read())
    assert process.returncode == 0
    (ran,) = told["runs"]
    assert len(ran["samples"]) > 10
    assert ran["samples"][0]["layer_bytes"] < 3_000_000 <= ran["samples"][-1]["layer_bytes"] < 4_000_000
    assert ran["limits"]["written_bytes"] == 1024**3
    assert (ran["limits"]["wall_seconds"], ran["pids_refused"]) == (60, 0)
    assert ran["outbound"] == []
    # On a terminal without being asked to, and only once.
    ours, terminal = os.openpty()
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        eventually(lambda: end_sleeps(marker), what="the command is let go")
        lines = read_terminal(ours).splitlines()
    assert process.returncode == 0
    assert lines.count("  | first?[2J") == lines.count("  | last") == 1
    assert lines.index("  | last") < next(i for i, line in enumerate(lines) if line.startswith("pass: "))
    assert any(line.startswith("  used: memory at most ") for line in lines)


def read_terminal(fd: int) -> str:
    """All that is written to the other end of a terminal until nobody holds it."""
    found = b""
    # The end of a terminal is an error.
    with os.fdopen(fd, "rb", buffering=0) as file, suppress(OSError):
        while chunk := file.read(4096):
            found += chunk
    return found.decode()


def test_what_the_spec_demands_is_there_or_it_is_an_error(runner: Runner, tmp_path: Path) -> None:
    layout = runner.layout(busybox_image())
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"{SPEC}require: [seccomp, no_new_privs]\n")
    assert runner.json(layout, "--spec", str(spec), code=0)["verdict"] == "pass"
    # A run that asks for no network has none.
    spec.write_text(f"{SPEC}require: [seccomp, egress]\n")
    told = runner.json(layout, "--spec", str(spec), code=2)
    assert (told["verdict"], told["error"]["reason"]) == ("error", "isolation-missing")
    assert "did not have: egress (not asked for" in told["reason"]
    assert told["runs"] == []  # the command never began
