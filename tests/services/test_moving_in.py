"""Moving in: files tried and stored; twice changes nothing, and nobody is told before it is wished."""

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from uuid6 import uuid7

from scheduler import accepted
from scheduler.clock import FixedClock
from scheduler.csv_cells import defused, read
from scheduler.db import reading, transaction
from scheduler.errors import SlotTaken
from scheduler.models import (
    Account,
    Appointment,
    AppointmentType,
    AuditEvent,
    Fate,
    Kind,
    License,
    ManageLink,
    OutboxMessage,
    Patient,
    Role,
    Slot,
    Status,
    Therapist,
    TherapistLanguage,
    WorkingHours,
)
from scheduler.services import accounts, booking, consequences, reminders, slots
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.holds import Keeper
from scheduler.services.moving import import_lines, moving_in, moving_out
from scheduler.services.moving.import_lines import File, Outcome, Trouble, What
from scheduler.services.moving.moving_in import NotAllGood, Tried
from scheduler.timeline import CELL
from tests.clinic import Clinic, at, rows

ADMIN = Actor("account:1")
HEADER = "id,date,time,minutes,therapist,location,type,patient,email,phone\n"
VISIT = "A1,2026-11-24,9:00,45,Ana Abbott,Springfield,Follow-up,Pat Doe,pat@example.com,\n"


def file_of(what: What, text: str, **more: Any) -> File:  # noqa: ANN401 fields of File
    table = read(text)
    return File(what, table, import_lines.guessed(what, table.header), **more)


def tried(clinic: Clinic, what: What, text: str, **more: Any) -> Tried:  # noqa: ANN401
    with reading(clinic.engine) as session:
        return moving_in.dry_run(session, file_of(what, text, **more), now=clinic.clock.now())


def stored(clinic: Clinic, what: What, text: str, *, whole: bool = False, **more: Any) -> Tried:  # noqa: ANN401
    with transaction(clinic.engine) as session:
        return moving_in.store(
            session, file_of(what, text, **more), whole=whole, by=ADMIN, keys=clinic.keys, now=clinic.clock.now()
        )


def outcomes(tried: Tried) -> list[Outcome]:
    return [line.outcome for line in tried.lines]


def problems(tried: Tried) -> list[tuple[int, str, Trouble]]:
    return [(line.number, problem.column, problem.trouble) for line in tried.lines for problem in line.problems]


def visits(clinic: Clinic) -> list[Appointment]:
    with reading(clinic.engine) as session:
        return list(session.scalars(select(Appointment).order_by(Appointment.starts_at)))


def messages(clinic: Clinic) -> Counter[tuple[str, str, str | None]]:
    with reading(clinic.engine) as session:
        return Counter((one.kind, one.status, one.reason) for one in rows(session, OutboxMessage))


def test_therapists_come_with_languages_and_accounts_and_only_once(clinic: Clinic) -> None:
    text = (
        "Provider;Degree;Languages;E-mail\n"
        "Ana Abbott;PT;en;\n"
        "Ben Núñez;PT, DPT;English, Español;ben@clinic.example\n"
        ";PT;;\n"
        "Ben NUNEZ;PT;;\n"
        "Cy Dunn;PT;Klingon;cy@\n"
    )
    first = stored(clinic, What.THERAPISTS, text)
    assert outcomes(first) == [Outcome.KNOWN, Outcome.NEW, *[Outcome.PROBLEM] * 3]
    assert problems(first) == [
        (4, "name", Trouble.MISSING),
        (5, "name", Trouble.TWICE),
        (6, "languages", Trouble.LANGUAGE),
        (6, "email", Trouble.EMAIL),
    ]
    with reading(clinic.engine) as session:
        ben = session.scalars(select(Therapist).where(Therapist.name == "Ben Núñez")).one()
        spoken = session.scalars(select(TherapistLanguage.language).where(TherapistLanguage.therapist_id == ben.id))
        assert sorted(spoken) == ["en", "es"]
        account = session.scalars(select(Account)).one()
        assert (account.email, account.role, account.therapist_id) == ("ben@clinic.example", Role.THERAPIST, ben.id)
    assert messages(clinic) == {}
    again = stored(clinic, What.THERAPISTS, text)
    assert outcomes(again) == [Outcome.KNOWN, Outcome.KNOWN, Outcome.PROBLEM, Outcome.KNOWN, Outcome.PROBLEM]


def test_whoever_has_an_account_already_keeps_it(clinic: Clinic, clock: FixedClock) -> None:
    with transaction(clinic.engine) as session:
        for email in ("owner@clinic.example", "gone@clinic.example"):
            accounts.add(session, AccountDetails(email, "Owner", Role.ADMIN), by=ADMIN, now=clock.now())
        gone = session.scalars(select(Account).where(Account.email == "gone@clinic.example")).one()
        accounts.disable(session, gone, by=ADMIN, now=clock.now())
    text = "name,email\nOlive Owner,OWNER@clinic.example\nGail Gone,gone@clinic.example\nTwin,owner@clinic.example\n"
    result = stored(clinic, What.THERAPISTS, text)
    assert result.lines[2].problems[0].about == "2"
    assert problems(result) == [(3, "email", Trouble.ACCOUNT), (4, "email", Trouble.TWICE)]
    with reading(clinic.engine) as session:
        owner = session.scalars(select(Account).where(Account.email == "owner@clinic.example")).one()
        assert owner.role == Role.ADMIN
        assert session.get_one(Therapist, owner.therapist_id).name == "Olive Owner"


def test_hours_are_planned_at_once_and_overlaps_are_refused_naming_both(clinic: Clinic) -> None:
    clinic.add_location("Decatur")
    text = (
        "Terapeuta\tSede\tDía\tDesde\tHasta\n"
        "Ana Abbott\tDecatur\tsábado\t9:00\t12:00\n"
        "Ana Abbott\tDecatur\tSat\t11:45 AM\t1 pm\n"
        "Ana Abbott\tDecatur\tlunes\t16:00\t18:00\n"
        "Ana Abbott\tDecatur\tFri\t22:00\t26:00\n"
        "Ana Abbott\tNowhere\tFri\t22:10\t21:00\n"
        "Ana Abbott\tDecatur\tFri\t05:10\t04:00\n"
    )
    before = len(clinic.offers(location_id=2))
    result = stored(clinic, What.HOURS, text)
    assert problems(result) == [
        (3, "opens", Trouble.CLASH),
        (4, "opens", Trouble.CLASH),
        (6, "location", Trouble.UNKNOWN_LOCATION),
        (7, "opens", Trouble.OFF_GRID),
        (7, "closes", Trouble.ORDER),
    ]
    about = [problem.about for line in result.lines for problem in line.problems]
    assert about[:2] == ["Decatur, 09:00–12:00 (#2)", "Springfield, 08:00–17:00"]
    assert before == 0
    assert len(clinic.offers(location_id=2)) > 0
    assert clinic.violations() == {}
    again = stored(clinic, What.HOURS, text)
    assert outcomes(again)[0] == outcomes(again)[3] == Outcome.KNOWN
    with reading(clinic.engine) as session:
        assert len(rows(session, WorkingHours)) == 7


def test_hours_on_standby_move_in_without_times(clinic: Clinic) -> None:
    header = "therapist,weekday,from,to,standby\n"
    text = header + "Ana Abbott,Sat,9:00,12:00,yes\nAna Abbott,Sun,9:00,12:00,Regla\nAna Abbott,Sun,13:00,14:00,maybe\n"
    before = len(clinic.offers(limit=10_000))
    assert problems(stored(clinic, What.HOURS, text)) == [(4, "standby", Trouble.STANDBY)]
    with reading(clinic.engine) as session:
        moved = [(row.weekday, row.standby, row.opens_by_rule) for row in rows(session, WorkingHours)][5:]
    assert moved == [(5, True, False), (6, True, True)]
    assert len(clinic.offers(limit=10_000)) == before
    assert outcomes(tried(clinic, What.HOURS, text))[:2] == [Outcome.KNOWN, Outcome.KNOWN]
    silent = "therapist,weekday,from,to\nAna Abbott,Sat,9:00,12:00\n"
    assert outcomes(tried(clinic, What.HOURS, silent)) == [Outcome.KNOWN]
    worked = header + "Ana Abbott,Sat,9:00,12:00,no\n"
    assert problems(tried(clinic, What.HOURS, worked)) == [(2, "opens", Trouble.CLASH)]


def test_a_name_alone_is_understood_wherever_in_the_file_the_rest_of_the_person_stands(clinic: Clinic) -> None:
    """So that the same file, read again, finds everything known."""
    nameless = VISIT.replace("pat@example.com", "")
    text = HEADER + nameless.replace("A1", "A0").replace("9:00", "13:00") + VISIT
    assert outcomes(stored(clinic, What.VISITS, text)) == [Outcome.NEW, Outcome.NEW]
    with reading(clinic.engine) as session:
        assert [one.email for one in rows(session, Patient)] == ["pat@example.com"]
    assert outcomes(tried(clinic, What.VISITS, text)) == [Outcome.KNOWN, Outcome.KNOWN]
    assert [line.number for line in tried(clinic, What.VISITS, text).lines] == [2, 3]


def test_patients_are_told_apart_by_all_that_is_known_of_them(clinic: Clinic) -> None:
    text = (
        "First name,Last name,E-mail,Mobile,DOB,Language\n"
        "Pat,Doe,pat@example.com,217 555 0142,3/4/1980,English\n"
        "Pat,Doe,pat@example.com,,,\n"
        "Ann,Roe,,,,\n"
        "Ann,Roe,ann@example.com,12,2/30/1980,\n"
        "Ann,Roe,ann@example.com,,1/2/85,es\n"
    )
    first = stored(clinic, What.PATIENTS, text)
    assert problems(first) == [
        (4, "email", Trouble.UNREACHABLE),
        (5, "birth_date", Trouble.DATE),
        (5, "phone", Trouble.PHONE),
    ]
    with reading(clinic.engine) as session:
        found = sorted((one.name, str(one.phone), str(one.birth_date), one.language) for one in rows(session, Patient))
    assert found == [
        ("Ann Roe", "None", "1985-01-02", "es"),
        ("Pat Doe", "+12175550142", "1980-03-04", "en"),
        ("Pat Doe", "None", "None", "en"),
    ]
    assert outcomes(stored(clinic, What.PATIENTS, text)) == [
        Outcome.KNOWN, Outcome.KNOWN, Outcome.PROBLEM, Outcome.PROBLEM, Outcome.KNOWN,
    ]  # fmt: skip


def test_a_visit_off_the_grid_takes_every_cell_it_touches_and_says_nothing_to_anybody(clinic: Clinic) -> None:
    text = HEADER + VISIT.replace("9:00", "9:05") + VISIT.replace("A1", "A2").replace("9:00", "7:50 pm")
    result = stored(clinic, What.VISITS, text, whole=True)
    assert outcomes(result) == [Outcome.NEW] * 2
    one, evening = visits(clinic)
    assert (one.starts_at, one.ends_at) == (at("2026-11-24T09:05-06:00"), at("2026-11-24T09:50-06:00"))
    with reading(clinic.engine) as session:
        held = select(Slot.starts_at).where(Slot.appointment_id == one.id).order_by(Slot.starts_at)
        assert session.scalars(held).all() == [at("2026-11-24T09:00-06:00") + n * CELL for n in range(4)]
        assert len(session.scalars(select(Slot).where(Slot.appointment_id == evening.id)).all()) == 4
        (patient,) = rows(session, Patient)
        assert {visit.patient_id for visit in (one, evening)} == {patient.id}
        assert len(rows(session, ManageLink)) == 2
    assert messages(clinic) == {(Kind.CONFIRMATION, Fate.SUPPRESSED, "imported"): 2}
    assert clinic.violations() == {}
    assert clinic.plan() == slots.Changes()
    assert not any(at("2026-11-24T08:15-06:00") < offer.slot.starts_at < at("2026-11-24T10:00-06:00")
                   for offer in clinic.offers())  # fmt: skip


def test_the_same_file_twice_stores_nothing_twice(clinic: Clinic) -> None:
    nameless = "start,therapist,type,patient,phone\n2026-11-24 9:00,Ana Abbott,Follow-up,Pat Doe,2175550142\n"
    for text in (HEADER + VISIT.replace("A1", "B7").replace("9:00", "11:00"), nameless):
        assert outcomes(stored(clinic, What.VISITS, text)) == [Outcome.NEW]
        before = visits(clinic)
        assert outcomes(stored(clinic, What.VISITS, text)) == [Outcome.KNOWN]
        assert len(visits(clinic)) == len(before)
    assert clinic.violations() == {}


def test_a_visit_that_was_imported_at_another_time_is_told(clinic: Clinic) -> None:
    stored(clinic, What.VISITS, HEADER + VISIT)
    moved = tried(clinic, What.VISITS, HEADER + VISIT.replace("9:00", "10:00"))
    assert problems(moved) == [(2, "start", Trouble.OTHERWISE)]


def test_collisions_name_who_has_the_time(clinic: Clinic) -> None:
    booked = clinic.book(str(clinic.offers()[0].slot))  # today at ten, an hour
    text = HEADER + "".join(
        VISIT.replace("A1", f"A{n}").replace("2026-11-24", day).replace("9:00", hour)
        for n, (day, hour) in enumerate(
            [("2026-11-23", "10:45"), ("2026-11-24", "9:00"), ("2026-11-24", "9:40"), ("2026-11-24", "9:45")]
        )
    )
    result = stored(clinic, What.VISITS, text)
    assert problems(result) == [(2, "start", Trouble.TAKEN), (4, "start", Trouble.TAKEN)]
    with_patient, with_line = (problem for line in result.lines for problem in line.problems)
    assert with_patient.about == "Monday, November 23, 10:00 AM–11:00 AM, Springfield, Pat Doe"
    assert with_patient.patient_id == booked.appointment.patient_id
    assert with_line.about == "Tuesday, November 24, 9:00 AM–9:45 AM, Pat Doe (#3)"
    assert clinic.violations() == {}


def test_the_whole_file_or_nothing(clinic: Clinic) -> None:
    text = HEADER + VISIT + VISIT.replace("Ana Abbott", "Nobody").replace("A1", "A2")
    with pytest.raises(NotAllGood):
        stored(clinic, What.VISITS, text, whole=True)
    assert visits(clinic) == []
    assert outcomes(stored(clinic, What.VISITS, text)) == [Outcome.NEW, Outcome.PROBLEM]


LINES = {
    "2026-11-24,9:00,45,Nobody,Springfield,Follow-up,Pat Doe,p@example.com,": ("therapist", Trouble.UNKNOWN_THERAPIST),
    "2026-11-24,9:00,45,Ana Abbott,Mars,Follow-up,Pat Doe,p@example.com,": ("location", Trouble.UNKNOWN_LOCATION),
    "2026-11-24,9:00,45,Ana Abbott,,Massage,Pat Doe,p@example.com,": ("type", Trouble.UNKNOWN_TYPE),
    "2026-11-24,9:00,45,Ana Abbott,,,Pat Doe,p@example.com,": ("type", Trouble.MISSING),
    "2026-11-24,9:00,45,Ana Abbott,,Follow-up,,p@example.com,": ("patient", Trouble.MISSING),
    "2026-11-24,9:00,45,Ana Abbott,,Follow-up,Pat Doe,,": ("email", Trouble.UNREACHABLE),
    "2026-11-24,9:00,45,Ana Abbott,,Follow-up,Pat Doe,pat,": ("email", Trouble.EMAIL),
    "2026-11-24,9:00,45,Ana Abbott,,Follow-up,Pat Doe,,123": ("phone", Trouble.PHONE),
    "2026-02-30,9:00,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.DATE),
    "soon,9:00,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.DATE),
    "2026-11-24,25:00,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.TIME),
    "2026-11-24,13 pm,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.TIME),
    "2026-11-24,,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.TIME),
    "2027-03-14,2:30,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.SKIPPED_HOUR),
    "2027-11-07,1:30,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.DOUBLE_HOUR),
    "2029-11-24,9:00,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("start", Trouble.TOO_FAR),
    "2026-11-24,9:00,-5,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("minutes", Trouble.NUMBER),
    "2026-11-24,9:00,9999,Ana Abbott,,Follow-up,Pat Doe,p@example.com,": ("minutes", Trouble.NUMBER),
    "2026-11-24,9:00,45,Ana Abbott,,Follow-up,Pat\u202eDoe,p@example.com,": ("patient", Trouble.NOT_PLAIN),
    f"2026-11-24,9:00,45,Ana Abbott,,Follow-up,{'x' * 201},p@example.com,": ("patient", Trouble.TOO_LONG),
    "2026-11-24,9:00,45,Ana Abbott,,Follow-up,Pat Doe,p@example.com,,surplus": ("", Trouble.MORE_CELLS),
}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_every_line_names_the_column_and_what_is_wrong(clinic: Clinic) -> None:
    header = HEADER.removeprefix("id,")
    result = tried(clinic, What.VISITS, header + "\n".join(LINES))
    assert [(line.problems[0].column, line.problems[0].trouble) for line in result.lines] == list(LINES.values())
    assert all(len(line.problems) == 1 for line in result.lines)


def test_an_hour_that_comes_twice_is_taken_with_its_offset(clinic: Clinic) -> None:
    clinic.policy(booking_horizon_days=400)
    times = ("2027-11-07T01:30-05:00", "2027-11-07T01:30-06:00", "2027-03-14T03:00-05:00")
    text = "start,therapist,type,patient,email\n" + "".join(
        f"{time},Ana Abbott,Needling,Pat Doe,p@example.com\n" for time in times
    )
    assert outcomes(stored(clinic, What.VISITS, text)) == [Outcome.NEW] * 3
    assert sorted(at(time) for time in times) == [visit.starts_at for visit in visits(clinic)]
    assert clinic.violations() == {}


def test_what_is_over_or_called_off_there_is_left_out(clinic: Clinic) -> None:
    text = (
        "date,time,therapist,type,patient,email,status\n"
        "2026-11-20,9:00,Ana Abbott,Follow-up,Pat Doe,p@example.com,Booked\n"
        "2026-11-24,9:00,Ana Abbott,Follow-up,Pat Doe,p@example.com,Cancelled by patient\n"
        "2026-11-23,8:45,Ana Abbott,Follow-up,Pat Doe,p@example.com,Confirmed\n"
    )
    assert outcomes(stored(clinic, What.VISITS, text, whole=True)) == [Outcome.OVER, Outcome.CALLED_OFF, Outcome.NEW]
    assert clinic.violations() == {}


def test_nobody_is_booked_with_a_therapist_who_may_not_treat_that_day(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(
            update(License).where(License.kind == "dry_needling").values(valid_until=at("2026-11-24T00:00Z"))
        )
        session.execute(update(License).where(License.kind == "pt").values(valid_until=at("2026-11-25T00:00Z")))
    lines = ((24, "Needling"), (25, "Needling"), (25, "Follow-up"), (26, "Follow-up"))
    text = "start,therapist,type,patient,email\n" + "".join(
        f"2026-11-{day} 9:00,Ana Abbott,{kind},Pat Doe,p{day}{kind}@example.com\n" for day, kind in lines
    )
    result = tried(clinic, What.VISITS, text)
    assert problems(result) == [(3, "type", Trouble.NO_NEEDLING), (5, "therapist", Trouble.NOT_LICENSED)]


def test_the_old_programs_words_can_be_given_a_meaning(clinic: Clinic) -> None:
    meanings = {"type": {"PT re-eval": "Follow-up"}, "therapist": {"AA": "Ana Abbott"}}
    text = HEADER + VISIT.replace("Follow-up", "PT re-eval").replace("Ana Abbott", "AA")
    assert len(problems(tried(clinic, What.VISITS, text))) == 2
    assert outcomes(tried(clinic, What.VISITS, text, meanings=meanings)) == [Outcome.NEW]


def test_a_visit_finds_its_patient_and_never_a_wrong_one(clinic: Clinic) -> None:
    stored(
        clinic,
        What.PATIENTS,
        "name,email,phone,date of birth\n"
        "Lou Hay,lou@example.com,,\n"
        "Pat Doe,pat@example.com,,1980-01-01\n"
        "Ann Roe,ann@example.com,,\n"
        "Ann Roe,other@example.com,,\n",
    )
    text = "start,therapist,type,patient,email,phone,dob\n" + "".join(
        f"2026-11-24 {hour}:00,Ana Abbott,Follow-up,{who}\n"
        for hour, who in enumerate(
            (
                "Lou Hay,,,",  # known by name alone
                "Pat Doe,,,",  # which? This file brings another
                "Pat Doe,,217 555 0142,1980-01-01",  # the same birth date
                "pat doe,pat@example.com,,1981-01-01",  # another birth date: somebody else
                "Ann Roe,,,",  # which?
                "Ann Roe,ann@example.com,,",
            ),
            start=8,
        )
    )
    result = stored(clinic, What.VISITS, text)
    assert problems(result) == [(3, "patient", Trouble.SEVERAL), (6, "patient", Trouble.SEVERAL)]
    with reading(clinic.engine) as session:
        found = [session.get_one(Patient, visit.patient_id) for visit in visits(clinic)]
    assert [(one.email, str(one.birth_date)) for one in found] == [
        ("lou@example.com", "None"),
        ("pat@example.com", "1980-01-01"),
        ("pat@example.com", "1981-01-01"),
        ("ann@example.com", "None"),
    ]


def test_a_cancelled_visit_gives_back_only_what_the_plan_has(clinic: Clinic, clock: FixedClock) -> None:
    before = len(clinic.offers("Needling", to=date(2026, 11, 26)))
    text = HEADER + VISIT.replace("9:00", "16:35")  # 16:35 to 17:20, and the day ends at 17:00
    stored(clinic, What.VISITS, text)
    assert len(clinic.offers("Needling", to=date(2026, 11, 26))) < before
    with transaction(clinic.engine) as session:
        (visit,) = rows(session, Appointment)
        session.refresh(visit, ["location"])
        booking.call_off(session, visit, None, by=ADMIN, keys=clinic.keys, now=clock.now())
    assert len(clinic.offers("Needling", to=date(2026, 11, 26))) == before
    assert messages(clinic) == {
        (Kind.CONFIRMATION, Fate.SUPPRESSED, "imported"): 1,
        (Kind.CANCELLATION, Fate.SUPPRESSED, "imported"): 1,
    }
    assert clinic.violations() == {}


def test_a_therapist_planned_elsewhere_is_where_the_visit_is(clinic: Clinic, clock: FixedClock) -> None:
    clinic.add_location("Decatur")
    stored(clinic, What.VISITS, HEADER + VISIT.replace("Springfield", "Decatur"))
    assert clinic.violations() == {}
    with transaction(clinic.engine) as session:
        (visit,) = rows(session, Appointment)
        session.refresh(visit, ["location"])
        booking.call_off(session, visit, None, by=ADMIN, keys=clinic.keys, now=clock.now())
    assert clinic.violations() == {}
    assert at("2026-11-24T09:00-06:00") in {offer.slot.starts_at for offer in clinic.offers()}


def test_starting_reminders_owes_what_is_still_useful_once(clinic: Clinic, clock: FixedClock) -> None:
    days = (("24", "9:00"), ("25", "8:30"), ("26", "9:00"))  # in 24, 47½ and 72 hours
    text = HEADER + "".join(
        VISIT.replace("A1", day).replace("-24", f"-{day}").replace("9:00", hour) for day, hour in days
    )
    silent = "S1,2026-11-27,9:00,45,Ana Abbott,Springfield,Follow-up,Sam Poe,,217 555 0142\n"
    stored(clinic, What.VISITS, text + silent)
    with transaction(clinic.engine) as session:
        assert reminders.begin_imported(session, now=clock.now()) == reminders.Began(visits=3, messages=3)
        assert reminders.begin_imported(session, now=clock.now()) is None
    with reading(clinic.engine) as session:
        owed = session.scalars(select(OutboxMessage).where(OutboxMessage.status == Fate.OWED)).all()
    assert {one.kind for one in owed} == {Kind.REMINDER}
    assert sorted(one.due_at for one in owed) == [
        at("2026-11-24T08:30-06:00"), at("2026-11-24T09:00-06:00"), at("2026-11-25T09:00-06:00"),
    ]  # fmt: skip
    stored(clinic, What.VISITS, HEADER + VISIT.replace("A1", "L1").replace("-24", "-30"))
    assert messages(clinic) == {
        (Kind.CONFIRMATION, Fate.SUPPRESSED, "imported"): 4,
        (Kind.REMINDER, Fate.OWED, None): 5,
    }
    assert clinic.violations() == {}
    with transaction(clinic.engine) as session:
        visit = session.scalars(select(Appointment).where(Appointment.imported_as == "L1")).one()
        session.refresh(visit, ["location"])
        booking.call_off(session, visit, None, by=ADMIN, keys=clinic.keys, now=clock.now())
    assert messages(clinic)[Kind.CANCELLATION, Fate.OWED, None] == 1
    assert clinic.violations() == {}


def test_a_therapist_hears_nothing_of_imported_visits_that_are_silent(clinic: Clinic, clock: FixedClock) -> None:
    with transaction(clinic.engine) as session:
        account = AccountDetails("ana@clinic.example", "Ana Abbott", Role.THERAPIST, therapist_id=1)
        accounts.add(session, account, by=ADMIN, now=clock.now())
    stored(clinic, What.VISITS, HEADER + VISIT.replace("-24", "-23").replace("9:00", "14:00"))
    with transaction(clinic.engine) as session:
        (visit,) = rows(session, Appointment)
        session.refresh(visit, ["location"])
        booking.call_off(session, visit, None, by=ADMIN, keys=clinic.keys, now=clock.now())
        assert visit.status == Status.CANCELLED
    assert {kind for kind, *_ in messages(clinic)} == {Kind.CONFIRMATION, Kind.CANCELLATION}


def test_the_buffer_is_the_types_unless_the_file_tells_another(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(AppointmentType).values(buffer_minutes=15))
    with transaction(engine) as session:
        consequences.refit(session)
    back_to_back = HEADER + VISIT + VISIT.replace("A1", "A2").replace("9:00", "9:45")
    assert problems(tried(clinic, What.VISITS, back_to_back)) == [(3, "start", Trouble.TAKEN)]
    without = back_to_back.replace("phone\n", "phone,buffer\n").replace(",\n", ",,0\n")
    assert outcomes(stored(clinic, What.VISITS, without)) == [Outcome.NEW] * 2
    assert clinic.violations() == {}


def test_a_time_that_is_held_gives_way_to_a_visit_that_is_one_already(clinic: Clinic) -> None:
    near, far = (str(clinic.offers(from_=date(2026, 11, 24))[place].slot) for place in (0, 8))
    kept = [clinic.hold(slot).token for slot in (near, far)]
    text = "date,time,therapist,type,patient,email\n2026-11-24,8:20,Ana Abbott,Follow-up,Pat Doe,p@example.com\n"
    assert outcomes(stored(clinic, What.VISITS, text, whole=True)) == [Outcome.NEW]
    with pytest.raises(SlotTaken):
        clinic.book(near, keeper=Keeper(kept[0]))
    clinic.book(far, keeper=Keeper(kept[1]))
    assert clinic.violations() == {}


def test_cells_that_are_taken_are_never_taken_over(clinic: Clinic) -> None:
    """Also by a program that did not look: the key of the cells decides."""
    booked = clinic.book(str(clinic.offers()[0].slot)).appointment
    own = {column.name: getattr(booked, column.name) for column in Appointment.__table__.columns}
    later = {name: own[name] + timedelta(minutes=50) for name in ("starts_at", "ends_at")}
    twin = Appointment(**own | later | {"id": uuid7(), "imported_as": "X"})
    with pytest.raises(SlotTaken):
        claimed(clinic, twin)
    assert clinic.violations() == {}


def claimed(clinic: Clinic, visit: Appointment) -> None:
    with transaction(clinic.engine) as session:
        slots.lock(session, [visit.therapist_id])
        session.add(visit)
        session.flush()
        slots.claim_anyhow(session, [visit])


def test_the_record_tells_what_was_imported(clinic: Clinic) -> None:
    stored(clinic, What.VISITS, HEADER + VISIT)
    stored(clinic, What.VISITS, HEADER + VISIT)
    with reading(clinic.engine) as session:
        told = moving_in.imported(session)
        actors = {event.actor for event in rows(session, AuditEvent)}
    assert told.keys() == {What.VISITS}
    assert told[What.VISITS].counts == {"new": 1}
    assert actors == {ADMIN.name}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_dates_are_read_with_the_day_first_where_they_can_only_be_meant_so(clinic: Clinic) -> None:
    text = (
        HEADER + VISIT.replace("2026-11-24", "24/11/2026") + VISIT.replace("A1", "A2").replace("2026-11-24", "3/12/26")
    )
    file = file_of(What.VISITS, text)
    assert import_lines.dates_told(file).day_first
    with reading(clinic.engine) as session:
        good = moving_in.dry_run(session, replace(file, day_first=True), now=clinic.clock.now())
    assert outcomes(good) == [Outcome.NEW] * 2
    assert good.lines[1].row.starts_at == at("2026-12-03T09:00-06:00")


BORN = "name,phone,birth date\nA,217 555 0101,{}\nB,217 555 0102,{}\nC,217 555 0103,{}\n"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("dates", "day_first", "doubtful", "refused"),
    [
        (("25/12/1980", "24/11/1981", "13/13/2000"), True, False, [Trouble.DATE]),
        (("25/12/1980", "24/11/1981", "11/24/2000"), True, False, [Trouble.MONTH_FIRST]),
        (("12/25/1980", "11/24/1981", "24/11/2000"), False, False, [Trouble.DAY_FIRST]),
        (("3/4/1975", "12/25/1980", "25/12/1980"), False, True, [Trouble.DAY_FIRST]),
        (("3/4/1975", "12/25/1980", "5/5/1980"), False, False, []),
        (("3/4/1975", "1/2/1980", "5/5/1980"), False, True, []),
        (("5/5/1975", "1975-03-04", ""), False, False, []),
    ],
)
def test_most_dates_of_a_file_say_what_comes_first_and_a_doubt_is_known(
    clinic: Clinic, dates: tuple[str, ...], day_first: bool, doubtful: bool, refused: list[Trouble]
) -> None:
    text = BORN.format(*dates)
    told = import_lines.dates_told(file_of(What.PATIENTS, text))
    assert (told.day_first, told.doubtful) == (day_first, doubtful)
    result = tried(clinic, What.PATIENTS, text, day_first=day_first)
    assert [trouble for _, _, trouble in problems(result)] == refused


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Doe, Pat", "Pat Doe"),
        ("DOE, PAT", "PAT DOE"),
        ("Doe,Pat J.", "Pat J. Doe"),
        ("De la Cruz, Ana", "Ana De la Cruz"),
        ("Doe, Pat, PT, DPT", "Pat Doe, PT, DPT"),
        ("Abbott, Ana PT", "Ana Abbott, PT"),
        ("Doe, Jr., Pat", "Pat Doe, Jr."),
        ("Doe Jr., Pat", "Pat Doe Jr."),
        *((name, name) for name in (
            "Ana Abbott, PT", "Ana Abbott, PT, DPT", "Ana Abbott, X.Y.2", "ANA ABBOTT, PT", "Abbott, PT",
            "Sam Doe, Jr.", "Sam Doe, III", "Pat Doe", "A, B, C", ",", "Doe,", "Doe, 2",
        )),
    ],
)  # fmt: skip
def test_names_are_put_in_the_order_in_which_they_are_spoken(written: str, spoken: str) -> None:
    assert import_lines.in_order(written) == spoken


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_whoever_is_written_with_the_last_name_first_is_the_same_person(clinic: Clinic) -> None:
    assert outcomes(stored(clinic, What.THERAPISTS, 'name\n"Abbott, Ana"\n"Núñez, Ben"\n')) == [
        Outcome.KNOWN,
        Outcome.NEW,
    ]
    stored(clinic, What.PATIENTS, 'name,email\n"Doe, Pat",pat@example.com\n')
    visit = VISIT.replace("Ana Abbott", '"Abbott, Ana, PT"').replace("Pat Doe", '"Doe, Pat"')
    assert outcomes(stored(clinic, What.VISITS, HEADER + visit)) == [Outcome.NEW]
    with reading(clinic.engine) as session:
        assert [one.name for one in rows(session, Patient)] == ["Pat Doe"]
        assert "Ben Núñez" in [one.name for one in rows(session, Therapist)]


@pytest.mark.parametrize("phone", ["+12175550142", "+15550100999", "+493012345678", "+390612345678", "+18005550199"])
def test_an_exported_number_is_digits_and_read_again_the_same(phone: str) -> None:
    written = moving_out.dialled(phone)
    assert written.replace(" ", "").isdigit()
    assert defused(written) == written
    assert accepted.phone(written) == phone


def test_titles_of_other_programs_are_known() -> None:
    patients = import_lines.guessed(What.PATIENTS, ["Client #", "Client", "D.O.B.", "Cell"])
    assert patients == {"name": 1, "birth_date": 2, "phone": 3}
    visits = ["Appt #", "Appt Date", "Appt Time", "Provider Name", "Appt Type", "Client First Name", "Client Last Name"]
    names = ["imported_as", "start", "time", "therapist", "type", "patient", "last_name"]
    assert import_lines.guessed(What.VISITS, visits) == {name: at for at, name in enumerate(names)}
