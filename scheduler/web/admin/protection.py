"""What each location keeps back for short notice: the rule's number, the one in force, and pinning another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apiflask import APIBlueprint
from flask import Response, render_template, url_for
from flask_babel import gettext
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from scheduler import words
from scheduler.db import reading
from scheduler.models import LetGoDay, Location, ProtectionLevel, Role
from scheduler.services import audit_log, letting_go, practice, protection
from scheduler.timeline import local_date, zone_of
from scheduler.web.admin import deeds
from scheduler.web.admin.forms import ProtectionForm
from scheduler.web.admin.saving import Edit, now, plain_date, pressed, saved
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff import asked
from scheduler.web.staff.access import allowed, staff

pages = APIBlueprint("protection", __name__, url_prefix="/admin/access/protection", enable_openapi=False)


@dataclass(frozen=True, slots=True)
class ShownDay:
    """A day on which a location keeps nothing back, in words, and as a form sends it."""

    name: str
    told: str
    iso: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What a location keeps back, in words; `row` is None before the worker decided for the first time."""

    place: Location
    row: ProtectionLevel | None
    why: str
    pinned: str
    let_go: Sequence[ShownDay]


@pages.get("", endpoint="levels")
@allowed(Role.ADMIN)
def levels() -> str:
    """One's own locations, by name."""
    with reading(context().engine) as session:
        clinic, rows, names = practice.policy(session), protection.levels(session), audit_log.accounts(session)
        own = [place for place in practice.locations(session) if staff().works_at(place.id)]
        days = letting_go.days_let_go(session, now=now())
    shown = [_shown(place, rows.get(place.id), days.get(place.id, ()), names) for place in own]
    return render_template(
        "admin/protection.html", clinic=clinic, shown=shown, one_in=protection.ONE_IN, plain_date=plain_date
    )


@pages.get("/<int:location_id>")
@allowed(Role.ADMIN)
def level(location_id: int) -> Response:
    place, details = _place(location_id)
    return _edit(place).page(ProtectionForm.of(details))


@pages.post("/<int:location_id>")
@allowed(Role.ADMIN)
def save_level(location_id: int) -> BaseResponse:
    form, (place, _) = ProtectionForm(), _place(location_id)

    def change(session: Session) -> str:
        protection.change(session, location_id, form.details(), seal=form.seal.data, by=staff().actor, now=now())
        return url_for("protection.levels")

    return saved(form, _edit(place), change, as_form=ProtectionForm.of)


@pages.post("/<int:location_id>/keep-again")
@allowed(Role.ADMIN)
def keep_again(location_id: int) -> BaseResponse:
    """Keep back again what is free of a day that was let go."""
    _place(location_id)
    day = asked.day_sent()

    def change(session: Session) -> None:
        letting_go.keep_again(session, location_id, day, by=staff().actor, now=now())

    return pressed(change, gettext("Keep the day back again"), url_for("protection.levels"))


def _place(location_id: int) -> tuple[Location, protection.ProtectionDetails]:
    staff().require_location(location_id)
    with reading(context().engine) as session:
        return protection.place_and_details(session, location_id)


def _edit(place: Location) -> Edit:
    return Edit(
        gettext("Kept back for short notice: %(place)s", place=place.name),
        url_for("protection.levels"),
        [
            gettext(
                "So many visits of each day can be booked in its last hours only. The rule's number is followed "
                "between floor and ceiling and changes at most once a day; a pinned one stays until it is taken away."
            ),
            gettext("No visit that is booked is touched. The calendar follows within some minutes."),
        ],
    )


def _shown(place: Location, row: ProtectionLevel | None, days: Sequence[LetGoDay], names: Mapping[str, str]) -> Shown:
    let_go = [_let_go(day, place, names) for day in days]
    return Shown(place, row, _why(row) if row else "", _pinned(row, place, names) if row else "", let_go)


def _let_go(row: LetGoDay, place: Location, names: Mapping[str, str]) -> ShownDay:
    name = words.date_in_words(row.day, language())
    at = words.when(row.let_go_at, place.time_zone, language())
    told = gettext(
        "Nothing is kept back on %(day)s: let go by %(who)s, %(when)s.",
        day=name,
        who=deeds.who(row.let_go_by, names),
        when=at,
    )
    return ShownDay(name, str(told), row.day.isoformat())


def _why(row: ProtectionLevel) -> str:
    """What the rule's number rests on."""
    if row.days:
        return str(gettext("By what was wanted at short notice on the last %(days)d open days.", days=row.days))
    return str(gettext("By the usual number, since there are not 20 open days of history yet."))


def _pinned(row: ProtectionLevel, place: Location, names: Mapping[str, str]) -> str:
    if row.pinned_by is None or row.pinned_at is None:
        return str(gettext("Follows the rule"))
    day = words.plain_date(local_date(row.pinned_at, zone_of(place.time_zone)), language())
    return str(gettext("Pinned by %(who)s on %(day)s", who=deeds.who(row.pinned_by, names), day=day))
