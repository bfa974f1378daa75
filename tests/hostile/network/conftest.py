"""Runs with a network, behind an internet of the test's own: the machine's real network is never touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.runtimes.spawn import Supervisors, opened_supervisors
from tests.kit.internet import Internet, Network, build_reach, internet, network
from tests.kit.runs import Harbour


@pytest.fixture(scope="session")
def reach(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that runs try to reach things with."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    return build_reach(tmp_path_factory.mktemp("reach"))


@pytest.fixture
def world() -> Iterator[Internet]:
    """The world outside; afterwards the host's network is as it was before."""
    if os.geteuid() != 0 or None in map(shutil.which, ("ip", "tc", "nft")):
        pytest.skip("needs root, iproute2 and nftables")
    with internet() as made:
        before: Network = network()
        yield made
        assert network() == before


@pytest.fixture
def supervisors(world: Internet) -> Iterator[Supervisors]:
    """Made behind the internet: what runs are started from stays in the network it began in."""
    with opened_supervisors() as made:
        yield made


@pytest.fixture
def root(port: Harbour, world: Internet, reach: Path) -> Path:
    """A root folder with the program in it."""
    made = port.rootfs()
    shutil.copy(reach, made / "bin/reach")
    port.own(made)
    return made
