"""Tokens that are derived, never stored, and sealed fields; both live through a change of keys."""

import re
from base64 import urlsafe_b64decode
from uuid import UUID

import pytest
from cryptography.fernet import Fernet, InvalidToken
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.keys import Keyring, fingerprint

VISIT = UUID("0193ad2f-7b1e-7cc0-8000-000000000001")
NEIGHBOUR = UUID("0193ad2f-7b1e-7cc0-8000-000000000002")
OLD, NEW = "old-link-key-0123456789-abcdefghij", "new-link-key-9876543210-jihgfedcba"
OLD_FIELD, NEW_FIELD = (Fernet.generate_key().decode() for _ in range(2))


def ring(*link_keys: str, field_keys: tuple[str, ...] = (OLD_FIELD,)) -> Keyring:
    return Keyring.of(link_keys or (OLD,), field_keys)


def token(keys: Keyring, visit: UUID = VISIT, generation: int = 1) -> str:
    """The token of a link made now, with the newest key."""
    made = keys.link_token(visit, generation, keys.newest_link_key_id)
    assert made is not None
    return made


# --- tokens of links


def test_a_token_is_derived_the_same_again_by_another_process() -> None:
    assert token(ring(OLD)) == token(ring(OLD))


def test_a_token_is_the_documented_derivation() -> None:
    """HMAC-SHA256 of id and generation as published in the design: a change of it would break every link sent."""
    assert token(ring("k" * 40), UUID(int=1)) == "Jd0B_JSuqzAF9wQ96lJuy65drBWZXKWA7Wmht5raxxE"


def test_a_token_is_43_characters_that_fit_an_address_unescaped() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token(ring()))
    assert len(urlsafe_b64decode(token(ring()) + "=")) == 32


def test_tokens_differ_by_visit_generation_and_key() -> None:
    found = [
        token(ring(OLD)),
        token(ring(OLD), NEIGHBOUR),
        token(ring(OLD), generation=2),
        token(ring(OLD), generation=256),
        token(ring(NEW)),
    ]
    assert len(set(found)) == len(found)


@settings(deadline=None)
@given(st.sets(st.tuples(st.uuids(), st.integers(1, 2**31 - 1)), min_size=2, max_size=20))
def test_no_two_links_share_a_token(links: set[tuple[UUID, int]]) -> None:
    assert len({token(ring(), visit, generation) for visit, generation in links}) == len(links)


def test_an_old_link_works_after_the_keys_were_rotated() -> None:
    made, key_id = token(ring(OLD)), ring(OLD).newest_link_key_id
    assert ring(NEW, OLD).link_token(VISIT, 1, key_id) == made


def test_new_links_use_the_newest_key() -> None:
    assert ring(NEW, OLD).newest_link_key_id == ring(NEW).newest_link_key_id != ring(OLD).newest_link_key_id
    assert token(ring(NEW, OLD)) == token(ring(NEW))


def test_a_link_of_a_retired_key_has_no_token() -> None:
    assert ring(NEW).link_token(VISIT, 1, ring(OLD).newest_link_key_id) is None


def test_a_key_id_is_short_and_tells_nothing_of_the_key() -> None:
    key_id = ring(OLD).newest_link_key_id
    assert re.fullmatch(r"[0-9a-f]{12}", key_id)
    assert key_id != fingerprint(OLD)[:12]


# --- fingerprints


def test_a_fingerprint_is_sha256_in_hex() -> None:
    assert fingerprint("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("text", ["", "é", "\x00", "\ud800", "x" * 100_000])
def test_any_text_that_somebody_sends_has_a_fingerprint(text: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint(text))


# --- sealed fields


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=500))
def test_sealed_text_opens_as_it_was(text: str) -> None:
    assert ring().open(ring().seal(text)) == text


def test_nothing_stays_nothing() -> None:
    assert ring().seal(None) is None
    assert ring().open(None) is None


def test_sealed_text_is_not_readable_and_never_twice_the_same() -> None:
    first, second = (ring().seal("knee hurts on stairs") for _ in range(2))
    assert first is not None
    assert b"knee" not in first
    assert b"knee" not in urlsafe_b64decode(first)
    assert first != second


def test_sealed_text_opens_after_the_keys_were_rotated() -> None:
    sealed = ring().seal("knee")
    assert ring(field_keys=(NEW_FIELD, OLD_FIELD)).open(sealed) == "knee"


def test_new_text_is_sealed_with_the_newest_key() -> None:
    sealed = ring(field_keys=(NEW_FIELD, OLD_FIELD)).seal("knee")
    assert ring(field_keys=(NEW_FIELD,)).open(sealed) == "knee"
    with pytest.raises(InvalidToken):
        ring(field_keys=(OLD_FIELD,)).open(sealed)


def test_sealed_text_of_a_retired_key_stays_shut() -> None:
    sealed = ring().seal("knee")
    with pytest.raises(InvalidToken):
        ring(field_keys=(NEW_FIELD,)).open(sealed)


def test_sealed_text_that_was_changed_stays_shut() -> None:
    sealed = ring().seal("knee")
    assert sealed is not None
    with pytest.raises(InvalidToken):
        ring().open(sealed[:-6] + b"AAAAA=")
