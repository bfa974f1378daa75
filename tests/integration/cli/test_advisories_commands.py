"""``seatrial advisories``: a file made, added to, looked at and fetched, without a server."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from registry.advisories.file import open_advisories
from registry.advisories.matching import match
from registry.main import run
from tests.kit.advisories import Thing, affects, record
from tests.kit.certificates import Authority


def write(path: Path, *ids: str, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([record(id_, affects("npm", "a", "introduced=0"), **more) for id_ in ids]))
    return path


def found(path: Path) -> list[str]:
    with closing(open_advisories(path)) as advisories:
        return [one.id for one in match(advisories, [Thing("npm", "a", "1.0.0")])]


def asked(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """The JSON that a command prints; where it ends otherwise, what it says."""
    assert run(["advisories", *(str(one) for one in arguments)]) == code
    said = capsys.readouterr()
    return json.loads(said.out) if code == 0 else said.err


def test_a_file_is_made_added_to_and_taken_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEATRIAL_DATA", str(tmp_path / "data"))
    path = tmp_path / "data" / "advisories" / "advisories.sqlite"
    assert "there is no file of advisories at" in asked(capsys, "status", code=2)
    assert "there is no file of advisories at" in asked(capsys, "remove", "x", code=2)
    told = asked(
        capsys, "import", write(tmp_path / "one.json", "X-1"), "--licence", "CC0-1.0",
        "--as-of", "2026-01-02", "--json",
    )  # fmt: skip
    assert told["file"] == str(path)
    (source,) = told["sources"]
    assert (source["name"], source["records"], source["licence"]) == ("osv:one", 1, "CC0-1.0")
    assert source["as_of"] == "2026-01-02T00:00:00+00:00"
    assert source["age_days"] > 300
    told = asked(capsys, "import", write(tmp_path / "two.json", "X-2"), "--json")
    assert [one["name"] for one in told["sources"]] == ["osv:one", "osv:two"]
    assert found(path) == ["X-1", "X-2"]
    # For a monitor: the first is old, the second is not.
    assert run(["advisories", "status", "--max-age-days", "30"]) == 1
    shown = capsys.readouterr().out
    assert told["generation"] in shown
    assert "CC0-1.0" in shown
    told = asked(capsys, "remove", "osv:one", "--json")
    assert [one["name"] for one in told["sources"]] == ["osv:two"]
    assert run(["advisories", "status", "--max-age-days", "30"]) == 0
    assert "there is no source osv:one" in asked(capsys, "remove", "osv:one", code=2)
    # What is left out is said, and what tells of fixes only.
    text = "[25 Nov 2026] DSA-1-1 a - update\n\t{CVE-2026-1234}\n\t[bookworm] - a 1-1\n\t[sid] - a 2-1\n"
    (tmp_path / "list").write_text(text)
    assert run(["advisories", "import", "list", "--name", "dsa"]) == 0
    shown = capsys.readouterr().out
    assert "dsa: 1 skipped: a release without a number (as DSA-1-1 sid)" in shown
    assert "dsa tells of what is fixed only" in shown


def test_the_same_sources_make_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path / "one.json", "X-1"), write(tmp_path / "two.json", "X-2")
    asked(capsys, "build", tmp_path / "a.sqlite", one, two, "--json")
    asked(capsys, "build", tmp_path / "b.sqlite", two, one, "--json")
    assert (tmp_path / "a.sqlite").read_bytes() == (tmp_path / "b.sqlite").read_bytes()
    assert "is there already" in asked(capsys, "build", tmp_path / "a.sqlite", one, code=64)


def test_wrong_usage_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, one = tmp_path / "a.sqlite", write(tmp_path / "one.json", "X-1")
    two = write(tmp_path / "two.json", "X-2")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for arguments, why in (
        ((), "name a SOURCE, or an address with --from"),
        ((one, two, "--name", "x"), "--name is for one source"),
        ((one, "--name", "a\nb"), "is no name of a source"),
        ((one, "--as-of", "yesterday"), "yesterday"),
        ((one, "--ecosystem", "Nowhere"), "Nowhere is no ecosystem"),
        ((one, broken), "broken.json: broken JSON"),
        (("--from", "http://127.0.0.1/all.zip"), "is no address that begins with https://"),
        (("--from", "https://user@example.org/all.zip"), "is no address that begins with https://"),
    ):
        assert why in asked(capsys, "import", "--file", path, *arguments, code=64)
        assert not path.exists()


class Served(BaseHTTPRequestHandler):
    """Answers by path, and keeps what was asked."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        """Answer as told; 304 where nothing has changed."""
        since = self.headers.get("If-Modified-Since")
        self.asked.append((self.path, since))
        status, headers, body = self.answers[self.path]
        if since is not None and since == headers.get("Last-Modified"):
            status, body = 304, b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304 and "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    authority = Authority()
    certificate, key = authority.sign("127.0.0.1").write(tmp_path)
    (tmp_path / "authority.pem").write_bytes(authority.certificate)
    monkeypatch.setenv("SEATRIAL_CA_FILE", str(tmp_path / "authority.pem"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Served.answers.clear()
    Served.asked.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_source_is_fetched_once_and_then_only_if_it_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], site: str
) -> None:
    path = tmp_path / "a.sqlite"
    dated = {"Last-Modified": "Tue, 24 Nov 2026 00:00:00 GMT"}
    body = write(tmp_path / "one.json", "X-1").read_bytes()
    Served.answers["/npm/all.json"] = (200, dated, body)
    told = asked(capsys, "import", "--file", path, "--from", f"{site}/npm/all.json", "--json")
    (source,) = told["sources"]
    assert (source["name"], source["origin"]) == ("osv:npm", f"{site}/npm/all.json")
    assert source["as_of"] == "2026-11-24T00:00:00+00:00"
    before = path.read_bytes()
    assert run(["advisories", "import", "--file", str(path), "--from", f"{site}/npm/all.json"]) == 0
    assert f"{site}/npm/all.json has not changed." in capsys.readouterr().out
    assert path.read_bytes() == before
    assert Served.asked == [("/npm/all.json", None), ("/npm/all.json", dated["Last-Modified"])]


def test_what_cannot_be_fetched_leaves_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.sqlite"
    asked(capsys, "import", "--file", path, write(tmp_path / "one.json", "X-1"), "--json")
    before = path.read_bytes()
    Served.answers |= {
        "/missing": (404, {}, b""),
        "/busy": (429, {"Retry-After": "120"}, b""),
        "/plain": (302, {"Location": "http://127.0.0.1:1/all.zip"}, b""),
        "/short": (200, {"Content-Length": "1000"}, b"half"),
        "/html": (200, {}, b"<html>sign in</html>"),
    }
    for name, why in {
        "missing": "answers 404 Not Found",
        "busy": "answers 429 Too Many Requests; it asks to wait 120",
        "plain": "leads to http://127.0.0.1:1/all.zip, which is no https",
        "short": "cannot be fetched|broke off after 4 of 1000 bytes",
        "html": "holds nothing of a kind that is known here",
    }.items():
        assert run(["advisories", "import", "--file", str(path), "--from", f"{site}/{name}"]) in (2, 64)
        said = capsys.readouterr().err
        assert any(part in said for part in why.split("|")), said
        assert path.read_bytes() == before
    monkeypatch.setattr("registry.cli.advisories.MAX_DOWNLOAD_BYTES", 10)
    assert "has more than 10 bytes" in asked(
        capsys, "import", "--file", path, "--from", f"{site}/html", code=2
    )
    monkeypatch.delenv("SEATRIAL_CA_FILE")
    refused = asked(capsys, "import", "--file", path, "--from", f"{site}/html", code=2)
    assert "certificate verify failed" in refused
