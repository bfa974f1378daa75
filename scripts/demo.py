"""``make demo``: push a good and a bad image, see each tried, see the verdict decide who may pull.

Everything is fresh and lies in one temporary folder: data, the client's storage, credentials. The port is a
free one. It ends well in three ways, and says which:

- full: every promised mechanism of isolation is there;
- partial: some are missing, each is named with what would bring it, and the verdict is marked;
- registry only: nothing can be isolated here, so the registry serves and images wait for a worker elsewhere.

``ONCE=1`` stops after the show; else it keeps running until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.clients import ClientError, Image, Login, Podman, Skopeo, tidy

SEATRIAL = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "seatrial"
START_SECONDS = 120
VERDICT_SECONDS = 240
GOOD = "echo 'All hands on deck.'; echo 'Ready to sail.'"
BAD = "echo 'Starting the engine.'; echo 'engine: no such file: /etc/engine.conf' >&2; exit 3"


class DemoError(Exception):
    """The show did not go as it should."""


@dataclass(frozen=True, slots=True)
class Host:
    """What ``seatrial doctor`` says of this machine."""

    ending: str
    missing: tuple[dict[str, Any], ...]

    @property
    def downgrades(self) -> list[str]:
        """What must be allowed to be missing, by name."""
        return [one["downgrade"] for one in self.missing if one["need"] == "downgrade"]


@dataclass(frozen=True, slots=True)
class Server:
    """The registry, perhaps with a worker, while the demo runs."""

    address: str
    data: Path

    @property
    def url(self) -> str:
        """Root address."""
        return f"http://{self.address}"

    @property
    def admin(self) -> Login:
        """The administrator made at first start."""
        return Login("admin", (self.data / "admin.token").read_text().strip())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command about this server, as the administrator."""
        where = ["--server", self.url, "--token-file", str(self.data / "admin.token")]
        return _seatrial(*arguments, *where)

    def ask(self, *arguments: str) -> Any:
        """Run a command with ``--json`` and read what it prints.

        Raises:
            DemoError: it failed.
        """
        done = self.command(*arguments, "--json")
        if done.returncode != 0:
            raise DemoError(f"seatrial {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout)


def main() -> int:
    """Run the show; exit code 0 if it went as it should."""
    # A closed terminal must end the server too, which has a session of its own; "nohup" is heeded.
    for ending in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, signal.default_int_handler)
    # A folder that the registry may reach when it drops root's rights.
    folder = Path(tempfile.mkdtemp(prefix="seatrial-demo-"))
    folder.chmod(0o711)
    try:
        show(folder, once=bool(os.environ.get("ONCE")))
    except (DemoError, ClientError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0 if (folder / "shown").exists() else 130
    finally:
        tidy(folder)
    return 0


def show(folder: Path, *, once: bool) -> None:
    """The whole show, in ``folder``.

    Raises:
        DemoError, ClientError: something did not go as it should.
    """
    step("What this machine can isolate")
    host = examine()
    for one in host.missing:
        print(f"  {one['name']} is missing: {one['detail']}")
        if one.get("fix") not in (None, "", one["detail"]):
            print(f"    to have it: {one['fix']}")
    if not host.missing:
        print("  everything that a run is promised")
    with serving(folder, host) as server:
        reader = make_reader(server)
        images = [Image("good", GOOD, busybox()), Image("bad", BAD, busybox())]
        step("Building two images from nothing but a static busybox")
        client = build(folder, server, images)
        for image in images:
            print(f'  {image.name}:  sh -c "{image.script}"')
        step(f"Pushing them with {client.name}")
        for image in images:
            client.push(image, f"demo/{image.name}:1", server.admin)
            print(f"  {server.address}/demo/{image.name}:1")
        if host.ending == "registry only":
            show_untried(server, client, reader)
        else:
            show_verdicts(server, client, reader, host)
        goodbye(server, host)
        (folder / "shown").touch()
        if once:
            print("\nStopping here, as ONCE=1 says. Without it all this keeps running until Ctrl-C.")
        else:
            print("\nRunning until Ctrl-C.")
            signal.pause()


def show_verdicts(server: Server, client: Podman | Skopeo, reader: Login, host: Host) -> None:
    """The good image passes and can be pulled; the bad one fails, and cannot.

    Raises:
        DemoError: a verdict or an answer is another one.
    """
    step("The verdict on good, and a pull of it by somebody who may only read")
    trial = verdict(server, "demo/good:1")
    expect(trial["verdict"] == ("warn" if host.downgrades else "pass"), f"good has {trial['verdict']}")
    client.pull("demo/good:1", reader)
    print("  pulled")

    step("The verdict on bad, and the same pull of it")
    trial = verdict(server, "demo/bad:1")
    expect(trial["verdict"] == "fail", f"bad has {trial['verdict']}")
    run = trial["runs"][0]
    expect(run["exit_code"] == 3, f"bad ended with {run['exit_code']}")
    print(f"  exit code {run['exit_code']}; its last lines:")
    for line in run["log"].splitlines()[-5:]:
        print(f"    | {line}")
    try:
        client.pull("demo/bad:1", reader)
    except ClientError as refused:
        print(f"  refused: {refused}")
        expect("denied" in str(refused).lower(), "the refusal does not say so")
    else:
        raise DemoError("a failed image could be pulled")


def show_untried(server: Server, client: Podman | Skopeo, reader: Login) -> None:
    """Without a worker images wait; the gate ``warn`` lets them be pulled all the same.

    Raises:
        DemoError: an image has a verdict.
    """
    step("No worker here: the images wait for one")
    for name in ("demo/good:1", "demo/bad:1"):
        (trial,) = server.ask("trial", "list", "--image", name)
        expect(trial["verdict"] is None, f"{name} has {trial['verdict']}")
        print(f"  {name}: {trial['state']}")
        client.pull(name, reader)
        print("  pulled: the gate 'warn' records and blocks nothing")


def verdict(server: Server, image: str) -> Any:
    """Wait for the verdict on ``image``, show it, and return the trial.

    Raises:
        DemoError: there is none in time, or it could not be tried.
    """
    waited = server.command("trial", "wait", image, "--timeout", str(VERDICT_SECONDS))
    expect(waited.returncode in (0, 1), f"trial wait {image}: {waited.stdout}{waited.stderr}")
    trial = server.ask("trial", "show", server.ask("trial", "list", "--image", image)[0]["id"])
    print(f"  {image}: {trial['verdict'].upper()}  {trial['reason']}")
    return trial


def goodbye(server: Server, host: Host) -> None:
    """Which ending it was, and what to try next."""
    step(f"This was the {host.ending} demo.")
    if host.ending == "partial":
        print(f"  Runs went without {', '.join(host.downgrades)}; their verdicts say so.")
    if host.ending == "registry only":
        print("  Images wait until a worker comes from a host that can isolate: seatrial worker run --help")
    token = server.data / "admin.token"
    print(f"""
  The registry:   {server.url}
  Log in:         podman login --tls-verify=false -u admin --password-stdin {server.address} < {token}
                  (docker login takes the same; it needs no --tls-verify on 127.0.0.1)
  Try an image:   podman push --tls-verify=false IMAGE {server.address}/team/app:1
                  .venv/bin/seatrial trial wait team/app:1 --server {server.url} --token-file {token}
  See them all:   .venv/bin/seatrial trial list --server {server.url} --token-file {token}
  This host:      .venv/bin/seatrial doctor""")


def examine() -> Host:
    """Ask ``seatrial doctor``.

    Raises:
        DemoError: it gave no answer.
    """
    done = _seatrial("doctor", "--json")
    if done.returncode not in (0, 1, 2) or not done.stdout.startswith("{"):
        raise DemoError(f"seatrial doctor: {done.stderr.strip()}")
    missing = tuple(
        one
        for one in json.loads(done.stdout)["mechanisms"]
        if one["need"] != "stated" and (not one["available"] or one["proven"] is False)
    )
    return Host(("full", "partial", "registry only")[done.returncode], missing)


@contextlib.contextmanager
def serving(folder: Path, host: Host) -> Iterator[Server]:
    """Start the registry, with a worker where one can run, and stop it at the end.

    Raises:
        DemoError: it did not start.
    """
    server = Server(f"127.0.0.1:{free_port()}", folder / "data")
    if host.ending == "registry only":
        arguments = ["serve", "--gate", "warn"]
    else:
        arguments = ["up", "--gate", "enforce"]
        arguments += [part for name in host.downgrades for part in ("--allow-downgrade", name)]
    step(f"Starting: seatrial {' '.join(arguments)} --listen {server.address}")
    log_file = folder / "server.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [SEATRIAL, *arguments, "--data", server.data, "--listen", server.address],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_ready(server, process, log_file)
        yield server
    except (DemoError, ClientError):
        print("\nThe last lines of the server's log:", *tail(log_file), sep="\n  ", file=sys.stderr)
        raise
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the registry says that it is ready.

    Raises:
        DemoError: it ended, or was not in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{server.url}/readyz", timeout=5).close()
            return
        time.sleep(0.1)
    raise DemoError(f"the server was not ready within {START_SECONDS} s; see {log}")


def make_reader(server: Server) -> Login:
    """A token that may pull the two images and nothing else.

    Raises:
        DemoError: it could not be made.
    """
    scopes = [part for name in ("good", "bad") for part in ("--scope", f"repository:demo/{name}:pull")]
    made = server.ask("token", "create", "--name", "reader", *scopes, "--expires", "1h")
    return Login("reader", made["token"])


def build(folder: Path, server: Server, images: list[Image]) -> Podman | Skopeo:
    """Build the images with podman if it can work here, else with skopeo; returns which.

    Raises:
        ClientError: neither can.
    """
    podman = Podman(folder, server.address)
    try:
        for image in images:
            podman.build(image)
    except ClientError as error:
        print(f"  podman cannot work here ({str(error).splitlines()[-1]}); skopeo does it instead")
        skopeo = Skopeo(folder, server.address)
        for image in images:
            skopeo.build(image)
        return skopeo
    return podman


def busybox() -> Path:
    """The static busybox.

    Raises:
        ClientError: there is none.
    """
    found = shutil.which("busybox")
    if found is None:
        raise ClientError("busybox is not installed (package busybox-static)")
    return Path(found).resolve()


def free_port() -> int:
    """A port that was free a moment ago, and is none of those that the kernel gives to who asks for any."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            return int(found.getsockname()[1])


def tail(log: Path) -> list[str]:
    """The last lines of a log that tell of no request."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if '"event": "request"' not in line][-30:]


def expect(holds: object, otherwise: str) -> None:
    """Stop the show unless ``holds``.

    Raises:
        DemoError: saying ``otherwise``.
    """
    if not holds:
        raise DemoError(otherwise)


def step(title: str) -> None:
    """Announce the next part."""
    print(f"\n== {title}", flush=True)


def _seatrial(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SEATRIAL, *arguments], capture_output=True, text=True, timeout=VERDICT_SECONDS + 60, check=False,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
