"""The simulator: its years against the same years played naively, its clinics, and what it says of protection."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import AppointmentType, AppointmentTypeTherapist, Closure, Location
from scheduler.services import access_rules, simulated_clinics, simulation
from scheduler.services.simulated_clinics import WARM_UP, YEAR, BookingTerms, Clinic, OnPaper
from scheduler.services.simulation import Calendar, Demand, Request, Verdict
from scheduler.timeline import DAY
from tests import clinic as tests_clinic

HOUR = timedelta(hours=1)
TERMS = BookingTerms(goal_hours=48, target=0.9, notice_minutes=60, horizon_days=90, cells=4)
BUSY = Demand(load=0.9, soon=0.15, lead_days=10, no_shows=0.1, cancelled=0.1)


@cache
def calendar(hours: str = "Mon-Sat 8-18", therapists: int = 1, terms: BookingTerms = TERMS) -> Calendar:
    return Calendar(simulated_clinics.on_paper(simulated_clinics.hours(hours), therapists, terms), terms)


@cache
def of_a_year(level: int, seed: int = 1) -> simulation.Year:
    return simulation.play(calendar(), asked(seed), level)


@cache
def asked(seed: int) -> list[Request]:
    return simulation.requests(calendar(), BUSY, Random(seed))


# --- one year, played naively


def naively(calendar: Calendar, asked: Sequence[Request], level: int) -> dict[str, float]:
    """The same year over sets of free places, looked through one by one."""
    kept, free, leaving = calendar.kept_back(level), set(range(len(calendar.starts))), dict[int, datetime]()
    comes, missed, lost, soon, offered = dict[int, bool](), 0, 0, 0, 0
    begin, end = calendar.clinic.year
    events: list[tuple[datetime, int, Request | None]] = [(one.at, 0, one) for one in asked]
    events += [(begin + n * timedelta(minutes=15), 1, None) for n in range((end - begin) // timedelta(minutes=15))]
    for now, _, request in sorted(events, key=lambda event: event[:2]):
        for place, at in list(leaving.items()):
            if at <= now:
                free.add(place)
                kept.discard(place)
                del leaving[place], comes[place]

        def on_offer(earliest: datetime, latest: datetime, now: datetime = now) -> list[int]:
            first, last = calendar.between(earliest, latest)
            released = {place for place in range(first, last) if calendar.starts[place] <= now + 48 * HOUR}
            return [place for place in range(first, last) if place in free and (place not in kept or place in released)]

        if request is None:
            missed += not on_offer(now + HOUR, now + 48 * HOUR)
            continue
        within = [place for place in on_offer(now + HOUR, now + 91 * DAY) if request.first <= place < request.last]
        if now >= begin and request.soon:
            soon += 1
            offered += bool(on_offer(now + HOUR, now + 48 * HOUR))
        if within:
            place = within[0]
            free.remove(place)
            comes[place] = request.comes
            if request.leaves is not None:
                leaving[place] = now + request.leaves * (calendar.starts[place] - now)
        else:
            lost += now >= begin
    booked = [comes[place] for place in calendar.counted if place in comes]
    return {
        "attained": 1 - missed / len(calendar.quarters),
        "offered": offered / soon,
        "lost": lost,
        "booked": len(booked),
        "absent": booked.count(False),
        "idle": len(calendar.counted) - len(booked),
    }


@pytest.mark.parametrize("level", [0, 2])
def test_a_year_is_what_it_is_when_it_is_played_naively(level: int) -> None:
    hours = calendar("Mon 8-12, Wed 8-17, Fri 8-12, Sat 9-11")
    demand = simulation.requests(hours, replace(BUSY, lead_days=4, cancelled=0.3), Random(3))
    played = simulation.play(hours, demand, level)
    naive = naively(hours, demand, level)
    assert {name: getattr(played, name) for name in naive} == pytest.approx(naive)
    assert 0 < naive["attained"] < 1
    assert naive["lost"] > 0


# --- what a year must be like


def test_demand_is_as_much_as_was_said() -> None:
    wanted = [one for seed in range(3) for one in asked(seed) if one.at >= calendar().clinic.year[0]]
    kept = [one for one in wanted if one.leaves is None]
    assert len(kept) / 3 / len(calendar().counted) == pytest.approx(0.9, abs=0.02)
    assert sum(one.soon for one in wanted) / len(wanted) == pytest.approx(0.15, abs=0.01)
    assert sum(not one.comes for one in wanted) / len(wanted) == pytest.approx(0.1, abs=0.01)
    assert len(kept) / len(wanted) == pytest.approx(0.9, abs=0.01)
    assert all(one.at <= later.at for one, later in pairwise(asked(1)))


def test_nobody_asks_for_what_cannot_be_booked_yet() -> None:
    near = calendar(terms=replace(TERMS, horizon_days=10))
    for one in simulation.requests(near, BUSY, Random(1)):
        assert one.first < one.last
        assert near.starts[one.last - 1] <= one.at + 10 * DAY
    assert simulation.play(near, simulation.requests(near, BUSY, Random(1)), 0).lost < 0.05 * len(near.counted)


def test_visits_a_day_say_the_same_as_a_load() -> None:
    room = len(calendar().counted) / calendar().open_days
    by_visits = replace(BUSY, load=0.1, visits=0.9 * room)
    assert by_visits.of_a_day(calendar()) == pytest.approx(BUSY.of_a_day(calendar()))


def test_an_idle_clinic_attains_its_ceiling_and_a_full_one_hardly_anything() -> None:
    week = calendar("Mon-Fri 8-18")
    idle, full = (
        simulation.play(week, simulation.requests(week, replace(BUSY, load=load), Random(1)), 0)
        for load in (0.005, 1.5)
    )
    assert idle.attained == pytest.approx(week.ceiling, abs=0.002)
    assert week.ceiling == pytest.approx(0.906, abs=0.001)
    assert idle.full < 0.001
    assert full.attained < 0.2
    assert full.full > 0.7
    assert full.lost > 0.3 * full.booked


def test_what_is_kept_back_is_taken_by_nobody_before_it_is_released() -> None:
    book = simulation.Book(calendar(), 3)
    released = 0
    for one in asked(1):
        book.call_off(one.at)
        before = set(book.kept)
        book.ask(one)
        taken = before - set(book.kept)
        assert all(calendar().starts[place] <= one.at + 48 * HOUR for place in taken)
        released += len(taken)
    assert released > 100


def test_each_day_keeps_back_as_many_as_were_asked_or_all_it_has() -> None:
    short = calendar("Mon-Fri 8-18, Sat 8-10")
    kept = short.kept_back(3)
    assert {len(kept.intersection(places)) for places in short.days.values()} == {2, 3}
    assert calendar().kept_back(99) == set(range(len(calendar().starts)))
    assert calendar().kept_back(0) == set()


# --- policies side by side


@cache
def compared(seed: int = 1, levels: tuple[int, ...] = (2,)) -> Verdict:
    return simulation.compare(calendar(), BUSY, years=3, seed=seed, levels=levels)


def test_at_ninety_percent_load_protection_keeps_the_goal_that_is_missed_without_it() -> None:
    verdict = compared()
    attained = {tried.level: tried.figures["attained"] for tried in verdict.tried}
    none, recommended = attained[0], attained[verdict.recommended or 0]
    assert none is not None
    assert recommended is not None
    assert none.mean + none.within < 0.9 <= recommended.mean - recommended.within
    assert verdict.recommended in {2, verdict.rule}


def test_what_protection_costs_is_told_from_the_same_years() -> None:
    none, *_, most = compared().tried
    assert (none.more_idle.mean, none.more_lost.mean) == (0, 0)
    assert most.level == compared().rule
    for name, more in (("idle", most.more_idle), ("lost", most.more_lost)):
        with_it, without = most.figures[name], none.figures[name]
        assert with_it is not None
        assert without is not None
        assert with_it.mean - without.mean == pytest.approx(more.mean)
        assert more.mean > 0


def test_the_same_seed_gives_the_same_years_and_another_gives_others() -> None:
    never_soon = replace(BUSY, soon=0.0)  # so that only nothing kept back is tried
    one, same, other = (
        simulation.compare(calendar("Mon 8-10"), never_soon, years=3, seed=seed, levels=(0,)) for seed in (1, 1, 2)
    )
    assert [tried.level for tried in one.tried] == [0]
    assert one == same
    assert other.tried != one.tried


def test_progress_is_told_for_every_year_and_levels_are_tried_around_the_rule() -> None:
    quiet = calendar("Mon 8-10")
    told: list[tuple[int, int]] = []
    verdict = simulation.compare(
        quiet, replace(BUSY, soon=1.0), years=3, seed=1, progress=lambda done, total: told.append((done, total))
    )
    levels = [tried.level for tried in verdict.tried]
    assert levels == sorted({0, verdict.rule, *(round(part * verdict.rule) for part in simulation.TRIED)})
    assert told == [(done, 3 * len(levels)) for done in range(1, 3 * len(levels) + 1)]
    assert verdict.recommended is None  # one day a week keeps no promise of 48 hours, whatever it keeps back


def test_the_rule_counts_the_days_between_for_the_next_open_day() -> None:
    """Two open days a week: the demand at short notice of the days between comes together on each."""
    verdict = simulation.compare(calendar("Mon 8-18, Thu 8-18"), replace(BUSY, soon=0.5), years=3, seed=1, levels=(0,))
    a_day = 0.5 * 0.9 * 10 / 0.9
    poisson = access_rules.protection_level([], target=0.9, usual=a_day, least=0, most=10)
    assert abs(verdict.rule - poisson) <= 1


# --- statistics


@pytest.mark.parametrize(("values", "t"), [(3, 4.303), (4, 3.182), (5, 2.776), (10, 2.262), (20, 2.093), (200, 1.972)])
def test_intervals_are_students(values: int, t: float) -> None:
    found = simulation.estimate([float(n % 2) for n in range(values)])
    spread = (sum((n % 2 - found.mean) ** 2 for n in range(values)) / (values - 1)) ** 0.5
    assert found.within / (spread / values**0.5) == pytest.approx(t, rel=0.02)


@pytest.mark.parametrize(("visits", "load", "seen"), [(8, 0.90, 0.9295), (8, 0.95, 0.7355), (24, 0.95, 0.9748)])
def test_the_queue_by_chance_has_the_exact_figure_in_its_interval(visits: int, load: float, seen: float) -> None:
    found = simulation.queue(visits, load, seed=1)
    assert abs(found.mean - seen) < found.within < 0.02


# --- hours and clinics


def test_hours_are_read_as_they_are_written() -> None:
    assert simulated_clinics.hours("Sat 8:30-12, mon-Tue 8-12,Mon - Tue 13 - 24") == [
        OnPaper(0, 480, 720),
        OnPaper(0, 780, 1440),
        OnPaper(1, 480, 720),
        OnPaper(1, 780, 1440),
        OnPaper(5, 510, 720),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Mon",
            "8-18",
            "Mon-Fri",
            "Moo 8-18",
            "Mon-Foo 8-18",
            "Fri-Mon 8-18",
            "Mon 18-8",
            "Mon 8-8",
            "Mon 8-24:15",
        ),
        *("Mon 8:10-18", "Mon 8-25", "Mon 8-18, ", "Mon 8-18, Mon 17-19", "Mon 8–18", "Mon 8-18 Tue 8-18", "Mon -1-8"),
    ],
)
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        simulated_clinics.hours(text)


@pytest.mark.parametrize(
    ("hours", "minutes", "notice", "share"), [("Mon-Fri 8-18", 45, 0, 0.088), ("Mon-Sat 8-18", 45, 120, 0.0)]
)
def test_the_structural_share_of_hours_on_paper_is_the_known_one(
    hours: str, minutes: int, notice: int, share: float
) -> None:
    terms = replace(TERMS, cells=minutes // 15, notice_minutes=notice)
    answer = simulation.structural(simulated_clinics.on_paper(simulated_clinics.hours(hours), 2, terms), terms)
    assert round(answer.share, 3) == share
    if share:
        assert [(gap.begins, gap.ends, gap.times) for gap in answer.often] == [
            ("Fri 17:15", "Sat 08:00", 50),
            ("Fri 17:15", "Sat 07:00", 1),  # 48 hours before Monday 8:00 as the clocks change
            ("Fri 17:15", "Sat 09:00", 1),
        ]


def test_a_visit_longer_than_any_day_has_no_room() -> None:
    terms = replace(TERMS, cells=12)
    short = simulated_clinics.on_paper(simulated_clinics.hours("Mon-Fri 8-10"), 1, terms)
    for asked_of in (Calendar, simulation.structural):
        with pytest.raises(Invalid, match="has no time for such a visit"):
            asked_of(short, terms)


def read(clinic: tests_clinic.Clinic, location_id: int | None = None) -> tuple[list[Clinic], BookingTerms]:
    with reading(clinic.engine) as session:
        return simulated_clinics.clinics(session, location_id, None, None, now=clinic.clock.now())


def worked(found: Clinic) -> set[date]:
    return {one.starts_at.astimezone(found.zone).date() for one in found.stretches}


def test_a_clinic_is_read_as_it_is_planned(clinic: tests_clinic.Clinic) -> None:
    holiday = date(2027, 1, 1)
    with transaction(clinic.engine) as session:
        place = session.scalars(select(Location)).one()
        whole_day = {"starts_on": holiday, "starts_minute": 0, "ends_on": holiday, "ends_minute": 1440}
        session.add(Closure(location_id=place.id, reason="New Year", **whole_day))
    (found,), terms = read(clinic)
    assert terms == TERMS
    assert (found.name, found.zone) == ("Springfield", ZoneInfo("America/Chicago"))
    assert found.begins.astimezone(found.zone).isoformat() == "2026-11-24T00:00:00-06:00"
    days = [date(2026, 11, 24) + n * DAY for n in range((WARM_UP + YEAR) // DAY + TERMS.horizon_days)]
    assert worked(found) >= {day for day in days if day.weekday() < 5 and day != holiday}
    assert {day for day in worked(found) if day.weekday() >= 5 or day == holiday} == set()
    assert {one.cells for one in found.stretches[:-1]} == {9 * 4}


def test_only_who_offers_the_goals_visit_counts_and_only_places_that_are_online(clinic: tests_clinic.Clinic) -> None:
    second, quiet = clinic.add_therapist("Bo Bell"), clinic.add_location("Quiet")
    clinic.add_hours(second, quiet)
    mesa = clinic.add_location("Mesa", "America/Phoenix", "AZ")
    clinic.add_hours(clinic.add_therapist("Cy Cole", "AZ"), mesa)
    with transaction(clinic.engine) as session:
        session.add(AppointmentTypeTherapist(appointment_type_id=clinic.kinds["Evaluation"], therapist_id=1))
        session.get_one(Location, quiet).online = False
    found, _ = read(clinic)
    assert [(one.name, bool(one.stretches)) for one in found] == [("Mesa", False), ("Springfield", True)]
    assert [one.name for one in read(clinic, mesa)[0]] == ["Mesa"]
    for unknown in (quiet, 99):
        with pytest.raises(Invalid, match="no such location"):
            read(clinic, unknown)


def test_a_visit_has_the_notice_and_the_length_of_its_kind_unless_others_are_asked_for(
    clinic: tests_clinic.Clinic,
) -> None:
    with transaction(clinic.engine) as session:
        kind = session.get_one(AppointmentType, clinic.kinds["Evaluation"])
        kind.notice_minutes, kind.horizon_days, kind.buffer_minutes, kind.includes_needling = 120, 30, 15, True
    (found,), terms = read(clinic)
    assert terms == BookingTerms(goal_hours=48, target=0.9, notice_minutes=120, horizon_days=30, cells=5)
    assert found.needling
    with reading(clinic.engine) as session:
        _, asked_for = simulated_clinics.clinics(session, None, 30, 0, now=clinic.clock.now())
    assert asked_for == replace(terms, notice_minutes=0, cells=2)


def test_without_a_visit_for_new_patients_there_is_nothing_to_simulate(clinic: tests_clinic.Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.get_one(AppointmentType, clinic.kinds["Evaluation"]).new_patient = False
    with pytest.raises(Invalid, match="new-patient type"):
        read(clinic)
