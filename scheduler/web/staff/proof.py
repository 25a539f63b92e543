"""Whether somebody is who they say: by password, passkey or code. Every try of a password or a code is counted."""

from flask_babel import lazy_gettext as _

from scheduler.db import reading, transaction
from scheduler.errors import TooMany
from scheduler.models import Account
from scheduler.services import accounts, audit, second_factor, sign_in
from scheduler.services.audit import Actor
from scheduler.web.context import context, now
from scheduler.web.limiting import network
from scheduler.web.staff import passkeys

TOO_OFTEN = _("Too many wrong tries. Wait a quarter of an hour, or use your passkey.")


def by_password(email: str, password: str) -> Account | None:
    """Whose password this is, in the same time for everybody; raises TooMany after too many wrong ones."""
    whose = sign_in.password_of(email)
    _count(whose, email)
    with reading(context().engine) as session:
        account = sign_in.by_email(session, email)
    right = accounts.matches(password, account.password_hash if account is not None and account.active else None)
    if account is None:
        return None
    with transaction(context().engine) as session:
        if right:
            sign_in.forgive(session, whose, network())
        else:
            audit.record(session, "account.wrong_password", account, by=Actor("stranger", network()), now=now())
    return account if right else None


def by_passkey(answer: str) -> Account | None:
    """Whose passkey signed what this browser was asked to sign."""
    credential_id = passkeys.named(answer)
    if credential_id is None:
        return None
    with reading(context().engine) as session:
        found = second_factor.passkey_by(session, credential_id)
    proof = passkeys.signed(answer, found[0]) if found else None
    if found is None or proof is None:
        return None
    with transaction(context().engine) as session:
        second_factor.note_passkey(session, found[0].id, proof, now=now())
    return found[1]


def by_code(account: Account, code: str) -> bool:
    """Whether a code of the app or of the paper is this account's; raises TooMany after too many wrong ones."""
    whose = sign_in.codes_of(account)
    _count(whose, account.email)
    with transaction(context().engine) as session:
        own = session.get_one(Account, account.id)
        right = second_factor.takes_code(session, own, code, keys=context().keys, now=now())
        if right:
            sign_in.forgive(session, whose, network())
        action, by = f"account.code_{'taken' if right else 'refused'}", Actor.of(own.id, network())
        audit.record(session, action, own, by=by, now=now())
    return right


def _count(whose: str, email: str) -> None:
    """Count a try before it is looked at; once there were too many, tell the owner and raise TooMany."""
    try:
        with transaction(context().engine) as session:
            sign_in.count_try(session, whose, network(), now=now())
    except TooMany:
        with transaction(context().engine) as session:
            sign_in.tell_owner(session, email, now=now())
        raise
