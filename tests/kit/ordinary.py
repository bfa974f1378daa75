"""Eight services from Debian's packages, each started as the official image of that name starts it.

All lie on one layer, which ``scripts/debian.sh`` makes once for a machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tests.kit.images import Image, Layer, file, folder, make_image, make_layer, symlink, zstd
from tests.kit.toolfolder import tools_folder

_ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
_NGINX = """\
user www-data;
worker_processes 2;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;
events { worker_connections 64; }
http { access_log /var/log/nginx/access.log; server { listen 80; listen [::]:80; root /srv; } }
"""
_NGINX_ENTRYPOINT = """\
#!/bin/sh
set -e
if [ "$1" = nginx ]; then
  find /docker-entrypoint.d/ -follow -type f -print | sort -V | while read -r f; do "$f"; done
fi
exec "$@"
"""
_REDIS_ENTRYPOINT = """\
#!/bin/sh
set -e
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . \\! -user redis -exec chown redis '{}' +
  exec gosu redis "$0" "$@"
fi
umask 0077
exec "$@"
"""
_POSTGRES_ENTRYPOINT = """\
#!/usr/bin/env bash
set -Eeo pipefail
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chmod 00700 "$PGDATA"
  mkdir -p /var/run/postgresql
  chmod 03775 /var/run/postgresql
  find "$PGDATA" \\! -user postgres -exec chown postgres '{}' +
  find /var/run/postgresql \\! -user postgres -exec chown postgres '{}' +
  exec gosu postgres "$BASH_SOURCE" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username=postgres --pwfile=<(printf '%s\\n' "$POSTGRES_PASSWORD") -D "$PGDATA"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p 5432" -w start
  PGPASSWORD=$POSTGRES_PASSWORD psql -U postgres --dbname postgres -c 'CREATE DATABASE app'
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"
"""
_MARIADB_ENTRYPOINT = """\
#!/bin/bash
set -eo pipefail
shopt -s nullglob
if [ "$(id -u)" = 0 ]; then
  mkdir -p /var/lib/mysql /run/mysqld
  find /var/lib/mysql \\! -user mysql -exec chown mysql: '{}' +
  find /run/mysqld \\! -user mysql -exec chown mysql: '{}' \\;
  exec gosu mysql "${BASH_SOURCE[0]}" "$@"
fi
if [ ! -d /var/lib/mysql/mysql ]; then
  mariadb-install-db --datadir=/var/lib/mysql --rpm --auth-root-authentication-method=normal \\
    --skip-test-db --old-mode='UTF8_IS_UTF8MB3'
  "$@" --skip-networking --socket=/run/mysqld/mysqld.sock --wsrep_on=OFF --expire-logs-days=0 &
  pid=$!
  for _ in $(seq 60); do
    mariadb-admin --user=root --socket=/run/mysqld/mysqld.sock ping && break
    sleep 0.5
  done
  mariadb --user=root --socket=/run/mysqld/mysqld.sock -e 'CREATE DATABASE app'
  kill "$pid"
  wait "$pid"
fi
exec "$@"
"""
_HTTPD_FOREGROUND = """\
#!/bin/sh
set -e
rm -f /usr/local/apache2/logs/httpd.pid
exec apache2 -DFOREGROUND "$@"
"""
_NODE_ENTRYPOINT = """\
#!/bin/sh
set -e
if [ "${1#-}" != "${1}" ] || [ -z "$(command -v "${1}")" ]; then set -- node "$@"; fi
exec "$@"
"""
_NODE_SERVER = "require('http').createServer((_, a) => a.end('Ready to sail\\n')).listen(3000)\n"
_PYTHON_APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Ready to sail\\n"]
"""


def find_base() -> Path | None:
    """The layer that all lie on, if it was made."""
    return next(iter(sorted(tools_folder().glob("debian-*.tar.zst"))), None)


def ordinary_images(base: Path) -> Mapping[str, Image]:
    """The images by name."""
    diff_id = hashlib.sha256()
    with zstd.open(base) as stream:
        while block := stream.read(1 << 20):
            diff_id.update(block)
    below = Layer(base.read_bytes(), _ZSTD_LAYER, f"sha256:{diff_id.hexdigest()}")

    def made(layer: Layer, **config: object) -> Image:
        return make_image(below, layer, config=config)

    home = "/usr/lib/postgresql/15/bin"
    return {
        "nginx": made(
            make_layer(
                file("etc/nginx/nginx.conf", _NGINX.encode()),
                file("docker-entrypoint.sh", _NGINX_ENTRYPOINT.encode(), 0o755),
                folder("docker-entrypoint.d"),
                file("docker-entrypoint.d/10-say.sh", b"#!/bin/sh\necho configured\n", 0o755),
                file("srv/index.html", b"<h1>Ready to sail</h1>\n"),
                symlink("var/log/nginx/access.log", "/dev/stdout"),
                symlink("var/log/nginx/error.log", "/dev/stderr"),
            ),
            Entrypoint=["/docker-entrypoint.sh"],
            Cmd=["nginx", "-g", "daemon off;"],
            ExposedPorts={"80/tcp": {}},
            StopSignal="SIGQUIT",
        ),
        "redis": made(
            make_layer(
                file("usr/local/bin/docker-entrypoint.sh", _REDIS_ENTRYPOINT.encode(), 0o755), folder("data")
            ),
            Entrypoint=["docker-entrypoint.sh"],
            Cmd=["redis-server", "--protected-mode", "no"],
            WorkingDir="/data",
            Volumes={"/data": {}},
            ExposedPorts={"6379/tcp": {}},
        ),
        "postgres": made(
            make_layer(file("usr/local/bin/docker-entrypoint.sh", _POSTGRES_ENTRYPOINT.encode(), 0o755)),
            Entrypoint=["docker-entrypoint.sh"],
            Cmd=["postgres"],
            Env=[
                f"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{home}",
                "PGDATA=/var/lib/postgresql/data",
                "POSTGRES_PASSWORD=ahoy",
                "LANG=C",
            ],
            Volumes={"/var/lib/postgresql/data": {}},
            ExposedPorts={"5432/tcp": {}},
            StopSignal="SIGINT",
        ),
        "mariadb": made(
            make_layer(
                file("usr/local/bin/docker-entrypoint.sh", _MARIADB_ENTRYPOINT.encode(), 0o755),
                file("etc/mysql/mariadb.conf.d/99-any.cnf", b"[mariadbd]\nbind-address=*\n"),
            ),
            Entrypoint=["docker-entrypoint.sh"],
            Cmd=["mariadbd"],
            Volumes={"/var/lib/mysql": {}},
            ExposedPorts={"3306/tcp": {}},
        ),
        "apache": made(
            make_layer(
                file("usr/local/bin/httpd-foreground", _HTTPD_FOREGROUND.encode(), 0o755),
                folder("usr/local/apache2"),
                folder("usr/local/apache2/logs", uid=33),
                symlink("usr/local/apache2/logs/access.log", "/dev/stdout"),
                symlink("usr/local/apache2/logs/error.log", "/dev/stderr"),
                symlink("usr/local/apache2/logs/other_vhosts_access.log", "/dev/stdout"),
            ),
            Cmd=["httpd-foreground"],
            Env=[
                *(f"APACHE_{name}_DIR=/usr/local/apache2/logs" for name in ("RUN", "LOCK", "LOG")),
                "APACHE_PID_FILE=/usr/local/apache2/logs/httpd.pid",
                "APACHE_RUN_USER=www-data",
                "APACHE_RUN_GROUP=www-data",
                "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin",
            ],
            WorkingDir="/usr/local/apache2",
            ExposedPorts={"80/tcp": {}},
            StopSignal="SIGWINCH",
        ),
        "java": made(
            make_layer(folder("var/lib/tomcat10")),  # the root's own, as in the official image
            Cmd=["/usr/share/tomcat10/bin/catalina.sh", "run"],
            Env=[
                "JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64",
                "CATALINA_HOME=/usr/share/tomcat10",
                "CATALINA_BASE=/var/lib/tomcat10",
                "CATALINA_TMPDIR=/tmp",
            ],
            WorkingDir="/var/lib/tomcat10",
            ExposedPorts={"8080/tcp": {}},
        ),
        "node": made(
            make_layer(
                file("usr/local/bin/docker-entrypoint.sh", _NODE_ENTRYPOINT.encode(), 0o755),
                file("app/server.js", _NODE_SERVER.encode()),
            ),
            Entrypoint=["docker-entrypoint.sh"],
            Cmd=["node", "server.js"],
            WorkingDir="/app",
            ExposedPorts={"3000/tcp": {}},
        ),
        "python": made(
            make_layer(file("app/app.py", _PYTHON_APP.encode())),
            Cmd=["gunicorn", "--bind", "0.0.0.0:8000", "--user", "www-data", "app:app"],
            WorkingDir="/app",
            ExposedPorts={"8000/tcp": {}},
        ),
    }
