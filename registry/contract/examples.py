"""Run specs for common shapes of images, as ``seatrial spec init --example`` and the docs have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Example:
    """``shape`` says for which images, ``spec`` is YAML."""

    shape: str
    spec: str


EXAMPLES: Mapping[str, Example] = MappingProxyType(
    {
        "web-server": Example(
            "a web server, as nginx or Caddy",
            """\
version: 1
expect:
  http:
    - {port: 80, path: /, status: 200, headers: {Content-Type: "^text/html"}}
  log: [{match: "(?i)emerg|panic", absent: true}]
  stop: {within_seconds: 10}
""",
        ),
        "web-api": Example(
            "a service that says how it is in JSON, and is not always ready at the first try",
            """\
version: 1
attempts: 3
pass: any
expect:
  http:
    - port: 8080
      path: /health
      json: [{path: $.status, equals: ok}, {path: "$.checks[*].name", match: "^database$"}]
      within_seconds: 20
  below: {start_seconds: 15, memory_bytes: 268435456}
""",
        ),
        "database": Example(
            "a database, which writes where it is told and wants a secret to begin",
            """\
version: 1
env: {POSTGRES_PASSWORD: only-for-the-trial}
limits: {memory_bytes: 1073741824, alive_seconds: 30, wall_seconds: 90}
expect:
  tcp: [{port: 5432}]
  exec: [{command: [pg_isready, -U, postgres]}]
  log: [{match: "database system is ready to accept connections"}]
  only_writes: [/var/lib/postgresql, /run, /tmp]
  stop: {within_seconds: 30}
""",
        ),
        "cli-tool": Example(
            "a tool of the command line, whose entrypoint is the program",
            """\
version: 1
checks: [version-only]
cases:
  - name: help
    args: [--help]
    expect: {exit: 0, log: [{match: "(?i)^usage"}]}
  - name: unknown-option
    args: [--no-such-option]
    expect: {exit: nonzero}
""",
        ),
        "batch-job": Example(
            "a job that reads, writes and ends",
            """\
version: 1
env: {INPUT: /etc/hostname, OUTPUT: /out/result}
writable: [/out]
expect:
  exit: 0
  below: {cpu_seconds: 5}
  no_outbound: true
""",
        ),
        "distroless": Example(
            "one static program and nothing else: no shell, no accounts",
            """\
version: 1
user: "65532"
read_only: true
expect:
  alive: true
  only_writes: []
  no_outbound: true
""",
        ),
        "init-based": Example(
            "an image whose command starts others, and reaps none",
            """\
version: 1
init: true
expect:
  alive: 10
  stop: {within_seconds: 15}
""",
        ),
        "jvm": Example(
            "what is slow to start and takes its time to end",
            """\
version: 1
env: {JAVA_TOOL_OPTIONS: "-XX:MaxRAMPercentage=60"}
limits: {memory_bytes: 1073741824, cpus: 2, alive_seconds: 60, wall_seconds: 150}
expect:
  http: [{port: 8080, path: /actuator/health, json: [{path: $.status, equals: UP}], within_seconds: 60}]
  stop: {within_seconds: 30, exit: 143}
""",
        ),
        "needs-config": Example(
            "what must be given something to start, and must say so where it is not",
            """\
version: 1
cases:
  - name: without
    expect: {exit: nonzero, log: [{match: "(?i)config|required|missing"}]}
  - name: with
    env: {APP_URL: "http://localhost:8080"}
    expect: {alive: true}
""",
        ),
        "needs-database": Example(
            "what works only beside a database: alone it must end with an error, and not crash",
            """\
version: 1
env: {DATABASE_URL: "postgres://nobody@127.0.0.1:5432/none"}
checks: [fails-cleanly-without-db]
""",
        ),
        "needs-upstream": Example(
            "what asks others as soon as it starts: a service over HTTP, a database that must accept",
            """\
version: 1
env: {API_URL: "http://api.internal:9000", DATABASE_HOST: db.internal}
stub:
  - {name: api.internal, port: 9000, http: {headers: {Content-Type: application/json}, body: '{"ok": true}'}}
  - {name: db.internal, port: 5432, tcp: {}}
expect:
  alive: true
  stub:
    - {name: api.internal, method: GET, path: ^/v1/}
    - {name: db.internal}
""",
        ),
        "openshift": Example(
            "what is to run on OpenShift or under Kubernetes' restricted profile",
            """\
version: 1
writable: [/var/cache/app]
checks: [starts, restricted, stops-cleanly]
""",
        ),
        "healthcheck": Example(
            "an image that knows best itself how it is",
            """\
version: 1
limits: {wall_seconds: 90}
checks: [healthcheck, stops-cleanly]
""",
        ),
    }
)
