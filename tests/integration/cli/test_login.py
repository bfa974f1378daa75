"""Signing in to a registry from the command line: what is kept, where it is sent, and how it ends."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.cli.test_commands import Done, seatrial
from tests.kit.server import Registry, RegistryProcess

PASSWORD = "a password of hers"


class Home:
    """A user's home folder, and the commands typed there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    @property
    def file(self) -> Path:
        """What login keeps."""
        return self.path / ".config" / "seatrial" / "logins.json"

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Done:
        """Run one command."""
        home = {"HOME": str(self.path), "XDG_CONFIG_HOME": str(self.path / ".config")}
        return seatrial(*arguments, cwd=self.path, env=home | dict(env or {}), stdin=stdin)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with _served(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with _served(tmp_path_factory.mktemp("secure"), tls="self-signed") as registry:
        yield registry


@contextmanager
def _served(folder: Path, **settings: str) -> Iterator[Registry]:
    process = RegistryProcess(folder / "data", **settings)
    try:
        yield process.start()
    finally:
        process.stop()


def test_an_api_token_is_kept_for_the_commands_that_follow(home: Home, registry: Registry) -> None:
    done = home.run("login", registry.host, "--password-stdin", stdin=registry.token + "\n")
    assert done.returncode == 0, done.stderr
    assert registry.token not in done.stdout + done.stderr
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.file.parent.stat().st_mode) == 0o700
    assert home.run("user", "list").stdout.count("admin") == 1
    listed = json.loads(home.run("token", "list", "--json").stdout)
    assert home.run("logout").stdout == f"Signed out of {registry.url}\n"
    assert json.loads(home.file.read_text()) == {"servers": {}, "current": None}
    refused = home.run("user", "list", "--server", registry.url)
    assert refused.returncode == 2
    assert "seatrial login" in refused.stderr
    # The token was there before: it is not login's to revoke.
    ours = {"SEATRIAL_TOKEN": registry.token, "SEATRIAL_SERVER": registry.url}
    assert json.loads(home.run("token", "list", "--json", env=ours).stdout) == listed


def test_a_password_is_exchanged_for_a_token_that_logout_revokes(home: Home, registry: Registry) -> None:
    ours = {"SEATRIAL_TOKEN": registry.token, "SEATRIAL_SERVER": registry.url}
    for name, *admin in (("eve", "--admin"), ("bob",)):
        made = home.run("user", "create", name, "--password-file", "-", *admin, env=ours, stdin=PASSWORD)
        assert made.returncode == 0, made.stderr
        done = home.run(
            *("login", registry.url, "--user", name, "--password-stdin", "--expires", "8h", "--json"),
            stdin=PASSWORD + "\n",
        )
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in home.file.read_text()
        token_id = json.loads(done.stdout)["token_id"]
        (token,) = [
            each
            for each in json.loads(home.run("token", "list", "--json", env=ours).stdout)
            if each["id"] == token_id
        ]
        assert token["account"] == name
        assert ("admin" in token["scopes"]) == bool(admin)
        assert token["expires_at"] is not None
        assert home.run("repo", "list").returncode == 0
        assert home.run("user", "list").returncode == (0 if admin else 2)
        me = json.loads(home.run("whoami", "--json").stdout)
        assert (me["name"], me["token_id"], me["expires_at"]) == (name, token_id, token["expires_at"])
        assert f"{name}\n" in home.run("whoami").stdout
        for noun in ("session", "refresh-token"):
            assert home.run(noun, "list", "--json").stdout == "[]\n"
        assert json.loads(home.run("logout", "--json").stdout) == {"server": registry.url, "revoked": True}
        (token,) = [
            each
            for each in json.loads(home.run("token", "list", "--json", env=ours).stdout)
            if each["id"] == token_id
        ]
        assert token["revoked_at"] is not None


def test_a_login_can_be_limited(home: Home, registry: Registry) -> None:
    scope = "repository:team/*:pull"
    done = home.run(
        *("login", registry.url, "--user", "admin", "--password-stdin", "--scope", scope),
        stdin=registry.token,
    )
    assert done.returncode == 64
    assert "--scope is for a password" in done.stderr
    ours = {"SEATRIAL_TOKEN": registry.token, "SEATRIAL_SERVER": registry.url}
    home.run("user", "create", "ann", "--password-file", "-", env=ours, stdin=PASSWORD)
    done = home.run(
        *("login", registry.url, "--user", "ann", "--password-stdin", "--scope", scope), stdin=PASSWORD
    )
    assert done.returncode == 0, done.stderr
    tokens = json.loads(home.run("token", "list", "--json").stdout)
    assert [token["scopes"] for token in tokens] == [[scope]]


def test_what_opens_nothing_is_not_kept(home: Home, registry: Registry) -> None:
    for user, secret in (("admin", "wrong password"), ("", "seatrial_wrong")):
        done = home.run("login", registry.url, "--user", user, "--password-stdin", stdin=secret)
        assert done.returncode == 2
        assert secret not in done.stderr
    for given in ("", "no token"):
        assert home.run("login", registry.url, "--password-stdin", stdin=given).returncode == 64
    assert not home.file.exists()
    assert home.run("logout").returncode == 64


def test_several_servers(home: Home, registry: Registry, secure: Registry) -> None:
    assert secure.certificate is not None
    home.run("login", registry.url, "--password-stdin", stdin=registry.token)
    ca = ("--ca-file", str(secure.certificate))
    done = home.run("login", secure.url, "--password-stdin", *ca, stdin=secure.token)
    assert done.returncode == 0, done.stderr
    assert home.run("repo", "create", "on/secure").returncode == 0
    assert home.run("repo", "create", "on/plain", "--server", registry.url).returncode == 0
    assert "on/secure" in home.run("repo", "list").stdout
    assert "on/plain" in home.run("repo", "list", env={"SEATRIAL_SERVER": registry.url}).stdout
    assert home.run("logout").returncode == 0
    assert home.run("logout").returncode == 64
    assert home.run("logout", registry.url).returncode == 0


def test_a_certificate_is_trusted_by_file_only(home: Home, secure: Registry) -> None:
    assert secure.certificate is not None
    ours = {"SEATRIAL_TOKEN": secure.token, "SEATRIAL_SERVER": secure.url}
    refused = home.run("user", "list", env=ours)
    assert refused.returncode == 2
    assert "SEATRIAL_CA_FILE" in refused.stderr
    assert home.run("user", "list", env=ours | {"SEATRIAL_CA_FILE": str(secure.certificate)}).returncode == 0
    assert home.run("--ca-file", str(secure.certificate), "user", "list", env=ours).returncode == 0
    # Without a scheme an address of this host is plain HTTP, unless an authority is given.
    assert "use https://" in home.run("login", secure.host, "--password-stdin", stdin=secure.token).stderr
    trusting = ("--password-stdin", "--ca-file", str(secure.certificate))
    assert home.run("login", secure.host, *trusting, stdin=secure.token).returncode == 0
    no_certificate = home.path / "x.pem"
    no_certificate.write_text("nothing")
    refused = home.run("--ca-file", str(no_certificate), "user", "list", env=ours)
    assert (refused.returncode, "x.pem cannot be used" in refused.stderr) == (64, True)


@pytest.mark.parametrize(
    "server", ["http://registry.invalid", "http://203.0.113.1:8470", "http://[2001:db8::1]"]
)
def test_nothing_secret_is_sent_in_clear_to_another_host(home: Home, server: str) -> None:
    env = {"SEATRIAL_SERVER": server, "SEATRIAL_TOKEN": "seatrial_x"}
    refused = home.run("user", "list", env=env)
    assert (refused.returncode, "can be read by everybody on the way" in refused.stderr) == (64, True)
    refused = home.run("login", server, "--user", "bob", "--password-stdin", stdin=PASSWORD)
    assert refused.returncode == 64
    # Told to, it would: the name leads nowhere.
    allowed = {"SEATRIAL_SERVER": "http://registry.invalid", "SEATRIAL_TOKEN": "seatrial_x"}
    told = home.run("--plain-http", "user", "list", env=allowed)
    assert (told.returncode, "cannot be reached" in told.stderr) == (2, True)


def test_the_token_of_this_folder_is_for_this_host_only(home: Home) -> None:
    (home.path / "data").mkdir()
    (home.path / "data" / "admin.token").write_text("seatrial_of_this_host")
    done = home.run("user", "list", "--server", "http://registry.invalid")
    assert (done.returncode, "cannot be reached" in done.stderr) == (2, True)


def test_a_redirect_is_not_followed(home: Home, registry: Registry) -> None:
    """Where it leads would get the token."""
    seen: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(302)
            self.send_header("Location", registry.url + "/api/v1/repositories")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            done = home.run("login", address, "--password-stdin", stdin=registry.token)
        finally:
            server.shutdown()
            thread.join()
    assert (done.returncode, "answered 302" in done.stderr) == (2, True)
    assert len(seen) == 1
    assert not home.file.exists()


def test_a_file_that_others_can_read_is_refused(home: Home, registry: Registry) -> None:
    home.run("login", registry.url, "--password-stdin", stdin=registry.token)
    home.file.chmod(0o644)
    refused = home.run("user", "list")
    assert (refused.returncode, f"chmod 600 {home.file}" in refused.stderr) == (64, True)
    home.file.chmod(0o600)
    for text in ("", "[]", '{"servers": {"a": {"x": 1}}, "current": null}'):
        home.file.write_text(text)
        refused = home.run("user", "list")
        assert (refused.returncode, "sign in again" in refused.stderr) == (64, True)


@pytest.mark.parametrize(
    "server", ["ftp://a", "http://", "http://a:b@c", "http://a?b", "http://a:99999", "http://[::1", ""]
)
def test_addresses_that_are_none(home: Home, server: str) -> None:
    done = home.run("login", server, "--password-stdin", stdin="seatrial_x")
    assert done.returncode == 64
