"""Encryption at rest: AES-256-GCM, bound to the place where the value is kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.secrets import Secret

KEY_BYTES = 32
KEY_ID_BYTES = 4
NONCE_BYTES = 12
"""96 random bits, as NIST SP 800-38D (8.2.2) allows for up to 2^32 values a key."""


class Sealer:
    """Seals with the first key, opens with any: a key is replaced by putting the new one in front.

    `keys`: one or more keys, each 32 bytes in base64, separated by commas. Raises ConfigurationError for any other form.
    """

    def __init__(self, keys: Secret, *, name: str) -> None:
        self._name = name
        self._keys: dict[bytes, AESGCM] = {}
        for text in keys.reveal().split(","):
            key = self._decoded(text.strip())
            self._keys[hashlib.sha256(key).digest()[:KEY_ID_BYTES]] = AESGCM(key)
        self._first = next(iter(self._keys))

    def seal(self, plain: bytes, place: str) -> bytes:
        """`place`: what the sealed value belongs to; it opens nowhere else."""
        nonce = os.urandom(NONCE_BYTES)
        return self._first + nonce + self._keys[self._first].encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises ConfigurationError when no key fits, or the value was changed or moved."""
        key = self._keys.get(sealed[:KEY_ID_BYTES])
        nonce, rest = sealed[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES], sealed[KEY_ID_BYTES + NONCE_BYTES :]
        if key is not None:
            try:
                return key.decrypt(nonce, rest, place.encode())
            except (InvalidTag, ValueError):
                pass
        raise ConfigurationError(
            f"a stored token cannot be opened with the keys in {self._name}: put the key it was sealed with behind the "
            "new one, or authorise the connection again"
        )

    def _decoded(self, text: str) -> bytes:
        try:
            key = base64.b64decode(text, altchars=b"-_" if set(text) & set("-_") else None, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise ConfigurationError(
                f"{self._name} must hold {KEY_BYTES} random bytes in base64 (several keys: separated by commas); make one "
                "with `openssl rand -base64 32`"
            )
        return key
