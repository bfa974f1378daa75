"""``seatrial spec``: checked, begun and explained, with places, exit codes and JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.contract.examples import EXAMPLES
from registry.contract.specfile import parse_run_spec
from registry.main import run
from tests.kit.images import busybox_image, write_layout

WRONG = "version: 1\nexpect:\n  htpp: [{port: 80}]\n  exit: 300\n"


def spec(*arguments: str) -> int:
    return run(["spec", *arguments])


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, wrong = tmp_path / "good.yaml", tmp_path / "wrong.yaml"
    good.write_text("version: 1\nchecks: [starts, restricted]\n")
    wrong.write_text(WRONG)
    assert spec("check", str(good)) == 0
    assert capsys.readouterr().out.startswith("valid: 2 cases, sha256:")
    assert spec("check", str(good), "--json") == 0
    document = said(capsys)
    assert (document["valid"], document["problems"], document["digest"][:7]) == (True, [], "sha256:")
    assert spec("check", str(wrong)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"{wrong}:3:3: expect.htpp: there is no such key; did you mean 'http'?",
        f"{wrong}:4:9: expect.exit: an exit code is a number from 0 to 255, or 'nonzero'",
    ]
    assert spec("check", str(wrong), "--json") == 1
    first = said(capsys)["problems"][0]
    assert (first["path"], first["line"], first["column"]) == ("expect.htpp", 3, 3)


def test_the_scan_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone, mixed = tmp_path / "alone.yaml", tmp_path / "mixed.yaml"
    alone.write_text("version: 1\nchecks: [scan]\n")
    mixed.write_text("version: 1\nchecks: [scan]\nexpect: {exit: 0}\n")
    assert spec("check", str(alone)) == 0
    assert capsys.readouterr().out.startswith("valid: the scan alone, sha256:")
    assert spec("explain", str(alone)) == 0
    assert "nothing of it is run" in capsys.readouterr().out
    assert spec("check", str(mixed)) == 1
    assert "nothing can stand beside it: leave out expect, or that check" in capsys.readouterr().err


def test_standard_input_and_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for raw, code in ((b"version: 1\n", 0), (b"a: [", 1), (b"\xff", 64), (b"# " + b"x" * 70_000, 1)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert spec("check", "-") == code, raw[:20]
    assert spec("check", str(tmp_path / "none")) == 64
    assert spec("check") == 64
    assert spec("init") == 64
    assert spec("init", "--example", "none") == 64
    assert spec("init", "oci:x", "--example", "jvm") == 64
    assert spec("init", f"oci:{tmp_path / 'none'}") == 2
    assert "none" in capsys.readouterr().err


def test_what_an_image_says_of_itself_and_examples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = busybox_image(
        ["-p", "80"],
        entrypoint=["/bin/httpd"],
        ports=["80/tcp"],
        user="app\n",
        healthcheck=["CMD", "/bin/true"],
    )
    write_layout(tmp_path / "layout", image)
    assert spec("init", f"oci:{tmp_path / 'layout'}") == 0
    text = capsys.readouterr().out
    made = parse_run_spec(text)
    assert (made.expect.healthcheck, [one.port for one in made.expect.tcp]) == (True, [80])
    assert '# command: ["/bin/httpd", "-p", "80"]' in text
    assert '# user: "app\\n" ' in text
    for name, example in EXAMPLES.items():
        assert spec("init", "--example", name, "--json") == 0
        assert said(capsys)["spec"] == example.spec


def test_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_layout(
        tmp_path / "layout", busybox_image(["-p", "80"], entrypoint=["/bin/httpd"], ports=["80/tcp"])
    )
    file = tmp_path / "spec.yaml"
    file.write_text("version: 1\nattempts: 2\nchecks: [starts, restricted, version-only]\n")
    assert spec("explain", str(file), "--json") == 0
    starts, restricted, version = said(capsys)["cases"]
    assert starts["tested"].startswith("what the image suggests: its HEALTHCHECK")
    assert (starts["attempts"], starts["pass"], starts["user"]) == (2, "any", None)
    assert (restricted["user"], restricted["profile"], restricted["read_only"]) == (
        "random",
        "restricted",
        True,
    )
    assert "OpenShift" in restricted["meaning"]
    assert version["command"] == ["(the image's own command)", "--version"]
    assert spec("explain", str(file), "--image", f"oci:{tmp_path / 'layout'}", "--json") == 0
    starts, _, version = said(capsys)["cases"]
    assert starts["tested"] == "TCP port 80 accepts within 5 s"
    assert version["command"] == ["/bin/httpd", "--version"]
    assert spec("explain", str(file)) == 0
    shown = capsys.readouterr().out
    assert "restricted: what the image suggests" in shown
    assert "  check: it does so as a random user of group 0" in shown
    file.write_text(WRONG)
    assert spec("explain", str(file)) == 1
    assert "did you mean 'http'" in capsys.readouterr().err
    file.write_text("version: 1\nservices: [{name: db, image: base/db, ready: {tcp: 5432}}]\n")
    assert spec("explain", str(file)) == 0
    assert "db from base/db, ready when TCP port 5432 accepts, within 60 s" in capsys.readouterr().out
