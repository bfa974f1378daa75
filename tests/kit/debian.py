"""Images made from programs that Debian installed here, started the way official images start them.

Each starts as root, prepares its folders, and drops to a user of its own.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.kit.images import (
    Image,
    Layer,
    Member,
    busybox_layer,
    file,
    folder,
    make_image,
    make_layer,
    symlink,
)
from tests.kit.programs import libraries_of

_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n"
    "postgres:x:999:999::/var/lib/postgresql:/bin/sh\nredis:x:998:998::/data:/bin/sh\n"
)
_GROUP = "root:x:0:\nwww-data:x:33:\npostgres:x:999:\nredis:x:998:\n"
# By its path: the shell of busybox prefers a setpriv of its own.
_DROP = "/usr/bin/setpriv --reuid={0} --regid={0} --init-groups"


def missing_programs() -> list[str]:
    """Debian packages whose programs are not here."""
    found = {
        "nginx-light": shutil.which("nginx", path="/usr/sbin"),
        "redis-server": shutil.which("redis-server", path="/usr/bin"),
        "postgresql": next(Path("/usr/lib/postgresql").glob("*/bin/postgres"), None),
    }
    return [package for package, program in found.items() if program is None]


def nginx_image() -> Image:
    """A master as root that binds port 80, workers as www-data, logs to the standard streams by links."""
    conf = (
        "user www-data;\nworker_processes 2;\npid /run/nginx.pid;\n"
        "error_log /var/log/nginx/error.log notice;\n"
        "events { worker_connections 64; }\n"
        "http { access_log /var/log/nginx/access.log; server { listen 80; listen [::]:80; root /srv; } }\n"
    )
    layer = make_layer(
        *program("/usr/sbin/nginx"),
        folder("etc/nginx"),
        file("etc/nginx/nginx.conf", conf.encode()),
        folder("srv"),
        file("srv/index.html", b"<h1>Ready to sail</h1>\n"),
        folder("var/lib/nginx"),
        folder("var/log/nginx"),
        symlink("var/log/nginx/access.log", "/dev/stdout"),
        symlink("var/log/nginx/error.log", "/dev/stderr"),
        compression="none",
    )
    config = {
        "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    }
    return make_image(busybox_layer(), _accounts(), layer, config=config)


def redis_image() -> Image:
    """An entrypoint that chowns its volume and drops to redis."""
    entrypoint = (
        "#!/bin/sh\nset -e\n"
        'if [ "$(id -u)" = 0 ]; then\n'
        "  chown redis:redis . \n"
        f'  exec {_DROP.format("redis")} "$0" "$@"\nfi\n'
        "umask 0077\n"
        'exec "$@"\n'
    )
    layer = make_layer(
        *program("/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/setpriv"),
        folder("data"),
        file("entrypoint.sh", entrypoint.encode(), 0o755),
        compression="none",
    )
    config = {
        "Entrypoint": ["/entrypoint.sh"],
        "Cmd": ["redis-server", "--protected-mode", "no"],
        "WorkingDir": "/data",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"6379/tcp": {}},
        "Healthcheck": {"Test": ["CMD-SHELL", "redis-cli ping | grep -q PONG"]},
    }
    return make_image(busybox_layer(), _accounts(), layer, config=config)


def postgres_image() -> Image:
    """An entrypoint that makes its data folder, drops to postgres, runs initdb and then the server."""
    found = next(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    home = found.parents[1]
    share = Path("/usr/share/postgresql") / home.name
    entrypoint = (
        "#!/bin/sh\nset -e\n"
        'if [ "$(id -u)" = 0 ]; then\n'
        '  mkdir -p "$PGDATA" /var/run/postgresql\n  chown -R postgres "$PGDATA" /var/run/postgresql\n'
        '  chmod 0700 "$PGDATA"\n  chmod 2777 /var/run/postgresql\n'
        f'  exec {_DROP.format("postgres")} "$0" "$@"\nfi\n'
        'if [ ! -s "$PGDATA/PG_VERSION" ]; then\n'
        '  initdb --username=postgres -D "$PGDATA"\n'
        '  pg_ctl -D "$PGDATA" -o "-c listen_addresses=\'\'" -w start\n'
        '  pg_ctl -D "$PGDATA" -m fast -w stop\nfi\n'
        'exec "$@"\n'
    )
    programs = [str(home / "bin" / name) for name in ("postgres", "initdb", "pg_ctl", "pg_isready")]
    modules = [str(home / "lib" / name) for name in ("dict_snowball.so", "plpgsql.so")]
    layer = make_layer(
        *program(*programs, *modules, "/usr/bin/setpriv"),
        *tree(share),
        *tree(Path("/usr/share/zoneinfo/Etc")),
        file("entrypoint.sh", entrypoint.encode(), 0o755),
        folder("run/postgresql", 0o2777, uid=999, gid=999),
        compression="none",
    )
    config = {
        "Entrypoint": ["/entrypoint.sh"],
        "Cmd": ["postgres"],
        "Env": [f"PATH={home}/bin:/usr/bin:/bin", "PGDATA=/var/lib/postgresql/data", "LANG=C"],
        "Volumes": {"/var/lib/postgresql/data": {}},
        "ExposedPorts": {"5432/tcp": {}},
        "StopSignal": "SIGINT",
    }
    return make_image(busybox_layer(), _accounts(), layer, config=config)


def program(*paths: str) -> Iterator[Member]:
    """Programs and the libraries that they load, at the paths that they have here."""
    wanted = dict.fromkeys(paths)
    for path in paths:
        wanted.update(dict.fromkeys(libraries_of(path)))
    yield from _files(Path(path) for path in wanted)


def tree(top: Path) -> Iterator[Member]:
    """Every plain file below ``top``, at the path that it has here."""
    yield from _files(sorted(path for path in top.rglob("*") if path.is_file()))


def _files(paths: Iterable[Path]) -> Iterator[Member]:
    made: set[Path] = set()
    for path in paths:
        for parent in reversed(path.parents[:-1]):
            if parent not in made:
                made.add(parent)
                yield folder(str(parent)[1:])
        mode = stat.S_IMODE(path.stat().st_mode) & ~0o6000
        yield file(str(path)[1:], path.read_bytes(), mode)


def _accounts() -> Layer:
    return make_layer(
        file("etc/passwd", _PASSWD.encode()),
        file("etc/group", _GROUP.encode()),
        folder("run"),
        symlink("var/run", "/run"),
        compression="none",
    )
