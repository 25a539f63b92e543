"""What an address of the staff's pages names: a visit that is its reader's to open, a place, a day, a number, a key."""

import re
from collections.abc import Sequence
from datetime import date
from uuid import UUID

from flask import request
from flask import session as cookie
from sqlalchemy.orm import Session

from scheduler.errors import Invalid, NotFound
from scheduler.models import Appointment, Location
from scheduler.services import visits
from scheduler.web import schemas
from scheduler.web.staff.access import staff

DATE = re.compile(r"2[01][0-9]{2}-[0-9]{2}-[0-9]{2}")  # centuries that a calendar can step about in
PLACE = "place"  # in the cookie: the location that was looked at last


def visit(session: Session, visit_id: UUID) -> Appointment:
    """A visit that is theirs to open; raises NotFound for any other, whether it is there or not."""
    found = visits.find(session, visit_id)
    if not staff().may_open(found):
        raise NotFound("There is no such visit.")
    return found


def day(name: str) -> date | None:
    """The day that the address names, if any; raises Invalid for a text that is none."""
    text = request.args.get(name)
    return _date(name, text) if text else None


def day_sent() -> date:
    """The `day` that a button sends; raises Invalid for none and for a text that is none."""
    return _date("day", request.form.get("day", ""))


def _date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text if DATE.fullmatch(text) else "")
    except ValueError as error:
        raise Invalid(name, "Write it like 2026-11-23.") from error


def number(name: str, text: str) -> int:
    """An id; raises Invalid for a text that is none."""
    if not re.fullmatch(schemas.ID, text):
        raise Invalid(name, "There is nothing with this number.")
    return int(text)


def chosen(name: str) -> int | None:
    """The id that the address names, if any; raises Invalid for a text that is none."""
    text = request.args.get(name)
    return number(name, text) if text else None


def key(name: str) -> UUID | None:
    """A key that the address names, if any; raises Invalid for a text that is none."""
    text = request.args.get(name)
    try:
        return UUID(text) if text else None
    except ValueError as error:
        raise Invalid(name, "There is nothing with this key.") from error


def place(own: Sequence[Location]) -> Location | None:
    """The location of `own` that the address names, else the one looked at last, else the first; None for no `own`.

    Raises NotFound for one that this account does not work for, Invalid for one that is not in use.
    """
    asked = chosen("location")
    if asked is not None:
        staff().require_location(asked)
    wanted = asked or cookie.get(PLACE)
    found = next((one for one in own if one.id == wanted), None)
    if asked is not None and found is None:
        raise Invalid("location", "There is no such location.")
    found = found or next(iter(own), None)
    if found is not None and cookie.get(PLACE) != found.id:
        cookie[PLACE] = found.id
    return found
