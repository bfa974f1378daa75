"""The real modules for content in the real confined child: images with known findings (rows 11 to 13)."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable

from sandbox.images.cache import Use
from sandbox.images.pull import PulledImage
from sandbox.scanners.layers import make_scanner
from sandbox.scanners.scan import scan_image
from tests.kit import planted
from tests.kit.images import Image, file, folder, make_image, make_layer, opaque, whiteout


async def test_what_was_planted_is_found_and_nothing_else(
    use: Use, pulled: Callable[[Image], Awaitable[PulledImage]]
) -> None:
    key, token = planted.private_key(), planted.token("ghp_")
    npm, aws = planted.token("npm_", seed=2), "AK" + "IA" + planted.made(planted.UPPER, 16)
    password, in_history = "q7Tz9kLw2mPf", planted.token("ghp_", seed=3)
    eicar = planted.eicar().encode()
    passwd = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/false\n"
    base = make_layer(
        file("usr/bin/eicar.com", eicar),
        file("srv/eicar.gz", gzip.compress(eicar)),
        file("srv/start.sh", planted.bash_shell().encode()),
        file("etc/miner.conf", b"url=stratum" + b"+tcp://pool.internal:3333\n"),
        file("root/.ssh/id_rsa", key.encode()),
        file("opt/secret/token", token.encode()),
        file("etc/passwd", passwd),
    )
    middle = make_layer(whiteout("root/.ssh/id_rsa"))
    top = make_layer(
        folder("opt/secret"),
        opaque("opt/secret"),
        file("srv/.npmrc", f"//npm.internal/:_authToken={npm}\n".encode()),
        file("srv/decoys.env", b"KEY=AKIAIOSFODNN7" + b"EXAMPLE\nDB_PASSWORD=${PASSWORD}\n"),
        file("srv/app", b"program", mode=0o4755),
    )
    config = {
        "config": {
            "User": "app",
            "Env": [f"AWS_ACCESS_KEY_ID={aws}", "DB_PASSWORD=${PASSWORD}"],
            "Labels": {"db": f"postgres://ledger:{password}@db.internal/ledger"},
            "Healthcheck": {"Test": ["CMD", "/srv/app"]},
        },
        "history": [
            {"created_by": "COPY base"},
            {"created_by": f"ARG GITHUB_TOKEN={in_history}", "empty_layer": True},
            {"created_by": f"RUN |1 KEY={in_history} /bin/sh -c rm"},
            {"created_by": "COPY top"},
        ],
    }
    image = await pulled(make_image(base, middle, top, document=config))
    scan = await scan_image(
        image, use, make_scanner(), digest=str(image.digest), platform=str(image.platform)
    )
    assert scan.incomplete == ()
    assert {(one.rule, one.where, one.layer, one.deleted_in_layer) for one in scan.found} == {
        ("ST-MALWARE-EICAR", "usr/bin/eicar.com", 0, None),
        ("ST-MALWARE-EICAR", "srv/eicar.gz!/eicar", 0, None),
        ("ST-MALWARE-REVERSE-SHELL-BASH", "srv/start.sh", 0, None),
        ("ST-MALWARE-MINER-POOL", "etc/miner.conf", 0, None),
        ("ST-SECRET-PRIVATE-KEY", "root/.ssh/id_rsa", 0, 1),
        ("ST-SECRET-GITHUB-TOKEN", "opt/secret/token", 0, 2),
        ("ST-SECRET-NPM-TOKEN", "srv/.npmrc", 2, None),
        ("ST-SECRET-AWS-ACCESS-KEY-ID", "env AWS_ACCESS_KEY_ID", None, None),
        ("ST-SECRET-DATABASE-URL", "label db", None, None),
        ("ST-SECRET-GITHUB-TOKEN", "history 1", None, None),
        ("ST-SETUID", "srv/app", 2, None),
    }
    told = scan.model_dump_json()
    secrets = (token, npm, aws, password, key[100:140], in_history)
    assert not any(secret[5:] in told for secret in secrets)
    assert [one.created_by.partition("=")[0] for one in scan.layers] == [
        "COPY base",
        "RUN |1 KEY",
        "COPY top",
    ]
