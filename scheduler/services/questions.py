"""Questions to the clinic: asked by anybody, told to who may answer, answered by e-mail or by phone.

`Reader` says whose questions somebody sees: those to their locations, and those to themselves as a therapist.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, false, or_, select, update
from sqlalchemy.orm import Session, joinedload
from uuid6 import uuid7

from scheduler.db import insert_into
from scheduler.errors import Conflict, Invalid, NotFound
from scheduler.keys import Keyring
from scheduler.models import (
    Account,
    AccountLocation,
    Answered,
    Channel,
    ContactRequest,
    Kind,
    Location,
    OutboxMessage,
    Role,
    Therapist,
    WorkingHours,
)
from scheduler.services import access_requests, audit, limits, notices
from scheduler.services.audit import PATIENT, Actor

PROMISED_HOURS = 24  # within which a question is to be answered
PROMISED = timedelta(hours=PROMISED_HOURS)
QUESTIONS_A_PAGE = 100
Places = frozenset[int] | None


class AnsweredAlready(Conflict):
    """Somebody else was first."""

    code = "answered-already"


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose questions somebody sees; `places` None is everywhere, none are whoever's who only treats."""

    places: Places
    therapist_id: int | None


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody asks of a location, or of one of its therapists; `form_sha256` is the same for the same form."""

    form_sha256: str
    name: str
    email: str | None
    phone: str | None
    message: str
    language: str
    location_id: int
    therapist_id: int | None
    address: str | None = None  # of the network, already hashed; None where questions are not limited


@dataclass(frozen=True, slots=True)
class Reached:
    """Where a question can go: a location, and who treats there."""

    location: Location
    therapists: Sequence[Therapist]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that staff is told of, in the words of a letter."""

    place: str
    hours: int


def reachable(session: Session) -> list[Reached]:
    """Every location that is in use, by name, with the active therapists who have hours there. Two queries."""
    places = session.scalars(select(Location).where(Location.active).order_by(Location.name, Location.id)).all()
    works = (
        select(WorkingHours.location_id, Therapist)
        .join(Therapist, Therapist.id == WorkingHours.therapist_id)
        .where(Therapist.active)
        .order_by(Therapist.name, Therapist.id)
    )
    at: dict[int, dict[int, Therapist]] = {place.id: {} for place in places}
    for place_id, therapist in session.execute(works):
        at.get(place_id, {})[therapist.id] = therapist
    return [Reached(place, list(at[place.id].values())) for place in places]


def ask(session: Session, request: Ask, *, keys: Keyring, now: datetime) -> None:
    """Store a question with its acknowledgement, the word to staff and its audit row; the same form is one question.

    Raises Invalid for a location or therapist that cannot be reached, TooMany for an address that asks without end.
    """
    _require_reachable(session, request)
    request_id = uuid7()
    new = insert_into(session, ContactRequest).values(
        id=request_id,
        form_sha256=request.form_sha256,
        name=request.name,
        email=request.email,
        phone=request.phone,
        language=request.language,
        location_id=request.location_id,
        therapist_id=request.therapist_id,
        message_sealed=keys.seal(request.message),
        asked_at=now,
    )
    if session.execute(new.on_conflict_do_nothing().returning(ContactRequest.id)).first() is None:
        return
    question = session.get_one(ContactRequest, request_id)
    _tell(session, question, Kind.QUESTION_RECEIVED, now=now)
    for account_id in _concerned(session, question):
        notices.owe(session, account_id, Kind.QUESTION_ASKED, question.id.hex, now=now)
    access_requests.note_question(session, question.location_id, now=now)
    audit.record(session, "contact_request.asked", question, by=PATIENT, now=now)
    if request.address is not None:  # last, since it locks the address's row until the end
        limits.count_question(session, request.address, now=now)


def waiting(session: Session, reader: Reader) -> Sequence[ContactRequest]:
    """What is not answered yet, the oldest first."""
    unanswered = _whole().where(_seen_by(reader), ContactRequest.answered_at.is_(None))
    return session.scalars(
        unanswered.order_by(ContactRequest.asked_at, ContactRequest.id).limit(QUESTIONS_A_PAGE)
    ).all()


def answered(session: Session, reader: Reader) -> Sequence[tuple[ContactRequest, str]]:
    """What was answered last, each with the name of who did."""
    rows = session.execute(
        _whole()
        .add_columns(Account.name)
        .join(Account, Account.id == ContactRequest.answered_by)
        .where(_seen_by(reader))
        .order_by(ContactRequest.answered_at.desc(), ContactRequest.id.desc())
        .limit(QUESTIONS_A_PAGE)
    )
    return [(question, name) for question, name in rows]


def question(session: Session, question_id: UUID, reader: Reader) -> ContactRequest:
    """Raises NotFound for none and for another's."""
    found = session.scalars(_whole().where(ContactRequest.id == question_id, _seen_by(reader))).one_or_none()
    if found is None:
        raise NotFound("There is no such question.")
    return found


def is_overdue(asked: ContactRequest, *, now: datetime) -> bool:
    """Whether somebody waits longer than they should."""
    return asked.answered_at is None and asked.asked_at <= now - PROMISED


def promise_kept(session: Session, *, now: datetime) -> bool:
    """Whether nobody waits longer than promised at this moment: what the page for patients may say."""
    late = select(ContactRequest.id).where(
        ContactRequest.answered_at.is_(None), ContactRequest.asked_at <= now - PROMISED
    )
    return session.scalars(late.limit(1)).first() is None


def answer(
    session: Session,
    asked: ContactRequest,
    text: str | None,
    *,
    account_id: int,
    by: Actor,
    keys: Keyring,
    now: datetime,
) -> None:
    """Answer a question of `question`: with a text by e-mail, without one it was done by phone.

    Raises AnsweredAlready for whoever comes second, Invalid for an e-mail to somebody who gave no address.
    """
    if text is not None and asked.email is None:
        raise Invalid("answer", "There is no e-mail address.")
    how = Answered.PHONE if text is None else Answered.EMAIL
    done = {"answered_at": now, "answered_by": account_id, "answered_how": how, "answer_sealed": keys.seal(text)}
    still_open = update(ContactRequest).where(ContactRequest.id == asked.id, ContactRequest.answered_at.is_(None))
    if session.execute(still_open.values(done).returning(ContactRequest.id)).first() is None:
        raise AnsweredAlready("Somebody has answered this question meanwhile.")
    if text is not None:
        _tell(session, asked, Kind.QUESTION_ANSWERED, now=now)
    audit.record(session, "contact_request.answered", asked, by=by, now=now, how=how.value)


def overdue(session: Session, *, now: datetime) -> Sequence[UUID]:
    """Which questions wait too long without staff having been told of it."""
    return session.scalars(select(ContactRequest.id).where(*_to_remind(now)).order_by(ContactRequest.asked_at)).all()


def remind(session: Session, question_ids: Iterable[UUID], *, now: datetime) -> None:
    """Owe staff word of each of these that still waits too long, once, however many workers look."""
    wanted = ContactRequest.id.in_(question_ids)
    due = update(ContactRequest).where(wanted, *_to_remind(now)).values(reminded_at=now).returning(ContactRequest.id)
    for question_id in session.scalars(due).all():
        late = session.get_one(ContactRequest, question_id)
        for account_id in {*_concerned(session, late), *_administrators(session, late)}:
            notices.owe(session, account_id, Kind.QUESTION_WAITS, late.id.hex, now=now)


def stands(session: Session, about: str, *, now: datetime) -> Asked | None:
    """The question that a message to staff is about; None once it is answered, or gone."""
    asked = session.scalars(_whole().where(ContactRequest.id == UUID(about))).one_or_none()
    if asked is None or asked.answered_at is not None:
        return None
    return Asked(asked.location.name, (now - asked.asked_at) // timedelta(hours=1))


def _to_remind(now: datetime) -> tuple[ColumnElement[bool], ...]:
    open_, untold = ContactRequest.answered_at.is_(None), ContactRequest.reminded_at.is_(None)
    return open_, untold, ContactRequest.asked_at <= now - PROMISED


def _whole() -> Select[ContactRequest]:
    return select(ContactRequest).options(
        joinedload(ContactRequest.location, innerjoin=True), joinedload(ContactRequest.therapist)
    )


def _seen_by(reader: Reader) -> ColumnElement[bool]:
    if reader.places is None:
        return ContactRequest.id.is_not(None)
    theirs = ContactRequest.location_id.in_(reader.places)
    return theirs if reader.therapist_id is None else or_(theirs, ContactRequest.therapist_id == reader.therapist_id)


def _require_reachable(session: Session, request: Ask) -> None:
    place = session.get(Location, request.location_id)
    if place is None or not place.active:
        raise Invalid("to", "There is no such location.")
    if request.therapist_id is None:
        return
    therapist = session.get(Therapist, request.therapist_id)
    works = select(WorkingHours.id).where(
        WorkingHours.therapist_id == request.therapist_id, WorkingHours.location_id == request.location_id
    )
    if therapist is None or not therapist.active or session.scalars(works.limit(1)).first() is None:
        raise Invalid("to", "There is no such therapist there.")


def _tell(session: Session, asked: ContactRequest, kind: Kind, *, now: datetime) -> None:
    """Owe who asked a message, if they gave an e-mail address."""
    if asked.email is not None:
        session.add(
            OutboxMessage(contact_request_id=asked.id, kind=kind, channel=Channel.EMAIL, due_at=now, created_at=now)
        )


def _concerned(session: Session, asked: ContactRequest) -> Sequence[int]:
    """The accounts of the location's front desk and of the therapist who is asked; if none, who administers."""
    near = exists().where(AccountLocation.account_id == Account.id, AccountLocation.location_id == asked.location_id)
    at_the_desk = (Account.role == Role.FRONT_DESK) & or_(Account.everywhere, near)
    asked_themselves = false() if asked.therapist_id is None else Account.therapist_id == asked.therapist_id
    wanted = or_(at_the_desk, asked_themselves)
    found = session.scalars(select(Account.id).where(Account.active, wanted).order_by(Account.id)).all()
    return found or _administrators(session, asked)


def _administrators(session: Session, asked: ContactRequest) -> Sequence[int]:
    of_them = select(Account.id).where(Account.active, notices.administers([asked.location_id]))
    return session.scalars(of_them.order_by(Account.id)).all()
