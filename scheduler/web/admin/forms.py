"""The forms of the administrators' pages. Each shows the details of one row, and carries the seal of what it showed."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any
from zoneinfo import available_timezones

from flask_babel import gettext
from flask_babel import lazy_gettext as _
from pydantic import AfterValidator, StringConstraints
from wtforms import BooleanField, EmailField, HiddenField, RadioField, StringField, TextAreaField
from wtforms.fields import SelectChoice

from config import REMINDERS, WHOLE_POLICY
from scheduler import accepted, words
from scheduler.models import Role
from scheduler.models.practice import NEEDLING_RULES, STATES
from scheduler.services.accounts import AccountDetails
from scheduler.services.clinic import LocationDetails, PolicyDetails, RuleDetails, TypeDetails
from scheduler.services.hours import MOST_WEEKS, HoursDetails
from scheduler.services.licensing import PT
from scheduler.services.protection import HIGHEST, ProtectionDetails
from scheduler.services.staffing import LicenseDetails, TherapistDetails
from scheduler.services.time_away import ClosureDetails
from scheduler.timeline import DAY_MINUTES
from scheduler.web import schemas
from scheduler.web.fields import Clock, Day, Matches, OneOf, Ticks, Whole, time_of
from scheduler.web.forms import A_NAME, AN_EMAIL, NOTE_IF_ANY, Like
from scheduler.web.language import language
from scheduler.web.staff.forms import AwayForm, DetailsForm, OffForm, StaffForm
from scheduler.words import LANGUAGES

Directions = Annotated[str, StringConstraints(max_length=2000), AfterValidator(accepted.plain_text)]
# Zones that the clinic's states have come first; then all others of the world.
AMERICAN = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Phoenix", "America/Los_Angeles",
    "America/Anchorage", "Pacific/Honolulu", "America/Detroit", "America/Indiana/Indianapolis",
    "America/Kentucky/Louisville", "America/Boise", "America/Puerto_Rico", "Pacific/Guam", "Pacific/Pago_Pago",
)  # fmt: skip
# An area and a place; what else there is are older names.
REGIONS = ("Africa/", "America/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/", "Pacific/")
OTHERS = sorted(zone for zone in available_timezones() if zone.startswith(REGIONS) and zone not in AMERICAN)
# Languages that patients in the United States most often speak at home, and American therapists treat in.
SPOKEN = ("en", "es", "ar", "de", "fa", "fr", "hi", "ht", "it", "ja", "ko", "pl", "pt", "ru", "tl", "ur", "vi", "zh")
NEEDLING = {
    "permitted": _("Allowed"),
    "silent": _("The law says nothing; the clinic allows it"),
    "forbidden": _("Not allowed"),
}
ROLES = {
    Role.ADMIN: _("Administrator"),
    Role.FRONT_DESK: _("Front desk"),
    Role.THERAPIST: _("Therapist"),
}
# What services refuse, so that it can be said in every language.
REFUSALS = (
    _("There is one with this name already."),
    _("The floor is above the ceiling."),
    _("This is further ahead than the clinic is booked at all."),
    _("This location is closed."),
    _("These hours are over; add new ones."),
    _("These hours have been worked, so they can only end."),
    _("This day has passed."),
    _("This is before the first day, or has passed."),
    _("A rule of this state begins on this day or later already."),
    _("This rule has begun; a new one can follow it."),
    _("This therapist has this license already."),
    _("This therapist has an account already."),
    _("Somebody has an account with this address already."),
    _("This has begun, so it can only end."),
    _("This has passed."),
    _("This is before it starts."),
    _("This is longer than a year."),
    _("Somebody has decided this already."),
)


MOST_CANCEL_NOTICE_HOURS = 336  # two weeks, as the schema has it
SHORTEST_RETENTION, LONGEST_RETENTION = 12, 600  # months


class PolicyForm(DetailsForm):
    kind = PolicyDetails
    clinic_name = StringField(_("Name of the clinic"), [A_NAME])
    access_goal_hours = Whole(
        _("Goal: hours until the first visit"),
        *WHOLE_POLICY["ACCESS_GOAL_HOURS"][1:],
        description=_("The first page says it while it is true."),
    )
    target = Whole(_("Target: percent of the time that the goal holds"), 1, 100)
    booking_notice_minutes = Whole(
        _("Patients book at least so many minutes ahead"), *WHOLE_POLICY["BOOKING_NOTICE_MINUTES"][1:]
    )
    booking_horizon_days = Whole(
        _("Patients book at most so many days ahead"),
        *WHOLE_POLICY["BOOKING_HORIZON_DAYS"][1:],
        description=_("Times further ahead appear within a quarter of an hour."),
    )
    hold_minutes = Whole(_("A time is held so many minutes while somebody books"), *WHOLE_POLICY["HOLD_MINUTES"][1:])
    reminders = StringField(
        _("Reminders"),
        [Matches(REMINDERS.pattern, _("Write it like email:48h,email:24h,sms:2h."))],
        description=_("For visits booked from now on, like email:48h,email:24h,sms:2h."),
    )
    cancel_notice_hours = Whole(
        _("Patients cancel at least so many hours before their visit"),
        0,
        MOST_CANCEL_NOTICE_HOURS,
        description=_(
            "Said before booking. Later cancellations are counted for staff, as no-shows are. 0 asks for nothing."
        ),
    )
    retention_months = Whole(
        _("Erase patients so many months after their last visit (optional)"),
        SHORTEST_RETENTION,
        LONGEST_RETENTION,
        optional=True,
        description=_("Empty: never by itself. Ask your counsel how long the law wants records kept."),
    )

    @classmethod
    def values(cls, details: PolicyDetails) -> dict[str, Any]:
        return asdict(details) | {"target": f"{details.access_target * 100:g}"}

    def details(self) -> PolicyDetails:
        """With the target as a share."""
        names = (name for name in PolicyDetails.__dataclass_fields__ if name != "access_target")
        return PolicyDetails(access_target=self.target.data / 100, **{name: self[name].data for name in names})


class ProtectionForm(DetailsForm):
    kind = ProtectionDetails
    pinned = Whole(
        _("Visits of each day to keep back (empty: as the rule suggests)"),
        0,
        HIGHEST,
        optional=True,
    )
    least = Whole(_("Floor of the rule's number"), 0, HIGHEST)
    most = Whole(_("Ceiling of the rule's number"), 0, HIGHEST)


def zones() -> list[SelectChoice]:
    """Every zone that has a place's name, the country's own first."""
    groups = {gettext("United States"): AMERICAN, gettext("Other zones"): OTHERS}
    return [
        SelectChoice(zone, zone.replace("_", " "), optgroup=str(group)) for group, of in groups.items() for zone in of
    ]


def states() -> list[SelectChoice]:
    return [SelectChoice("", gettext("Choose"))] + [SelectChoice(state, state) for state in STATES]


class LocationForm(DetailsForm):
    kind = LocationDetails
    name = StringField(_("Name"), [A_NAME])
    area = StringField(
        _("Area"),
        [Like(schemas.Name, _("Write an area of at most 200 characters."))],
        description=_("Locations near each other have the same area."),
    )
    address = StringField(
        _("Address"), [Like(schemas.Name, _("Write the address in one line of at most 200 characters."))]
    )
    state = OneOf(
        _("State"),
        _("Choose a state."),
        choices=states,
        description=_("Its law decides which licenses are needed here."),
    )
    time_zone = OneOf(_("Time zone"), _("Choose a time zone."), choices=zones)
    phone = StringField(
        _("Phone"),
        [Matches(r"(?=(.*[0-9]){7})[+0-9(). /-]{7,40}", _("Write a phone number with its area code."))],
    )
    directions = TextAreaField(
        _("Directions, and what to bring (optional)"),
        [Like(Directions, _("Write plain text of at most 2000 characters."), optional=True)],
        description=_("Patients read this on the page of their visit."),
        render_kw={"maxlength": 2000},
    )
    active = BooleanField(_("This location is open"), default=True)

    def validate(self, extra_validators: object = None) -> bool:
        """The first choice is none."""
        return _chosen(self.state, super().validate(extra_validators))


class TypeForm(DetailsForm):
    kind = TypeDetails
    name = StringField(_("Name"), [A_NAME])
    minutes = Whole(_("Minutes"), 15, 480, step=15)
    buffer_minutes = Whole(
        _("Buffer after it, in minutes"),
        0,
        240,
        step=15,
        default=0,
        description=_("Time that stays free after the visit."),
    )
    new_patient = BooleanField(_("For new patients: the goal is about this kind of visit"))
    includes_needling = BooleanField(_("Includes dry needling: only those who may needle there give it"))
    notice_minutes = Whole(
        _("Patients book it at least so many minutes ahead (optional)"),
        *WHOLE_POLICY["BOOKING_NOTICE_MINUTES"][1:],
        optional=True,
        description=_("Empty: as the clinic's policy says."),
    )
    horizon_days = Whole(
        _("Patients book it at most so many days ahead (optional)"),
        *WHOLE_POLICY["BOOKING_HORIZON_DAYS"][1:],
        optional=True,
        description=_("Empty: as the clinic's policy says, and never more than it says."),
    )
    everybody = BooleanField(_("All therapists offer it"))
    therapist_ids = Ticks(_("Or only these therapists"), coerce=int, choices=[])
    everywhere = BooleanField(_("All locations offer it"))
    location_ids = Ticks(_("Or only these locations"), coerce=int, choices=[])
    place = Whole(_("Place in the list"), 1, 999, default=1)
    active = BooleanField(_("Patients can book it"), default=True)

    @classmethod
    def values(cls, details: TypeDetails) -> dict[str, Any]:
        return asdict(details) | {"everybody": not details.therapist_ids, "everywhere": not details.location_ids}

    def details(self) -> TypeDetails:
        """Whoever offers it to all has no list."""
        own = {name: self[name].data for name in TypeDetails.__dataclass_fields__}
        for every, chosen in self._limits():
            own[chosen.name] = () if every.data else tuple(sorted(chosen.data))
        return TypeDetails(**own)

    def validate(self, extra_validators: object = None) -> bool:
        """Somebody offers it somewhere, and who is ticked by name does not stand beside all."""
        sound: bool = super().validate(extra_validators)
        for every, chosen in self._limits():
            if not chosen.errors and bool(every.data) == bool(chosen.data):
                both = gettext("Choose all, or some by name, not both.")
                chosen.errors = [both if every.data else gettext("Choose all, or at least one.")]
                sound = False
        return sound

    def _limits(self) -> list[tuple[BooleanField, Ticks]]:
        return [(self.everybody, self.therapist_ids), (self.everywhere, self.location_ids)]


class RuleForm(DetailsForm):
    kind = RuleDetails
    state = OneOf(_("State"), _("Choose a state."), choices=states)
    valid_from = Day(_("In force from"))
    needling = RadioField(
        _("Dry needling by physical therapists"),
        choices=[SelectChoice(word, NEEDLING[word]) for word in NEEDLING_RULES],
        invalid_choice_message=_("Choose one of the list."),
    )
    qualification = StringField(
        _("License needed beside the one for physical therapy (optional)"),
        [Matches(r"|[A-Za-z][A-Za-z _-]{1,49}", _("Write a short name, like dry needling."))],
        description=_("The name that this license has here, like dry needling."),
    )
    training_hours = Whole(_("Hours of training that the state asks for (optional)"), 0, 2000, optional=True)
    source = TextAreaField(
        _("Source"),
        [Like(schemas.Text, _("Say where this stands, in at most 500 characters."))],
        description=_("The statute or the board's page, and who looked it up."),
    )
    review_on = Day(_("Look it up again on"))

    def validate(self, extra_validators: object = None) -> bool:
        """The source says something."""
        return _written(self.source, _chosen(self.state, super().validate(extra_validators)))

    def details(self) -> RuleDetails:
        """The kind of licence as licences have it: small, with strokes for blanks."""
        kind = "_".join((self.qualification.data or "").lower().replace("-", " ").replace("_", " ").split())
        own = {name: self[name].data for name in RuleDetails.__dataclass_fields__}
        return RuleDetails(**own | {"qualification": kind if kind not in {"", PT} else None})


class ReviewForm(StaffForm):
    """A rule that was looked up again."""

    seal = HiddenField()
    source = RuleForm.source
    review_on = Day(_("Look it up again on"))

    def validate(self, extra_validators: object = None) -> bool:
        return _written(self.source, super().validate(extra_validators))


class TherapistForm(DetailsForm):
    kind = TherapistDetails
    name = StringField(_("Name"), [A_NAME])
    credentials = StringField(
        _("Letters after the name"),
        [Like(schemas.Name, _("Write the letters after the name, like PT, DPT."))],
        description=_("Patients read them, like PT, DPT."),
    )
    languages = Ticks(_("Languages"), choices=[])
    active = BooleanField(_("Works here"), default=True)

    def __init__(self, *arguments: Any, also: Iterable[str] = (), **more: Any) -> None:  # noqa: ANN401 as WTForms has it
        """Offer the languages that this therapist speaks already, too."""
        super().__init__(*arguments, **more)
        self.languages.choices = languages((*also, *(more.get("data") or {}).get("languages", ())))

    def details(self) -> TherapistDetails:
        spoken = tuple(sorted(set(self.languages.data or ())))
        return TherapistDetails(self.name.data, self.credentials.data, spoken, self.active.data)

    def validate(self, extra_validators: object = None) -> bool:
        """Everybody speaks something."""
        sound: bool = super().validate(extra_validators)
        if not self.languages.data and not self.languages.errors:
            self.languages.errors = [gettext("Choose at least one language.")]
            return False
        return sound


def license_name(kind: str) -> str:
    """What a kind of licence is called, as in "Dry needling"."""
    return str(gettext("Physical therapy")) if kind == PT else kind.replace("_", " ").capitalize()


def languages(also: Iterable[str]) -> list[SelectChoice]:
    return [SelectChoice(code, words.language_name(code, language())) for code in dict.fromkeys((*SPOKEN, *also))]


class LicenseForm(DetailsForm):
    kind = LicenseDetails
    kind_of_license = OneOf(_("License"))
    state = OneOf(_("State"), _("Choose a state."), choices=states)
    number = StringField(_("Number"), [Like(schemas.Name, _("Write the number of the license."))])
    valid_from = Day(_("Valid from"))
    valid_until = Day(_("Valid until"), description=_("The last day on which it is valid."))
    evidence = TextAreaField(
        _("Evidence (optional)"),
        [NOTE_IF_ANY],
        description=_("Where this can be looked up, such as the board's page."),
    )

    @classmethod
    def values(cls, details: LicenseDetails) -> dict[str, Any]:
        return asdict(details) | {"kind_of_license": details.kind}

    def details(self) -> LicenseDetails:
        names = (name for name in LicenseDetails.__dataclass_fields__ if name != "kind")
        return LicenseDetails(kind=self.kind_of_license.data, **{name: self[name].data for name in names})

    def validate(self, extra_validators: object = None) -> bool:
        """The days are in order."""
        return _in_order(self.valid_from, self.valid_until, _chosen(self.state, super().validate(extra_validators)))


class _Where(StaffForm):
    """Asked first of new hours."""

    location_id = OneOf(_("Location"), coerce=int)
    weekdays = Ticks(
        _("Days"),
        coerce=int,
        choices=lambda: [SelectChoice(str(day), words.weekday(day, language())) for day in range(7)],
    )


class HoursForm(DetailsForm):
    """Weekly hours; `past_midnight` says that they end on the next day, for whoever types an end before the start."""

    kind = HoursDetails
    opens = Clock(_("From"))
    closes = Clock(_("Until"))
    past_midnight = BooleanField(_("They end on the next day"))
    valid_from = Day(_("First day"))
    valid_until = Day(_("Last day (optional)"), optional=True)
    every_weeks = Whole(
        _("Every so many weeks"),
        1,
        MOST_WEEKS,
        default=1,
        description=_("1 is every week. From 2 on, the week of the first day is the first that is worked."),
    )
    standby = BooleanField(_("On standby: no times until a day is opened"))
    opens_by_rule = BooleanField(_("On standby, days open by themselves when the goal would be missed"))

    @classmethod
    def values(cls, details: HoursDetails) -> dict[str, Any]:
        return {
            "opens": time_of(details.opens_minute),
            "closes": time_of(details.closes_minute),
            "past_midnight": details.closes_minute > DAY_MINUTES,
            "valid_from": details.valid_from,
            "valid_until": details.valid_until,
            "every_weeks": details.every_weeks,
            "standby": details.standby,
            "opens_by_rule": details.opens_by_rule,
        }

    def details(self) -> HoursDetails:
        return HoursDetails(
            self.opens.minutes,
            self._closes_minute(),
            self.valid_from.data,
            self.valid_until.data,
            self.every_weeks.data,
            self.standby.data,
            self.opens_by_rule.data,
        )

    def validate(self, extra_validators: object = None) -> bool:
        """They end after they begin."""
        sound: bool = super().validate(extra_validators)
        if self.opens_by_rule.data and not self.standby.data:
            self.opens_by_rule.errors = [gettext("Only hours on standby can open by themselves.")]
            sound = False
        if self.opens.errors or self.closes.errors:
            return False
        if not self.opens.minutes < self._closes_minute() <= self.opens.minutes + DAY_MINUTES:
            self.closes.errors = [gettext("This is not after the start. Do they end on the next day?")]
            return False
        return sound

    def _closes_minute(self) -> int:
        """Midnight is the end of the day, too."""
        minutes = self.closes.minutes
        return minutes + DAY_MINUTES if self.past_midnight.data or minutes == 0 else minutes


class NewHoursForm(_Where, HoursForm):
    def validate(self, extra_validators: object = None) -> bool:
        return _some(self.weekdays, gettext("Choose at least one day."), super().validate(extra_validators))


A_REASON = Like(schemas.Name, _("Say why, in at most 200 characters."))


class ClosureForm(AwayForm):
    kind = ClosureDetails
    reason = StringField(_("Why"), [A_REASON], description=_("Such as: Christmas, renovation. Staff read it."))


class NewClosureForm(ClosureForm):
    places = Ticks(_("Locations"), coerce=int)

    def validate(self, extra_validators: object = None) -> bool:
        return _some(self.places, gettext("Choose at least one location."), super().validate(extra_validators))


class HolidaysForm(StaffForm):
    """Public holidays on which the clinic closes; each is told by its day and its name."""

    days = Ticks(_("Closed on"))

    def validate(self, extra_validators: object = None) -> bool:
        return _some(self.days, gettext("Choose at least one day."), super().validate(extra_validators))


class NewOffForm(OffForm):
    therapist_id = OneOf(_("Therapist"), coerce=int)


class AccountForm(DetailsForm):
    """Who somebody is, and what they may do; who administers some locations only gives those only."""

    kind = AccountDetails
    email = EmailField(
        _("E-mail"),
        [AN_EMAIL],
        description=_("They sign in with it. A new one signs them out everywhere."),
    )
    name = StringField(_("Name"), [A_NAME])
    language = OneOf(
        _("Language of messages to them"), choices=[SelectChoice(code, name) for code, name in LANGUAGES.items()]
    )
    role = RadioField(
        _("Role"),
        choices=[SelectChoice(role.value, label) for role, label in ROLES.items()],
        invalid_choice_message=_("Choose one of the list."),
    )
    everywhere = BooleanField(_("Works for all locations"))
    location_ids = Ticks(_("Or only for these"), coerce=int)
    therapist_id = OneOf(
        _("Which therapist they are"), coerce=int, description=_("Whoever treats sees their own schedule.")
    )
    needs_second_factor = BooleanField(_("Must sign in with a passkey or a code, too (administrators always must)"))

    @classmethod
    def values(cls, details: AccountDetails) -> dict[str, Any]:
        return asdict(details) | {"therapist_id": details.therapist_id or 0}

    def details(self) -> AccountDetails:
        everywhere = self.everywhere is not None and bool(self.everywhere.data)
        return AccountDetails(
            email=self.email.data,
            name=self.name.data,
            language=self["language"].data,
            role=self.role.data,
            everywhere=everywhere,
            location_ids=() if everywhere else tuple(sorted(self.location_ids.data)),
            therapist_id=self.therapist_id.data or None,
            needs_second_factor=self.needs_second_factor.data or self.role.data == Role.ADMIN,
        )

    def validate(self, extra_validators: object = None) -> bool:
        """They work somewhere, and a therapist is somebody."""
        sound: bool = super().validate(extra_validators)
        everywhere = self.everywhere is not None and self.everywhere.data
        if not everywhere and not self.location_ids.data and not self.location_ids.errors:
            self.location_ids.errors = [gettext("Choose at least one location.")]
            sound = False
        if self.role.data == Role.THERAPIST and not self.therapist_id.data and not self.therapist_id.errors:
            self.therapist_id.errors = [gettext("Choose which therapist this is.")]
            sound = False
        return sound


def _chosen(field: OneOf, sound: bool) -> bool:
    """Refuse the choice that says Choose."""
    if not field.data and not field.errors:
        field.errors = [str(field.wish)]
        return False
    return sound


def _written(field: TextAreaField, sound: bool) -> bool:
    if not field.data and not field.errors:
        field.errors = [gettext("Say where this stands, in at most 500 characters.")]
        return False
    return sound


def _some(ticks: Ticks, wish: str, sound: bool) -> bool:
    """Whether something is ticked, and all else was sound."""
    if not ticks.data and not ticks.errors:
        ticks.errors = [wish]
        return False
    return sound


def _in_order(first: Day, last: Day, sound: bool) -> bool:
    days: tuple[date | None, date | None] = (first.data, last.data)
    if days[0] is not None and days[1] is not None and days[1] < days[0] and not last.errors:
        last.errors = [gettext("This is before the first day.")]
        return False
    return sound
