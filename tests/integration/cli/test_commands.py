"""The commands against a running server: shapes and exit codes that scripts rely on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from alembic.script import ScriptDirectory

from registry.db.migrate import alembic_config
from registry.main import run
from tests.kit.access import basic
from tests.kit.clients import ClientError, client_home
from tests.kit.distribution import push_small
from tests.kit.server import Registry, RegistryProcess
from tests.kit.warm import run_seatrial

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def seatrial(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = "") -> Done:
    """Run one command in this process, as a person would type it in ``cwd``, with no other settings."""
    out, err = io.StringIO(), io.StringIO()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEATRIAL_")}
    umask = os.umask(0o022)
    try:
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.dict(os.environ, kept | dict(env or {}), clear=True),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        ):
            code = run(list(arguments))
    finally:
        os.umask(umask)
    return Done(code, out.getvalue(), err.getvalue())


def started(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """Run one command as a process of its own."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ended = run_seatrial(*arguments, environment=inherited | dict(env or {}), folder=cwd)
    return Done(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    server = RegistryProcess(tmp_path_factory.mktemp("server") / "data")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def registry(process: RegistryProcess) -> Registry:
    port = process.log.read_text().split("http://127.0.0.1:")[1].split()[0]
    return Registry(f"127.0.0.1:{port}", (process.data / "admin.token").read_text().strip())


@pytest.fixture
def here(process: RegistryProcess) -> Path:
    """Where commands are typed: beside the data folder, so that they find the token by themselves."""
    return process.data.parent


def done(*arguments: str, registry: Registry, here: Path, **options: Any) -> str:
    found = seatrial(*arguments, cwd=here, env={"SEATRIAL_SERVER": registry.url}, **options)
    assert found.returncode == 0, found.stderr
    return found.stdout


def shown(*arguments: str, registry: Registry, here: Path) -> Any:
    return json.loads(done(*arguments, "--json", registry=registry, here=here))


def refused(
    *arguments: str, registry: Registry, here: Path, code: int = 2, env: Mapping[str, str] | None = None
) -> str:
    found = seatrial(*arguments, cwd=here, env={"SEATRIAL_SERVER": registry.url, **(env or {})})
    assert found.returncode == code, (found.returncode, found.stdout, found.stderr)
    assert not found.stdout
    assert found.stderr.startswith("seatrial: ")
    assert found.stderr.count("\n") == 1
    return found.stderr


def test_a_token_for_a_pipeline(registry: Registry, here: Path) -> None:
    words = ("--name", "ci", "--scope", "repository:team/app:pull", "--expires", "1h")
    made = shown("token", "create", *words, registry=registry, here=here)
    assert set(made) == {"id", "token", "scopes", "expires_at"}
    assert made["scopes"] == ["repository:team/app:pull"]
    plain = started("token", "create", *words, cwd=here, env={"SEATRIAL_SERVER": registry.url})
    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout.startswith("seatrial_")
    assert plain.stdout.count("\n") == 1
    listed = shown("token", "list", registry=registry, here=here)
    assert made["id"] in {token["id"] for token in listed}
    done("token", "revoke", made["id"], registry=registry, here=here)
    table = done("token", "list", registry=registry, here=here)
    assert table.splitlines()[0].split()[:2] == ["ID", "NAME"]
    assert "no token 'x'" in refused("token", "revoke", "x", registry=registry, here=here)
    (here / "revoked").write_text(made["token"])
    said = refused("token", "list", "--token-file", "revoked", registry=registry, here=here)
    assert "not valid" in said


def test_the_token_in_the_environment(registry: Registry, here: Path, tmp_path: Path) -> None:
    for value in (registry.token, str(here / "data" / "admin.token")):
        env = {"SEATRIAL_SERVER": registry.host, "SEATRIAL_TOKEN": value}
        assert seatrial("repo", "list", cwd=tmp_path, env=env).returncode == 0
    # Without one, what everybody may see, and a hint where that is not enough.
    assert seatrial("repo", "list", cwd=tmp_path, env={"SEATRIAL_SERVER": registry.url}).returncode == 0
    said = refused("user", "list", registry=registry, here=tmp_path)
    assert said == (
        "seatrial: sign in; give a token with --token-file or SEATRIAL_TOKEN, or sign in: seatrial login\n"
    )


def test_repositories(registry: Registry, here: Path) -> None:
    made = shown("repo", "create", "cli/app", "--visibility", "internal", registry=registry, here=here)
    assert made["visibility"] == "internal"
    (here / "spec.yaml").write_text("version: 1\nexpect:\n  exit: 0\n")
    options = ("--gate", "enforce", "--image-spec", "--no-trial-on-push", "--run-spec", "spec.yaml")
    changed = shown("repo", "set", "cli/app", *options, registry=registry, here=here)
    assert changed["gate"] == "enforce"
    assert changed["image_spec_allowed"] is True
    assert changed["trial_on_push"] is False
    assert changed["run_spec"] == {"version": 1, "expect": {"exit": 0}}
    assert (
        shown("repo", "set", "cli/app", "--run-spec", "none", registry=registry, here=here)["run_spec"]
        is None
    )
    for given, patterns in (("v*,stable", ["v*", "stable"]), ("*", None)):
        options = ("--trial-tags", given)
        set_so = shown("repo", "set", "cli/app", *options, registry=registry, here=here)
        assert set_so["trial_tags"] == patterns
    assert "gate" in done("repo", "show", "cli/app", registry=registry, here=here)
    assert "cli/app" in done("repo", "list", registry=registry, here=here)
    assert shown("repo", "set", "cli/app", "--gate", "hold", registry=registry, here=here)["gate"] == "hold"
    said = refused("repo", "set", "cli/app", "--gate", "halt", registry=registry, here=here, code=64)
    assert "gate: Input should be 'off', 'warn', 'enforce' or 'hold'" in said
    refused("repo", "create", "cli/app", registry=registry, here=here)
    refused("repo", "create", "CLI", registry=registry, here=here, code=64)
    asked = seatrial(
        "repo", "delete", "cli/app", cwd=here, env={"SEATRIAL_SERVER": registry.url}, stdin="n\n"
    )
    assert asked.returncode == 130
    done("repo", "delete", "cli/app", "--yes", registry=registry, here=here)
    assert "there is no repository cli/app" in refused(
        "repo", "show", "cli/app", registry=registry, here=here
    )


async def test_tags(registry: Registry, here: Path) -> None:
    async with registry.client() as client:
        one = await push_small(client, "cli/tags", "1", annotations={"n": "1"})
        two = await push_small(client, "cli/tags", "1", annotations={"n": "2"})
    tag = "cli/tags:1"
    (listed,) = shown("tag", "list", "cli/tags", registry=registry, here=here)
    assert listed["digest"] == two
    assert [move["new_digest"] for move in shown("tag", "history", tag, registry=registry, here=here)] == [
        two,
        one,
    ]
    assert shown("tag", "rollback", tag, registry=registry, here=here)["digest"] == one
    back = ("tag", "rollback", tag, "--to", two, "--from")
    assert f"stands at {one}, and not at {two}" in refused(*back, two, registry=registry, here=here)
    assert shown(*back, one, registry=registry, here=here)["digest"] == two
    assert two in done("tag", "show", tag, registry=registry, here=here)
    done("tag", "delete", tag, registry=registry, here=here)
    assert "there is no tag 1" in refused("tag", "show", tag, registry=registry, here=here)
    assert "delete" in done("tag", "history", tag, registry=registry, here=here)
    (gone,) = shown("tag", "list", "cli/tags", "--deleted", registry=registry, here=here)
    assert (gone["name"], gone["is_there"]) == ("1", True)
    refused_at = refused(
        "tag", "list", "cli/tags", "--deleted", "--name", "a", registry=registry, here=here, code=64
    )
    assert "--deleted takes nothing else" in refused_at
    tried = done("tag", "restore", tag, "--dry-run", registry=registry, here=here)
    assert tried.startswith("nothing was changed")
    why = ("--reason", "by mistake")
    assert shown("tag", "restore", tag, *why, registry=registry, here=here)["digest"] == two
    (last, *_) = shown("tag", "history", tag, registry=registry, here=here)
    assert (last["action"], last["reason"], last["address"]) == ("restore", "by mistake", "127.0.0.1")
    assert shown("tag", "show", tag, "--at", last["at"], registry=registry, here=here)["digest"] == two
    assert "begins on" in refused("tag", "show", tag, "--at", "99d", registry=registry, here=here)
    assert shown("tag", "copy", tag, "1.10", registry=registry, here=here)["name"] == "1.10"
    late = refused("tag", "move", tag, one, "--from", one, registry=registry, here=here)
    assert f"stands at {two}, and not at {one}" in late
    assert shown("tag", "move", tag, one, "--from", two, registry=registry, here=here)["digest"] == one
    found = shown(
        "tag", "list", "cli/tags", "--order", "version", "--limit", "1", registry=registry, here=here
    )
    assert [each["name"] for each in found] == ["1.10"]
    assert "nothing was changed" in done("tag", "delete", tag, "--dry-run", registry=registry, here=here)


async def test_tags_that_stand_for_good(registry: Registry, here: Path) -> None:
    async with registry.client() as client:
        await push_small(client, "good/tags", "1", annotations={"n": "1"})
        await push_small(client, "good/tags", "1", annotations={"n": "2"})
    tag = "good/tags:1"
    made = shown("tag", "protect", tag, "--reason", "shipped", registry=registry, here=here)
    assert (made["on"], made["by"], made["pattern"], made["reason"]) == (
        "good/tags",
        "glob",
        "1",
        "shipped",
    )
    assert "is immutable by rule" in refused("tag", "rollback", tag, registry=registry, here=here)
    done("tag", "protect", tag, "--off", registry=registry, here=here)
    assert "has no rule for 1 alone" in refused(
        "tag", "protect", tag, "--off", registry=registry, here=here, code=64
    )
    done("tag", "rollback", tag, registry=registry, here=here)
    versions = ("--semver", ">=1", "--except", "1.9*", "--except", "regex=.*-rc")
    assert "glob=1.9*, regex=.*-rc" in done(
        "tag", "add-rule", "good/", *versions, registry=registry, here=here
    )
    (rule,) = shown("tag", "rules", "good/", registry=registry, here=here)
    assert shown("tag", "rules", tag, registry=registry, here=here) == [rule]
    assert shown("tag", "rules", "good/tags:1.9", registry=registry, here=here) == []
    assert "is immutable by rule" in refused("tag", "delete", tag, registry=registry, here=here)
    assert "by one of" in refused("tag", "add-rule", "good/", registry=registry, here=here, code=64)
    done("tag", "delete-rule", str(rule["id"]), "--yes", registry=registry, here=here)
    assert shown("tag", "rules", "good/", registry=registry, here=here) == []
    done("tag", "delete", tag, registry=registry, here=here)


async def test_retention(registry: Registry, here: Path) -> None:
    """Seen before, carried out, and undone, as a person types it."""
    on = "kept/images"
    async with registry.client() as client:
        for tag in ("1.0", "1.1", "2.0", "dev", "latest"):
            await push_small(client, on, tag, annotations={"tag": tag})
    rules = ("--keep", "semver=*,last=2,order=version", "--keep", "latest", "--untagged", "14d")
    said = done("retention", "preview", on, *rules, registry=registry, here=here)
    assert "no rule is about its name" in said
    assert said.endswith("kept/images: 2 of 5 tags and 0 of 5 manifests would go\n")
    assert "no retention policy counts" in refused(
        "retention", "run", on, "--yes", registry=registry, here=here
    )
    made = shown("retention", "set", "kept/", *rules, "--at", "02:30", registry=registry, here=here)
    assert (made["on"], made["policy"]["untagged_days"], made["policy"]["cap"]) == ("kept/", 14, 1000)
    assert shown("retention", "list", on, registry=registry, here=here) == [made]
    assert "semver=*,last=2,order=version, latest" in done(
        "retention", "show", on, registry=registry, here=here
    )
    (found,) = shown("retention", "preview", on, "--staying", registry=registry, here=here)
    assert {item["tag"] for item in found["items"] if item["goes"]} == {"1.0", "dev"}
    stopped = seatrial(
        *("retention", "run", on, "--yes", "--cap", "1", "--json"),
        cwd=here,
        env={"SEATRIAL_SERVER": registry.url},
    )
    assert stopped.returncode == 2
    (run,) = json.loads(stopped.stdout)["items"]
    assert run["detail"] == "it would delete 2 tags and 0 manifests; 1 together are the most"
    run_now = ("retention", "run", on, "--yes")
    other = "0" * 32
    assert "not what was looked at any more" in refused(
        *run_now, "--policies", other, registry=registry, here=here
    )
    said = done("retention", "preview", on, registry=registry, here=here)
    assert f"seatrial retention run {on} --policies {found['policies']} " in said
    (run,) = shown(*run_now, "--policies", found["policies"], registry=registry, here=here)["items"]
    assert (run["outcome"], run["tags_deleted"]) == ("done", 2)
    number = str(run["id"])
    history = shown("retention", "history", "kept/", registry=registry, here=here)
    assert [one["outcome"] for one in history] == ["done", "stopped"]
    deleted = shown("retention", "deleted", number, registry=registry, here=here)
    assert {one["tag"] for one in deleted} == {"1.0", "dev"}
    assert "2 restored, 0 not" in done("retention", "undo", number, registry=registry, here=here)
    assert len(shown("tag", "list", on, registry=registry, here=here)) == 5
    done("retention", "delete", "kept/", "--yes", registry=registry, here=here)
    for wrong in (("last=x",), ("last=1,last=2",), ("pulled=12h",), ("other=1",)):
        given = ("retention", "set", on, "--keep", *wrong)
        refused(*given, registry=registry, here=here, code=64)


def test_secrets_of_run_specs(registry: Registry, here: Path) -> None:
    done("repo", "create", "kept/app", registry=registry, here=here)
    (here / "value").write_text("not for anybody\n")
    at = ("--repository", "kept/app")
    made = shown("secret", "create", "DB", *at, "--value-file", "value", registry=registry, here=here)
    assert (made["name"], made["place"], made["rotated_at"]) == ("DB", "kept/app", None)
    said = done("secret", "create", "DB", "--namespace", "kept", "--value-file", "-", stdin="another one\n",
                registry=registry, here=here)  # fmt: skip
    assert "kept/" in said
    listed = shown("secret", "list", *at, registry=registry, here=here)
    assert [(one["id"], one["name"]) for one in listed] == [(made["id"], "DB")]
    done("secret", "rotate", "DB", *at, "--value-file", "value", registry=registry, here=here)
    table = done("secret", "list", *at, registry=registry, here=here)
    assert table.splitlines()[0].split() == [
        "NAME",
        "PLACE",
        "USED",
        "BY",
        "CREATED",
        "BY",
        "CREATED",
        "AT",
        "ROTATED",
        "AT",
    ]
    assert "not for anybody" not in table + json.dumps([made, listed])
    (here / "names-it.yaml").write_text("version: 1\nenv: {A: {secret: DB}}\n")
    done("repo", "set", "kept/app", "--run-spec", "names-it.yaml", registry=registry, here=here)
    (named,) = shown("secret", "list", *at, registry=registry, here=here)
    assert (named["used_by"], named["used_by_all"]) == (["kept/app"], True)
    row = done("secret", "list", *at, registry=registry, here=here).splitlines()[1]
    assert row.split()[:3] == ["DB", "kept/app", "kept/app"]
    (here / "short").write_text("1234567")
    for words, code, why in (
        (("create", "DB", *at, "--value-file", "value"), 2, "already"),
        (("create", "X", *at, "--value-file", "short"), 64, "has 7 bytes"),
        (("create", "X", *at, "--value-file", "none"), 64, "cannot be read"),
        (("create", "X", *at), 64, "--value-file"),
        (("create", "X", "--value-file", "value"), 64, "give --repository or --namespace"),
        (("rotate", "X", *at, "--value-file", "value"), 2, "no secret 'X' of kept/app"),
        (("delete", "X", *at, "--yes"), 2, "no secret 'X' of kept/app"),
    ):
        assert why in refused("secret", *words, registry=registry, here=here, code=code)
    gone = shown("secret", "delete", "DB", *at, "--yes", registry=registry, here=here)
    assert gone == {"name": "DB", "place": "kept/app", "deleted": True}
    assert shown("secret", "list", *at, registry=registry, here=here) == []


def test_users_and_their_offline_reset(registry: Registry, here: Path, process: RegistryProcess) -> None:
    password = done("user", "create", "bob", registry=registry, here=here).strip()
    (here / "password").write_text("a password of hers\n")
    done("user", "create", "eve", "--admin", "--password-file", "password", registry=registry, here=here)
    names = {user["name"]: user["admin"] for user in shown("user", "list", registry=registry, here=here)}
    assert names == {"admin": True, "bob": False, "eve": True}
    done("user", "disable", "bob", registry=registry, here=here)
    data = ("--data", str(process.data))
    found = seatrial("user", "reset", "bob", *data, "--json", cwd=here)
    assert found.returncode == 0, found.stderr
    renewed = json.loads(found.stdout)["password"]
    assert renewed != password
    with client_home() as clients:
        for secret, works in ((renewed, True), (password, False)):
            login = ("login", "--tls-verify=false", "--username", "bob", "--password-stdin", registry.host)
            if works:
                clients.podman(*login, stdin=secret)
            else:
                with pytest.raises(ClientError, match="invalid username/password"):
                    clients.podman(*login, stdin=secret)
    assert seatrial("user", "reset", "nobody", *data, cwd=here).returncode == 2
    for command in (("user", "reset", "bob"), ("db", "check")):
        refused = seatrial(*command, "--data", "empty", cwd=here)
        assert (refused.returncode, "--data names" in refused.stderr) == (2, True)
        assert not (here / "empty").exists()


def test_revoking_everything_asks(registry: Registry, here: Path) -> None:
    done("user", "create", "kim", registry=registry, here=here)
    made = ("--account", "kim", "--name", "x", "--scope", "repository:team/app:pull", "--json")
    done("token", "create", *made, registry=registry, here=here)
    every = ("token", "revoke-all", "--account", "kim")
    asked = seatrial(*every, cwd=here, env={"SEATRIAL_SERVER": registry.url})
    assert (asked.returncode, "give --yes" in asked.stderr) == (64, True)
    said_no = seatrial(*every, cwd=here, env={"SEATRIAL_SERVER": registry.url}, stdin="n\n")
    assert (said_no.returncode, "give --yes" in said_no.stderr) == (130, False)
    assert "no time" in refused(*every, "--before", "x", "--yes", registry=registry, here=here, code=64)
    assert "0 tokens" in done(*every, "--before", "1d", "--yes", registry=registry, here=here)
    assert "1 tokens" in done(*every, "--yes", registry=registry, here=here)


def test_workers_and_theirs(registry: Registry, here: Path) -> None:
    made = shown("token", "create", "--worker", "w1", registry=registry, here=here)
    assert made["scopes"] == ["worker"]
    assert made["expires_at"] is None
    done("worker", "drain", "w1", registry=registry, here=here)
    (worker,) = shown("worker", "list", registry=registry, here=here)
    assert worker["drain_at"] is not None
    listed = done("worker", "list", registry=registry, here=here)
    assert listed.splitlines()[0].split() == (
        ["NAME", "PLATFORMS", "ADDRESS", "LAST", "SEEN", "AT", "ROOM", "DRAIN", "AT", "REVOKED", "AT"]
    )
    done("worker", "drain", "w1", "--undo", registry=registry, here=here)
    done("worker", "revoke", "w1", registry=registry, here=here)
    (worker,) = shown("worker", "list", registry=registry, here=here)
    assert worker["revoked_at"] is not None
    refused("worker", "drain", "w2", registry=registry, here=here)


def test_the_database(process: RegistryProcess, here: Path, tmp_path: Path) -> None:
    data = ("--data", str(process.data))
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    found = seatrial("db", "check", *data, "--json", cwd=here)
    assert found.returncode == 0
    assert json.loads(found.stdout) == {"current": head, "newest": head}
    new = ("--data", str(tmp_path / "new"))
    assert seatrial("db", "check", *new, cwd=here).returncode == 2
    assert not (tmp_path / "new" / "seatrial.db").exists()
    made = seatrial("db", "upgrade", *new, "--json", cwd=here)
    assert json.loads(made.stdout) == {"before": None, "after": head, "backup": None}
    assert seatrial("db", "check", *new, cwd=here).returncode == 0


def test_the_administrator_can_be_let_in_again(tmp_path: Path) -> None:
    """On a server of its own: the token that the others use would end."""
    server = RegistryProcess(tmp_path / "data")
    try:
        registry = server.start()
        with client_home() as clients:
            login = ("login", "--tls-verify=false", "--username", "admin", "--password-stdin", registry.host)
            clients.podman(*login, stdin=registry.token)
            found = seatrial("user", "reset", "admin", "--data", str(server.data), cwd=tmp_path)
            assert found.returncode == 0, found.stderr
            renewed = (server.data / "admin.token").read_text().strip()
            assert renewed != registry.token
            with pytest.raises(ClientError, match="invalid username/password"):
                clients.podman(*login, stdin=registry.token)
            clients.podman(*login, stdin=renewed)
        assert basic("x", renewed)["Authorization"] not in server.log.read_text()
        assert registry.token not in server.log.read_text()
    finally:
        server.stop()


def test_what_stops_a_start(process: RegistryProcess, registry: Registry, tmp_path: Path) -> None:
    used = registry.host
    for arguments, env, code, said in (
        (("--listen", used), {}, 64, f"listen: {used} cannot be used"),
        ((), {"SEATRIAL_DATABASE_URL": "mysql://u:topsecret@h/d"}, 64, "database_url: must be sqlite"),
        ((), {"SEATRIAL_DATABASE_URL": "postgresql://u:topsecret/d"}, 64, "database_url: cannot be read"),
        (
            (),
            {"SEATRIAL_DATABASE_URL": "postgresql://u:topsecret@127.0.0.1:1/d"},
            64,
            "database_url: the database cannot",
        ),
        ((), {"SEATRIAL_STORAGE_URL": "ftp://bucket"}, 64, "storage_url: must be file:///FOLDER"),
        ((), {"SEATRIAL_SECRET_KEY_FILE": "/none"}, 64, "secret_key_file: /none cannot be read"),
        (("--data", "/proc/none"), {}, 64, "data: /proc/none cannot be made"),
    ):
        where = arguments if "--data" in arguments else ("--data", str(tmp_path / "data"), *arguments)
        found = started("serve", *where, cwd=tmp_path, env={"SEATRIAL_LISTEN": "127.0.0.1:0", **env})
        assert found.returncode == code, (arguments, found.stderr)
        assert said in found.stderr, found.stderr
        assert "topsecret" not in found.stderr
        assert "Traceback" not in found.stderr
