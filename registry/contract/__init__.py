"""What registry and worker say to each other: pure values with published JSON Schemas.

``PROTOCOL_VERSION`` stands in every message of the worker protocol. A side that does not know the other's
version says so (426) instead of guessing.
"""

PROTOCOL_VERSION = 1
