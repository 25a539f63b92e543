"""Somebody of the clinic's, signed in: accounts with a password, and clients that hold a session."""

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from scheduler.clock import Clock
from scheduler.db import transaction
from scheduler.models import Account, Role
from scheduler.services import accounts, sign_in
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.web.staff.access import TOKEN

PASSWORD = "seven purple tractors sing"
PASSWORD_HASH = accounts.hashed(PASSWORD)


def an_account(
    engine: Engine,
    clock: Clock,
    role: Role,
    *,
    email: str = "",
    locations: list[int] | None = None,
    therapist_id: int | None = None,
    second_factor: bool = False,
) -> Account:
    """Store somebody who may sign in; `locations` is None for everywhere."""
    new = AccountDetails(
        email or f"{role}@clinic.example",
        f"Some {role}",
        role,
        everywhere=locations is None,
        location_ids=locations or (),
        therapist_id=therapist_id,
    )
    with transaction(engine) as session:
        account = accounts.add(session, new, by=Actor("test"), now=clock.now())
        account.password_hash, account.needs_second_factor = PASSWORD_HASH, second_factor
    return account


def signed_in(app: Flask, engine: Engine, clock: Clock, account: Account) -> FlaskClient:
    """A browser in which this account is signed in fully."""
    with transaction(engine) as session:
        token = sign_in.begin(session, session.get_one(Account, account.id), full=True, now=clock.now())
    client = app.test_client()
    with client.session_transaction() as cookie:
        cookie[TOKEN] = token
    return client


def csrf_token(client: FlaskClient, path: str = "/staff/account/") -> str:
    """The token that forms of this browser carry, from one of its pages."""
    page = client.get(path).get_data(as_text=True)
    return page.split('name="csrf_token"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
