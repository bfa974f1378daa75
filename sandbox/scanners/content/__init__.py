"""What is wrong with the content of files: secrets, malware, misconfiguration.

``MODULES`` need nothing but a file. ``search.ContentSearch`` is one module more, made anew for each layer, with
an ``engine.Engine`` that is loaded before the process is confined; see there for how. Where the rules' ``gap``
says something, each scan says it among what is incomplete.
"""

from sandbox.scanners.facts import Module

MODULES: tuple[Module, ...] = ()
