"""Passkeys over HTTP (WebAuthn): the question goes with a page, the answer comes back in a hidden field.

What must be signed is kept in the signed cookie, so that an answer fits one browser and one question; the database
keeps which were answered (`second_factor.take_challenge`). The library is imported where it is used: it would be a
tenth of every start, of the worker's too.
"""

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import session

from scheduler.models import Account, Passkey
from scheduler.services import sign_in
from scheduler.web.context import context, now

if TYPE_CHECKING:
    from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
    from webauthn.registration.verify_registration_response import VerifiedRegistration

CHALLENGE = "challenge"
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)


def to_sign_in() -> str:
    """What a browser needs to sign with any passkey that it has for us, as JSON."""
    import webauthn  # noqa: PLC0415

    required = webauthn.helpers.structs.UserVerificationRequirement.REQUIRED
    options = webauthn.generate_authentication_options(rp_id=_site(), user_verification=required)
    _ask(options.challenge)
    return webauthn.options_to_json(options)


def to_add(account: Account, clinic: str, there: list[Passkey]) -> str:
    """What a browser needs to make a passkey for an account, as JSON; none on a device that has one."""
    import webauthn  # noqa: PLC0415
    from webauthn.helpers import structs  # noqa: PLC0415

    options = webauthn.generate_registration_options(
        rp_id=_site(),
        rp_name=clinic,
        user_id=f"account-{account.id}".encode(),
        user_name=account.email,
        user_display_name=account.name,
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.REQUIRED,
            user_verification=structs.UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[structs.PublicKeyCredentialDescriptor(id=one.credential_id) for one in there],
    )
    _ask(options.challenge)
    return webauthn.options_to_json(options)


def asked() -> bytes | None:
    """What this browser was asked to sign, once; None for nothing, and for what was asked too long ago."""
    challenge, _, asked_at = session.pop(CHALLENGE, "").partition(" ")
    fresh = asked_at and int(asked_at) > now().timestamp() - sign_in.LONGEST.total_seconds()
    return bytes.fromhex(challenge) if fresh else None


def added(answer: str, challenge: bytes) -> "VerifiedRegistration | None":
    """The new passkey in a browser's answer; None for one that does not fit what was asked."""
    import webauthn  # noqa: PLC0415
    from webauthn.helpers.exceptions import WebAuthnException  # noqa: PLC0415

    try:
        return webauthn.verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=_site(),
            expected_origin=_origins(),
            require_user_verification=True,
        )
    except (WebAuthnException, *UNREADABLE):
        return None


def named(answer: str) -> bytes | None:
    """The id of the passkey that an answer was signed with; None for a text that names none."""
    import webauthn  # noqa: PLC0415

    try:
        return webauthn.base64url_to_bytes(str(json.loads(answer)["rawId"]))
    except UNREADABLE:
        return None


def signed(answer: str, challenge: bytes, passkey: Passkey) -> "VerifiedAuthentication | None":
    """What an answer proves, when this passkey signed what was asked; else None."""
    import webauthn  # noqa: PLC0415
    from webauthn.helpers.exceptions import WebAuthnException  # noqa: PLC0415

    try:
        return webauthn.verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=_site(),
            expected_origin=_origins(),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, *UNREADABLE):
        return None


def _ask(challenge: bytes) -> None:
    session[CHALLENGE] = f"{challenge.hex()} {int(now().timestamp())}"


def _site() -> str:
    """The name that passkeys belong to: the host of our pages, which must have one."""
    host = urlsplit(context().settings.base_url).hostname or ""
    return "localhost" if _is_number(host) else host


def _origins() -> list[str]:
    own = urlsplit(context().settings.base_url)
    port = f":{own.port}" if own.port else ""
    return [f"{own.scheme}://{_site()}{port}"]


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
