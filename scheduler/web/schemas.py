"""The shapes of the JSON API: what a request may hold, and what an answer holds (documented, and held by a test)."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from scheduler import accepted
from scheduler.models import Needling
from scheduler.services.windows import WEEKDAYS, DayPart

ID = r"[1-9][0-9]{0,8}"
HOLDER = r"[0-9A-Za-z_-]{16,100}"
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
LONGEST_INSTANT = 40


def _bound(value: object) -> object:
    """Read a date or an instant with an offset; years that no calendar here reaches are refused."""
    if not isinstance(value, str):
        raise ValueError("must be a date, or a time with its offset")  # noqa: TRY004 pydantic takes ValueError
    if len(value) > LONGEST_INSTANT:
        raise ValueError("is too long for a date or time")
    if re.search(r"T.* [0-9]{2}:?[0-9]{2}$", value):
        raise ValueError("has a blank where the offset's + was: write it as %2B in an address")
    try:
        if DATE.fullmatch(value):
            return _in_reach(date.fromisoformat(value))
        instant = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError("must be a date (2026-11-23) or a time with its offset (2026-11-23T09:00:00-06:00)") from error
    if instant.tzinfo is None:
        raise ValueError("is a time without an offset, which names no instant")
    _in_reach(instant.date())
    return instant.astimezone(UTC)


def day(text: str) -> date:
    """A date as addresses have it; raises ValueError for any other text, and for years out of reach."""
    if not DATE.fullmatch(text):
        raise ValueError("must be a date such as 2026-11-23")
    return _in_reach(date.fromisoformat(text))


def _weekdays(value: object) -> object:
    """Read names of days of the week, with commas between them, as their numbers from Monday on."""
    named = value.split(",") if isinstance(value, str) else []
    if not named or not set(named) <= set(WEEKDAYS):
        raise ValueError("must name days of the week, such as monday,thursday")
    return frozenset(WEEKDAYS.index(name) for name in named)


def _in_reach(day: date) -> date:
    if not date(2000, 1, 1) <= day <= date(2200, 1, 1):
        raise ValueError("must lie between the years 2000 and 2200")
    return day


def _birth_date(value: object) -> object:
    if not isinstance(value, str) or not DATE.fullmatch(value):
        raise ValueError("must be a date such as 1980-01-31")
    accepted.birth_date(date.fromisoformat(value))
    return value


def _is_true(value: object) -> object:
    if value is not True:
        raise ValueError("must be true: the patient was shown the explainer")
    return value


def _limit(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ValueError("must be a whole number from 1 to 200")
    return value


def _id(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError('must be an id, which is a string such as "1"')  # noqa: TRY004 pydantic takes ValueError
    if not re.fullmatch(ID, value):
        raise ValueError("is nothing's id")
    return int(value)


IdText = Annotated[str, StringConstraints(pattern=f"^{ID}$")]
LimitNumber = Annotated[int, Field(ge=1, le=200)]
WhenText = Annotated[str, Field(description="A date (midnight at the location) or a time with its offset")]
Id = Annotated[int, BeforeValidator(_id, json_schema_input_type=IdText)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$", strict=True)]
Bound = Annotated[date | datetime, BeforeValidator(_bound, json_schema_input_type=WhenText)]
WeekdayText = Annotated[
    str,
    Field(
        description="Days of the week at the location, with commas between them: monday,thursday",
        pattern=f"^({'|'.join(WEEKDAYS)})(,({'|'.join(WEEKDAYS)}))*$",
    ),
]
Weekdays = Annotated[frozenset[int], BeforeValidator(_weekdays, json_schema_input_type=WeekdayText)]
Name = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(accepted.name),
]
Email = Annotated[
    str,
    StringConstraints(strict=True, max_length=254),
    AfterValidator(accepted.one_line),
    AfterValidator(accepted.email),
]
Phone = Annotated[
    str,
    StringConstraints(strict=True, max_length=40),
    AfterValidator(accepted.one_line),
    AfterValidator(accepted.phone),
]
Text = Annotated[str, StringConstraints(strict=True, max_length=500), AfterValidator(accepted.plain_text)]
SlotId = Annotated[str, StringConstraints(strict=True, max_length=100)]
BirthDate = Annotated[date, BeforeValidator(_birth_date, json_schema_input_type=str)]
Flag = Annotated[bool, Field(strict=True)]


class Strict(BaseModel):
    """Unknown fields are mistakes, and are named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(Strict):
    pass


class TherapistsQuery(Strict):
    location: Id | None = None


class SlotsQuery(Strict):
    appointment_type: Id
    location: Id | None = None
    therapist: Id | None = None
    language: Language | None = None
    from_: Bound | None = Field(None, alias="from")
    to: Bound | None = None
    day_part: Annotated[
        DayPart | None,
        Field(description="By the clock at the location: before 12:00, from 12:00 to 17:00, or from 17:00 on"),
    ] = None
    weekday: Weekdays = frozenset()
    limit: Annotated[int, BeforeValidator(_limit, json_schema_input_type=LimitNumber), Field(ge=1, le=200)] = 20
    cursor: Annotated[str, StringConstraints(max_length=100)] | None = None


class AccessQuery(Strict):
    appointment_type: Annotated[
        Id | None, Field(description="Without it: the first type for new patients, which the goal is about")
    ] = None


class ExplainerQuery(Strict):
    language: Language = "en"


class PatientBody(Strict):
    name: Name
    email: Email | None = None
    phone: Phone | None = None
    birth_date: BirthDate | None = None

    @model_validator(mode="after")
    def _reachable(self) -> "PatientBody":
        if self.email is None and self.phone is None:
            raise ValueError("give an e-mail address or a phone number, so that the clinic can reach the patient")
        return self


class ConsentBody(Strict):
    """`acknowledged` means "I was shown this explainer", never agreement to treatment."""

    explainer_version: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=40)]
    language: Language = "en"
    acknowledged: Annotated[Literal[True], BeforeValidator(_is_true)]


class RemindersBody(Strict):
    email: Flag = True
    sms: Flag = False


class HoldBody(Strict):
    """`holder` is a random name that a browser session gives itself: the same holder keeps the same start anew."""

    slot: SlotId
    appointment_type: Id
    holder: Annotated[str, StringConstraints(strict=True, pattern=f"^{HOLDER}$")] | None = None


class BookBody(Strict):
    slot: SlotId
    appointment_type: Id
    hold: Annotated[str, StringConstraints(strict=True)] | None = None
    patient: PatientBody
    consent: ConsentBody
    needling: Needling = Needling.TALK_FIRST
    language: Literal["en", "es"] = "en"
    note: Text | None = None
    reminders: RemindersBody = RemindersBody()


class MoveBody(Strict):
    slot: SlotId
    hold: Annotated[str, StringConstraints(strict=True)] | None = None


class CancelBody(Strict):
    reason: Text | None = None


class LocationOut(BaseModel):
    id: str
    name: str
    area: str
    address: str
    state: str
    time_zone: str
    phone: str


class TherapistOut(BaseModel):
    id: str
    name: str
    credentials: str
    languages: list[str]
    location_ids: list[str]


class AppointmentTypeOut(BaseModel):
    id: str
    name: str
    minutes: int
    new_patient: bool
    includes_needling: bool


class LocationList(BaseModel):
    items: list[LocationOut]


class TherapistList(BaseModel):
    items: list[TherapistOut]


class AppointmentTypeList(BaseModel):
    items: list[AppointmentTypeOut]


class PlaceRef(BaseModel):
    id: str
    name: str
    time_zone: str


class TherapistRef(BaseModel):
    id: str
    name: str


class SlotOut(BaseModel):
    """A start that can be booked; times stand in the location's offset, `end` excludes any buffer."""

    model_config = ConfigDict(extra="forbid")

    id: str
    start: AwareDatetime
    end: AwareDatetime
    location: PlaceRef
    therapist: TherapistRef
    appointment_type: str


class SlotPage(BaseModel):
    items: list[SlotOut]
    next_cursor: str | None


class StandingOut(BaseModel):
    """How soon a visit can start: hours from `measured_at` on, with two decimals, null when there is no such start.

    The third counts every start that can be booked, two therapists at one moment as two. `attainment_28d` is the share
    of measured quarter hours with a start within the goal, null before 7 days of history.
    """

    model_config = ConfigDict(extra="forbid")

    next_available_at: AwareDatetime | None
    next_available_hours: Annotated[float, Field(ge=0)] | None
    third_next_available_hours: Annotated[float, Field(ge=0)] | None
    within_goal: bool
    attainment_28d: Annotated[float, Field(ge=0, le=1)] | None


class LocationStandingOut(StandingOut):
    id: str
    name: str


class AccessOut(BaseModel):
    """Measured at each request, from what /slots then offers; `overall` is the soonest anywhere."""

    model_config = ConfigDict(extra="forbid")

    goal_hours: int
    target: float
    measured_at: AwareDatetime
    appointment_type: str
    overall: StandingOut
    locations: list[LocationStandingOut]


class SectionOut(BaseModel):
    id: str
    heading: str
    html: str


class ExplainerOut(BaseModel):
    version: str
    language: str
    title: str
    sections: list[SectionOut]


class HoldOut(BaseModel):
    """A start that is kept; `hold` is the only name of it."""

    model_config = ConfigDict(extra="forbid")

    hold: str
    expires_at: AwareDatetime


class VisitOut(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    status: Literal["booked", "arrived", "fulfilled", "cancelled", "noshow"]
    start: AwareDatetime
    end: AwareDatetime
    location: PlaceRef
    therapist: TherapistRef
    appointment_type: str
    explainer_version: str | None
    token: str
    manage_url: str


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457. `errors` comes with 422, `alternatives` with a 409 for a known time that cannot be booked now."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None
    alternatives: list[SlotOut] | None = None
