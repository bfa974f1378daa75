"""What is wrong with the content of files: secrets, malware, misconfiguration.

``MODULES`` need nothing but a file. What searches by rules needs them compiled: ``engine.prepare`` does it,
before the process is confined, and gives further modules for one layer.
"""

from sandbox.scanners.facts import Module

MODULES: tuple[Module, ...] = ()
