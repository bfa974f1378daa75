"""``seatrial trial`` and ``seatrial gate``: shapes, words and exit codes that scripts rely on."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registry.db.engine import Database
from registry.main import run
from registry.trials import logkeeping
from registry.trials.evidence import pack, unpack
from tests.kit.access import api, make_token
from tests.kit.distribution import push_image
from tests.kit.forgetful import forgetful
from tests.kit.images import Image, make_index
from tests.kit.server import Registry, RegistryProcess
from tests.kit.trials import REPOSITORY, ScriptedWorker, make_error, pull_token, tiny_image, worker_token


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "data"


@pytest.fixture(scope="module")
def registry(data: Path) -> Iterator[Registry]:
    server = RegistryProcess(
        data,
        gate="enforce",
        trial_on_push="true",
        trial_platforms="linux/amd64",
        outgoing_networks="127.0.0.0/8",
    )
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def token_file(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "admin"
    path.write_text(registry.token)
    return path


@pytest.fixture(scope="module")
def worker_secret(registry: Registry) -> str:
    async def make() -> str:
        async with registry.client() as admin:
            return await worker_token(admin, "one")

    return asyncio.run(make())


class Shell:
    """Types commands and reads what they print."""

    def __init__(self, registry: Registry, token_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.where = ("--server", registry.url, "--token-file", str(token_file))
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self.capsys.readouterr()
        assert run([*arguments, *self.where]) == code, self.capsys.readouterr()
        out, err = self.capsys.readouterr()
        return out if code in (0, 1, 2, 3) and out else err

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def shell(registry: Registry, token_file: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(registry, token_file, capsys)


def push(registry: Registry, tag: str, image: Image, *, repository: str = REPOSITORY) -> str:
    async def work() -> str:
        async with registry.client() as admin:
            return await push_image(admin, repository, tag, image)

    return asyncio.run(work())


def work_off(registry: Registry, secret: str, **members: Any) -> None:
    """Let a worker take one job and report."""

    async def work() -> None:
        headers = {"Authorization": f"Bearer {secret}"}
        async with aiohttp.ClientSession(registry.url, headers=headers) as client:
            worker = ScriptedWorker(client, "one")
            job = await worker.claim(wait_seconds=30)
            assert (await worker.report(job, **members)).status == 204

    asyncio.run(work())


def test_verdicts_are_exit_codes(registry: Registry, shell: Shell, worker_secret: str) -> None:
    for tag, code, members in (
        ("good", 0, {}),
        ("warned", 0, {"downgrades": ["seccomp"]}),
        ("bad", 1, {"met": False, "exit_code": 3}),
        ("broken", 2, make_error("layer-invalid")),
    ):
        digest = push(registry, tag, tiny_image())
        assert shell("trial", "wait", f"{REPOSITORY}:{tag}", "--timeout", "0", code=3) == "queued\n"
        work_off(registry, worker_secret, **members)
        said = shell("trial", "wait", f"{REPOSITORY}:{tag}", "--timeout", "20", code=code)
        assert said.count("\n") == 1
        assert shell("trial", "wait", f"{REPOSITORY}@{digest}", code=code) == said


def test_a_wait_ends_when_the_verdict_comes(registry: Registry, shell: Shell, worker_secret: str) -> None:
    push(registry, "awaited", tiny_image())
    later = threading.Timer(0.3, work_off, (registry, worker_secret))
    later.start()
    trial = shell.json("trial", "wait", f"{REPOSITORY}:awaited", "--timeout", "60")
    later.join()
    assert (trial["state"], trial["verdict"]) == ("done", "pass")


def test_what_nobody_can_run_needs_no_waiting(registry: Registry, shell: Shell) -> None:
    push(registry, "empty", make_index())
    said = shell("trial", "wait", f"{REPOSITORY}:empty")
    assert said == "not-applicable: nothing in it can be run\n"


def test_list_and_show(registry: Registry, shell: Shell, worker_secret: str) -> None:
    digest = push(registry, "shown", tiny_image())
    log = "".join(f"line {number}\n" for number in range(30)) + "\x1b[2Jlast\n"
    use = {
        "cpu_seconds": 1.25,
        "pids_peak": 4,
        "samples": [{"seconds": n / 10, "memory_bytes": n << 20} for n in range(8)],
        "outbound": [{"address": "192.0.2.1", "port": 80, "protocol": "tcp", "attempts": 2}],
    }
    work_off(registry, worker_secret, met=False, exit_code=3, log=log, run=use | {"limits": {"pids": 8}})
    (trial,) = shell.json("trial", "list", "--image", f"{REPOSITORY}:shown")
    assert (trial["image"], trial["digest"], trial["verdict"]) == (REPOSITORY, digest, "fail")
    assert trial["id"] in [one["id"] for one in shell.json("trial", "list")]
    assert trial["id"] in [one["id"] for one in shell.json("trial", "list", "--image", REPOSITORY)]
    whole = shell.json("trial", "show", trial["id"])
    assert whole["runs"][0]["log"] == log
    text = shell("trial", "show", trial["id"])
    assert "missed: exit code is 0; seen: exit code 3" in text
    assert "  used: processor 1.2 s; processes at most 4 of 8 (50 %)\n" in text
    assert "  memory over its time: ▁▂▃▄▅▆▇█\n" in text
    assert "  tried to reach: 192.0.2.1:80/tcp (refused, 2 times)\n" in text
    assert whole["parts"][0]["record"]["runs"][0]["outbound"][0]["attempts"] == 2
    assert "  | line 29\n" in text
    assert "  | line 9\n" not in text
    assert "\x1b" not in text
    table = shell("trial", "list", "--image", f"{REPOSITORY}:shown")
    assert table.splitlines()[0].split() == ["ID", "IMAGE", "DIGEST", "STATE", "VERDICT", "FLAKY", "REASON"]


def test_start_with_a_spec(registry: Registry, shell: Shell, worker_secret: str, tmp_path: Path) -> None:
    push(registry, "again", tiny_image())
    work_off(registry, worker_secret, met=False, exit_code=3)
    spec = tmp_path / "spec.yaml"
    spec.write_text("version: 1\nexpect: {exit: 3}\n")
    started = shell.json("trial", "start", f"{REPOSITORY}:again", "--spec", str(spec))
    assert (started["state"], started["cause"]) == ("queued", "request")
    work_off(registry, worker_secret)
    assert shell.json("trial", "wait", f"{REPOSITORY}:again")["id"] == started["id"]
    assert "seatrial trial wait" in shell("trial", "start", f"{REPOSITORY}:again")
    work_off(registry, worker_secret)


def test_start_and_wait_ends_with_that_trials_verdict(
    registry: Registry, shell: Shell, worker_secret: str
) -> None:
    push(registry, "waited", tiny_image())
    work_off(registry, worker_secret)
    start = ["trial", "start", f"{REPOSITORY}:waited", "--wait", *shell.where]
    assert run([*start, "--timeout", "0.2"]) == 3
    later = threading.Timer(1, lambda: work_off(registry, worker_secret, met=False, exit_code=3))
    later.start()
    assert run([*start, "--json"]) == 1
    later.join()
    said = shell.capsys.readouterr().out.splitlines()
    assert said[0] == "queued"
    assert json.loads("".join(said[1:]))["verdict"] == "fail"


def test_block_explain_and_unblock(
    registry: Registry, shell: Shell, worker_secret: str, tmp_path: Path
) -> None:
    image = f"{REPOSITORY}:guarded"
    push(registry, "guarded", tiny_image())
    work_off(registry, worker_secret, met=False, exit_code=3)

    async def token() -> str:
        async with registry.client() as admin:
            return await pull_token(admin)

    reader = tmp_path / "reader"
    reader.write_text(asyncio.run(token()))
    told = shell.json("gate", "explain", image)
    assert (told["state"], told["decision"]) == ("fail", "admit")
    assert run(["gate", "explain", image, *shell.where[:3], str(reader)]) == 0
    text = shell.capsys.readouterr().out
    assert "refuse" in text
    assert "the gate enforces and the state is fail" in text
    blocked = shell.json("gate", "block", image, "--reason", "holds a key")
    assert blocked == {"image": image, "blocked": True}
    assert shell.json("gate", "explain", image)["sentence"].endswith("is blocked: holds a key")
    shell("gate", "unblock", image)
    assert shell.json("gate", "explain", image)["decision"] == "admit"


def test_what_people_tell_the_gate(registry: Registry, shell: Shell, worker_secret: str) -> None:
    image = tiny_image()
    push(registry, "told", image)
    work_off(registry, worker_secret, met=False, exit_code=3)
    layer = image.layers[0].digest
    assert shell.json("gate", "block", layer, "--layer", "--in", "team/", "--dry-run")[0]["tags"] == ["told"]
    assert shell.json("signature", "tags", "team/app", "--unsigned") == []
    made = shell.json("gate", "block", layer, "--layer", "--in", "team/", "--reason", "a key")
    assert (made["on"], made["kind"], made["images"]) == ("team/", "layer", 1)
    assert layer in shell("gate", "list", "team/")
    number = str(made["id"])
    assert shell.json("gate", "unblock", number) == {"id": number, "deleted": True}
    assert shell.json("gate", "list", "team/") == []
    said = shell("gate", "block", "--package", "npm/lodash<4", "--in", "team/", "--reason", "old")
    assert "package npm/lodash<4 in team/; 0 images are there now" in said
    made = shell.json("gate", "block", "--package", "npm/lodash<4", "--reason", "old")
    assert (made["on"], made["package"], made["reason"]) == (
        ("*", "npm/lodash<4", "it holds npm/lodash<4: old")
    )
    assert "npm/lodash<4" in shell("gate", "list", "*")
    for block in shell.json("gate", "list"):
        shell("gate", "unblock", str(block["id"]))
    waiver = shell.json(
        *("waiver", "request", f"{REPOSITORY}:told", "--state", "fail", "--state", "error"),
        *("--for", "7d", "--reason", "a hotfix"),
    )
    assert (waiver["digest"], waiver["standing"]) == (image.digest, "requested")
    number = str(waiver["id"])
    assert "granted" in shell("waiver", "grant", number)
    assert [one["id"] for one in shell.json("waiver", "list", REPOSITORY)] == [waiver["id"]]
    assert "a hotfix" in shell("waiver", "show", number)
    assert shell.json("waiver", "revoke", number)["standing"] == "ended"
    assert shell.json("gate", "explain", f"{REPOSITORY}:told", "--as", "anonymous")["decision"] == "refuse"
    assert "only warn until" in shell("gate", "pause", "team/", "--for", "2h", "--reason", "late")
    assert [one["namespace"] for one in shell.json("gate", "pauses")] == ["team"]
    shell("gate", "resume", "team")
    assert "would be refused to readers" in shell("gate", "preview", REPOSITORY, "--since", "30d")
    assert shell.json("gate", "preview", "team/", "--mode", "hold") == []
    changed = shell.json("namespace", "set", "team", "--gate", "hold", "--waivers-by-two", "yes")
    assert (changed["gate"], changed["waivers_by_two"]) == ("hold", True)
    shell("namespace", "set", "team", "--gate", "default", "--waivers-by-two", "default")
    made = shell.json("schedule", "create", "team/", "--at", "02:30", "--older", "7d")
    assert (made["on"], made["at"], made["older_hours"]) == ("team/", "02:30", 168)
    assert shell.json("schedule", "create", REPOSITORY, "--every", "7d")["every_hours"] == 168
    assert [one["id"] for one in shell.json("schedule", "list", "team/")] == [made["id"]]
    assert "02:30" in shell("schedule", "list", "team/")
    assert shell.json("schedule", "delete", str(made["id"]), "--yes")["deleted"] is True
    assert shell.json("schedule", "list", "team/") == []
    caps = ("--trial-queue-max", "100", "--trial-seconds-per-hour", "3600")
    capped = shell.json("namespace", "set", "team", *caps)
    assert (capped["trial_queue_max"], capped["trial_seconds_per_hour"]) == (100, 3600)
    caps = ("--trial-queue-max", "default", "--trial-seconds-per-hour", "default")
    assert shell.json("namespace", "set", "team", *caps)["trial_queue_max"] is None
    kept = shell.json("repo", "set", REPOSITORY, "--turned-bad", "block", "--turned-bad-days", "7")
    assert (kept["turned_bad"], kept["turned_bad_days"]) == ("block", 7)
    assert shell.json("repo", "set", REPOSITORY, "--turned-bad", "default")["turned_bad"] is None
    cleared = shell.json("repo", "set", REPOSITORY, "--turned-bad-days", "default")
    assert cleared["turned_bad_days"] is None


def test_what_is_kept_of_logs(registry: Registry, data: Path, shell: Shell, worker_secret: str) -> None:
    name = "team/logs"
    push(registry, "1", tiny_image(), repository=name)
    work_off(registry, worker_secret, log="what it wrote\n")
    (trial,) = shell.json("trial", "list", name)
    shown = shell("trial", "show", trial["id"])
    assert ("| what it wrote" in shown, "no longer kept" in shown) == (True, False)
    kept = shell.json("repo", "set", name, "--trial-keep-days", "30", "--log-keep", "1KiB")
    assert (kept["trial_keep_days"], kept["log_keep_bytes"]) == (30, 1024)
    assert shell.json("repo", "set", name, "--trial-keep-days", "default")["trial_keep_days"] is None
    assert shell.json("repo", "set", name, "--log-keep", "0")["log_keep_bytes"] == 0

    async def sweep() -> int:
        database = Database(f"sqlite:///{data / 'seatrial.db'}")
        try:
            return await logkeeping.sweep(database, keep_bytes=1024)
        finally:
            await database.close()

    assert asyncio.run(sweep()) == 1
    shown = shell("trial", "show", trial["id"])
    assert ("what it wrote" in shown, "  log no longer kept\n" in shown) == (False, True)
    assert shell("trial", "log", trial["id"]) == "(log no longer kept)\n"
    assert shell.json("repo", "set", name, "--log-keep", "default")["log_keep_bytes"] is None


def test_promotions(registry: Registry, shell: Shell, worker_secret: str, tmp_path: Path) -> None:
    digest = push(registry, "promoted", tiny_image())
    source, to = f"{REPOSITORY}:promoted", "prod/app:1"
    said = shell("promote", source, to, "--dry-run", code=1)
    assert f"refused: linux/amd64 ({digest}): it is being tried" in said
    assert "is not promoted to prod/app:1" in shell("promote", source, to, code=2)
    work_off(registry, worker_secret)
    assert shell.json("promote", source, to, "--dry-run")["would"] == "promote"
    assert "it would be promoted" in shell("promote", source, to, "--dry-run")
    assert "prod/app:1 stands nowhere" in shell("promote", source, to, "--over", digest, code=2)
    made = shell.json("promote", source, to, "--reason", "release", "--over", "nowhere")
    assert (made["standing"], made["digest"]) == ("promoted", digest)
    assert f"promotion {made['id']}" in shell("tag", "history", to)
    assert [one["id"] for one in shell.json("promotion", "list", "prod/app")] == [made["id"]]
    assert "release" in shell("promotion", "show", str(made["id"]))
    assert shell.json("promote", "--undo", str(made["id"]))["standing"] == "undone"
    assert "so there is nothing to undo" in shell("promote", "--undo", str(made["id"]), code=2)
    shell("promote", source, code=64)
    shell("promote", source, to, "--undo", "1", code=64)
    assert shell.json("namespace", "set", "prod", "--promotions-by-two", "yes")["promotions_by_two"] is True
    assert "somebody else has to grant it" in shell("promote", source, to, "--dry-run", code=3)
    asked = shell.json("promote", source, to, code=3)
    number = str(asked["id"])
    assert "somebody else has to grant it" in shell("promotion", "grant", number, code=2)

    async def second() -> Path:
        async with registry.client() as admin:
            made = await api(admin, "POST", "/users", status=201, json={"name": "second", "admin": True})
        async with registry.client(made["password"], user="second") as client:
            token = await make_token(client, "repository:*:pull,push")
        path = tmp_path / "second"
        path.write_text(token["token"])
        return path

    other = ("--server", registry.url, "--token-file", str(asyncio.run(second())))
    assert run(["promotion", "grant", number, *other]) == 0
    assert shell.json("promotion", "show", number)["promoted_by"] == "second"
    last = shell.json("promote", source, "prod/app:2", code=3)
    assert shell.json("promotion", "end", str(last["id"]))["standing"] == "ended"
    shell("namespace", "set", "prod", "--promotions-by-two", "default")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("gate", "block", "sha256:" + "0" * 64, "--reason", "r"), 64),
        (("gate", "block", f"{REPOSITORY}:1", "--layer", "--reason", "r"), 64),
        (("gate", "block", "sha256:12", "--in", "team/", "--reason", "r"), 64),
        (("gate", "block", "--reason", "r"), 64),
        (("gate", "block", f"{REPOSITORY}:1", "--package", "npm/a", "--reason", "r"), 64),
        (("gate", "block", "--layer", "--package", "npm/a", "--reason", "r"), 64),
        (("gate", "block", "--package", "lodash", "--reason", "r"), 64),
        (("gate", "unblock", "999"), 2),
        (("repo", "set", REPOSITORY, "--turned-bad-days", "soon"), 64),
        (("repo", "set", REPOSITORY, "--trial-keep-days", "soon"), 64),
        (("repo", "set", REPOSITORY, "--log-keep", "much"), 64),
        (("gate", "pause", "team", "--for", "9d", "--reason", "r"), 64),
        (("gate", "pause", "team", "--for", "soon", "--reason", "r"), 64),
        (("gate", "resume", "team"), 2),
        (("gate", "preview", "no/such"), 2),
        (("gate", "preview", REPOSITORY, "--mode", "halt"), 64),
        (("waiver", "grant", "999"), 2),
        (("waiver", "request", REPOSITORY, "--state", "pass", "--for", "7d", "--reason", "r"), 64),
        (("waiver", "request", REPOSITORY, "--state", "fail", "--for", "99d", "--reason", "r"), 64),
        (("namespace", "set", "team", "--waivers-by-two", "maybe"), 64),
        (("namespace", "set", "team", "--trial-queue-max", "many"), 64),
        (("schedule", "create", "team/"), 64),
        (("schedule", "create", "team/", "--every", "90m"), 64),
        (("schedule", "create", "team/", "--at", "2:30"), 64),
        (("schedule", "create", "no/such", "--every", "24h"), 2),
        (("schedule", "delete", "999", "--yes"), 2),
        (("trial", "wait", "UPPER:1"), 64),
        (("trial", "wait", f"{REPOSITORY}:none"), 2),
        (("trial", "show", "nonsense"), 2),
        (("trial", "start", f"{REPOSITORY}:none"), 2),
        (("trial", "start", f"{REPOSITORY}:none", "--spec", "/no/such/file"), 64),
        (("gate", "explain", f"{REPOSITORY}:none"), 2),
        (("gate", "block", f"{REPOSITORY}:none", "--reason", "x"), 2),
        (("gate", "block", f"{REPOSITORY}:none"), 64),
        (("gate", "block", f"{REPOSITORY}:none", "--reason", ""), 64),
        (("trial", "wait"), 64),
    ],
)
def test_wrong_usage_and_errors(shell: Shell, arguments: tuple[str, ...], code: int) -> None:
    said = shell(*arguments, code=code)
    assert said.strip()
    assert "Traceback" not in said


def test_what_is_signed_is_verified_by_its_exit_code(
    registry: Registry, shell: Shell, token_file: Path, worker_secret: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    for tag, code, state, members in (
        ("signed-good", 0, "pass", {}),
        ("signed-bad", 1, "fail", {"met": False, "exit_code": 3}),
        ("signed-broken", 2, "error", make_error("layer-invalid")),
    ):
        digest = push(registry, tag, tiny_image())
        assert "nothing about it is signed" in shell("verify", f"{REPOSITORY}:{tag}", code=2)
        work_off(registry, worker_secret, **members)
        until_listed(
            registry, digest, lambda listed: len(listed) == 2 and all(one["signed_at"] for one in listed)
        )
        said = shell("verify", f"{REPOSITORY}:{tag}", code=code)
        assert said.splitlines()[0] == f"{REPOSITORY}@{digest}"
        assert said.splitlines()[1].startswith(f"{state}, as of 20")
        (key,) = shell("keys", "export", "--to", str(keys)).split()
        known = shell.json("verify", f"{REPOSITORY}@{digest}", "--key", key, code=code)
        assert (known["state"], known["digest"], known["refused"]) == (state, digest, [])
        file = tmp_path / f"{tag}.tar"
        told = shell.json("export", f"{REPOSITORY}:{tag}", "--with-evidence", str(file))
        assert (told["digest"], told["statements"], told["trials"]) == (digest, 2, 1)
        assert told["left_out"] == []
        # Nobody is asked.
        offline = ("--server", "http://127.0.0.1:1")
        said = shell("verify", "--bundle", str(file), "--key", key, *offline, code=code)
        assert said.splitlines()[0] == f"{REPOSITORY}@{digest}"
        assert said.splitlines()[1].startswith(f"{state}, as of 20")
        known = shell.json("verify", REPOSITORY, "--bundle", str(file), "--key", key, *offline, code=code)
        assert (known["state"], known["digest"], known["refused"]) == (state, digest, [])
        assert known["trials"][0]["verdict"] == state
    # The gate gives nobody what is blocked, and all that is said about it.
    shell("gate", "block", f"{REPOSITORY}:signed-good", "--reason", "it leaks")
    digest = shell.json("gate", "explain", f"{REPOSITORY}:signed-good")["digest"]
    until_listed(
        registry,
        digest,
        lambda listed: all(one["signed_at"] for one in listed) and listed[-1]["verdict"] == "blocked",
    )
    blocked = tmp_path / "blocked.tar"
    told = shell.json("export", f"{REPOSITORY}@{digest}", "--with-evidence", str(blocked))
    assert (told["statements"], len(told["left_out"])) == (2, 1)
    assert "it leaks" in told["left_out"][0]
    said = shell("verify", "--bundle", str(blocked), "--key", key, code=1)
    assert said.splitlines()[1].startswith("blocked")
    shell("gate", "unblock", f"{REPOSITORY}:signed-good")
    assert "cannot be written" in shell(
        "export", f"{REPOSITORY}:{tag}", "--with-evidence", str(file), code=64
    )
    assert Path(key).stem in shell("verify", "--bundle", str(file), code=64)
    assert "is about" in shell("verify", "other/app", "--bundle", str(file), "--key", key, code=2)
    # Whoever hands the file over can have written of which repository it is, and did not sign that.
    renamed = tmp_path / "renamed.tar"
    renamed.write_bytes(pack(replace(unpack(file.read_bytes()), name="prod/app")))
    said = shell("verify", "prod/app", "--bundle", str(renamed), "--key", key, code=2)
    assert f"it is about the image in {REPOSITORY}" in said
    assert "one image" in shell("verify", "--all", "--bundle", str(file), "--key", key, code=64)
    assert "no tar" in shell("verify", "--bundle", key, "--key", key, code=2)
    assert "name an image" in shell("verify", code=64)
    others = tmp_path / "other.pem"
    others.write_bytes(
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert "nothing about it is signed" in shell(
        "verify", "--bundle", str(file), "--key", str(others), code=2
    )
    distrusted = shell.json("verify", f"{REPOSITORY}@{digest}", "--key", str(others), code=2)
    assert {one["reason"] for one in distrusted["refused"]} == {"no key that is trusted here signed it"}
    assert "as the database says" in shell("verify", "--all", REPOSITORY)
    assert "does not verify" in shell("verify", "--all", REPOSITORY, "--key", str(others), code=2)
    # A newer verdict has taken the place of a statement since it was listed; or it is gone for ever.
    for times, code, said in ((1, 0, "as the database says"), (100, 2, "does not have it")):
        with forgetful(registry, times=times) as peer:
            assert said in Shell(peer, token_file, shell.capsys)("verify", "--all", REPOSITORY, code=code)
    others.write_text("no key")
    assert "holds no public key" in shell("verify", REPOSITORY, "--key", str(others), code=64)
    assert shell("keys", "export") == Path(key).read_text()
    assert [one["public_pem"] for one in shell.json("keys", "export")] == [Path(key).read_text()]
    assert "attestation" in shell("keys", "rotate", "--ring", "attestation")
    assert len(shell("keys", "export", "--to", str(keys)).split()) == 2


def attested(registry: Registry, digest: str) -> Any:
    async def work() -> Any:
        async with registry.client() as admin:
            path = f"/repositories/{REPOSITORY.replace('/', '%2F')}/attestations"
            return (await api(admin, "GET", path, params={"digest": digest}))["items"]

    return asyncio.run(work())


def until_listed(registry: Registry, digest: str, wanted: Callable[[Any], bool]) -> None:
    """Wait until what is attested of an image is as ``wanted``."""
    ends_at = time.monotonic() + 60
    while not wanted(listed := attested(registry, digest)):
        assert time.monotonic() < ends_at, listed
        time.sleep(0.05)


def test_a_history_says_what_changed(registry: Registry, shell: Shell, worker_secret: str) -> None:
    name = "team/past"
    push_to(registry, name)
    work_off(registry, worker_secret)
    shell("trial", "start", f"{name}:1")
    work_off(registry, worker_secret, met=False, runtime="other\x1b[2J 2")
    newest, oldest = shell.json("trial", "list", name)
    assert (newest["verdict"], oldest["verdict"]) == ("fail", "pass")
    assert newest["changes"]["what"] == ["verdict", "runtime", "failed"]
    assert shell.json("trial", "list", f"{name}:1", "--verdict", "pass") == [oldest]
    assert shell.json("trial", "list", f"{name}@{newest['digest']}", "--limit", "1") == [newest]
    assert shell.json("trial", "list", name, "--since", "1s", "--verdict", "error") == []
    for form, begins in (("junit", "<?xml"), ("markdown", "### "), ("sarif", "{\n"), ("json", "{\n")):
        text = shell("trial", "show", newest["id"], "--format", form)
        assert text.startswith(begins)
        assert "exit code is 0" in text
        assert "\x1b" not in text
    assert "not both" in shell("trial", "show", newest["id"], "--format", "junit", "--json", code=64)
    assert shell("trial", "log", newest["id"]) == "hello\n"
    table = shell("trial", "list", name)
    said = "was pass; runtime was scripted 1.0; fails now: linux/amd64 smoke: exit code is 0\n"
    assert table.splitlines(keepends=True)[1].endswith(said)
    assert newest["id"] in [one["id"] for one in shell.json("trial", "list", "--verdict", "fail")]
    assert "not both" in shell("trial", "list", name, "--image", name, code=64)
    assert "no time" in shell("trial", "list", name, "--since", "soon", code=64)
    assert "verdict" in shell("trial", "list", name, "--verdict", "good", code=64)


def push_to(registry: Registry, repository: str) -> None:
    async def work() -> None:
        async with registry.client() as admin:
            await push_image(admin, repository, "1", tiny_image())

    asyncio.run(work())


def test_images_of_another_registry(registry: Registry, shell: Shell, tmp_path: Path) -> None:
    push(registry, "upstreams", tiny_image())  # so that there is the namespace
    password = tmp_path / "password"
    password.write_text("for a registry elsewhere\n")
    usual = ("upstream", "add", "away", "127.0.0.1:1", "--namespace", "team", "--without-tls")
    for wrong in (
        ("--password-file", str(password)),
        ("--username", "u", "--bearer-file", str(password)),
        ("--username", "u", "--password-file", str(tmp_path / "none")),
        ("--max-size", "much"),
    ):
        assert shell(*usual, *wrong, code=64)
    named = (
        "--username",
        "ursula",
        "--password-file",
        str(password),
        "--allow",
        "lib/*",
        "--max-size",
        "1GiB",
    )
    added = shell.json(*usual, *named)
    assert (added["repositories"], added["username"], added["max_bytes"]) == (["lib/*"], "ursula", 1024**3)
    assert shell.json("upstream", "show", "away") == added
    assert shell.json("upstream", "list", "--namespace", "team") == [added]
    shown = shell("upstream", "show", "away") + shell("upstream", "list", "--namespace", "team")
    assert "127.0.0.1:1" in shown
    assert "elsewhere" not in shown + str(added)
    assert "was not added for" in shell("trial", "start", "app:1", "--upstream", "away", code=2)
    started = shell("trial", "start", "lib/app:1", "--upstream", "away")
    trial_id = started.split()[1]
    assert f"seatrial trial wait {trial_id}" in started
    said = shell("trial", "wait", trial_id, "--timeout", "60", code=2)
    assert said.startswith("error: 127.0.0.1 cannot be reached")
    assert "away/lib/app:1" in shell("trial", "show", trial_id)
    again = shell("trial", "start", "lib/app:1", "--upstream", "away", "--wait", "--timeout", "60", code=2)
    assert again == said
    shell("trial", "start", "lib/app:1", "--upstream", "away", "--follow", code=2)
    for form in ("junit", "markdown", "sarif"):
        report = shell("trial", "show", trial_id, "--format", form)
        assert "cannot be reached" in report
        assert "away/lib/app" in report
        assert form != "junit" or 'errors="1"' in report
    # By its host; and with another password, a token, or nothing.
    started = shell("trial", "start", "127.0.0.1:1/lib/app:1")
    assert "seatrial trial wait " + started.split()[1] in started
    change = ("upstream", "set", "away")
    for options, username, has_secret in (
        (("--password-file", str(password)), "ursula", True),
        (("--bearer-file", str(password)), None, True),
        (("--as-nobody",), None, False),
    ):
        changed = shell.json(*change, *options)
        assert (changed["username"], changed["has_secret"]) == (username, has_secret)
    for wrong in ((), ("--as-nobody", "--bearer-file", str(password)), ("--password-file", str(password))):
        assert shell(*change, *wrong, code=64)
    hook = ("hook", "create", "away", "--namespace", "team", "--upstream", "away")
    assert shell.json(*hook)["upstream"] == "away"
    assert "the hook away" in shell("upstream", "delete", "away", "--yes", code=2)
    shell("hook", "delete", "away", "--yes")
    assert shell.json("upstream", "delete", "away", "--yes") == {"name": "away", "deleted": True}
    assert "no upstream" in shell("upstream", "show", "away", code=2)
