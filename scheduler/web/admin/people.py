"""Whom an administrator lets treat, when and where they work, and who may sign in."""

from collections.abc import Sequence
from typing import Any

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms.fields import SelectChoice

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.models import Account, License, Location, Role, Therapist, WorkingHours
from scheduler.services import accounts, edits, hours, practice, second_factor, staffing
from scheduler.services.accounts import AccountDetails
from scheduler.services.hours import HoursDetails, Shift
from scheduler.services.licensing import PT
from scheduler.timeline import local_date, zone_of
from scheduler.web.admin.forms import (
    ROLES,
    AccountForm,
    HoursForm,
    LicenseForm,
    NewHoursForm,
    TherapistForm,
    license_name,
)
from scheduler.web.admin.saving import Deed, Edit, after, agreed, done, in_words, now, plain_date, policy, saved
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff.access import allowed, staff

pages = APIBlueprint("people", __name__, url_prefix="/admin", enable_openapi=False)
NOBODY = "0"


@pages.get("/therapists")
@allowed(Role.ADMIN)
def therapists() -> str:
    """Whoever works, or has worked, where one administers."""
    with reading(context().engine) as session:
        mine = staffing.works_at(staff().locations)
        found = session.scalars(select(Therapist).where(mine).order_by(Therapist.active.desc(), Therapist.name)).all()
        spoken = staffing.languages_of(session, [one.id for one in found])
    names = {code: words.language_name(code, language()) for codes in spoken.values() for code in codes}
    return render_template("admin/therapists.html", clinic=policy(), therapists=found, spoken=spoken, names=names)


@pages.get("/therapists/new")
@allowed(Role.ADMIN)
def new_therapist() -> Response:
    return _new_therapist_edit().page(TherapistForm(formdata=None, data={"languages": ["en"], "active": True}))


@pages.post("/therapists/new")
@allowed(Role.ADMIN)
def add_therapist() -> BaseResponse:
    form = TherapistForm()

    def change(session: Session) -> str:
        added = staffing.add_therapist(session, form.details(), by=staff().actor, now=now())
        return url_for("people.therapist", therapist_id=added.id)

    return saved(form, _new_therapist_edit(), change, as_form=TherapistForm.of)


@pages.get("/therapists/<int:therapist_id>")
@allowed(Role.ADMIN)
def therapist(therapist_id: int) -> str:
    """One therapist: licences, hours, account."""
    with reading(context().engine) as session:
        person = _therapist(session, therapist_id, staffing.works_at(staff().locations))
        details = staffing.therapist_details(session, person)
        held = session.scalars(
            select(License)
            .where(License.therapist_id == therapist_id)
            .order_by(License.state, License.kind, License.valid_until.desc(), License.id)
        ).all()
        shifts = hours.shifts(session, WorkingHours.therapist_id == therapist_id)
        account = session.scalars(select(Account).where(Account.therapist_id == therapist_id)).one_or_none()
        editable = _is(session, therapist_id, staffing.works_only_at(staff().locations))
        account_own = account is not None and bool(_reached(session, [account]))
        zone = practice.zone(session)
    return render_template(
        "admin/therapist.html",
        clinic=policy(),
        therapist=person,
        spoken=[words.language_name(code, language()) for code in details.languages],
        licenses=[(one, edits.seal_of(staffing.license_details(one))) for one in held],
        shifts=[shift for shift in shifts if not shift.over(now())],
        past=[shift for shift in shifts if shift.over(now())],
        account=account,
        account_own=account_own,
        editable=editable,
        in_words=in_words,
        license_name=license_name,
        plain_date=plain_date,
        today=local_date(now(), zone_of(zone)),
        day_of=lambda instant: plain_date(local_date(instant, zone_of(zone))),
    )


@pages.get("/therapists/<int:therapist_id>/edit")
@allowed(Role.ADMIN)
def edit_therapist(therapist_id: int) -> Response:
    with reading(context().engine) as session:
        person = _own_therapist(session, therapist_id)
        form = TherapistForm.of(staffing.therapist_details(session, person))
    return _therapist_edit(person).page(form)


@pages.post("/therapists/<int:therapist_id>/edit")
@allowed(Role.ADMIN)
def save_therapist(therapist_id: int) -> BaseResponse:
    with reading(context().engine) as session:
        person = _own_therapist(session, therapist_id)
        form = TherapistForm(also=staffing.therapist_details(session, person).languages)

    def change(session: Session) -> str:
        _own_therapist(session, therapist_id)
        staffing.change_therapist(
            session, therapist_id, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return after(url_for("people.therapist", therapist_id=therapist_id))

    return saved(form, _therapist_edit(person), change, as_form=TherapistForm.of)


@pages.get("/therapists/<int:therapist_id>/licenses/new")
@allowed(Role.ADMIN)
def new_license(therapist_id: int) -> Response:
    with reading(context().engine) as session:
        person = _own_therapist(session, therapist_id)
        form = _with_kinds(session, LicenseForm(formdata=None, data={"valid_from": practice.today(session, now=now())}))
    return _license_edit(person, None).page(form)


@pages.post("/therapists/<int:therapist_id>/licenses/new")
@allowed(Role.ADMIN)
def add_license(therapist_id: int) -> BaseResponse:
    with reading(context().engine) as session:
        person, form = _own_therapist(session, therapist_id), _with_kinds(session, LicenseForm())

    def change(session: Session) -> str:
        _own_therapist(session, therapist_id)
        staffing.add_license(session, therapist_id, form.details(), agreed=agreed(), by=staff().actor, now=now())
        return url_for("people.therapist", therapist_id=therapist_id)

    return saved(form, _license_edit(person, None), change, as_form=LicenseForm.of)


@pages.get("/licenses/<int:license_id>")
@allowed(Role.ADMIN)
def license_(license_id: int) -> Response:
    with reading(context().engine) as session:
        held, person = _license(session, license_id)
        form = _with_kinds(session, LicenseForm.of(staffing.license_details(held)), held.kind)
    return _license_edit(person, held).page(form)


@pages.post("/licenses/<int:license_id>")
@allowed(Role.ADMIN)
def save_license(license_id: int) -> BaseResponse:
    with reading(context().engine) as session:
        held, person = _license(session, license_id)
        form = _with_kinds(session, LicenseForm(), held.kind)

    def change(session: Session) -> str:
        _license(session, license_id)
        staffing.change_license(
            session, license_id, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return after(url_for("people.therapist", therapist_id=person.id))

    return saved(form, _license_edit(person, held), change, as_form=lambda kept: _of_kind(LicenseForm.of(kept), form))


@pages.post("/licenses/<int:license_id>/verify")
@allowed(Role.ADMIN)
def verify_license(license_id: int) -> BaseResponse:
    """Note that one compared the licence, as it was shown, with its source."""
    with reading(context().engine) as session:
        held, person = _license(session, license_id)
        form = _with_kinds(session, LicenseForm.of(staffing.license_details(held)), held.kind)
    seen = request.form.get("seal", "")

    def change(session: Session) -> str:
        _license(session, license_id)
        staffing.verify_license(session, license_id, seal=seen, who=staff().name, by=staff().actor, now=now())
        return url_for("people.therapist", therapist_id=person.id)

    return done(form, _license_edit(person, held), change, as_form=lambda kept: _of_kind(LicenseForm.of(kept), form))


@pages.get("/therapists/<int:therapist_id>/hours/new")
@allowed(Role.ADMIN)
def new_hours(therapist_id: int) -> Response:
    with reading(context().engine) as session:
        person = _therapist(session, therapist_id, staffing.works_at(staff().locations))
        first = practice.today(session, now=now())
        form = _with_places(NewHoursForm(formdata=None, data={"valid_from": first}), _open_places(session))
    return _new_hours_edit(person).page(form)


@pages.post("/therapists/<int:therapist_id>/hours/new")
@allowed(Role.ADMIN)
def add_hours(therapist_id: int) -> BaseResponse:
    with reading(context().engine) as session:
        person = _therapist(session, therapist_id, staffing.works_at(staff().locations))
        form = _with_places(NewHoursForm(), _open_places(session))

    def change(session: Session) -> str:
        _therapist(session, therapist_id, staffing.works_at(staff().locations))
        place, days = form.location_id.data, form.weekdays.data
        hours.add(session, therapist_id, place, days, form.details(), agreed=agreed(), by=staff().actor, now=now())
        return url_for("people.therapist", therapist_id=therapist_id)

    return _warned(
        saved(form, _new_hours_edit(person), change, as_form=HoursForm.of), therapist_id, form.location_id.data
    )


def _warned(answer: BaseResponse, therapist_id: int, location_id: int) -> BaseResponse:
    """The answer; where hours were stored, with a word if their therapist has no licence of the state."""
    if answer.status_code == 303:  # noqa: PLR2004 it was stored
        with reading(context().engine) as session:
            these = (WorkingHours.therapist_id == therapist_id, WorkingHours.location_id == location_id)
            lacking = hours.unlicensed(session, *these, now=now())
        for one in lacking:
            flash(
                gettext(
                    "No license for %(state)s: nothing can be booked in the hours there until there is one",
                    state=one.state,
                )
            )
    return answer


@pages.get("/hours/<int:hours_id>")
@allowed(Role.ADMIN)
def hours_(hours_id: int) -> Response:
    shift = _shift(hours_id)
    return _hours_edit(shift).page(_hours_form(shift, _details(shift)))


@pages.post("/hours/<int:hours_id>")
@allowed(Role.ADMIN)
def save_hours(hours_id: int) -> BaseResponse:
    shift = _shift(hours_id)
    form = _worded(HoursForm(), shift)

    def change(session: Session) -> str:
        hours.change(
            session, hours_id, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return after(url_for("people.therapist", therapist_id=shift.therapist_id))

    answer = saved(form, _hours_edit(shift), change, as_form=lambda kept: _hours_form(shift, kept))
    return _warned(answer, shift.therapist_id, shift.location_id)


@pages.post("/hours/<int:hours_id>/remove")
@allowed(Role.ADMIN)
def remove_hours(hours_id: int) -> BaseResponse:
    """Take back hours that never began."""
    shift = _shift(hours_id)

    def change(session: Session) -> str:
        hours.remove(session, hours_id, agreed=agreed(), by=staff().actor, now=now())
        return after(url_for("people.therapist", therapist_id=shift.therapist_id))

    form = _hours_form(shift, _details(shift))
    return done(form, _hours_edit(shift), change, as_form=lambda kept: _hours_form(shift, kept))


@pages.get("/accounts", endpoint="accounts")
@allowed(Role.ADMIN)
def all_accounts() -> str:
    """Who may sign in where one administers."""
    with reading(context().engine) as session:
        found = session.scalars(select(Account).order_by(Account.active.desc(), Account.name, Account.id)).all()
        places = accounts.places_of(session)
        names = {place.id: place.name for place in session.scalars(select(Location))}
        own = _reached(session, found)
    where = {one.id: sorted(names[place] for place in places.get(one.id, ())) for one in own}
    return render_template("admin/accounts.html", clinic=policy(), accounts=own, where=where, roles=ROLES)


@pages.get("/accounts/new")
@allowed(Role.ADMIN)
def new_account() -> Response:
    with reading(context().engine) as session:
        data = {"everywhere": staff().locations is None, "language": language(), "role": Role.FRONT_DESK.value}
        form = _with_choices(session, AccountForm(formdata=None, data=data))
    return _new_account_edit().page(form)


@pages.post("/accounts/new")
@allowed(Role.ADMIN)
def add_account() -> BaseResponse:
    """Let somebody in; the link to set their password stands on this one page, and goes to them by mail."""
    with reading(context().engine) as session:
        form = _with_choices(session, AccountForm())
    added: list[Account] = []

    def change(session: Session) -> str:
        account = accounts.add(session, form.details(), by=staff().actor, now=now())
        accounts.invite(session, account, now=now())
        added.append(account)
        return url_for("people.accounts")

    answer = saved(form, _new_account_edit(), change, as_form=AccountForm.of)
    return _link_page(added[0]) if added and answer.status_code == 303 else answer  # noqa: PLR2004 it was stored


@pages.get("/accounts/<int:account_id>")
@allowed(Role.ADMIN)
def account(account_id: int) -> Response:
    with reading(context().engine) as session:
        row = _account(session, account_id)
        form = _with_choices(session, AccountForm.of(accounts.details_of(session, row)), row)
    return _account_edit(row).page(form)


@pages.post("/accounts/<int:account_id>")
@allowed(Role.ADMIN)
def save_account(account_id: int) -> BaseResponse:
    with reading(context().engine) as session:
        row = _account(session, account_id)
        form = _with_choices(session, AccountForm(), row)

    def change(session: Session) -> str:
        _account(session, account_id)
        accounts.change(session, account_id, form.details(), seal=form.seal.data, by=staff().actor, now=now())
        return url_for("people.accounts")

    return saved(form, _account_edit(row), change, as_form=_account_form(row))


@pages.post("/accounts/<int:account_id>/disable")
@allowed(Role.ADMIN)
def disable_account(account_id: int) -> BaseResponse:
    """Let somebody in no more, from this moment on."""

    def change(session: Session) -> str:
        accounts.disable(session, _account(session, account_id), by=staff().actor, now=now())
        return url_for("people.accounts")

    return _account_deed(account_id, change)


@pages.post("/accounts/<int:account_id>/enable")
@allowed(Role.ADMIN)
def enable_account(account_id: int) -> BaseResponse:
    def change(session: Session) -> str:
        _account(session, account_id)
        accounts.enable(session, account_id, by=staff().actor, now=now())
        return url_for("people.accounts")

    return _account_deed(account_id, change)


@pages.post("/accounts/<int:account_id>/reset-second-factor")
@allowed(Role.ADMIN)
def reset_second_factor(account_id: int) -> BaseResponse:
    """Let somebody in who lost phone and paper, to choose a second factor anew; one's own is never reset so."""

    def change(session: Session) -> str:
        account = _account(session, account_id)
        if account.id == staff().account_id:
            raise NotFound(edits.NOTHING)
        second_factor.reset(session, account, by=staff().actor, now=now())
        return url_for("people.account", account_id=account_id)

    return _account_deed(account_id, change)


@pages.post("/accounts/<int:account_id>/link")
@allowed(Role.ADMIN)
def new_link(account_id: int) -> BaseResponse:
    """Make a link to set a password anew; it stands on this one page, and goes to them by mail."""
    with transaction(context().engine) as session:
        row = _account(session, account_id)
        if row.active:
            accounts.invite_again(session, row, by=staff().actor, now=now())
    if not row.active:
        flash(gettext("This account is disabled: enable it first."))
        return redirect(url_for("people.account", account_id=account_id), 303)
    return _link_page(row)


# --- whose is what


def _therapist(session: Session, therapist_id: int, mine: ColumnElement[bool]) -> Therapist:
    """A therapist who is one's own to see, or to change, as `mine` says; raises NotFound."""
    person = edits.found(session, Therapist, therapist_id)
    if not _is(session, therapist_id, mine):
        raise NotFound(edits.NOTHING)
    return person


def _own_therapist(session: Session, therapist_id: int) -> Therapist:
    """One who works at none but the places that one administers: what is changed of them concerns no other."""
    return _therapist(session, therapist_id, staffing.works_only_at(staff().locations))


def _is(session: Session, therapist_id: int, condition: ColumnElement[bool]) -> bool:
    return session.scalars(select(Therapist.id).where(Therapist.id == therapist_id, condition)).first() is not None


def _license(session: Session, license_id: int) -> tuple[License, Therapist]:
    held = edits.found(session, License, license_id)
    return held, _own_therapist(session, held.therapist_id)


def _shift(hours_id: int) -> Shift:
    """Hours at a place that one administers."""
    with reading(context().engine) as session:
        edits.found(session, WorkingHours, hours_id)
        (shift,) = hours.shifts(session, WorkingHours.id == hours_id)
    staff().require_location(shift.location_id)
    return shift


def _account(session: Session, account_id: int) -> Account:
    row = edits.found(session, Account, account_id)
    if not _reached(session, [row]):
        raise NotFound(edits.NOTHING)
    return row


def _reached(session: Session, rows: Sequence[Account]) -> list[Account]:
    """Of some accounts those of which one administers every place that they, or their therapist, work at."""
    own = staff().locations
    if own is None:
        return list(rows)
    places = accounts.places_of(session)
    treating = {None, *session.scalars(select(Therapist.id).where(staffing.works_only_at(own)))}
    named = [row for row in rows if not row.everywhere and row.id in places and row.therapist_id in treating]
    return [row for row in named if places[row.id] <= own]


# --- forms with what can be chosen in them


def _with_kinds(session: Session, form: LicenseForm, own: str = PT) -> LicenseForm:
    kinds = dict.fromkeys([*staffing.license_kinds(session), own])
    form.kind_of_license.choices = [SelectChoice(kind, license_name(kind)) for kind in kinds]
    return form


def _of_kind(form: LicenseForm, other: LicenseForm) -> LicenseForm:
    form.kind_of_license.choices = other.kind_of_license.choices
    return form


def _with_places(form: NewHoursForm, places: Sequence[Location]) -> NewHoursForm:
    form.location_id.choices = [SelectChoice(str(place.id), place.name) for place in places]
    return form


def _open_places(session: Session) -> Sequence[Location]:
    found = session.scalars(select(Location).where(Location.active).order_by(Location.name))
    return [place for place in found if staff().works_at(place.id)]


def _details(shift: Shift) -> HoursDetails:
    rhythm = shift.every_weeks, shift.standby, shift.opens_by_rule
    return HoursDetails(shift.opens_minute, shift.closes_minute, shift.valid_from, shift.valid_until, *rhythm)


def _hours_form(shift: Shift, details: HoursDetails) -> HoursForm:
    """Hours as they stand; from today on, where they were worked already."""
    form = _worded(HoursForm.of(details), shift)
    if not shift.never_began(now()):
        form.valid_from.data = max(details.valid_from, local_date(now(), zone_of(shift.time_zone)))
    return form


def _worded(form: HoursForm, shift: Shift) -> HoursForm:
    """Of hours that were worked the first day is history: the field asks from when on new times hold."""
    if not shift.never_began(now()):
        form.valid_from.label.text = gettext("New times hold from")
    return form


def _with_choices(session: Session, form: AccountForm, own: Account | None = None) -> AccountForm:
    """What this administrator may give: their own places only, and therapists who work nowhere else."""
    mine = staff().locations
    places = session.scalars(select(Location).order_by(Location.name)).all()
    form.location_ids.choices = [SelectChoice(str(one.id), one.name) for one in places if staff().works_at(one.id)]
    linked = Therapist.id == (own.therapist_id if own else None)
    people = session.scalars(
        select(Therapist).where((Therapist.active & staffing.works_only_at(mine)) | linked).order_by(Therapist.name)
    )
    nobody = SelectChoice(NOBODY, gettext("No therapist"))
    form.therapist_id.choices = [nobody, *(SelectChoice(str(one.id), one.name) for one in people)]
    if form.therapist_id.data is None:
        form.therapist_id.data = 0
    if mine is not None:
        del form.everywhere
    return form


def _account_form(row: Account) -> Any:  # noqa: ANN401 what makes a form of details
    def of(details: AccountDetails) -> AccountForm:
        with reading(context().engine) as session:
            return _with_choices(session, AccountForm.of(details), row)

    return of


# --- pages


def _account_deed(account_id: int, change: Any) -> BaseResponse:  # noqa: ANN401 what `done` takes
    with reading(context().engine) as session:
        row = _account(session, account_id)
        form = _with_choices(session, AccountForm.of(accounts.details_of(session, row)), row)
    return done(form, _account_edit(row), change, as_form=_account_form(row))


def _new_therapist_edit() -> Edit:
    return Edit(gettext("New therapist"), url_for("people.therapists"))


def _therapist_edit(person: Therapist) -> Edit:
    return Edit(
        person.name,
        url_for("people.therapist", therapist_id=person.id),
        [gettext("Whoever does not work here any more has no times; their visits stay booked.")],
    )


def _license_edit(person: Therapist, held: License | None) -> Edit:
    about = [] if held is None else [gettext("When you change anything but the evidence, it must be verified again.")]
    heading = (
        gettext("New license of %(name)s", name=person.name)
        if held is None
        else gettext("License of %(name)s", name=person.name)
    )
    address = "" if held is None else url_for("people.license_", license_id=held.id)
    return Edit(heading, url_for("people.therapist", therapist_id=person.id), about, address=address)


def _new_hours_edit(person: Therapist) -> Edit:
    return Edit(
        gettext("New hours of %(name)s", name=person.name),
        url_for("people.therapist", therapist_id=person.id),
        [gettext("Times on the clock of the location. They can be booked at once, unless they are on standby.")],
    )


def _hours_edit(shift: Shift) -> Edit:
    unworked = shift.never_began(now())
    about = gettext(
        "%(hours)s at %(place)s, from %(day)s.",
        hours=in_words(shift),
        place=shift.location,
        day=plain_date(shift.valid_from),
    )
    kept = gettext("Hours that were worked stay as they were: new times hold from a day on, or a last day ends them.")
    deeds = [Deed(gettext("Remove these hours"), url_for("people.remove_hours", hours_id=shift.id))] if unworked else []
    back = url_for("people.therapist", therapist_id=shift.therapist_id)
    heading, address = gettext("Hours of %(name)s", name=shift.therapist), url_for("people.hours_", hours_id=shift.id)
    return Edit(heading, back, [about] if unworked else [about, kept], deeds, address)


def _new_account_edit() -> Edit:
    about = gettext("They get a mail with a link to set their password. You see the link once, too.")
    return Edit(gettext("New account"), url_for("people.accounts"), [about])


def _account_edit(row: Account) -> Edit:
    address = url_for("people.account", account_id=row.id)
    if not row.active:
        about = gettext("This account is disabled: nobody can sign in with it.")
        enable = Deed(gettext("Enable this account"), url_for("people.enable_account", account_id=row.id), grave=False)
        return Edit(row.name, url_for("people.accounts"), [about], [enable], address)
    link = Deed(
        gettext("Make a link to set a password"),
        url_for("people.new_link", account_id=row.id),
        gettext("Forgotten the password? A link lets them set a new one, once, within three days."),
        grave=False,
    )
    reset = Deed(
        gettext("Reset the second factor"),
        url_for("people.reset_second_factor", account_id=row.id),
        gettext(
            "Lost phone, passkey and recovery codes? Make sure that it is really them who asks. They are signed out, "
            "and choose a new second factor after their password."
        ),
    )
    out = Deed(
        gettext("Disable this account"),
        url_for("people.disable_account", account_id=row.id),
        gettext("Whoever is disabled is signed out at once. What they did stays theirs."),
    )
    deeds = [link, out] if row.id == staff().account_id else [link, reset, out]
    return Edit(row.name, url_for("people.accounts"), deeds=deeds, address=address)


def _link_page(row: Account) -> Response:
    token = accounts.password_token(row, keys=context().keys, now=now())
    link = context().settings.base_url + url_for("sign_in.set_password_page", token=token)
    return make_response(render_template("admin/link.html", clinic=policy(), account=row, link=link))
