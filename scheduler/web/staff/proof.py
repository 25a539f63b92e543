"""Whether somebody is who they say: by password, passkey or code. Every try of a password or a code is counted."""

from collections.abc import Collection

from flask_babel import lazy_gettext as _

from scheduler.db import reading, transaction
from scheduler.models import Account
from scheduler.services import accounts, audit, second_factor, sign_in
from scheduler.services.audit import Actor
from scheduler.services.sign_in import Tries
from scheduler.web.context import context, now
from scheduler.web.limiting import network
from scheduler.web.staff import passkeys

TOO_OFTEN = _("Too many wrong tries. Wait a quarter of an hour, or use your passkey.")


def by_password(email: str, password: str, *, session_token: str | None = None) -> Account | None:
    """Whose password this is, in the same time for everybody; raises TooMany after too many wrong ones.

    In a session its own tries count, so that nobody elsewhere can keep its owner out of it.
    """
    counted: list[Tries] = [sign_in.tries_of_mail(email), sign_in.tries_of_network(network())]
    if session_token is not None:
        counted = [sign_in.tries_in_session(session_token)]
    last = _count(counted)
    with reading(context().engine) as session:
        account = sign_in.by_email(session, email)
    right = accounts.matches(password, account.password_hash if account is not None and account.active else None)
    with transaction(context().engine) as session:
        if right:
            sign_in.forgive(session, counted)
        else:
            audit.wrong_password(session, account, address=network(), now=now())
            if last:
                sign_in.tell_owner(session, email, now=now())
    return account if right else None


def by_passkey(answer: str) -> Account | None:
    """Whose passkey signed what this browser was asked to sign; the same answer proves nothing a second time."""
    credential_id, challenge = passkeys.named(answer), passkeys.asked()
    if credential_id is None or challenge is None:
        return None
    with reading(context().engine) as session:
        found = second_factor.passkey_by(session, credential_id)
    proof = passkeys.signed(answer, challenge, found[0]) if found else None
    if found is None or proof is None:
        return None
    with transaction(context().engine) as session:
        if not second_factor.take_challenge(session, challenge, now=now()):
            return None
        second_factor.note_passkey(session, found[0].id, proof, now=now())
    return found[1]


def by_code(account: Account, code: str) -> bool:
    """Whether a code of the app or of the paper is this account's; raises TooMany after too many wrong ones."""
    counted = [sign_in.tries_of_codes(account), sign_in.tries_of_network(network())]
    last = _count(counted)
    with transaction(context().engine) as session:
        own = session.get_one(Account, account.id)
        right = second_factor.takes_code(session, own, code, keys=context().keys, now=now())
        if right:
            sign_in.forgive(session, counted)
        elif last:
            sign_in.tell_owner(session, own.email, now=now())
        action, by = f"account.code_{'taken' if right else 'refused'}", Actor.of(own.id, network())
        audit.record(session, action, own, by=by, now=now())
    return right


def _count(counted: Collection[Tries]) -> bool:
    """Count a try before it is looked at, for good whatever becomes of it; whether it is the last there is."""
    with transaction(context().engine) as session:
        return sign_in.count_try(session, counted, now=now())
