"""An internet of the test's own: runs believe that they reach the world, and no packet leaves this machine.

The calling thread moves into a new network namespace, the "host" that runs are connected to; behind it lies
another one that has the addresses of the world, with servers on a few ports of all of them.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.network.fence import inside
from sandbox.syscalls import CLONE_NEWNET, enter, unshare

SITE, NEIGHBOUR, ELSEWHERE = "93.184.216.34", "93.184.216.35", "1.1.1.1"
PRIVATE, METADATA, SIX = "10.9.8.7", "169.254.169.254", "2001:db8::1"
HOST, PUBLIC_HOST = "192.168.77.1", "93.184.217.1"
WORLD = (SITE, NEIGHBOUR, ELSEWHERE, PRIVATE, METADATA)
GREETING, OTHER, SOURCE, SINK = 443, 80, 5001, 5002
DATAGRAMS = 53
REACH = Path(__file__).with_name("reach.c")
_SEEN = """
table inet seen {
  set tried { type ipv4_addr . inet_proto . inet_service; flags dynamic; size 4096; }
  chain arriving {
    type filter hook prerouting priority -300;
    iifname "host0" ip protocol { tcp, udp } update @tried { ip daddr . ip protocol . th dport }
    iifname "host0" ip6 nexthdr { tcp, udp } counter
    iifname "host0" ip protocol != { tcp, udp } counter
  }
}
"""


@dataclass(frozen=True, slots=True)
class Internet:
    """What arrived in the world outside."""

    outside: int

    def arrived(self) -> set[tuple[str, str, int]]:
        """Address, protocol and port of everything that came by TCP or UDP."""
        with inside(self.outside):
            found = json.loads(_output("nft", "--json", "list", "set", "inet", "seen", "tried"))
        elements = next(one["set"] for one in found["nftables"] if "set" in one).get("elem", [])
        triples = [one.get("concat") or one["elem"]["val"]["concat"] for one in elements]
        return {(address, protocol, port) for address, protocol, port in triples}

    def others(self) -> int:
        """Packets of IPv6 (but for its neighbour discovery) and of other protocols."""
        with inside(self.outside):
            found = json.loads(_output("nft", "--json", "list", "chain", "inet", "seen", "arriving"))
        rules = [one["rule"]["expr"] for one in found["nftables"] if "rule" in one]
        return sum(part["counter"]["packets"] for rule in rules for part in rule if "counter" in part)


@dataclass(frozen=True, slots=True)
class Network:
    """Everything that a run could leave in the namespace of the host."""

    links: str
    tables: str
    routes: str


def network() -> Network:
    """As it is now. A link goes a moment after the namespace that its other end was in."""
    deadline = time.monotonic() + 10
    while '"st' in (links := _output("ip", "-json", "link")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return Network(links, _output("nft", "list", "tables"), _output("ip", "route"))


@contextmanager
def internet() -> Iterator[Internet]:
    """Move the calling thread behind an internet of its own, and back."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        outside = _namespace()
        enter(own, CLONE_NEWNET)
        host = _namespace()
        with ExitStack() as stack:
            _connect(outside)
            here = stack.enter_context(_serving())
            with inside(outside):
                there = stack.enter_context(_serving())
            assert here.poll() is there.poll() is None
            yield Internet(outside)
    finally:
        enter(own, CLONE_NEWNET)
    for fd in (own, outside, host):
        os.close(fd)


def build_reach(folder: Path) -> Path:
    """The program that runs try to reach things with, static."""
    program = folder / "reach"
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Werror", "-o", program, REACH], check=True)
    return program


def _namespace() -> int:
    unshare(CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _connect(outside: int) -> None:
    place = f"/proc/{os.getpid()}/fd/{outside}"
    _ip(
        "link set lo up",
        f"link add uplink0 type veth peer name host0 netns {place}",
        f"address add {HOST}/24 dev uplink0",
        f"address add {PUBLIC_HOST}/32 dev lo",
        "address add 2001:db8:1::1/64 dev uplink0 nodad",
        "link set uplink0 up",
        "route add default via 192.168.77.2",
    )
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with inside(outside):
        subprocess.run(["nft", "-f", "-"], input=_SEEN, text=True, check=True)
        _ip(
            "link set lo up",
            *(f"address add {address}/32 dev lo" for address in WORLD),
            f"address add {SIX}/128 dev lo",
            "address add 192.168.77.2/24 dev host0",
            "address add 2001:db8:1::2/64 dev host0 nodad",
            "link set host0 up",
        )
    _ip("-6 route add default via 2001:db8:1::2")


@contextmanager
def _serving() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield server
        finally:
            server.kill()


def _ip(*lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _serve() -> None:
    """The servers of one namespace, until standard input closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    waiting = selectors.DefaultSelector()
    for port in (GREETING, OTHER, SOURCE, SINK, DATAGRAMS):
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        waiting.register(listener, selectors.EVENT_READ, port)
    for address in (*WORLD, HOST, SIX):
        # One for each address: an answer has to come from the one that was asked.
        datagrams = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        with suppress(OSError):
            datagrams.bind((address, DATAGRAMS))
            waiting.register(datagrams, selectors.EVENT_READ, DATAGRAMS)
    print("ready", flush=True)
    while True:
        for key, _ in waiting.select():
            one = key.fileobj
            assert isinstance(one, socket.socket)
            if one.type == socket.SOCK_DGRAM:
                _, sender = one.recvfrom(2000)
                one.sendto(b"hello\n", sender)
                continue
            connection, _ = one.accept()
            if os.fork() == 0:
                _answer(connection, key.data)
                os._exit(0)
            connection.close()


def _answer(connection: socket.socket, port: int) -> None:
    try:
        if port == SOURCE:
            while True:
                connection.sendall(bytes(65536))
        if port == SINK:
            connection.sendall(_rate_of(connection).encode())
            return
        connection.sendall(b"hello\n")
    except OSError:
        return


def _rate_of(connection: socket.socket) -> str:
    arrivals = []
    while data := connection.recv(65536):
        arrivals.append((time.monotonic(), len(data)))
    # As in the program of the run: the first quarter says nothing.
    total, skipped, begun = sum(size for _, size in arrivals), 0, arrivals[0][0]
    for at, size in arrivals:
        if skipped > total / 4:
            break
        skipped, begun = skipped + size, at
    return f"{(total - skipped) * 8 / (arrivals[-1][0] - begun):.0f} bits per second\n"


if __name__ == "__main__":
    _serve()
