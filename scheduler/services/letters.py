"""What a message says: everything in it, as the rows stand at one moment, or why it must not go any more."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, exists, select
from sqlalchemy.orm import Session

from scheduler.calendars import sequence
from scheduler.keys import Keyring
from scheduler.models import (
    Account,
    Appointment,
    ClinicPolicy,
    ContactRequest,
    Fate,
    Kind,
    Location,
    ManageLink,
    OutboxMessage,
    Patient,
    SeriesVisit,
    Status,
    VisitsRequest,
)
from scheduler.models.watch import WORDS
from scheduler.services import access_watch, accounts, license_ends, my_visits, notices, questions
from scheduler.services.access_watch import Alert
from scheduler.services.license_ends import Ending
from scheduler.services.notices import Decision
from scheduler.services.questions import Asked

FACTS = (
    select(
        OutboxMessage.id,
        OutboxMessage.kind,
        OutboxMessage.visit_version.label("told_version"),
        Appointment.id.label("visit_id"),
        Appointment.starts_at,
        Appointment.ends_at,
        Appointment.status,
        Appointment.visit_version,
        Appointment.explainer_version_id,
        Patient.email,
        Patient.language,
        Patient.remind_by_email,
        Location.name,
        Location.address,
        Location.phone,
        Location.time_zone,
        ClinicPolicy.clinic_name,
        ManageLink.generation,
        ManageLink.key_id,
        SeriesVisit.first_id,
    )
    .select_from(OutboxMessage)
    .join(Appointment, Appointment.id == OutboxMessage.appointment_id)
    .join(Patient, Patient.id == Appointment.patient_id)
    .join(Location, Location.id == Appointment.location_id)
    .join(ClinicPolicy, ClinicPolicy.id == 1)
    .outerjoin(
        ManageLink,
        (ManageLink.appointment_id == Appointment.id) & (ManageLink.generation == Appointment.link_generation),
    )
    .outerjoin(SeriesVisit, SeriesVisit.appointment_id == Appointment.id)
)
# The visits of a series that still stand, as the message that confirms them all names each.
OF_SERIES = (
    select(
        Appointment.id,
        Appointment.starts_at,
        Appointment.ends_at,
        Appointment.visit_version,
        Location.name,
        Location.address,
        Location.phone,
        Location.time_zone,
        ManageLink.generation,
        ManageLink.key_id,
    )
    .join(SeriesVisit, SeriesVisit.appointment_id == Appointment.id)
    .join(Location, Location.id == Appointment.location_id)
    .join(
        ManageLink,
        (ManageLink.appointment_id == Appointment.id) & (ManageLink.generation == Appointment.link_generation),
    )
    .where(Appointment.status == Status.BOOKED)
    .order_by(Appointment.starts_at)
)
TOLD_TOGETHER = "told with the other visits of the series"
TO_STAFF = (
    select(OutboxMessage, Account, ClinicPolicy.clinic_name)
    .join(Account, Account.id == OutboxMessage.account_id)
    .join(ClinicPolicy, ClinicPolicy.id == 1)
    .where(OutboxMessage.id == bindparam("id"))
)
TO_WHOEVER_WISHED = (
    select(VisitsRequest, ClinicPolicy.clinic_name)
    .join(OutboxMessage, OutboxMessage.visits_request_id == VisitsRequest.id)
    .join(ClinicPolicy, ClinicPolicy.id == 1)
    .where(OutboxMessage.id == bindparam("id"))
)
TO_WHO_ASKED = (
    select(OutboxMessage, ContactRequest, Location, ClinicPolicy.clinic_name)
    .join(ContactRequest, ContactRequest.id == OutboxMessage.contact_request_id)
    .join(Location, Location.id == ContactRequest.location_id)
    .join(ClinicPolicy, ClinicPolicy.id == 1)
    .where(OutboxMessage.id == bindparam("id"))
    .with_for_update(read=True, of=ContactRequest)
)
Facts = Row[*tuple[Any, ...]]
ABOUT_QUESTIONS = (Kind.QUESTION_ASKED, Kind.QUESTION_WAITS)
SEVERAL = FACTS.where(OutboxMessage.id.in_(bindparam("ids", expanding=True)))
# The visit's lock: a change of it is stored either before this is read, or after the try has been noted.
ONE = FACTS.where(OutboxMessage.id == bindparam("id")).with_for_update(read=True, of=Appointment)


@dataclass(frozen=True, slots=True)
class OneOfSeries:
    """One of the visits that a message confirms together."""

    visit_id: UUID
    starts_at: datetime
    ends_at: datetime
    sequence: int
    place: str
    address: str
    phone: str
    time_zone: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """All that a message says, at this moment. `sequence` rises with every change of the visit (RFC 5545).

    `explainer_shown` is false where staff booked: then the confirmation says where to read it. `series` are all visits
    that it confirms, its own among them, where it confirms several.
    """

    message_id: UUID
    kind: Kind
    recipient: str
    language: str
    clinic: str
    place: str
    address: str
    phone: str
    time_zone: str
    visit_id: UUID
    starts_at: datetime
    ends_at: datetime
    sequence: int
    token: str | None
    explainer_shown: bool = True
    series: tuple[OneOfSeries, ...] = ()


@dataclass(frozen=True, slots=True)
class StaffLetter:
    """What a message to one of the clinic's people says; `token` opens the page on which to set a password.

    `license` is the one that ends, `decision` the one about time off, `alerts` the words about the access goal, where
    the message tells of any; `question` is what waits for an answer.
    """

    message_id: UUID
    kind: Kind
    recipient: str
    language: str
    clinic: str
    about: str
    token: str | None
    license: Ending | None = None
    decision: Decision | None = None
    alerts: tuple[Alert, ...] = ()
    question: Asked | None = None


@dataclass(frozen=True, slots=True)
class QuestionLetter:
    """What who asked a question is told: that it is here, or, where `answer` is a text, that text.

    Nothing of what they typed is in it but their address.
    """

    message_id: UUID
    kind: Kind
    recipient: str
    language: str
    clinic: str
    place: str
    phone: str
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class VisitsLetter:
    """What whoever asked for their visits is sent: a link to the list of them, and for how many minutes it works."""

    message_id: UUID
    kind: Kind
    recipient: str
    language: str
    clinic: str
    token: str
    minutes: int


AnyLetter = Letter | StaffLetter | QuestionLetter | VisitsLetter


def drafts(session: Session, message_ids: Sequence[UUID], *, keys: Keyring) -> list[Letter]:
    """What these messages to patients would say now; without those that have nobody to go to.

    Nor those that may tell of a whole series: which one does is only known when it goes.
    """
    rows = session.execute(SEVERAL, {"ids": message_ids}) if message_ids else ()
    return [_letter(row, keys) for row in rows if row.email is not None and not _may_tell_of_all(row)]


def current(session: Session, message_id: UUID, *, keys: Keyring, now: datetime) -> AnyLetter | str:
    """What this message says, re-read under its visit's lock, or the reason why it must not go."""
    asked = {"id": message_id}
    row = session.execute(ONE, asked).one_or_none()
    if row is None:
        to_staff = session.execute(TO_STAFF, asked).one_or_none()
        if to_staff is not None:
            return _staff_letter(session, *to_staff, keys, now)
        to_who_asked = session.execute(TO_WHO_ASKED, asked).one_or_none()
        if to_who_asked is not None:
            return _question_letter(*to_who_asked, keys)
        return _visits_letter(session, message_id, *session.execute(TO_WHOEVER_WISHED, asked).one(), keys, now)
    if row.generation is None:  # whoever waited for the lock sees the visit as it is, but a new link of it only now
        row = session.execute(ONE, asked).one()
    return _obsolete(row, now) or (_of_series(session, row, keys, now) if _may_tell_of_all(row) else _letter(row, keys))


def _may_tell_of_all(row: Facts) -> bool:
    """Whether a message confirms a visit as it was booked with others, not as it was moved to later."""
    return row.kind == Kind.CONFIRMATION and row.first_id is not None and row.told_version == 1


def _of_series(session: Session, row: Facts, keys: Keyring, now: datetime) -> Letter | str:
    """The one message of a series, with all visits that still stand; why it must not go where another one went."""
    went = exists().where(
        OutboxMessage.appointment_id == SeriesVisit.appointment_id,
        SeriesVisit.first_id == row.first_id,
        OutboxMessage.kind == Kind.CONFIRMATION,
        OutboxMessage.visit_version == 1,
        OutboxMessage.status == Fate.SENT,
    )
    if session.execute(select(went)).scalar_one():
        return TOLD_TOGETHER
    visits = session.execute(OF_SERIES.where(SeriesVisit.first_id == row.first_id, Appointment.starts_at > now))
    told = tuple(
        OneOfSeries(
            visit_id=one.id,
            starts_at=one.starts_at,
            ends_at=one.ends_at,
            sequence=one.visit_version - 1,
            place=one.name,
            address=one.address,
            phone=one.phone,
            time_zone=one.time_zone,
            token=keys.link_token(one.id, one.generation, one.key_id),
        )
        for one in visits
    )
    return replace(_letter(row, keys), series=told if len(told) > 1 else ())


def _visits_letter(
    session: Session, message_id: UUID, request: VisitsRequest, clinic: str, keys: Keyring, now: datetime
) -> VisitsLetter | str:
    return my_visits.obsolete(session, request, keys=keys, now=now) or VisitsLetter(
        message_id=message_id,
        kind=Kind.MY_VISITS,
        recipient=my_visits.address(request, keys),
        language=request.language,
        clinic=clinic,
        token=my_visits.token(request, keys),
        minutes=my_visits.LINK_LASTS // timedelta(minutes=1),
    )


def _staff_letter(
    session: Session, message: OutboxMessage, account: Account, clinic: str, keys: Keyring, now: datetime
) -> StaffLetter | str:
    if not account.active:
        return "the account is disabled"
    kind = Kind(message.kind)
    if kind == Kind.SET_PASSWORD and message.about != str(account.generation):
        return "the password was set meanwhile"
    about = message.about or ""
    ending = license_ends.stands(session, about, account) if kind == Kind.LICENSE_ENDS else None
    decision = notices.decision_stands(session, about, account) if kind == Kind.TIME_OFF_DECIDED else None
    alerts = access_watch.told(session, about, account) if kind in WORDS else ()
    question = questions.stands(session, about, now=now) if kind in ABOUT_QUESTIONS else None
    gone = {
        "the license was renewed meanwhile": kind == Kind.LICENSE_ENDS and ending is None,
        "the time off was taken back or changed meanwhile": kind == Kind.TIME_OFF_DECIDED and decision is None,
        "nothing was said of the goal there": kind in WORDS and not alerts,
        "the question was answered meanwhile": kind in ABOUT_QUESTIONS and question is None,
    }
    reason = next((reason for reason, holds in gone.items() if holds), None)
    if reason is not None:
        return reason
    return StaffLetter(
        message_id=message.id,
        kind=kind,
        recipient=about if kind == Kind.ADDRESS_CHANGED else account.email,
        language=account.language,
        clinic=clinic,
        about=about,
        token=accounts.password_token(account, keys=keys, now=now) if kind == Kind.SET_PASSWORD else None,
        license=ending,
        decision=decision,
        alerts=alerts,
        question=question,
    )


def _question_letter(
    message: OutboxMessage, asked: ContactRequest, place: Location, clinic: str, keys: Keyring
) -> QuestionLetter | str:
    if asked.email is None:
        return "no e-mail address"
    kind = Kind(message.kind)
    return QuestionLetter(
        message_id=message.id,
        kind=kind,
        recipient=asked.email,
        language=asked.language,
        clinic=clinic,
        place=place.name,
        phone=place.phone,
        answer=keys.open(asked.answer_sealed) if kind == Kind.QUESTION_ANSWERED else None,
    )


def _obsolete(row: Facts, now: datetime) -> str | None:
    cancellation = row.kind == Kind.CANCELLATION
    reasons = {
        "no e-mail address": row.email is None,
        "cancelled": row.status == Status.CANCELLED and not cancellation,
        "not cancelled any more": row.status != Status.CANCELLED and cancellation,
        "moved": row.told_version != row.visit_version,
        "the visit has begun": row.starts_at <= now or row.status not in {Status.BOOKED, Status.CANCELLED},
        "reminders are switched off": row.kind == Kind.REMINDER and not row.remind_by_email,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _letter(row: Facts, keys: Keyring) -> Letter:
    kind = Kind(row.kind)
    return Letter(
        message_id=row.id,
        kind=kind,
        recipient=row.email,
        language=row.language,
        clinic=row.clinic_name,
        place=row.name,
        address=row.address,
        phone=row.phone,
        time_zone=row.time_zone,
        visit_id=row.visit_id,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        sequence=sequence(row.visit_version, cancelled=kind == Kind.CANCELLATION),
        token=keys.link_token(row.visit_id, row.generation, row.key_id) if row.generation is not None else None,
        explainer_shown=row.explainer_version_id is not None,
    )
