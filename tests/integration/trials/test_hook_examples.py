"""The examples of docs/hooks.md, run: scripts of CI jobs, and messages as GitHub and GitLab sign them."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.kit.access import api
from tests.kit.sources import ROOT
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image

PAGE = (ROOT / "docs" / "hooks.md").read_text()
FOLDER = ROOT / "docs" / "examples" / "hooks"
TAG = "1.0"


@pytest.fixture
async def port(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Port]:
    path = tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    async with open_port(tmp_path / "data", f"sqlite:///{path}") as opened:
        yield opened


async def make_hook(port: Port, name: str) -> str:
    """As the page says; its secret."""
    (line,) = re.findall(rf"`seatrial hook create ({name} .*?)`", PAGE)
    _, *given = shlex.split(line)
    body: dict[str, Any] = {"name": name}
    for option, value in zip(given[::2], given[1::2], strict=True):
        if option == "--map":
            member, _, pointer = value.partition("=")
            body.setdefault("mapping", {})[member] = pointer
        else:
            body[option.removeprefix("--")] = value
    made = await api(port.admin, "POST", "/hooks", status=201, json=body)
    return str(made["secret"])


async def run(program: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """A job's script, with what CI gives it."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        program,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


def load(name: str) -> Any:
    # `on` is a word of GitHub's, and true in YAML 1.1.
    return yaml.load((FOLDER / name).read_text(), Loader=yaml.BaseLoader)


async def test_jobs_of_ci_ask_for_trials(port: Port, tmp_path: Path) -> None:
    digest = await port.push(tiny_image(), tag=TAG)
    url, answer = f"{port.registry.url}/hooks", tmp_path / "answer"
    step = load("github-actions.yaml")["jobs"]["try"]["steps"][0]
    gitlab = load("gitlab-ci.yaml")["try-image"]
    tekton = load("tekton-task.yaml")["spec"]["steps"][0]
    jobs: dict[str, tuple[str, dict[str, str], set[str]]] = {
        "github-actions": (
            step["run"],
            {"IMAGE": f"{REPOSITORY}:{TAG}", "MESSAGE_ID": "7-1", "HOOK_URL": f"{url}/github-actions"},
            {*step["env"]},
        ),
        "gitlab-ci": (
            gitlab["script"][0],
            {"CI_COMMIT_TAG": TAG, "CI_JOB_ID": "9", "HOOK_URL": f"{url}/gitlab-ci"},
            {*gitlab["variables"], "CI_COMMIT_TAG", "CI_JOB_ID", "SEATRIAL_HOOK_SECRET"},
        ),
        "tekton": (
            tekton["script"],
            {"IMAGE": f"{REPOSITORY}:{TAG}", "RUN": "u", "ANSWER": str(answer), "HOOK_URL": f"{url}/tekton"},
            {each["name"] for each in tekton["env"]},
        ),
    }
    for count, (name, (program, given, named)) in enumerate(jobs.items(), 1):
        secret = await make_hook(port, name)
        secret_name = "SEATRIAL_HOOK_SECRET" if name == "gitlab-ci" else "HOOK_SECRET"
        environment = {**given, secret_name: secret}
        assert set(environment) == named, name
        status, printed = await run(program, environment)
        assert status == 0, (name, printed)
        told = json.loads(answer.read_text() if name == "tekton" else printed)
        assert told["repeated"] is False, name
        # That of the push is the first.
        assert len(await port.trials(digest)) == count + 1
        status, printed = await run(program, {**environment, secret_name: f"whsec_{'A' * 32}"})
        assert status != 0, name
        assert secret not in printed


async def test_messages_of_github_and_gitlab(port: Port) -> None:
    digest = await port.push(tiny_image(), tag=TAG)
    async with aiohttp.ClientSession(port.registry.url) as nobody:
        for count, name in enumerate(("github", "gitlab"), 1):
            secret, body = await make_hook(port, name), (FOLDER / f"{name}-release.json").read_bytes()
            signature = hmac.digest(secret.encode(), body, "sha256").hex()
            headers = {
                "github": {
                    "User-Agent": "GitHub-Hookshot/044aadd",
                    "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
                    "X-GitHub-Event": "release",
                    "X-Hub-Signature-256": f"sha256={signature}",
                },
                "gitlab": {
                    "User-Agent": "GitLab/18.4.0",
                    "X-Gitlab-Event": "Release Hook",
                    "X-Gitlab-Event-UUID": "7e4d1a2b-0c0f-4a07-a47f-ffdbd7de4a3f",
                    "X-Gitlab-Token": secret,
                },
            }
            sent = {"Content-Type": "application/json", **headers[name]}
            async with nobody.post(f"/hooks/{name}", data=body, headers=sent) as response:
                assert response.status == 202, await response.text()
                assert (await response.json())["repeated"] is False
            assert len(await port.trials(digest)) == count + 1
            ping = b'{"zen": "Keep it logically awesome.", "hook_id": 1}'
            signed = {"X-Hub-Signature-256": f"sha256={hmac.digest(secret.encode(), ping, 'sha256').hex()}"}
            async with nobody.post(f"/hooks/{name}", data=ping, headers={**sent, **signed}) as response:
                assert response.status == 400
