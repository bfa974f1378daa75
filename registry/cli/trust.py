"""How each client comes to trust the registry's own certificate: lines to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.http.selfsigned import SelfSigned


def trust_lines(host: str, own: SelfSigned) -> list[str]:
    """Lines for the certificate ``own`` of the registry that clients call ``host`` (HOST:PORT)."""
    return [
        f"HTTPS with a certificate of its own, for {', '.join(own.names)}:",
        f"  {own.certificate.resolve()}",
        "Copy it to where the clients are, as seatrial.pem; then, once for each client:",
        *(f"  {line}" for line in client_lines(host)),
    ]


def client_lines(host: str, file: str = "seatrial.pem") -> list[str]:
    """The lines for each client, given the copy ``file``."""
    toml = f'server = "https://{host}"\\n[host."https://{host}"]\\n  ca = "ca.crt"\\n'
    user, docker, containerd = (
        f"{folder}/certs.d/{host}" for folder in ("~/.config/containers", "/etc/docker", "/etc/containerd")
    )
    return [
        "podman, skopeo, buildah (for all users: /etc/containers instead of ~/.config/containers):",
        f"  install -D -m 644 {file} {user}/ca.crt",
        "docker (as root):",
        f"  install -D -m 644 {file} {docker}/ca.crt",
        "containerd (as root; its config_path, or ctr --hosts-dir, is /etc/containerd/certs.d):",
        f"  install -D -m 644 {file} {containerd}/ca.crt",
        f"  printf '{toml}' > {containerd}/hosts.toml",
        "crane, cosign, seatrial (the system's authorities stay trusted):",
        f"  export SSL_CERT_FILE=$PWD/{file}",
        "regctl:",
        f'  regctl registry set --cacert "$(cat {file})" {host}',
        "seatrial, to manage it:",
        f"  seatrial login --ca-file {file} https://{host}",
        "oras, helm: give every command",
        f"  --ca-file {file}",
    ]
