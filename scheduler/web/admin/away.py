"""When places are closed and therapists are off: entered, changed, approved, taken back by administrators."""

from collections.abc import Sequence

from apiflask import APIBlueprint
from flask import Response, render_template, url_for
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms.fields import SelectChoice

from scheduler import words
from scheduler.db import reading
from scheduler.errors import NotFound
from scheduler.models import Closure, Location, Role, Therapist, TimeOff, TimeOffStatus
from scheduler.services import edits, practice, staffing, time_away
from scheduler.services.time_away import ClosureDetails, Holiday, OffDetails
from scheduler.timeline import DAY
from scheduler.web.admin.forms import ClosureForm, HolidaysForm, NewClosureForm, NewOffForm
from scheduler.web.admin.saving import Deed, Edit, after, agreed, done, now, policy, pressed, saved
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff.access import allowed, staff
from scheduler.web.staff.forms import OffForm
from scheduler.web.times import range_in_words

pages = APIBlueprint("away", __name__, url_prefix="/admin", enable_openapi=False)
LATELY = 30 * DAY


@pages.get("/closures", endpoint="closures")
@allowed(Role.ADMIN)
def all_closures() -> str:
    """When one's own places are closed, from lately on."""
    with reading(context().engine) as session:
        places, today = {place.id: place for place in _own_places(session)}, practice.today(session, now=now())
        found = time_away.closures(session, list(places), since=today - LATELY)
    return render_template(
        "admin/closures.html", clinic=policy(), closures=found, places=places, in_words=range_in_words, today=today
    )


@pages.get("/closures/new")
@allowed(Role.ADMIN)
def new_closure() -> Response:
    return _new_closure_edit().page(_with_places(NewClosureForm(formdata=None)))


@pages.post("/closures/new")
@allowed(Role.ADMIN)
def add_closure() -> BaseResponse:
    form = _with_places(NewClosureForm())

    def change(session: Session) -> str:
        time_away.close(session, form.places.data, form.details(), agreed=agreed(), by=staff().actor, now=now())
        return after(url_for("away.closures"))

    return saved(form, _new_closure_edit(), change, as_form=ClosureForm.of)


@pages.get("/closures/<int:closure_id>")
@allowed(Role.ADMIN)
def closure(closure_id: int) -> Response:
    row, place = _closure(closure_id)
    return _closure_edit(row, place).page(ClosureForm.of(edits.read_off(ClosureDetails, row)))


@pages.post("/closures/<int:closure_id>")
@allowed(Role.ADMIN)
def save_closure(closure_id: int) -> BaseResponse:
    form, (row, place) = ClosureForm(), _closure(closure_id)

    def change(session: Session) -> str:
        time_away.change_closure(
            session, closure_id, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return after(url_for("away.closures"))

    return saved(form, _closure_edit(row, place), change, as_form=ClosureForm.of)


@pages.post("/closures/<int:closure_id>/remove")
@allowed(Role.ADMIN)
def remove_closure(closure_id: int) -> BaseResponse:
    """Open again then: take back a closure that has not begun."""
    row, place = _closure(closure_id)

    def change(session: Session) -> str:
        time_away.open_again(session, closure_id, agreed=agreed(), by=staff().actor, now=now())
        return url_for("away.closures")

    form = ClosureForm.of(edits.read_off(ClosureDetails, row))
    return done(form, _closure_edit(row, place), change, as_form=ClosureForm.of)


@pages.get("/closures/holidays")
@allowed(Role.ADMIN)
def holidays() -> Response:
    """The public holidays of the next year, to be chosen from."""
    form, _ = _holidays(HolidaysForm(formdata=None))
    return _holidays_edit().page(form)


@pages.post("/closures/holidays")
@allowed(Role.ADMIN)
def close_on_holidays() -> BaseResponse:
    form, offered = _holidays(HolidaysForm())

    def change(session: Session) -> str:
        chosen = [one for one in offered if _key(one) in form.days.data]
        time_away.close_on(session, chosen, agreed=agreed(), by=staff().actor, now=now())
        return after(url_for("away.closures"))

    return saved(form, _holidays_edit(), change, as_form=ClosureForm.of)


@pages.get("/time-off")
@allowed(Role.ADMIN)
def time_off() -> str:
    """What therapists ask for, to be decided, and who is off when."""
    with reading(context().engine) as session:
        people, own = _people(session), {person.id for person in _own_people(session)}
        since = practice.today(session, now=now()) - LATELY
        found = time_away.time_off_of(session, list(people), since=since)
    asked = [one for one in found if one.status == TimeOffStatus.ASKED]
    return render_template(
        "admin/time_off.html", clinic=policy(), asked=asked, found=[one for one in found if one not in asked],
        people=people, own=own, in_words=range_in_words, approved=TimeOffStatus.APPROVED,
    )  # fmt: skip


@pages.get("/time-off/new")
@allowed(Role.ADMIN)
def new_time_off() -> Response:
    return _new_off_edit().page(_with_people(NewOffForm(formdata=None)))


@pages.post("/time-off/new")
@allowed(Role.ADMIN)
def give_time_off() -> BaseResponse:
    form = _with_people(NewOffForm())

    def change(session: Session) -> str:
        whose, details = form.therapist_id.data, form.details()
        time_away.give(session, whose, details, agreed=agreed(), by=staff().actor, now=now())
        return after(url_for("away.time_off"))

    return saved(form, _new_off_edit(), change, as_form=NewOffForm.of)


@pages.post("/time-off/<int:time_off_id>/approve")
@allowed(Role.ADMIN)
def approve(time_off_id: int) -> BaseResponse:
    return _decided(time_off_id, TimeOffStatus.APPROVED)


@pages.post("/time-off/<int:time_off_id>/decline")
@allowed(Role.ADMIN)
def decline(time_off_id: int) -> BaseResponse:
    return _decided(time_off_id, TimeOffStatus.DECLINED)


@pages.post("/time-off/<int:time_off_id>/remove")
@allowed(Role.ADMIN)
def remove_time_off(time_off_id: int) -> BaseResponse:
    """Let somebody work after all, when it has not begun."""

    def change(session: Session) -> None:
        _require_own(session, time_off_id)
        time_away.withdraw(session, time_off_id, agreed=agreed(), by=staff().actor, now=now())

    return pressed(change, _named(gettext("Remove time off"), time_off_id), url_for("away.time_off"))


@pages.get("/time-off/<int:time_off_id>")
@allowed(Role.ADMIN)
def absence(time_off_id: int) -> Response:
    """Approved time off, to be changed: whoever is back early, or stays longer."""
    row, edit = _absence(time_off_id)
    return edit.page(OffForm.of(edits.read_off(OffDetails, row)))


@pages.post("/time-off/<int:time_off_id>")
@allowed(Role.ADMIN)
def save_absence(time_off_id: int) -> BaseResponse:
    form, (_, edit) = OffForm(), _absence(time_off_id)

    def change(session: Session) -> str:
        _require_own(session, time_off_id)
        time_away.change_time_off(
            session, time_off_id, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return after(url_for("away.time_off"))

    return saved(form, edit, change, as_form=OffForm.of)


def _absence(time_off_id: int) -> tuple[TimeOff, Edit]:
    """Time off of one's own people; raises NotFound."""
    with reading(context().engine) as session:
        _require_own(session, time_off_id)
        row = edits.found(session, TimeOff, time_off_id)
        name = session.get_one(Therapist, row.therapist_id).name
    about = gettext("What has begun can only end.")
    return row, Edit(gettext("Time off of %(name)s", name=name), url_for("away.time_off"), [about])


def _named(deed: str, time_off_id: int) -> str:
    """What a button does, to whose time off."""
    row, edit = _absence(time_off_id)
    return f"{deed}. {edit.heading}: {range_in_words(row)}"


def _decided(time_off_id: int, status: TimeOffStatus) -> BaseResponse:
    about = _named(gettext("Approve") if status is TimeOffStatus.APPROVED else gettext("Decline"), time_off_id)

    def change(session: Session) -> None:
        _require_own(session, time_off_id)
        time_away.decide(session, time_off_id, status, agreed=agreed(), by=staff().actor, now=now())

    return pressed(change, about, url_for("away.time_off"))


def _require_own(session: Session, time_off_id: int) -> None:
    """Raise NotFound for time off of somebody who works at places that one does not administer, too."""
    absence = edits.found(session, TimeOff, time_off_id)
    if absence.therapist_id not in {person.id for person in _own_people(session)}:
        raise NotFound(edits.NOTHING)


def _own_places(session: Session) -> Sequence[Location]:
    found = session.scalars(select(Location).order_by(Location.name))
    return [place for place in found if staff().works_at(place.id)]


def _people(session: Session) -> dict[int, Therapist]:
    """Whoever works, or has worked, where one administers."""
    mine = staffing.works_at(staff().locations)
    return {one.id: one for one in session.scalars(select(Therapist).where(mine).order_by(Therapist.name))}


def _own_people(session: Session) -> Sequence[Therapist]:
    """Those of them who work nowhere else: what is changed of them concerns no other."""
    mine = staffing.works_only_at(staff().locations)
    return session.scalars(select(Therapist).where(Therapist.active, mine).order_by(Therapist.name)).all()


def _closure(closure_id: int) -> tuple[Closure, Location]:
    """A closure of one's own places; raises NotFound."""
    with reading(context().engine) as session:
        row = edits.found(session, Closure, closure_id)
        staff().require_location(row.location_id)
        return row, session.get_one(Location, row.location_id)


def _with_places(form: NewClosureForm) -> NewClosureForm:
    with reading(context().engine) as session:
        own = [place for place in _own_places(session) if place.active]
    form.places.choices = [SelectChoice(str(place.id), place.name) for place in own]
    if len(own) == 1 and not form.is_submitted():
        form.places.data = [own[0].id]
    return form


def _with_people(form: NewOffForm) -> NewOffForm:
    with reading(context().engine) as session:
        own = _own_people(session)
    form.therapist_id.choices = [SelectChoice(str(person.id), person.name) for person in own]
    return form


def _holidays(form: HolidaysForm) -> tuple[HolidaysForm, list[Holiday]]:
    """The form with the days that are offered; where not all of one's places keep one, it says which do."""
    with reading(context().engine) as session:
        places = {place.id: place.name for place in _own_places(session) if place.active}
        offered = time_away.holidays_ahead(session, list(places), now=now())
    form.days.choices = []
    for one in offered:
        where = "" if len(one.location_ids) == len(places) else ", ".join(places[at] for at in one.location_ids)
        told = ": ".join((words.date_in_words(one.day, language(), year=True), one.name))
        form.days.choices.append(SelectChoice(_key(one), f"{told} ({where})" if where else told))
    return form, offered


def _key(holiday: Holiday) -> str:
    return f"{holiday.day} {holiday.name}"


def _new_closure_edit() -> Edit:
    about = gettext("Times on the clock of each location. Nothing can be booked then; visits that are booked stay.")
    return Edit(gettext("New closure"), url_for("away.closures"), [about])


def _holidays_edit() -> Edit:
    about = gettext(
        "Public holidays of the states that your locations are in, with the days on which they are observed. "
        "Choose those on which you close."
    )
    return Edit(gettext("Public holidays"), url_for("away.closures"), [about])


def _closure_edit(row: Closure, place: Location) -> Edit:
    address = url_for("away.closure", closure_id=row.id)
    again = Deed(gettext("Open then after all"), url_for("away.remove_closure", closure_id=row.id))
    about = gettext("What has begun can only end.")
    heading = gettext("Closure of %(place)s", place=place.name)
    return Edit(heading, url_for("away.closures"), [about], [again], address)


def _new_off_edit() -> Edit:
    about = gettext("Nothing can be booked with them then, at any location; visits that are booked stay.")
    return Edit(gettext("Give time off"), url_for("away.time_off"), [about])
