"""What can be wrong with how an image is made: one table, of which the reference is generated."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.scanners.facts import FoundThing, Severity


@dataclass(frozen=True, slots=True)
class Misconfiguration:
    """``severity`` where nothing makes it more or less; ``why`` it is wrong; ``remedy``: how to mend it."""

    severity: Severity
    title: str
    why: str
    remedy: str


CATALOGUE: Mapping[str, Misconfiguration] = types.MappingProxyType(
    {
        "ST-USER-ROOT": Misconfiguration(
            "medium",
            "The image runs as root",
            "Who breaks out of the program has root in the container, and a flaw of the kernel or runtime is"
            " worth more to him.",
            "End the Dockerfile with USER and a number, as in `USER 65532`.",
        ),
        "ST-USER-UNKNOWN": Misconfiguration(
            "medium",
            "The user of the image is not in its /etc/passwd",
            "A runtime refuses to start the image, or starts it as somebody else.",
            "Add the user with useradd or adduser, or give USER a number.",
        ),
        "ST-NO-HEALTHCHECK": Misconfiguration(
            "info",
            "The image has no HEALTHCHECK",
            "Docker and Swarm cannot tell a program that hangs from one that works. Kubernetes has its own"
            " probes.",
            "Add `HEALTHCHECK CMD …` to the Dockerfile.",
        ),
        "ST-EXPOSES-REMOTE-LOGIN": Misconfiguration(
            "medium",
            "The image exposes a port for remote logins",
            "A container is entered with exec; a login service is one more that can be attacked.",
            "Remove EXPOSE 22 (ssh), 23 (telnet) or 3389 (rdp), and the service behind it.",
        ),
        "ST-ENV-SECRET": Misconfiguration(
            "medium",
            "A variable with the name of a secret has a value in the image",
            "Whoever can pull the image reads its configuration.",
            "Leave it empty in the image, and give it to the container when it starts. Change the value.",
        ),
        "ST-ADD-REMOTE": Misconfiguration(
            "low",
            "The build added a file from an address",
            "What the address gives today may be something else tomorrow, and nothing compares it.",
            "Use `ADD --checksum=sha256:… ADDRESS`, or a package.",
        ),
        "ST-PIPE-TO-SHELL": Misconfiguration(
            "medium",
            "The build ran what it downloaded, unseen",
            "Whoever holds the address, or the way to it, decides what is in the image.",
            "Download, compare with a checksum, then run; or use a package.",
        ),
        "ST-SETUID": Misconfiguration(
            "high",
            "A program takes the rights of its owner or group, and no package brought it so",
            "Everybody in the container can run it with these rights. One of the distribution's own,"
            " unchanged, is told as info.",
            "`chmod a-s FILE`; or run the container with no-new-privileges.",
        ),
        "ST-FILE-CAPABILITIES": Misconfiguration(
            "medium",
            "A program has file capabilities",
            "Everybody in the container can run it with these rights.",
            "`setcap -r FILE`, if it works without.",
        ),
        "ST-WORLD-WRITABLE-FILE": Misconfiguration(
            "medium",
            "Everybody may write to a file",
            "Any process of the container can change what others read or run.",
            "`chmod o-w FILE`.",
        ),
        "ST-WORLD-WRITABLE-FOLDER": Misconfiguration(
            "medium",
            "Everybody may write to a folder, and delete what others put there",
            "Any process of the container can replace files of others in it.",
            "`chmod o-w FOLDER`, or `chmod +t FOLDER` as /tmp has it.",
        ),
        "ST-WRITABLE-ENTRYPOINT": Misconfiguration(
            "high",
            "Everybody may replace the program that the image starts",
            "Any process of the container decides what runs at its next start.",
            "`chmod o-w` for the program and for the folders it lies in.",
        ),
        "ST-SPECIAL-FILE": Misconfiguration(
            "low",
            "A device, pipe or socket lies outside /dev",
            "A device file gives what its modes allow on any host that lets the container use the device.",
            "Remove it: runtimes make the devices that a container may have.",
        ),
        "ST-EMPTY-PASSWORD": Misconfiguration(
            "critical",
            "An account has no password",
            "Everybody can log in as it, or become it by su.",
            "`passwd -l NAME`, or `*` in the second field of /etc/shadow.",
        ),
        "ST-PASSWORD-SET": Misconfiguration(
            "high",
            "An account has a password",
            "Whoever can pull the image has its hash, and all containers of it have the same password.",
            "`passwd -l NAME`. Change the password wherever else it is used.",
        ),
        "ST-SECOND-ROOT": Misconfiguration(
            "high",
            "An account beside root has the user id 0",
            "It is root by another name, which is what attackers leave behind.",
            "Give it another id, or remove it.",
        ),
        "ST-ACCOUNTS-WRITABLE": Misconfiguration(
            "critical",
            "Others may write to the list of accounts",
            "Any process of the container can make itself root.",
            "`chmod 644 /etc/passwd /etc/group; chmod 640 /etc/shadow; chmod 440 /etc/sudoers`.",
        ),
        "ST-SUDO-WITHOUT-PASSWORD": Misconfiguration(
            "medium",
            "sudo gives rights without a password",
            "The account is as good as root.",
            "Remove NOPASSWD, or sudo.",
        ),
        "ST-SUDO": Misconfiguration(
            "low",
            "The image has sudo",
            "A container that needs no root needs no way to it.",
            "Remove the package; use USER in the Dockerfile.",
        ),
        "ST-REMOTE-LOGIN": Misconfiguration(
            "medium",
            "The image has a service for remote logins",
            "A container is entered with exec; a login service is one more that can be attacked.",
            "Remove the package of sshd or telnetd.",
        ),
        "ST-AUTHORIZED-KEYS": Misconfiguration(
            "medium",
            "Keys may log in to the image by ssh",
            "Whoever has the private key can enter each container of it that runs sshd.",
            "Remove the file.",
        ),
        "ST-SSH-HOST-KEY": Misconfiguration(
            "high",
            "The image has a private host key of ssh",
            "Whoever can pull the image can pretend to be each container of it.",
            "Remove it, and make one when a container starts.",
        ),
        "ST-GIT-FOLDER": Misconfiguration(
            "medium",
            "The image has a git repository",
            "Its history often has what was removed from the files, secrets among it.",
            "List `.git` in .dockerignore, or copy only what is needed.",
        ),
        "ST-PACKAGE-CACHE": Misconfiguration(
            "info",
            "The image has the cache of a package manager",
            "It is of no use in a container, and makes the image larger.",
            "Remove it in the same RUN, as by `rm -rf /var/lib/apt/lists/*`, `apk add --no-cache` or"
            " `pip install --no-cache-dir`.",
        ),
        "ST-LIBRARY-PRELOAD": Misconfiguration(
            "high",
            "/etc/ld.so.preload names a library",
            "It is loaded into every program: debuggers do it, and rootkits.",
            "Remove the file, and find out what made it.",
        ),
        "ST-SHELL-IN-DISTROLESS": Misconfiguration(
            "low",
            "An image of distroless has a shell",
            "Without a shell much of what attackers do does not work; somebody put one in.",
            "Remove it, or use the variant `:debug` where you mean to.",
        ),
        "ST-CERTIFICATE-EXPIRED": Misconfiguration(
            "medium",
            "A certificate has expired",
            "Clients refuse it. Certificates of authorities are not looked at.",
            "Renew it, and mount it into the container instead of building it in.",
        ),
        "ST-CERTIFICATE-EXPIRES": Misconfiguration(
            "low",
            "A certificate expires within 30 days",
            "Clients will refuse it. Certificates of authorities are not looked at.",
            "Renew it, and mount it into the container instead of building it in.",
        ),
    }
)
"""By id. An id stays, since waivers and policies name it."""


def misconfigured(
    rule: str, evidence: str = "", *, digests: tuple[str, ...] = (), line: int | None = None
) -> FoundThing:
    """The thing as a module tells it."""
    entry = CATALOGUE[rule]
    return FoundThing(
        kind="misconfiguration",
        rule=rule,
        severity=entry.severity,
        title=entry.title,
        remedy=entry.remedy,
        evidence=evidence[:300],
        digests=digests,
        line=line,
    )


MARK = "mark-"
"""Begins the rules of things that are no finding yet: what they say becomes one, or is dropped, when the
whole image is known (:mod:`sandbox.scanners.content.whole`)."""


def mark(name: str, evidence: str) -> FoundThing:
    """A thing for later."""
    return FoundThing("misconfiguration", f"{MARK}{name}", "info", name, evidence=evidence)
