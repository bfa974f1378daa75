"""What is wrong with the content of files: secrets, malware, misconfiguration.

``MODULES`` need nothing but files and folders; they are made anew each time they are asked for, since one of
them counts what it has told of a layer. The search for secrets and malware is one module more, with rules:
see :mod:`sandbox.scanners.content.engine`.
"""

from __future__ import annotations

from sandbox.scanners.content.accounts import Accounts
from sandbox.scanners.content.certificates import Certificates
from sandbox.scanners.content.files import FileRules
from sandbox.scanners.facts import Module


def __getattr__(name: str) -> tuple[Module, ...]:
    if name == "MODULES":
        return (FileRules(), Accounts(), Certificates())
    raise AttributeError(name)
