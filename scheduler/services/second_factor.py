"""What somebody has beside a password: a code of their phone's app, a passkey, or a code on paper."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyotp
from cryptography.fernet import InvalidToken
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from scheduler.db import insert_into
from scheduler.errors import Conflict, Invalid, NotFound
from scheduler.keys import Keyring, fingerprint
from scheduler.models import Account, Kind, Passkey, RecoveryCode, UsedChallenge
from scheduler.services import accounts, audit, edits, notices
from scheduler.services.audit import Actor

if TYPE_CHECKING:  # the library is slow to import
    from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
    from webauthn.registration.verify_registration_response import VerifiedRegistration

STEP = timedelta(seconds=30)
CLOCKS_DIFFER = 1  # steps before and after: RFC 6238 lets a code of the step before or after pass
CODES = 10
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # without what is mistaken on paper
CODE_LENGTH = 12  # 59 bits: no fingerprint of one can be searched through


def has_one(session: Session, account: Account) -> bool:
    return account.totp_sealed is not None or bool(passkeys(session, account))


def passkeys(session: Session, account: Account) -> Sequence[Passkey]:
    return session.scalars(select(Passkey).where(Passkey.account_id == account.id).order_by(Passkey.id)).all()


def new_secret() -> str:
    return pyotp.random_base32()


def address_of(secret: str, account: Account, clinic: str) -> str:
    """The otpauth:// address that a phone's app reads from a picture."""
    return pyotp.TOTP(secret).provisioning_uri(name=account.email, issuer_name=clinic)


def keep_secret(
    session: Session, account: Account, secret: str, code: str, *, by: Actor, keys: Keyring, now: datetime
) -> None:
    """Take a phone's app as second factor once it shows the right code; raise Invalid for another code."""
    step = _step_of(secret, code, now, after=None)
    if step is None:
        raise Invalid("code", "This is not the code that your app shows now.")
    account.totp_sealed, account.totp_used_step = keys.seal(secret), step
    _note(session, "account.app_added", account, by=by, now=now)


def forget_app(session: Session, account: Account, *, by: Actor, now: datetime) -> None:
    _lock(session, account)
    account.totp_sealed = account.totp_used_step = None
    _require_one_left(session, account)
    _note(session, "account.app_removed", account, by=by, now=now)


def takes_code(session: Session, account: Account, code: str, *, keys: Keyring, now: datetime) -> bool:
    """Whether a code of the app or of the paper opens the account; each does so once."""
    words = code.replace(" ", "").replace("-", "").lower()
    return _takes_app_code(session, account, words, keys, now) or _takes_paper_code(session, account, words, now)


def _takes_app_code(session: Session, account: Account, code: str, keys: Keyring, now: datetime) -> bool:
    session.refresh(account, ["totp_sealed", "totp_used_step"], with_for_update=True)
    try:
        secret = keys.open(account.totp_sealed)
    except InvalidToken:  # sealed by a key that is gone: the codes on paper open the account still
        secret = None
    step = _step_of(secret, code, now, after=account.totp_used_step) if secret else None
    if step is None:
        return False
    account.totp_used_step = step
    return True


def _step_of(secret: str, code: str, now: datetime, *, after: int | None) -> int | None:
    """The half minute whose code this is, near now and later than `after`; None for a wrong or used one."""
    totp, here = pyotp.TOTP(secret), int(now.timestamp()) // int(STEP.total_seconds())
    near = range(here - CLOCKS_DIFFER, here + CLOCKS_DIFFER + 1)
    right = [step for step in near if secrets.compare_digest(_code_at(totp, step).encode(), code.encode())]
    return next((step for step in right if after is None or step > after), None)


def _code_at(totp: pyotp.TOTP, step: int) -> str:
    return totp.at(datetime.fromtimestamp(0, UTC) + step * STEP)


def new_paper_codes(session: Session, account: Account, *, by: Actor, now: datetime) -> list[str]:
    """Ten codes to print, in place of all earlier ones; only their fingerprints are stored."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account.id))
    codes = ["".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH)) for _ in range(CODES)]
    session.add_all(RecoveryCode(code_sha256=fingerprint(code), account_id=account.id) for code in codes)
    _note(session, "account.paper_codes_made", account, by=by, now=now)
    return ["-".join(code[at : at + 4] for at in range(0, CODE_LENGTH, 4)) for code in codes]


def paper_codes_left(session: Session, account: Account) -> int:
    left = select(func.count()).where(RecoveryCode.account_id == account.id, RecoveryCode.used_at.is_(None))
    return session.execute(left).scalar_one()


def _takes_paper_code(session: Session, account: Account, code: str, now: datetime) -> bool:
    used = update(RecoveryCode).where(
        RecoveryCode.code_sha256 == fingerprint(code),
        RecoveryCode.account_id == account.id,
        RecoveryCode.used_at.is_(None),
    )
    return session.execute(used.values(used_at=now).returning(RecoveryCode.code_sha256)).first() is not None


def reset(session: Session, account: Account, *, by: Actor, now: datetime) -> None:
    """Forget app, passkeys and paper of somebody who lost them, and end their sessions: they sign in anew."""
    session.refresh(account, ["totp_sealed", "totp_used_step"], with_for_update=True)
    account.totp_sealed = account.totp_used_step = None
    for table in (Passkey, RecoveryCode):
        session.execute(delete(table).where(table.account_id == account.id))
    accounts.sign_out_everywhere(session, account)
    _note(session, "account.second_factor_reset", account, by=by, now=now)


def add_passkey(
    session: Session, account: Account, name: str, verified: "VerifiedRegistration", *, by: Actor, now: datetime
) -> None:
    passkey = Passkey(
        account_id=account.id,
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        name=name,
        created_at=now,
    )
    session.add(passkey)
    session.flush()
    _note(session, "account.passkey_added", account, by=by, now=now, passkey=passkey.id)


def passkey_by(session: Session, credential_id: bytes) -> tuple[Passkey, Account] | None:
    """The passkey that a browser names, with its owner; None for one that nobody here has."""
    found = select(Passkey, Account).join(Account, Account.id == Passkey.account_id)
    row = session.execute(found.where(Passkey.credential_id == credential_id, Account.active)).one_or_none()
    return None if row is None else (row[0], row[1])


def take_challenge(session: Session, challenge: bytes, *, now: datetime) -> bool:
    """Take the answer to a question, which is taken once: two requests with the same answer do not both pass."""
    used = insert_into(session, UsedChallenge).values(challenge_sha256=fingerprint(challenge.hex()), used_at=now)
    return session.execute(used.on_conflict_do_nothing().returning(UsedChallenge.used_at)).first() is not None


def note_passkey(session: Session, passkey_id: int, verified: "VerifiedAuthentication", *, now: datetime) -> None:
    passkey = session.get_one(Passkey, passkey_id)
    passkey.sign_count, passkey.used_at = verified.new_sign_count, now


def remove_passkey(session: Session, account: Account, passkey_id: int, *, by: Actor, now: datetime) -> None:
    """Raises NotFound, and Conflict for the last second factor of an account that needs one."""
    if passkey_id > edits.LARGEST_ID:
        raise NotFound("There is no such passkey.")
    _lock(session, account)
    own = delete(Passkey).where(Passkey.id == passkey_id, Passkey.account_id == account.id).returning(Passkey.id)
    if session.execute(own).first() is None:
        raise NotFound("There is no such passkey.")
    _require_one_left(session, account)
    _note(session, "account.passkey_removed", account, by=by, now=now, passkey=passkey_id)


def _lock(session: Session, account: Account) -> None:
    """Two that remove a factor each wait for each other, so that one of them sees that it is the last."""
    session.refresh(account, with_for_update=True)


def _require_one_left(session: Session, account: Account) -> None:
    if account.needs_second_factor and not has_one(session, account):
        raise Conflict("This account needs a second factor: add another before you remove the last.")


def _note(session: Session, action: str, account: Account, *, by: Actor, now: datetime, **detail: int) -> None:
    """Record a change of the ways in, and owe the owner word of it, once for all changes of one minute."""
    audit.record(session, action, account, by=by, now=now, **detail)
    minute = now.replace(second=0, microsecond=0)
    notices.owe(session, account.id, Kind.WAYS_IN_CHANGED, minute.isoformat(), now=now)
