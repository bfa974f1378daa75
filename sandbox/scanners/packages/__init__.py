"""Readers of package metadata: what a layer's files say is installed, and which files a package brought."""

from __future__ import annotations

from sandbox.scanners.facts import Module
from sandbox.scanners.packages.apk import APK
from sandbox.scanners.packages.copyrights import COPYRIGHTS
from sandbox.scanners.packages.dpkg import DPKG
from sandbox.scanners.packages.java import JAVA
from sandbox.scanners.packages.npm import NPM
from sandbox.scanners.packages.programs import PROGRAMS
from sandbox.scanners.packages.python import PYTHON
from sandbox.scanners.packages.rpm import RPM, RPM_SQLITE
from sandbox.scanners.packages.system import SYSTEM

MODULES: tuple[Module, ...] = (SYSTEM, DPKG, COPYRIGHTS, APK, RPM, RPM_SQLITE, PYTHON, NPM, PROGRAMS, JAVA)
