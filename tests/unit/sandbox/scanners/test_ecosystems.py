"""The operating system of an image, and the name under which its packages have advisories."""

from __future__ import annotations

import pytest

from sandbox.scanners.facts import FoundSystem
from sandbox.scanners.packages.ecosystems import ecosystem_of
from tests.kit.looking import look, wanting


@pytest.mark.parametrize(
    ("kind", "release", "ecosystem"),
    [
        ("dpkg", "ID=debian\nVERSION_ID='12'\n", "Debian:12"),
        ("dpkg", "ID=debian\nPRETTY_NAME='Debian GNU/Linux trixie/sid'\n", ""),
        ("dpkg", 'ID=ubuntu\nVERSION_ID="24.04"\n', "Ubuntu:24.04:LTS"),
        ("dpkg", 'ID=ubuntu\nVERSION_ID="24.10"\n', "Ubuntu:24.10"),
        ("dpkg", 'ID=ubuntu\nVERSION_ID="23.04"\n', "Ubuntu:23.04"),
        ("dpkg", "ID=kali\nID_LIKE=debian\nVERSION_ID=2024.1\n", ""),
        ("dpkg", "ID=alpine\nVERSION_ID=3.20.3\n", ""),
        ("apk", "ID=alpine\nVERSION_ID=3.20.3\n", "Alpine:v3.20"),
        ("apk", "ID=alpine\nVERSION_ID=3.22_alpha20250108\n", ""),
        ("apk", "ID=wolfi\nVERSION_ID=20230201\n", "Wolfi"),
        ("apk", "ID=chainguard\nVERSION_ID=20230214\n", "Chainguard"),
        ("rpm", 'ID="rocky"\nVERSION_ID="8.9"\n', "Rocky Linux:8"),
        ("rpm", 'ID="almalinux"\nVERSION_ID="9.4"\n', "AlmaLinux:9"),
        ("rpm", 'ID="rhel"\nVERSION_ID="9.4"\n', "Red Hat:enterprise_linux:9"),
        ("rpm", "ID=azurelinux\nVERSION_ID=3.0\n", "Azure Linux:3"),
        ("rpm", "ID=mariner\nVERSION_ID=2.0\n", "Azure Linux:2"),
        ("rpm", 'ID="opensuse-leap"\nVERSION_ID="15.6"\n', "openSUSE:Leap 15.6"),
        ("rpm", "ID=opensuse-tumbleweed\nVERSION_ID=20240801\n", "openSUSE:Tumbleweed"),
        ("rpm", "ID=sles\nVERSION_ID=15.5\n", "SUSE:Linux Enterprise Server 15 SP5"),
        ("rpm", "ID=sles\nVERSION_ID=15\n", "SUSE:Linux Enterprise Server 15"),
        ("rpm", "ID=sles\nVERSION_ID=16.0\n", "SUSE:Linux Enterprise Server 16.0"),
        (
            "rpm",
            "ID=sles_sap\nPRETTY_NAME='SUSE Linux Enterprise Server for SAP Applications 15 SP5'\n",
            "SUSE:Linux Enterprise Server for SAP Applications 15 SP5",
        ),
        (
            "rpm",
            "ID=sle-micro\nVERSION_ID=5.5\nPRETTY_NAME='SUSE Linux Enterprise Micro 5.5'\n",
            "SUSE:Linux Enterprise Micro 5.5",
        ),
        ("rpm", "ID=sl-micro\nPRETTY_NAME='SUSE Linux Micro 6.0'\n", "SUSE:Linux Micro 6.0"),
        ("rpm", "ID=sl-micro\nPRETTY_NAME='SUSE Linux Micro of mine'\n", ""),
        ("rpm", "ID=photon\nVERSION_ID=5.0\n", "Photon OS:5.0"),
        (
            "rpm",
            'ID="openEuler"\nVERSION_ID="24.03"\nPRETTY_NAME="openEuler 24.03 (LTS-SP1)"\n',
            "openEuler:24.03-LTS-SP1",
        ),
        ("rpm", "ID=fedora\nVERSION_ID=40\n", ""),
        ("rpm", "ID=rocky\nVERSION_ID=latest\n", ""),
    ],
)
def test_a_distribution_has_the_name_that_osv_gives_it_or_none(
    kind: str, release: str, ecosystem: str
) -> None:
    system = look("etc/os-release", release.encode()).system
    assert system is not None
    assert ecosystem_of(system, kind) == ecosystem
    assert ecosystem_of(system, "python") == "PyPI"


def test_languages_need_no_system_and_packages_of_a_system_do() -> None:
    languages = {kind: ecosystem_of(None, kind) for kind in ("python", "npm", "go", "rust", "java")}
    assert languages == {
        "python": "PyPI",
        "npm": "npm",
        "go": "Go",
        "rust": "crates.io",
        "java": "Maven",
    }
    assert [ecosystem_of(None, kind) for kind in ("dpkg", "apk", "rpm")] == ["", "", ""]


def test_the_system_is_what_its_file_says_and_nothing_where_it_says_none() -> None:
    said = b'# comment\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\nODD\n'
    assert look("usr/lib/os-release", said).system == FoundSystem(
        "debian", "12", "Debian GNU/Linux 12 (bookworm)"
    )
    assert look("etc/os-release", b"NAME=nothing\n").system is None
    assert look("etc/os-release", b"ID='half\nVERSION_ID=\x1b[2J3\n").system == FoundSystem(
        "half", "[2J3", ""
    )
    assert look("etc/os-release", b"ID=x\n" * 20_000).incomplete == (
        "larger than the 64 KiB that are read of such a file",
    )
    assert wanting("etc/os-release") == wanting("usr/lib/os-release") == ["system"]
