"""What an administrator changes of the clinic: policy, locations, kinds of visit, state rules; what needs a look."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from apiflask import APIBlueprint
from flask import Response, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms.fields import SelectChoice

from scheduler.db import reading
from scheduler.errors import Invalid
from scheduler.models import AppointmentType, Location, Role, StateRule, Therapist
from scheduler.services import attention, consequences, edits, licensing, practice
from scheduler.services import clinic as changes
from scheduler.services.clinic import LocationDetails, PolicyDetails, RuleDetails, TypeDetails
from scheduler.web.admin.forms import (
    NEEDLING,
    LocationForm,
    PolicyForm,
    ReviewForm,
    RuleForm,
    TypeForm,
    license_name,
)
from scheduler.web.admin.saving import Deed, Edit, after, agreed, done, now, plain_date, policy, saved, shown_hits
from scheduler.web.context import context
from scheduler.web.fields import Ticks
from scheduler.web.staff.access import allowed, staff
from scheduler.web.staff.forms import DetailsForm

pages = APIBlueprint("clinic", __name__, url_prefix="/admin", enable_openapi=False)
VISITS_ON_A_PAGE = 50
NEW_TYPE = {"active": True, "buffer_minutes": 0, "everybody": True, "everywhere": True}
REVIEWED_EVERY = timedelta(days=182)


@pages.get("/")
@allowed(Role.ADMIN)
def overview() -> str:
    """What needs attention."""
    with reading(context().engine) as session:
        needed, today = attention.needed(session, staff().locations, now=now()), practice.today(session, now=now())
    return render_template(
        "admin/overview.html", clinic=policy(), needed=needed, today=today, plain_date=plain_date,
        license_name=license_name,
    )  # fmt: skip


@pages.get("/visits-to-move")
@allowed(Role.ADMIN)
def visits_to_move() -> str:
    """The visits ahead that hours, licences, people and places as they now stand do not allow, a page at a time.

    Of a therapist and at a location, if the address names them.
    """
    wanted = {name: request.args.get(name, "") for name in ("therapist", "location")}
    with reading(context().engine) as session:
        own = [hit for hit in consequences.unfit(session, now=now()) if staff().works_at(hit.location_id)]
    found = [hit for hit in own if all(wish in {"", getattr(hit, name)} for name, wish in wanted.items())]
    first = (_page() - 1) * VISITS_ON_A_PAGE
    return render_template(
        "admin/to_move.html", clinic=policy(), hits=shown_hits(found[first : first + VISITS_ON_A_PAGE]),
        first=first, count=len(found), page=_page(), more=len(found) > first + VISITS_ON_A_PAGE, wanted=wanted,
        choices={name: sorted({getattr(hit, name) for hit in own}) for name in wanted},
    )  # fmt: skip


def _page() -> int:
    """Which page the address names, from 1 on; raises Invalid for none."""
    text = request.args.get("page", "1")
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise Invalid("page", "There is no such page.")
    return int(text)


@pages.get("/policy")
@allowed(Role.ADMIN, everywhere=True)
def policy_page() -> Response:
    return _policy_edit().page(PolicyForm.of(edits.read_off(PolicyDetails, policy())))


@pages.post("/policy")
@allowed(Role.ADMIN, everywhere=True)
def save_policy() -> BaseResponse:
    form = PolicyForm()

    def change(session: Session) -> str:
        changes.change_policy(
            session, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return url_for("clinic.policy_page")

    return saved(form, _policy_edit(), change, as_form=PolicyForm.of)


@pages.get("/locations")
@allowed(Role.ADMIN)
def locations() -> str:
    """The places that one administers."""
    with reading(context().engine) as session:
        found = session.scalars(select(Location).order_by(Location.name)).all()
    own = [place for place in found if staff().works_at(place.id)]
    return render_template("admin/locations.html", clinic=policy(), locations=own)


@pages.get("/locations/new")
@allowed(Role.ADMIN, everywhere=True)
def new_location() -> Response:
    with reading(context().engine) as session:
        data = {"time_zone": practice.zone(session)}
    return _location_edit(None).page(LocationForm(formdata=None, data=data))


@pages.post("/locations/new")
@allowed(Role.ADMIN, everywhere=True)
def add_location() -> BaseResponse:
    form = LocationForm()

    def change(session: Session) -> str:
        changes.add_location(session, form.details(), by=staff().actor, now=now())
        return url_for("clinic.locations")

    return saved(form, _location_edit(None), change, as_form=LocationForm.of)


@pages.get("/locations/<int:location_id>")
@allowed(Role.ADMIN)
def location(location_id: int) -> Response:
    staff().require_location(location_id)
    place = _row(Location, location_id)
    return _location_edit(place).page(LocationForm.of(edits.read_off(LocationDetails, place)))


@pages.post("/locations/<int:location_id>")
@allowed(Role.ADMIN)
def save_location(location_id: int) -> BaseResponse:
    staff().require_location(location_id)
    form, place = LocationForm(), _row(Location, location_id)

    def change(session: Session) -> str:
        changes.change_location(
            session, location_id, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return after(url_for("clinic.locations"))

    return saved(form, _location_edit(place), change, as_form=LocationForm.of)


@pages.get("/types")
@allowed(Role.ADMIN, everywhere=True)
def types() -> str:
    """Every kind of visit, those too that are not offered any more."""
    with reading(context().engine) as session:
        kinds = session.scalars(select(AppointmentType).order_by(AppointmentType.position)).all()
    return render_template("admin/types.html", clinic=policy(), kinds=kinds)


@pages.get("/types/new")
@allowed(Role.ADMIN, everywhere=True)
def new_type() -> Response:
    with reading(context().engine) as session:
        last = len(session.scalars(select(AppointmentType.id)).all()) + 1
        form = TypeForm(formdata=None, data=NEW_TYPE | {"place": last})
        return _type_edit(None).page(_with_choices(session, form))


@pages.post("/types/new")
@allowed(Role.ADMIN, everywhere=True)
def add_type() -> BaseResponse:
    with reading(context().engine) as session:
        form = _with_choices(session, TypeForm())

    def change(session: Session) -> str:
        changes.add_type(session, form.details(), agreed=agreed(), by=staff().actor, now=now())
        return url_for("clinic.types")

    return saved(form, _type_edit(None), change, as_form=_type_form)


@pages.get("/types/<int:type_id>")
@allowed(Role.ADMIN, everywhere=True)
def type_(type_id: int) -> Response:
    with reading(context().engine) as session:
        kind = edits.found(session, AppointmentType, type_id)
        form = _with_choices(session, TypeForm.of(changes.type_details(session, kind)))
    return _type_edit(kind).page(form)


@pages.post("/types/<int:type_id>")
@allowed(Role.ADMIN, everywhere=True)
def save_type(type_id: int) -> BaseResponse:
    with reading(context().engine) as session:
        form, kind = _with_choices(session, TypeForm()), edits.found(session, AppointmentType, type_id)

    def change(session: Session) -> str:
        changes.change_type(
            session, type_id, form.details(), seal=form.seal.data, agreed=agreed(), by=staff().actor, now=now()
        )
        return url_for("clinic.types")

    return saved(form, _type_edit(kind), change, as_form=_type_form)


@pages.get("/rules")
@allowed(Role.ADMIN, everywhere=True)
def rules() -> str:
    """Every rule of every state, the newest first."""
    with reading(context().engine) as session:
        found = session.scalars(select(StateRule).order_by(StateRule.state, StateRule.valid_from.desc())).all()
        future, today = changes.not_begun(session, found, now=now()), practice.today(session, now=now())
    in_force = {rule.state: rule.id for rule in reversed(found) if rule.id not in future}
    return render_template(
        "admin/rules.html", clinic=policy(), rules=found, in_force=in_force.values(), future=future,
        today=today, needling=NEEDLING, plain_date=plain_date, license_name=license_name,
    )  # fmt: skip


@pages.get("/rules/new")
@allowed(Role.ADMIN, everywhere=True)
def new_rule() -> Response:
    with reading(context().engine) as session:
        today = practice.today(session, now=now())
    data = {
        "valid_from": today,
        "review_on": today + REVIEWED_EVERY,
        "state": request.args.get("state"),
        "needling": "permitted",
    }
    return _new_rule_edit().page(RuleForm(formdata=None, data=data))


@pages.post("/rules/new")
@allowed(Role.ADMIN, everywhere=True)
def add_rule() -> BaseResponse:
    form = RuleForm()

    def change(session: Session) -> str:
        changes.add_rule(session, form.details(), agreed=agreed(), by=staff().actor, now=now())
        return after(url_for("clinic.rules"))

    return saved(form, _new_rule_edit(), change, as_form=RuleForm.of)


@pages.get("/rules/<int:rule_id>")
@allowed(Role.ADMIN, everywhere=True)
def rule(rule_id: int) -> Response:
    edit, form = _rule_edit(rule_id)
    return edit.page(form)


@pages.post("/rules/<int:rule_id>")
@allowed(Role.ADMIN, everywhere=True)
def review_rule(rule_id: int) -> BaseResponse:
    """Note that a rule was looked up again."""
    form, (edit, _) = ReviewForm(), _rule_edit(rule_id)

    def change(session: Session) -> str:
        looked_up, again_on = form.source.data, form.review_on.data
        changes.review_rule(session, rule_id, looked_up, again_on, seal=form.seal.data, by=staff().actor, now=now())
        return url_for("clinic.rules")

    return saved(form, edit, change, as_form=RuleForm.of)


@pages.post("/rules/<int:rule_id>/remove")
@allowed(Role.ADMIN, everywhere=True)
def remove_rule(rule_id: int) -> BaseResponse:
    """Take back a rule that has not begun."""
    edit, form = _rule_edit(rule_id)

    def change(session: Session) -> str:
        changes.remove_rule(session, rule_id, agreed=agreed(), by=staff().actor, now=now())
        return after(url_for("clinic.rules"))

    return done(form, edit, change, as_form=RuleForm.of)


def _row(table: Any, row_id: int) -> Any:  # noqa: ANN401 a model, and its row
    with reading(context().engine) as session:
        return edits.found(session, table, row_id)


def _policy_edit() -> Edit:
    return Edit(gettext("Clinic policy"), url_for("clinic.overview"))


def _location_edit(place: Location | None) -> Edit:
    return Edit(
        gettext("New location") if place is None else place.name,
        url_for("clinic.locations"),
        [
            gettext("Hours here follow this clock. A location that is not open has no times; its visits stay booked."),
            gettext("Online booking opens and closes under Moving in."),
        ],
    )


def _type_edit(kind: AppointmentType | None) -> Edit:
    return Edit(
        gettext("New kind of visit") if kind is None else kind.name,
        url_for("clinic.types"),
        [
            gettext("Visits that are booked keep the length that they were booked with."),
            gettext("The front desk books at any time, but only with who offers it, and where."),
        ],
    )


def _type_form(details: TypeDetails) -> TypeForm:
    with reading(context().engine) as session:
        return _with_choices(session, TypeForm.of(details))


def _with_choices(session: Session, form: TypeForm) -> TypeForm:
    """Who and which location may be chosen: those that are active, and those that are chosen already."""
    people = session.scalars(select(Therapist).order_by(Therapist.name, Therapist.id)).all()
    places = session.scalars(select(Location).order_by(Location.name)).all()
    lists: tuple[tuple[Ticks, Sequence[Therapist | Location]], ...]
    lists = ((form.therapist_ids, people), (form.location_ids, places))
    for field, rows in lists:
        field.choices = [SelectChoice(one.id, one.name) for one in rows if one.active or one.id in (field.data or ())]
    return form


def _new_rule_edit() -> Edit:
    return Edit(
        gettext("New state rule"),
        url_for("clinic.rules"),
        [gettext("Rules that have begun stay as they are: a new one follows them from its first day on.")],
    )


def _rule_edit(rule_id: int) -> tuple[Edit, DetailsForm | ReviewForm]:
    """The page on which a rule is reviewed, with the form as the rule now stands."""
    with reading(context().engine) as session:
        row = edits.found(session, StateRule, rule_id)
        removable = changes.not_begun(session, [row], now=now())
    needed = [license_name(licensing.PT), *([license_name(row.qualification)] if row.qualification else [])]
    about = [
        gettext("In force from %(day)s.", day=plain_date(row.valid_from)),
        f"{NEEDLING[row.needling]}. {gettext('Licenses: %(licenses)s', licenses=', '.join(needed))}.",
    ]
    remove = Deed(gettext("Remove this rule"), url_for("clinic.remove_rule", rule_id=rule_id))
    edit = Edit(
        gettext("Rule of %(state)s", state=row.state),
        url_for("clinic.rules"),
        about,
        [remove] if removable else [],
        address=url_for("clinic.rule", rule_id=rule_id),
    )
    data = {"source": row.source, "review_on": row.review_on, "seal": edits.seal_of(edits.read_off(RuleDetails, row))}
    return edit, ReviewForm(formdata=None, data=data)
