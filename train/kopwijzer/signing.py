"""Signing: an Ed25519 signature over a version's manifest, whose digests cover the other files.

A digest tells damage; only a signature tells who. Off unless asked for; needs `kopwijzer[sign]`.
The signature stands beside the manifest as manifest.json.sig, 64 bytes in hexadecimal.
"""

import os
from pathlib import Path
from typing import Any

from kopwijzer.errors import BadSettings, BadVersion, MissingExtra
from kopwijzer.versions import SIGNATURE, Version

__all__ = ["sign", "verify"]

_PURPOSE = b"kopwijzer version 1\n"  # a signature made for something else does not fit


def sign(version: Version, key: str | os.PathLike[str]) -> Path:
    """Sign a version with a private key (PEM); gives the path of the signature.

    `openssl genpkey -algorithm ed25519 -out key.pem` makes a key, and
    `openssl pkey -in key.pem -pubout -out key.pub` its public half.

    Raises
    ------
    BadSettings
        The file holds no private Ed25519 key.
    """
    serialization, ed25519 = _cryptography()
    private = _load(key, lambda data: serialization.load_pem_private_key(data, None), "private")
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise BadSettings(f"{key}: holds a key of another kind; use an Ed25519 key")
    signature = private.sign(_PURPOSE + version.signed_bytes()).hex()
    return version.add_signature(f"{signature}\n".encode())


def verify(version: Version, key: str | os.PathLike[str]) -> str:
    """A sentence that says the signature holds for a public key (PEM).

    Raises
    ------
    BadVersion
        The version is not signed, or not with this key, or was changed since.
    """
    serialization, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature

    public = _load(key, serialization.load_pem_public_key, "public")
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise BadSettings(f"{key}: holds a key of another kind; use an Ed25519 key")
    found, place = version.signature(), version.path / SIGNATURE
    if found is None:
        raise BadVersion(f"{version.path}: is not signed")
    try:
        signature = bytes.fromhex(found.decode("ascii").strip())
    except ValueError as error:
        raise BadVersion(f"{place}: is damaged, it is no signature") from error
    try:
        public.verify(signature, _PURPOSE + version.signed_bytes())
    except InvalidSignature as error:
        raise BadVersion(
            f"{place}: does not fit this key; the version was changed, or signed by another"
        ) from error
    return "the signature holds"


def _load(path: str | os.PathLike[str], load: Any, kind: str) -> Any:
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise BadSettings(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise BadSettings(f"{path}: holds no {kind} key in PEM form without a password") from error


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra("signing", "sign") from error
    return serialization, ed25519
