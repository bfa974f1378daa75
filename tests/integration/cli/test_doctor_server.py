"""``seatrial doctor --server`` against a registry behind nginx, which is configured wrongly in each way."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from registry.cli import examining
from registry.cli.examining import Examination, _clock
from registry.cli.findings import Finding
from registry.cli.wire import Answer
from tests.kit.certificates import Authority
from tests.kit.ports import free_port
from tests.kit.proxies import running_nginx
from tests.kit.server import RegistryProcess
from tests.kit.warm import run_seatrial

REPOSITORY = "team/app"


@dataclass(frozen=True, slots=True)
class Wrong:
    """One server of nginx's: what is changed in the good one, and what is found."""

    finding: str | None
    says: str = ""
    fix: str = ""
    changes: dict[str, str] = field(default_factory=dict)
    certificate: str = "good"
    site: str = ""


SITE = """
server {
    listen 127.0.0.1:@PORT@ ssl;
    ssl_certificate @CERTIFICATE@;
    ssl_certificate_key @KEY@;
    client_max_body_size 0;
    large_client_header_buffers 8 64k;
    gzip off;
    location / {
        proxy_pass http://@REGISTRY@;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_buffering off;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Forwarded "";
    }
}
"""
CASES = {
    "good": Wrong(None),
    "small bodies": Wrong(
        "body size", "2 MiB are answered with 413", "client_max_body_size 0;", {"client_max_body_size 0;": ""}
    ),
    "bodies of 200 MB": Wrong(
        "body size", "1 GiB are answered with 413 on the way; 128 MiB pass", "client_max_body_size 0;",
        {"client_max_body_size 0;": "client_max_body_size 200m;"},
    ),
    "buffered": Wrong(
        "buffering", "nothing reached the registry", "proxy_request_buffering off;",
        {"proxy_request_buffering off;": ""},
    ),
    "compressed": Wrong(
        "compression", "compressed (gzip)", "gzip off;",
        {"gzip off;": "gzip on; gzip_types *; gzip_proxied any;"},
    ),
    "short headers": Wrong(
        "long headers", "answered with 400", "large_client_header_buffers 8 64k;",
        {"large_client_header_buffers 8 64k;": ""},
    ),
    "cleaned addresses": Wrong(
        "addresses", "/v2/a%2fb/tags/list", "nothing after the name",
        {"proxy_pass http://@REGISTRY@;": "proxy_pass http://@REGISTRY@/;"},
    ),
    "scheme not told": Wrong(
        "address of tokens", "from https to http", "SEATRIAL_EXTERNAL_URL=",
        {"X-Forwarded-Proto $scheme": "X-Forwarded-Proto http"},
    ),
    "host not told": Wrong(
        "address of tokens", "another host", "SEATRIAL_EXTERNAL_URL=",
        {"X-Forwarded-Host $http_host": "X-Forwarded-Host inner.example"},
    ),
    "host believed": Wrong(
        "forwarded headers", "X-Forwarded-Host is passed on", "X-Forwarded-Host $http_host;",
        {"proxy_set_header X-Forwarded-Host $http_host;": ""},
    ),
    "tokens elsewhere": Wrong(
        "address of tokens", "/token answers 404", "/token must reach the registry",
        {"location / {": "location /token { return 404; } location / {"},
    ),
    "no sign-in": Wrong(
        "sign-in", "answers 401", "Authorization",
        {'Forwarded "";': 'Forwarded ""; proxy_set_header Authorization "";'},
    ),
    "uploads elsewhere": Wrong(
        "location of uploads", "http://inner.example/v2/", "SEATRIAL_EXTERNAL_URL=",
        {'Forwarded "";': 'Forwarded ""; proxy_redirect /v2/ http://inner.example/v2/;'},
    ),
    "unknown authority": Wrong("certificate", "'Another authority'", "fullchain.pem", certificate="foreign"),
    "another name": Wrong(
        "certificate's names", "127.0.0.1 is not among them: registry.example", "certificate for this name",
        certificate="named",
    ),
    "expired": Wrong("certificate", "has expired", "", certificate="expired"),
    "expires soon": Wrong("certificate's end", "it expires in 5 days", "renew it", certificate="ending"),
    "a web site": Wrong(
        "registry", "text/html", "must all reach the registry",
        {"location / {": 'location / { return 200 "<html>"; default_type text/html;'},
    ),
    "redirects": Wrong(
        "registry", "redirects to https://registry.example/v2/", "use https://registry.example",
        {"location / {": "location / { return 308 https://registry.example$request_uri;"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, dict[str, int]]]:
    """A registry, and one nginx with all the servers: the folder, a token, and the ports by name."""
    folder = tmp_path_factory.mktemp("doctor")
    known, foreign = Authority(), Authority("Another authority")
    (folder / "ca.pem").write_bytes(known.certificate)
    pairs = {
        "good": known.sign("127.0.0.1"),
        "named": known.sign("registry.example"),
        "expired": known.sign("127.0.0.1", days=0.5),
        "ending": known.sign("127.0.0.1", days=6),
        "foreign": foreign.sign("127.0.0.1"),
    }
    for name, pair in pairs.items():
        (folder / name).mkdir()
        pair.write(folder / name)
    process = RegistryProcess(folder / "data", trusted_proxies="127.0.0.1")
    try:
        registry = process.start()
        environment = {"PATH": os.environ["PATH"], "SEATRIAL_TOKEN": registry.token}
        make = ("repo", "create", REPOSITORY, "--server", registry.url)
        run_seatrial(*make, environment=environment).check_returncode()
        sites, ports = "", {}
        for name, case in CASES.items():
            text = SITE
            for old, new in case.changes.items():
                assert old in text
                text = text.replace(old, new)
            ports[name] = free_port()
            sites += (
                text.replace("@PORT@", str(ports[name]))
                .replace("@CERTIFICATE@", str(folder / case.certificate / "certificate.pem"))
                .replace("@KEY@", str(folder / case.certificate / "key.pem"))
                .replace("@REGISTRY@", registry.host)
            )
        with running_nginx(folder / "nginx", sites):
            yield folder, registry.token, ports
    finally:
        process.stop()


@pytest.mark.parametrize("name", CASES)
def test_each_wrong_line_is_named(
    house: tuple[Path, str, dict[str, int]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, token, ports = house
    monkeypatch.setattr(examining, "BUFFERING_SECONDS", 1.5 if name == "buffered" else 10.0)
    looked = Examination(f"https://127.0.0.1:{ports[name]}", token, REPOSITORY, folder / "ca.pem")
    found = list(looked.findings())
    case = CASES[name]
    problems = [one for one in found if one.status == "problem"]
    if case.finding is None:
        assert [one for one in found if one.status != "ok"] == []
        assert [one.name for one in found].count("uploads") == 1
        return
    assert {one.name for one in problems} <= {case.finding, "address of tokens", "uploads"}
    wrong = next(one for one in problems if one.name == case.finding)
    assert case.says in wrong.detail
    assert case.fix in " ".join(wrong.fix)


def test_no_token_goes_where_the_certificate_is_not_trusted(
    house: tuple[Path, str, dict[str, int]],
) -> None:
    folder, token, ports = house
    for name in ("unknown authority", "another name", "expired"):
        looked = Examination(f"https://127.0.0.1:{ports[name]}", token, REPOSITORY, folder / "ca.pem")
        last = list(looked.findings())[-1]
        assert last == Finding(
            "sign-in, uploads",
            "unknown",
            "not looked at: no token is sent over a connection that is not trusted",
        )


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_seatrial("doctor", *arguments, environment={"PATH": os.environ["PATH"], **environment})


def test_the_command(house: tuple[Path, str, dict[str, int]]) -> None:
    folder, token, ports = house
    trusted = ("--ca-file", str(folder / "ca.pem"))
    server = f"https://127.0.0.1:{ports['good']}"
    done = doctor("--server", server, "--json", *trusted, SEATRIAL_TOKEN=token)
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"], told["server"]) == (0, 0, server)
    assert {one["status"] for one in told["findings"]} == {"ok", "unknown"}
    assert token not in done.stdout + done.stderr
    done = doctor(f"--server=127.0.0.1:{ports['small bodies']}", *trusted)
    assert done.returncode == 1
    assert " PROBLEM  body size: 2 MiB are answered with 413 on the way" in done.stdout
    assert "change: nginx: client_max_body_size 0;" in done.stdout
    for address, says in (
        (f"http://127.0.0.1:{ports['good']}", "this port speaks HTTPS"),
        (f"https://127.0.0.1:{free_port()}", "cannot be reached: Connection refused"),
        ("https://no-such-host.invalid", "cannot be reached"),
    ):
        done = doctor("--server", address)
        assert done.returncode == 2, done
        assert says in done.stdout
    done = doctor("--server", "https://registry.example/prefix")
    assert (done.returncode, "without a path" in done.stderr) == (64, True)


def test_plain_http_where_https_was_expected(house: tuple[Path, str, dict[str, int]]) -> None:
    folder, _, _ = house
    process = RegistryProcess(folder / "plain")
    try:
        host = process.start().host
        (found,) = Examination(f"https://{host}", None, None, None).findings()
        assert (found.detail, found.fix) == (
            f"https://{host} speaks plain HTTP",
            (f"client: use http://{host}",),
        )
        told = Examination(f"http://{host}", None, None, None).findings()
        assert [one.name for one in told if one.status == "problem"] == []
    finally:
        process.stop()


class Liar(BaseHTTPRequestHandler):
    """Looks like a registry until one reads what it says."""

    def answer(self) -> None:
        signed_in = "Authorization" in self.headers
        self.send_response(200 if self.command == "GET" and signed_in else 401)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("WWW-Authenticate", 'Bearer realm="http://[fe80/token",service="x"')
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    do_GET = do_POST = answer  # noqa: N815  (the base class wants them so)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_server_that_makes_no_sense() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            looked = Examination(f"http://127.0.0.1:{server.server_port}", "token", REPOSITORY, None)
            found = {one.name: (one.status, one.detail) for one in looked.findings()}
        finally:
            server.shutdown()
    assert found["address of tokens"] == ("problem", "'http://[fe80/token' is not absolute")
    assert found["uploads"][0] == "problem"


def test_clocks() -> None:
    now = time.time()
    for apart, status in ((0, "ok"), (20, "ok"), (-20, "ok"), (90, "problem"), (-90, "problem")):
        answer = Answer(401, {"date": formatdate(now + apart, usegmt=True)}, b"")
        assert _clock(answer, now, now + 0.1).status == status, apart
    assert _clock(Answer(401, {"date": "yesterday"}, b""), now, now).status == "unknown"
