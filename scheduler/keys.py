"""Secrets at work: tokens of links are derived, never stored; a few fields are sealed. Newest key first."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from uuid import UUID

from cryptography.fernet import Fernet, MultiFernet
from itsdangerous import BadSignature, URLSafeSerializer


def fingerprint(secret: str) -> str:
    """SHA-256 in hex: enough to find what a secret names, useless to find the secret."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Keyring:
    """The clinic's keys. Rotating means putting a new key first; old ones keep working until removed."""

    link_keys: tuple[str, ...]
    field_cipher: MultiFernet

    @classmethod
    def of(cls, link_keys: Sequence[str], field_keys: Sequence[str]) -> "Keyring":
        return cls(tuple(link_keys), MultiFernet([Fernet(key) for key in field_keys]))

    @property
    def newest_link_key_id(self) -> str:
        return _key_id(self.link_keys[0])

    def link_token(self, appointment_id: UUID, generation: int, key_id: str) -> str | None:
        """Derive the token of one generation of a visit's link; None when its key was retired.

        base64url of HMAC-SHA256(link key, appointment id ‖ generation): 43 characters.
        """
        for key in self.link_keys:
            if _key_id(key) == key_id:
                message = appointment_id.bytes + generation.to_bytes(4, "big")
                digest = hmac.digest(key.encode(), message, "sha256")
                return urlsafe_b64encode(digest).rstrip(b"=").decode()
        return None

    def sign(self, purpose: str, *words: int) -> str:
        """Sign numbers for a short-lived link; nothing of them is secret, and none can be changed."""
        return self._signer(purpose).dumps(words)

    def signed(self, purpose: str, text: str) -> tuple[int, ...] | None:
        """The numbers that were signed for this purpose by one of our keys; None for any other text."""
        try:
            return tuple(self._signer(purpose).loads(text))
        except BadSignature:
            return None

    def _signer(self, purpose: str) -> URLSafeSerializer:
        return URLSafeSerializer(list(reversed(self.link_keys)), salt=purpose)  # it signs with the last

    def seal(self, text: str | None) -> bytes | None:
        return None if text is None else self.field_cipher.encrypt(text.encode())

    def open(self, sealed: bytes | None) -> str | None:
        return None if sealed is None else self.field_cipher.decrypt(sealed).decode()


@cache
def _key_id(key: str) -> str:
    """A short public name of a key, so that a link knows which key derives it."""
    return fingerprint("link key " + key)[:12]
