"""Readers of package metadata: what a layer's files say is installed, and which files a package brought."""

from __future__ import annotations

from sandbox.scanners.facts import Module

MODULES: tuple[Module, ...] = ()
