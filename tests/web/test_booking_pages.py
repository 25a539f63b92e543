"""Booking page by page: every time is there, a form takes what the API takes, and sent twice it is one visit."""

import threading
from dataclasses import replace
from datetime import date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select, text, update

from scheduler import cli
from scheduler.app import LARGEST_BODY
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import (
    Appointment,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    ExplainerVersion,
    License,
    OutboxMessage,
    Patient,
    Slot,
    Status,
    Therapist,
    TherapistLanguage,
)
from scheduler.services import explainer, holds
from scheduler.services.availability import SlotName
from scheduler.services.holds import Keeper
from scheduler.services.windows import DayPart, LocalWish
from scheduler.web import visits
from tests.clinic import EXPLAINER, Clinic, at, body, key, rows
from tests.conftest import MONDAY_MORNING
from tests.server import at_once, serving
from tests.web.pages import Page, after, look, parse
from tests.web.test_limits import everything

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
bounded = hypothesis_settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
PAT = {
    "name": "Pat Doe",
    "email": "pat@example.com",
    "phone": "+12175550142",
    "note": "My left knee",
    "acknowledged": "y",
}
BOOK, CONTINUE, CHANGE = "Book this visit", "Continue", "Change something"
GONE = "Somebody was a moment faster"
NOT_ANY_MORE = "This time cannot be booked any more"
AGAIN = "Please look at this again"


@pytest.fixture
def bare(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    return Clinic(engine, clock, keys)


def first(clinic: Clinic, **find: Any) -> str:  # noqa: ANN401 fields of Find
    return str(clinic.offers(limit=1, **find)[0].slot)


def stored(clinic: Clinic) -> list[Appointment]:
    """The visits; what is only held is none."""
    with reading(clinic.engine) as session:
        return [one for one in rows(session, Appointment) if one.status != Status.HELD]


def patients(clinic: Clinic) -> list[Patient]:
    with reading(clinic.engine) as session:
        return rows(session, Patient)


# --- times


def listed(page: Page) -> list[tuple[str, str, str]]:
    """Every start on a page of times, in order: the slot, the instant, and all that is read out for it."""
    links = [link for times in page.main.all("ul", class_="times") for link in times.all("a")]
    return [
        (urlsplit(one.attributes["href"]).path.rpartition("/")[2], one.one("time").attributes["datetime"], one.text)
        for one in links
    ]


def walked(page: Page) -> list[tuple[str, str, str]]:
    """Every start of this page and all the later ones."""
    found = listed(page)
    while any(link.text == "More times, later" for link in page.main.all("a")):
        page = page.follow("More times, later")
        assert listed(page)
        found += listed(page)
    return found


def days(page: Page) -> dict[str, dict[str, list[str]]]:
    """What stands under each day and place, as the hours on the buttons."""
    return {
        day.one("h2").text: {
            place.text: [one.text for one in times.all("time")]
            for place, times in zip(day.all("h3"), day.all("ul"), strict=True)
        }
        for day in page.main.all("section", class_="day")
    }


def chosen(page: Page) -> dict[str, str]:
    """What the filters say is shown."""
    return {
        one.attributes["name"]: next(
            (option.attributes["value"] for option in one.all("option") if "selected" in option.attributes), ""
        )
        for one in page.main.all("select")
    }


ANY = {"type": "1", "location": "", "therapist": "", "day_part": ""}


def two_zones(clinic: Clinic) -> int:
    """A second place, in New York's zone, with a therapist of its own."""
    second = clinic.add_location("Albany", "America/New_York", "NY")
    clinic.add_hours(clinic.add_therapist("Ben Brown", "NY"), second)
    clinic.plan()
    return second


def test_the_first_visit_for_new_patients_is_what_times_are_shown_for(client: FlaskClient, clinic: Clinic) -> None:
    page = look(client, "/book")
    assert page.heading == "Choose a time"
    assert chosen(page) == ANY
    assert [slot for slot, _, _ in listed(page)] == [str(offer.slot) for offer in clinic.offers()][: len(listed(page))]


def test_filters_stand_in_the_address_and_are_kept_on_the_way(client: FlaskClient, clinic: Clinic) -> None:
    second = two_zones(clinic)
    for asked, find in [
        ({"type": "2"}, {"kind": "Follow-up"}),
        ({"location": str(second)}, {"location_id": second}),
        ({"therapist": "1"}, {"therapist_id": 1}),
        ({"type": "3", "location": "1", "therapist": "1"}, {"kind": "Needling", "location_id": 1, "therapist_id": 1}),
        ({"type": "", "location": "", "therapist": ""}, {}),
    ]:
        page = look(client, f"/book?{urlencode(asked)}")
        assert chosen(page) == ANY | {k: v for k, v in asked.items() if v}
        shown = {slot for slot, _, _ in listed(page)}
        assert shown == {str(offer.slot) for offer in clinic.offers(**find)[: len(shown)]}  # type: ignore[arg-type]
        later = page.follow("More times, later")
        assert chosen(later) == chosen(page)
        detail = look(client, next(link for link in page.links() if link.startswith("/book/")))
        kind = asked.get("type") or "1"
        assert parse_qs(urlsplit(detail.form.action).query).get("type", ["1"]) == [kind]


def test_times_of_day_weekdays_and_a_first_day_stand_in_the_address_and_are_kept(
    client: FlaskClient, clinic: Clinic
) -> None:
    page = look(client, "/book?day_part=morning&weekday=friday&weekday=monday&from=2026-11-27&location=1")
    wish = LocalWish(DayPart.MORNING, frozenset({0, 4}))
    found = [
        str(offer.slot) for offer in clinic.offers(location_id=1, local=wish, from_=date(2026, 11, 27), limit=5000)
    ]
    assert [slot for slot, _, _ in listed(page)] == found[: len(listed(page))]
    assert len(found) > len(listed(page)) > 50
    ticked = [one.attributes["value"] for one in page.main.all("input", name="weekday") if "checked" in one.attributes]
    assert (ticked, chosen(page)["day_part"]) == (["monday", "friday"], "morning")
    assert [slot for slot, _, _ in walked(page)] == found
    days_led_to = [parse_qs(urlsplit(one.attributes["href"]).query) for one in page.main.one("tbody").all("a")]
    assert all(led | {"day_part": ["morning"], "location": ["1"]} == led for led in days_led_to)
    assert {date.fromisoformat(led["from"][0]).weekday() for led in days_led_to} == {0, 4}


@on_sqlite
@pytest.mark.parametrize(("language", "free", "none"), [("en", "has times", "no times"), ("es", "hay", "no hay")])
def test_the_days_around_say_which_have_times(
    client: FlaskClient, clinic: Clinic, language: str, free: str, none: str
) -> None:
    page = look(client, "/book", language)
    strip = page.main.one("table", class_="strip")
    assert [len(row.all("td")) for row in strip.one("tbody").all("tr")] == [7] * 5
    links = [parse_qs(urlsplit(one.attributes["href"]).query)["from"][0] for one in strip.all("a")]
    every = clinic.offers(limit=5000)
    assert links == sorted({offer.slot.starts_at.date().isoformat() for offer in every} & set(days_from(2026, 11, 22)))
    assert all(f": {free}" in one.text for one in strip.all("a"))
    assert [one.text.split(": ")[1].split()[0] for one in strip.all("span", class_="none")] == [
        none.split(maxsplit=1)[0]
    ] * 9
    later = look(client, "/book?from=2026-12-27", language).main.one("table", class_="strip")
    assert parse_qs(urlsplit(later.all("a")[0].attributes["href"]).query)["from"] == ["2026-12-28"]
    last = look(client, "/book?from=2100-01-01", language)
    assert (last.status, listed(last)) == (200, [])


def days_from(year: int, month: int, day: int) -> list[str]:
    return [(date(year, month, day) + timedelta(days=n)).isoformat() for n in range(35)]


def first_day(page: Page) -> date:
    """That with which the page's calendar begins; its first day that has times."""
    led_to = page.main.one("table", class_="strip").all("a")[0].attributes["href"]
    return date.fromisoformat(parse_qs(urlsplit(led_to).query)["from"][0])


def turns(page: Page) -> list[str]:
    return [one.text for one in page.main.one("p", class_="turn").all("a")]


@on_sqlite
def test_the_calendar_is_turned_back_as_far_as_anything_can_be_booked(client: FlaskClient, clinic: Clinic) -> None:
    page = look(client, "/book?weekday=tuesday")
    assert (first_day(page), turns(page)) == (date(2026, 11, 24), ["Later days"])
    for address, begins in (("from=2026-12-30", date(2026, 11, 24)), ("from=2027-01-19", date(2026, 12, 15))):
        later = look(client, f"/book?weekday=tuesday&{address}")
        assert turns(later)[0] == "Earlier days"
        assert first_day(later.follow("Earlier days")) == begins
    assert turns(look(client, "/book?weekday=tuesday&from=2100-01-01")) == ["Earlier days"]
    last = look(client, "/book?weekday=tuesday&from=2027-01-19")
    assert turns(last.follow("Earlier days").follow("Earlier days")) == ["Later days"]
    assert turns(look(client, "/book?from=2026-11-27")) == ["Later days"]  # that is the first week


@on_sqlite
def test_the_calendar_goes_along_with_later_times(client: FlaskClient, clinic: Clinic) -> None:
    clinic.policy(booking_horizon_days=80)
    page = look(client, "/book")
    assert first_day(page) == date(2026, 11, 23)
    while any(link.text == "More times, later" for link in page.main.all("a")):
        page = page.follow("More times, later")
        shown = at(listed(page)[0][1]).date()
        assert first_day(page) <= shown < first_day(page) + timedelta(days=7)
        assert not page.main.all("a", aria_current="date")
    assert first_day(page) > date(2027, 1, 1)


@on_sqlite
@pytest.mark.parametrize(("language", "said"), [("en", "Monday · Friday Change"), ("es", "lunes · viernes Cambiar")])
def test_the_filters_are_closed_and_say_what_is_chosen(
    client: FlaskClient, clinic: Clinic, language: str, said: str
) -> None:
    asked = "type=2&location=1&therapist=1&weekday=friday&weekday=monday"
    for query in ("", asked):
        assert "open" not in look(client, f"/book?{query}", language).main.one("details").attributes
    page = look(client, f"/book?{asked}", language)
    summary = page.main.one("summary").text
    assert summary == f"Follow-up · Springfield · Ana Abbott · {said}"
    assert page.main.one("details").one("form").attributes["action"].endswith("#times")
    assert page.main.one(id="times").all("ul", class_="times")


@on_sqlite
def test_who_speaks_a_language_is_found(client: FlaskClient, clinic: Clinic) -> None:
    assert "language" not in chosen(look(client, "/book"))  # there is but one to choose
    ben = clinic.add_therapist("Ben Brown")
    clinic.add_hours(ben, 1, opens=7 * 60)
    with transaction(clinic.engine) as session:
        session.add(TherapistLanguage(therapist_id=ben, language="es"))
    clinic.plan()
    page = look(client, "/book")
    assert chosen(page)["language"] == ""
    options = [one.text for one in page.main.one("select", id="language").all("option")]
    assert options == ["Any", "English", "Spanish"]
    found = look(client, "/book?language=es")
    assert (chosen(found)["language"], found.main.one("summary").text) == ("es", "Spanish Change")
    assert {slot.split("-")[0] for slot, _, _ in walked(found)} == {str(ben)}
    assert all("language=es" in one.attributes["href"] for one in found.main.one("tbody").all("a"))
    nobody = look(client, "/book?language=fr")
    assert (listed(nobody), nobody.main.one("summary").text) == ([], "French Change")
    for wrong in ("language=spanish", "language=ES", "language=en&language=es"):
        assert look(client, f"/book?{wrong}").status == 422


WISH = "location=1&therapist=1&language=en&day_part=afternoon&weekday=friday&weekday=tuesday&from=2026-12-01"


@on_sqlite
def test_what_was_wished_is_there_again_for_another_time(client: FlaskClient, clinic: Clinic) -> None:
    wish = {**parse_qs(WISH), "type": ["2"]}
    page = look(client, f"/book?type=2&{WISH}")
    steps = [look(client, next(link for link in page.links() if link.startswith("/book/")))]
    steps.append(steps[-1].press(CONTINUE, **PAT))
    steps.append(steps[-1].press(CHANGE))
    for step in (steps[0], steps[2]):
        again = step.follow("another time")
        assert parse_qs(urlsplit(again.address).query) == wish
        assert listed(again) or step is steps[2]  # held by now, or not
    slot = urlsplit(steps[0].address).path.rpartition("/")[2]
    clinic.book(slot, kind="Follow-up", keeper=Keeper(steps[1].form.fields["hold"], None))
    taken = look(client, steps[0].address)
    assert parse_qs(urlsplit(taken.follow("All times").address).query) == wish
    other = taken.main.one("div", class_="stack").all("a")[0].attributes["href"]
    assert parse_qs(urlsplit(other).query) == wish
    assert steps[2].press(CONTINUE).status == 409


@on_sqlite
def test_a_kind_that_is_not_offered_there_or_by_them_is_said_to_be_so(client: FlaskClient, clinic: Clinic) -> None:
    second = two_zones(clinic)
    with transaction(clinic.engine) as session:
        session.add(AppointmentTypeLocation(appointment_type_id=3, location_id=1))
        session.add(AppointmentTypeTherapist(appointment_type_id=2, therapist_id=1))
    for query, name, kind in (
        (f"type=3&location={second}", "Albany", "Needling"),
        ("type=2&therapist=2", "Ben Brown", "Follow-up"),
    ):
        page = look(client, f"/book?{query}")
        told = page.main.one("p", class_="big").text
        assert told == f"{name} does not offer this kind of visit: {kind}."
        (others,) = page.main.all("optgroup")
        assert (others.attributes["label"], [one.text for one in others.all("option")]) == (f"Not for: {kind}", [name])
        everywhere = page.follow("See all clinics and therapists")
        assert chosen(everywhere) == ANY | {"type": query[5]}
        assert listed(everywhere)
    page = look(client, f"/book?type=1&location={second}&therapist=1")
    assert page.main.one("p", class_="big").text == "There is no time left for this choice."
    assert not page.main.all("optgroup")


def test_a_choice_without_any_time_says_so(client: FlaskClient, clinic: Clinic) -> None:
    nobody = clinic.add_therapist("Ben Brown")
    page = look(client, f"/book?therapist={nobody}")
    assert (page.status, listed(page)) == (200, [])
    assert page.main.one("p", class_="big").text == "There is no time left for this choice."
    assert listed(page.follow("See all clinics and therapists"))


def test_each_place_has_its_own_date(client: FlaskClient, bare: Clinic, clock: FixedClock) -> None:
    """At 11 in the evening of a Monday in Chicago it is Tuesday in New York."""
    bare.add_kinds()
    for name, zone, state in [("Springfield", "America/Chicago", "IL"), ("Albany", "America/New_York", "NY")]:
        hours = (23 * 60, 24 * 60) if state == "IL" else (0, 60)
        bare.add_hours(bare.add_therapist(f"Of {name}", state), bare.add_location(name, zone, state), range(7), *hours)
    bare.plan()
    clock.at = at("2026-11-24T03:30:00+00:00")
    shown = days(look(client, "/book"))
    assert list(shown)[:2] == ["Today, Monday, November 23", "Tomorrow, Tuesday, November 24"]
    assert shown["Today, Monday, November 23"] == {"Springfield · Central Standard Time": ["11:00 PM"]}
    assert shown["Tomorrow, Tuesday, November 24"] == {
        "Albany · Eastern Standard Time": ["12:00 AM"],
        "Springfield · Central Standard Time": ["11:00 PM"],
    }
    labels = [label for _, _, label in listed(look(client, "/book"))][:3]
    assert labels == [
        "11:00 PM, Today, Monday, November 23, 11:00 PM Central Standard Time, Springfield, within 48 hours",
        "12:00 AM, Tomorrow, Tuesday, November 24, 12:00 AM Eastern Standard Time, Albany, within 48 hours",
        "11:00 PM, Tomorrow, Tuesday, November 24, 11:00 PM Central Standard Time, Springfield, within 48 hours",
    ]


@pytest.mark.parametrize("minute", ["2026-11-24T05:30:00+00:00", "2026-11-24T06:30:00+00:00"])
@on_sqlite
def test_a_day_that_is_today_only_here_is_not_headed_so(
    client: FlaskClient, bare: Clinic, clock: FixedClock, minute: str
) -> None:
    """Past midnight in New York and before it in Chicago the same date is today there, tomorrow here."""
    bare.add_kinds()
    for name, zone, state in [("Springfield", "America/Chicago", "IL"), ("Albany", "America/New_York", "NY")]:
        bare.add_hours(bare.add_therapist(f"Of {name}", state), bare.add_location(name, zone, state))
    bare.plan()
    clock.at = at(minute)
    both_today = minute == "2026-11-24T06:30:00+00:00"
    heading = next(iter(days(look(client, "/book"))))
    assert heading == ("Today, Tuesday, November 24" if both_today else "Tuesday, November 24")


def test_of_two_therapists_free_at_one_moment_and_place_one_is_shown(client: FlaskClient, clinic: Clinic) -> None:
    clinic.add_hours(clinic.add_therapist("Ben Brown"), 1)
    clinic.plan()
    found = listed(look(client, "/book"))
    assert len({instant for _, instant, _ in found}) == len(found)
    clinic.book(found[0][0])
    now = listed(look(client, "/book"))
    assert (now[0][1], now[0][0] != found[0][0]) == (found[0][1], True)  # the other one is there still


def test_later_times_show_every_start_once(
    client: FlaskClient, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two therapists at one place and one in another zone, on pages that end anywhere among them."""
    clinic.add_hours(clinic.add_therapist("Cy Cole"), 1, opens=9 * 60, closes=12 * 60)
    two_zones(clinic)
    for size, horizon in ((5, 3), (6, 3), (7, 3), (120, 20)):
        clinic.policy(booking_horizon_days=horizon)
        monkeypatch.setattr(visits, "TIMES_ON_A_PAGE", size)
        moments = [(slot.split("-")[1], at(instant)) for slot, instant, _ in walked(look(client, "/book"))]
        assert len(moments) == len(set(moments))
        assert set(moments) == from_the_api(client)
        for place in ("1", "2"):
            there = [instant for here, instant in moments if here == place]
            assert there == sorted(there)


def from_the_api(client: FlaskClient) -> set[tuple[str, datetime]]:
    """The place and moment of every start that the API lists."""
    items: list[Any] = []
    cursor = ""
    while cursor is not None:
        query = "&cursor=" + cursor if cursor else ""
        answer = client.get(f"/api/v1/slots?appointment_type=1&limit=200{query}").get_json()
        items, cursor = items + answer["items"], answer["next_cursor"]
    return {(item["location"]["id"], at(item["start"])) for item in items}


def test_a_moment_with_more_therapists_than_a_page_takes_is_walked_through(
    client: FlaskClient, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.policy(booking_horizon_days=2)
    for number in range(4):
        clinic.add_hours(clinic.add_therapist(f"Therapist {number}"), 1, opens=9 * 60, closes=11 * 60)
    clinic.plan()
    monkeypatch.setattr(visits, "TIMES_ON_A_PAGE", 3)
    assert {at(instant) for _, instant, _ in walked(look(client, "/book"))} == {
        offer.slot.starts_at for offer in clinic.offers()
    }


@pytest.mark.parametrize("language", ["en", "es"])
@on_sqlite
def test_every_time_is_read_out_whole(client: FlaskClient, clinic: Clinic, language: str) -> None:
    two_zones(clinic)
    zones = {
        "en": ("Central Standard Time", "Eastern Standard Time"),
        "es": ("hora estándar central", "hora estándar oriental"),
    }
    within = {"en": ", within 48 hours", "es": ", dentro de 48 horas"}[language]
    page = look(client, "/book", language)
    found = listed(page)
    assert len({label for _, _, label in found}) == len(found) > 50
    for _, instant, label in found:
        place, zone = (
            ("Springfield", zones[language][0]) if instant.endswith("-06:00") else ("Albany", zones[language][1])
        )
        marked = within if at(instant) <= MONDAY_MORNING + timedelta(hours=48) else ""
        assert label.endswith(f" {zone}, {place}{marked}")
        assert str(at(instant).day) in label
        assert f"{int(at(instant).strftime('%I'))}:{at(instant).minute:02}" in label


@pytest.mark.parametrize(
    ("evening", "opens", "closes", "hours"),
    [
        (
            "2027-11-07T03:00:00+00:00",
            60,
            3 * 60,
            {
                "Springfield · Central Daylight Time": ["1:00 AM", "1:15 AM", "1:30 AM", "1:45 AM"],
                "Springfield · Central Standard Time": ["1:00 AM", "1:15 AM", "1:30 AM", "1:45 AM", "2:00 AM"],
            },
        ),
        (
            "2027-03-14T03:00:00+00:00",
            0,
            5 * 60,
            {
                "Springfield · Central Standard Time": [f"{h}:{m:02} AM" for h in (12, 1) for m in (0, 15, 30, 45)],
                "Springfield · Central Daylight Time": ["3:00 AM", "3:15 AM", "3:30 AM", "3:45 AM", "4:00 AM"],
            },
        ),
    ],
)
@pytest.mark.parametrize("language", ["en", "es"])
@on_sqlite
def test_in_nights_when_clocks_change_every_start_is_told_apart_soonest_first(
    client: FlaskClient,
    bare: Clinic,
    clock: FixedClock,
    language: str,
    evening: str,
    opens: int,
    closes: int,
    hours: dict[str, list[str]],
) -> None:
    bare.add_kinds()
    bare.add_hours(bare.add_therapist(), bare.add_location(), [6], opens, closes)
    clock.at = at(evening)
    bare.policy(booking_horizon_days=2)
    bare.plan()
    page = look(client, "/book", language)
    found = listed(page)
    assert [at(instant) for _, instant, _ in found] == sorted(offer.slot.starts_at for offer in bare.offers())
    assert len({label for _, _, label in found}) == len(found) == sum(map(len, hours.values()))
    if language == "en":
        (night,) = days(page).values()
        assert list(night.items()) == list(hours.items())


HUGE = "9" * 30
WRONG = {
    "day_part": ["x", "noon", "Morning", HUGE, "\x00", "morning&day_part=evening"],
    "weekday": ["x", "0", "Monday", "monday,friday", HUGE, "\x00", "friday&weekday=x"],
    "from": [
        "x",
        "2026-02-30",
        "1999-12-31",
        "2200-01-02",
        "20261124",
        "2026-11-24T09:00:00Z",
        HUGE,
        "2026-11-24&from=x",
    ],
    "type": ["x", "0", "-1", "99", "999999999", HUGE, "1.0", "١", "1\n", "\x00", "%", "1&type=2"],
    "location": ["x", "0", "-1", "99", "999999999", HUGE, "1,2", "١", "' OR 1=1", "1&location=1"],
    "therapist": ["x", "0", "-1", "99", "999999999", HUGE, "<b>", "١", "1&therapist=1"],
    "after": [
        "x",
        "0",
        "1",
        "1-1",
        "1-1-1-1",
        "0-0-0",
        HUGE,
        f"{HUGE}-1-1",
        "1-1-99999999",
        "\x00",
        "1-1-1&after=1-1-1",
    ],
}


def test_a_filter_that_cannot_be_used_is_a_page_that_names_it(client: FlaskClient, clinic: Clinic) -> None:
    told = {"en": "What cannot be used: {}", "es": "Lo que no se puede usar: {}"}
    for name, values in WRONG.items():
        for value in values:
            query = "&".join(f"{name}={quote(part.removeprefix(name + '='))}" for part in value.split("&"))
            for language, words in told.items():
                page = look(client, f"/book?{query}", language)
                assert page.status == 422, (name, value)
                assert page.main.all("p")[1].text == words.format(name), (name, value)


@given(
    query=st.dictionaries(
        st.one_of(st.sampled_from([*WRONG, "lang", "endpoint", "_scheme", "_anchor", "_method"]), st.text()), st.text()
    )
)
@example(query={"endpoint": "x"})
@example(query={"_scheme": "javascript", "_external": "1"})
@example(query={"_method": "PUT"})
@bounded
@on_sqlite
def test_no_address_of_times_breaks(client: FlaskClient, clinic: Clinic, query: dict[str, str]) -> None:
    assert look(client, f"/book?{urlencode(query)}").status in {200, 422}


# --- who comes


def details(client: FlaskClient, clinic: Clinic, language: str = "en") -> Page:
    return look(client, f"/book/{first(clinic)}", language)


def test_a_visit_is_booked_in_three_pages(client: FlaskClient, clinic: Clinic) -> None:
    times = look(client, "/book")
    page = look(client, next(link for link in times.links() if link.startswith("/book/")))
    assert page.heading == "Your details"
    check = page.press(CONTINUE, **{**PAT, "phone": "(217) 555-0142"})
    assert (check.status, check.heading) == (200, "Is this right?")
    facts = [one.text for one in check.main.one("dl").all("dd")]
    assert facts == [
        "Today, Monday, November 23, 10:00 AM Central Standard Time, Springfield",
        "Evaluation, 60 minutes, with Ana Abbott",
        "Pat Doe",
        "pat@example.com",
        "+12175550142",
        "My left knee",
        "Talk to me first",
        "English",
    ]
    booked = check.press(BOOK)
    assert booked.heading == "Your visit is booked"
    (visit,), (patient,) = stored(clinic), patients(clinic)
    assert (patient.name, patient.email, patient.phone) == ("Pat Doe", "pat@example.com", "+12175550142")
    assert (patient.language, patient.remind_by_email, patient.remind_by_sms) == ("en", True, False)
    assert (visit.starts_at, visit.status, visit.needling) == (at("2026-11-23T10:00:00-06:00"), "booked", "talk_first")
    with reading(clinic.engine) as session:
        assert {message.kind for message in rows(session, OutboxMessage)} == {"confirmation"}


def test_looking_over_keeps_the_time_only_and_changing_gives_everything_back(
    client: FlaskClient, clinic: Clinic
) -> None:
    before = everything(clinic.engine)
    page = details(client, clinic)
    check = page.press(CONTINUE, **PAT, needling="none", language="es")
    back = check.press(CHANGE)
    assert back.heading == "Your details"
    kept = {"hold": check.form.fields["hold"]}
    assert back.form.fields == page.form.fields | PAT | kept | {"needling": "none", "language": "es"}
    assert back.press(CONTINUE).heading == "Is this right?"
    clinic.release(kept["hold"])
    assert everything(clinic.engine) == before


MISTAKES: list[tuple[dict[str, str | None], dict[str, str]]] = [
    ({"name": ""}, {"name": "Write your name."}),
    ({"name": " \t "}, {"name": "Write your name."}),
    ({"name": "!?"}, {"name": "Write your name."}),
    ({"name": None}, {"name": "Write your name."}),
    ({"email": "pat@"}, {"email": "Write an e-mail address like name@example.com."}),
    ({"phone": "12"}, {"phone": "Write a phone number with its area code, like 217 555 0142."}),
    (
        {"email": "", "phone": " "},
        {"email": "Write an e-mail address or a phone number, so that we can reach you."},
    ),
    (
        {"email": None, "phone": None},
        {"email": "Write an e-mail address or a phone number, so that we can reach you."},
    ),
    ({"note": "a" * 501}, {"note": "Write plain text of at most 500 characters."}),
    ({"needling": "maybe"}, {"needling": "Not a valid choice."}),
    ({"language": "xx"}, {"language": "Not a valid choice."}),
    ({"acknowledged": None}, {"acknowledged": "Please read the short text above and tick this box."}),
    ({"acknowledged": ""}, {"acknowledged": "Please read the short text above and tick this box."}),
    ({"acknowledged": "false"}, {"acknowledged": "Please read the short text above and tick this box."}),
]


@on_sqlite
def test_each_mistake_is_told_at_its_field_and_in_the_summary(client: FlaskClient, clinic: Clinic) -> None:
    page = details(client, clinic)
    for changes, told in MISTAKES:
        for step in ("check", "book"):
            address, data = page.sent(CONTINUE, **{**PAT, **changes})
            again = after(client, address, data | {"step": step})
            assert (again.status, again.problems) == (422, told)
            summary = again.main.one("div", role="alert")
            assert summary.one("h2").text == AGAIN
            assert {one.attributes["href"].lstrip("#"): one.text for one in summary.all("a")} == told
            assert again.tree.one("title").text.startswith("Mistake:")
            for field in told:
                pointed = [
                    one for one in again.main.walk() if f"{field}-error" in one.attributes.get("aria-describedby", "")
                ]
                assert pointed, field
            kept = {name: value for name, value in PAT.items() if name not in changes}
            assert kept.items() <= again.form.fields.items()
    assert stored(clinic) == []


@on_sqlite
def test_either_of_e_mail_and_phone_is_enough(client: FlaskClient, clinic: Clinic) -> None:
    for number, (email, phone) in enumerate([("pat@example.com", ""), ("", "217 555 0142")], start=1):
        booked = details(client, clinic).press(CONTINUE, **{**PAT, "email": email, "phone": phone}).press(BOOK)
        assert booked.heading == "Your visit is booked"
        assert len(stored(clinic)) == number
    assert {(one.email, one.phone, one.remind_by_email) for one in patients(clinic)} == {
        ("pat@example.com", None, True),
        (None, "+12175550142", False),
    }
    with reading(clinic.engine) as session:
        assert len(rows(session, OutboxMessage)) == 1  # only one of the two has an address to write to


@on_sqlite
def test_the_language_of_messages_is_kept_and_begins_as_the_pages(client: FlaskClient, clinic: Clinic) -> None:
    page = look(client, f"/book/{first(clinic)}?lang=es")
    assert page.form.fields["language"] == "es"
    page.press("Continuar", **PAT, language="en").press("Reservar esta visita")
    details(client, clinic).press(CONTINUE, **PAT, language="es").press(BOOK)
    assert sorted(one.language for one in patients(clinic)) == ["en", "es"]


@on_sqlite
def test_the_other_language_is_a_press_away_and_loses_nothing_but_the_tick(client: FlaskClient, clinic: Clinic) -> None:
    """The text to tick is read in the language that it is then shown in."""
    page = details(client, clinic)
    assert not page.tree.one("nav").all("button")  # a link is enough
    mistakes = page.press(CONTINUE, **PAT | {"email": "nobody"})
    check = page.press(CONTINUE, **PAT)
    for before in (mistakes, check):
        spanish = before.in_language("Español")
        assert (spanish.status, spanish.heading) == (200, "Sus datos")
        typed = {name: spanish.form.fields[name] for name in PAT if name != "acknowledged"}
        assert typed == {name: before.form.fields[name] for name in typed}
        assert "acknowledged" not in spanish.form.fields
        check = spanish.press("Continuar", email=PAT["email"], acknowledged="y")
        assert check.heading == "¿Es correcto?"
    check.press("Reservar esta visita")
    with reading(clinic.engine) as session:
        (visit,) = stored(clinic)
        assert session.get_one(ExplainerVersion, visit.explainer_version_id).language == "es"


@on_sqlite
def test_what_was_typed_is_given_back_as_text(client: FlaskClient, clinic: Clinic) -> None:
    evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'&amp;"
    for typed in (
        {"name": evil, "email": evil, "phone": evil, "note": f"{evil}\n\n</textarea>"},
        {"name": evil, "note": evil, "explainer_version": evil, "key": evil},
    ):
        for step in ("check", "book", "change", evil):
            address, data = details(client, clinic).sent(CONTINUE, **{**PAT, **typed})
            page = after(client, address, data | {"step": step})
            assert [
                one.text for one in page.tree.all("script") if not one.attributes["src"].startswith("/static/")
            ] == []
            assert [one.text for one in page.tree.all("script") if one.text] == []
            assert page.tree.all("img") == []
            given_back = page.form.fields
            shown_anew = {"explainer_version": EXPLAINER} if page.problems.keys() == {"acknowledged"} else {}
            assert {name: given_back[name] for name in typed} == typed | {
                name: value for name, value in shown_anew.items() if name in typed
            }
    assert stored(clinic) == []


LONG = "a" * 10_000
NASTY = [
    *("", " ", "\x00", "a\x00b", "a\nb", "a\r\nBcc: eve@example.com", "a\x1b[31m", "\u202eevil", "a\u2066b", "a\ufeff"),
    *("\u200b", "\u3164", "=?utf-8?q?x=0aBcc:eve@example.com?=", "' OR '1'='1", "<b>", "a" * 200, "a" * 201, LONG),
    *("a" * 500, "a" * 501, "a\r\n" * 249, "é" * 200, "😀", "患者", "\x85", "\u2028", "a\rb", "\tb", " b ", "\x1fb"),
]
EMAILS = [
    *(
        "pat@example.com",
        " pat@example.com ",
        "PAT@EXAMPLE.COM",
        "pat+tag@example.org",
        "pat@localhost",
        "a@b",
        "a@@b.c",
    ),
    *(
        "pat@example.com,eve@example.com",
        "pat@example.com\r\nBcc: eve@example.com",
        "jörg@example.com",
        "pat@xn--bcher-kva.example",
    ),
    *("pat@bücher.example", "=?utf-8?q?x?=@example.com", "a" * 64 + "@example.com", "a" * 65 + "@example.com"),
]
PHONES = [
    "217 555 0142",
    "(217) 555-0142",
    "+52 55 1234 5678",
    "2175550142",
    "12",
    "+1 312 555 0100 x5",
    "1" * 41,
    "1-800-FLOWERS",
]


def any_of(*known: str) -> st.SearchStrategy[str | None]:
    return st.one_of(
        st.sampled_from(known), st.sampled_from(known), st.sampled_from(NASTY), st.text(max_size=40), st.none()
    )


typed = st.fixed_dictionaries(
    {
        "name": any_of("Pat Doe", "José Ñandú", "O'Brien-Łukasz 3rd"),
        "email": any_of(*EMAILS, ""),
        "phone": any_of(*PHONES, ""),
        "note": any_of("My left knee", "two\r\nlines", ""),
        "needling": any_of("open", "talk_first", "none"),
        "language": st.one_of(st.sampled_from(["en", "es", "en", "es", "fr", "EN", ""]), st.text(max_size=3)),
        "acknowledged": st.sampled_from(["y", "y", "y", "on", "true", "1", "", "false", None]),
    }
)


def as_the_api_has_it(form: dict[str, str | None], slot: str) -> dict[str, Any]:
    """The same values in a request of the API: blanks around them and a browser's line ends are no part of a value."""
    given = {name: value.strip().replace("\r\n", "\n") if value else None for name, value in form.items()}
    patient = {name: given[name] for name in ("name", "email", "phone") if given[name]}
    consent = {"explainer_version": EXPLAINER, "acknowledged": form["acknowledged"] not in {None, "", "false"}}
    choices: dict[str, Any] = {name: form[name] for name in ("needling", "language") if form.get(name) is not None}
    return body(slot, patient=patient, consent=consent, note=given["note"] or None, **choices)


def test_the_form_takes_exactly_what_the_api_takes(client: FlaskClient, clinic: Clinic) -> None:
    """For a taken time the API says 409 to a sound request and 422 to another, and stores neither."""
    taken, free = first(clinic), str(clinic.offers()[-1].slot)
    clinic.book(taken)
    before = everything(clinic.engine)
    verdicts = set()

    @given(form=typed)
    @example(form={**PAT, "needling": "open", "language": "en"})
    @example(form={**PAT, "email": None, "needling": None, "language": "es"})
    @hypothesis_settings(bounded, max_examples=150 if clinic.engine.dialect.name == "sqlite" else 30)
    def alike(form: dict[str, str | None]) -> None:
        answer = client.post("/api/v1/appointments", json=as_the_api_has_it(form, taken), headers=key())
        sent = {"explainer_version": EXPLAINER, "key": "0" * 32}  # the page's own: who sends it keeps the time
        data = {name: value for name, value in form.items() if value is not None} | sent
        page = after(client, f"/book/{free}", data | {"step": "check"})
        assert (answer.status_code, page.status) in {(409, 200), (422, 422)}, (answer.get_json(), page.problems)
        verdicts.add(page.status)
        if page.status == 422:
            assert page.problems
            assert after(client, f"/book/{free}", data | {"step": "book"}).status == 422

    alike()
    assert verdicts == {200, 422}
    with transaction(clinic.engine) as session:
        assert holds.take(session, free, Keeper(holder="0" * 32), now=clinic.clock.now()) is not None
    assert everything(clinic.engine) == before


@on_sqlite
def test_a_sound_form_is_stored_as_the_api_stores_it(client: FlaskClient, clinic: Clinic) -> None:
    forms = [
        {**PAT, "email": email, "phone": phone, "name": name}
        for email, phone, name in zip(EMAILS[:4], PHONES[:4], (" Pat ", "José", "O'B", "患者"), strict=True)
    ]
    for form in forms:
        sent = as_the_api_has_it(dict(form), first(clinic))
        assert client.post("/api/v1/appointments", json=sent, headers=key()).status_code == 201
        assert details(client, clinic).press(CONTINUE, **form).press(BOOK).heading == "Your visit is booked"
    found = sorted((one.name, one.email, one.phone) for one in patients(clinic))
    assert found[0::2] == found[1::2]


FORGED: list[dict[str, Any]] = [
    {"data": {}},
    {"data": b"\xff\xfe%%%=&&&;=", "content_type": "application/x-www-form-urlencoded"},
    {"data": b"name=%FF%FE&email=%00", "content_type": "application/x-www-form-urlencoded"},
    {"json": {"name": 5, "email": ["x"], "acknowledged": True}},
    {"json": [1, 2]},
    {"json": "text"},
    {"data": b"{", "content_type": "application/json"},
    {"data": b"\x00" * 100, "content_type": "multipart/form-data"},
    {"data": b"x", "content_type": "multipart/form-data; boundary=x"},
    {"data": b"name=Pat", "content_type": "text/plain"},
    {"data": {"name": ["Pat", "Eve"], "email": ["a@b.example", "c@d.example"], "step": ["book", "check"]}},
    {"data": {"key": "", "explainer_version": "", "step": "", "acknowledged": "y", **PAT}},
]


@on_sqlite
def test_a_forged_form_is_a_page_with_its_mistakes(client: FlaskClient, clinic: Clinic) -> None:
    for forged in FORGED:
        assert client.post(f"/book/{first(clinic)}", **forged).status_code in {200, 422}, forged
    assert stored(clinic) == []


@on_sqlite
def test_a_file_in_place_of_a_text_is_no_text(client: FlaskClient, clinic: Clinic) -> None:
    for step, status in (("check", 422), ("book", 422), ("change", 200)):
        files = {name: (BytesIO(b"Pat Doe"), "pat.txt") for name in ("name", "key", "note", "explainer_version")}
        form = {**PAT, **files, "step": step}
        answer = client.post(f"/book/{first(clinic)}", data=form, content_type="multipart/form-data")
        assert answer.status_code == status
    assert stored(clinic) == []


@pytest.mark.parametrize("missing", ["key", "explainer_version", "step", "language", "needling"])
@on_sqlite
def test_a_hidden_field_that_is_missing_books_nothing_wrong(client: FlaskClient, clinic: Clinic, missing: str) -> None:
    check = details(client, clinic).press(CONTINUE, **PAT)
    address, data = check.sent(BOOK, **{missing: None})
    data.pop(missing, None)
    page = after(client, address, data)
    headings = {"key": "Your visit is booked", "needling": "Your visit is booked", "step": "Is this right?"}
    assert page.heading == headings.get(missing, "Your details")
    assert len(stored(clinic)) == (page.heading == "Your visit is booked")


@on_sqlite
def test_a_version_that_was_never_shown_is_to_be_read_again(client: FlaskClient, clinic: Clinic) -> None:
    check = details(client, clinic).press(CONTINUE, **PAT)
    for version in ("1999-01-01", "a" * 5000, "\x00", "2026-11-23\n", "' OR 1=1"):
        page = check.press(BOOK, explainer_version=version)
        assert (page.status, list(page.problems)) == (422, ["acknowledged"])
        assert (page.form.fields["explainer_version"], "acknowledged" in page.form.fields) == (EXPLAINER, False)
    assert stored(clinic) == []


@on_sqlite
def test_a_body_over_the_limit_is_a_page_that_says_so(client: FlaskClient, clinic: Clinic) -> None:
    address, data = details(client, clinic).sent(CONTINUE, **{**PAT, "note": "a" * LARGEST_BODY})
    page = after(client, address, data)
    assert (page.status, page.heading) == (413, "That is more than we can take")
    assert stored(clinic) == []


# --- the explainer that was shown


def published(clinic: Clinic, version: str) -> None:
    """A new text in both languages, from now on."""
    wordings = [replace(one, version=version, title=f"{one.title} II") for one in cli.wordings()]
    changed = [
        replace(
            one, sections=[{**part, "html": f"<p>New words of {version}.</p>{part['html']}"} for part in one.sections]
        )
        for one in wordings
    ]
    with transaction(clinic.engine) as session:
        explainer.publish(session, changed, now=clinic.clock.now())


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_version_that_was_shown_is_kept_in_its_language(client: FlaskClient, clinic: Clinic, language: str) -> None:
    page = look(client, f"/book/{first(clinic)}?lang={language}")
    button, last = (CONTINUE, BOOK) if language == "en" else ("Continuar", "Reservar esta visita")
    page.press(button, **PAT).press(last)
    with reading(clinic.engine) as session:
        (visit,) = rows(session, Appointment)
        shown = session.get_one(ExplainerVersion, visit.explainer_version_id)
        assert (shown.version, shown.language) == (EXPLAINER, language)


def test_a_text_replaced_more_than_a_day_ago_is_to_be_read_again(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    slot = str(clinic.offers()[-1].slot)
    page = look(client, f"/book/{slot}")
    check = page.press(CONTINUE, **PAT)
    published(clinic, "2027-01-01")
    clock.at += timedelta(hours=24)
    again = check.press(BOOK)
    assert (again.status, again.heading) == (422, "Your details")
    assert again.problems == {
        "acknowledged": "This text has changed meanwhile: please read it again and tick this box."
    }
    assert "New words of 2027-01-01." in again.main.one("section", class_="short").text
    ticked = {name: value for name, value in check.form.fields.items() if name != "acknowledged"}
    assert again.form.fields == ticked | {"explainer_version": "2027-01-01", "hold": ""}
    assert stored(clinic) == []
    booked = again.press(CONTINUE, acknowledged="y").press(BOOK)
    assert booked.heading == "Your visit is booked"
    with reading(clinic.engine) as session:
        (visit,) = rows(session, Appointment)
        assert session.get_one(ExplainerVersion, visit.explainer_version_id).version == "2027-01-01"


def test_a_text_replaced_within_the_day_is_what_was_shown(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    check = look(client, f"/book/{clinic.offers()[-1].slot}").press(CONTINUE, **PAT)
    published(clinic, "2027-01-01")
    clock.at += timedelta(hours=23, minutes=59)
    assert check.press(BOOK).heading == "Your visit is booked"
    with reading(clinic.engine) as session:
        (visit,) = rows(session, Appointment)
        assert session.get_one(ExplainerVersion, visit.explainer_version_id).version == EXPLAINER


def test_what_hurts_is_stored_sealed_only(client: FlaskClient, clinic: Clinic) -> None:
    note = "Zwiebelfisch in my left knee"
    details(client, clinic).press(CONTINUE, **{**PAT, "note": note}).press(BOOK)
    (visit,) = stored(clinic)
    assert clinic.keys.open(visit.note_sealed) == note
    assert "Zwiebelfisch" not in str(everything(clinic.engine))
    if clinic.engine.dialect.name == "sqlite":
        with clinic.engine.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        assert b"Zwiebelfisch" not in Path(str(clinic.engine.url.database)).read_bytes()


# --- the same form twice, and a time that is gone


def test_the_same_form_sent_twice_is_one_visit(client: FlaskClient, clinic: Clinic) -> None:
    address, data = details(client, clinic).press(CONTINUE, **PAT).sent(BOOK)
    answers = [client.post(address, data=data) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [303] * 3
    assert len({answer.headers["Location"] for answer in answers}) == len(stored(clinic)) == 1
    again = client.post(address, data=data | {"name": "Eve"})
    assert again.status_code == 409


def test_the_same_form_sent_at_once_is_one_visit(app: APIFlask, clinic: Clinic) -> None:
    address, data = details(app.test_client(), clinic).press(CONTINUE, **PAT).sent(BOOK)

    def press(_place: int, together: threading.Barrier) -> tuple[int, str | None]:
        client = app.test_client()
        together.wait()
        answer = client.post(address, data=data)
        return answer.status_code, answer.headers.get("Location")

    answers = at_once(6, press)
    assert {status for status, _ in answers} == {303}
    assert len(set(answers)) == len(stored(clinic)) == 1


def test_a_real_server_makes_one_visit_of_a_form_sent_at_once(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/clinic.db", tmp_path) as server:
        with server.client() as browser:
            front = parse(browser.get("/").text)
            slot = next(one.attributes["href"] for one in front.all("a") if one.attributes["href"].startswith("/book/"))
            shown = {
                one.attributes["name"]: one.attributes.get("value", "")
                for one in parse(browser.get(slot).text).all("input", type="hidden")
            }
        data = {**shown, **PAT, "language": "en", "needling": "open", "step": "book"}

        def press(_place: int, together: threading.Barrier) -> httpx.Response:
            with server.client() as browser:
                together.wait()
                return browser.post(slot, data=data)

        answers = at_once(6, press)
        assert [answer.status_code for answer in answers] == [303] * 6
        (location,) = {answer.headers["Location"] for answer in answers}
        with server.client() as browser:
            assert "Your visit is booked" in browser.get(location).text
            assert browser.post(slot, data=data | {"name": "Eve"}).status_code == 409


def test_a_taken_time_offers_the_nearest_others_and_loses_nothing(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    check = look(client, f"/book/{slot}").press(CONTINUE, **PAT)
    clinic.release(check.form.fields["hold"])
    clinic.book(slot)
    gone = check.press(BOOK)
    assert (gone.status, gone.heading) == (409, GONE)
    assert gone.form.fields == check.form.fields
    assert {(one["name"], one["value"]) for one in gone.form.buttons.values()} == {("step", "check")}
    nearest = [str(offer.slot) for offer in clinic.offers(limit=3)]
    assert [one["formaction"].rpartition("/")[2] for one in gone.form.buttons.values()] == nearest
    assert next(iter(gone.form.buttons)) == "Today, Monday, November 23, 11:00 AM Central Standard Time, Springfield"
    other = gone.press(next(iter(gone.form.buttons)))
    assert other.heading == "Is this right?"
    assert other.form.fields == check.form.fields | {"hold": other.form.fields["hold"]}
    assert other.press(BOOK).heading == "Your visit is booked"
    assert {one.name for one in patients(clinic)} == {"Pat Doe"}
    assert len(stored(clinic)) == 2


@on_sqlite
def test_a_time_taken_before_the_form_was_right_loses_nothing_either(client: FlaskClient, clinic: Clinic) -> None:
    page = details(client, clinic)
    clinic.book(first(clinic))
    gone = page.press(CONTINUE, **{**PAT, "name": "", "email": "pat@"})
    assert (gone.status, gone.heading) == (409, GONE)
    again = gone.press(next(iter(gone.form.buttons)))
    assert (again.status, set(again.problems)) == (422, {"name", "email"})
    assert again.form.fields | {"hold": ""} == gone.form.fields


@pytest.mark.parametrize("step", ["keep", "check", "change", "translate", "book"])
@on_sqlite
def test_a_time_that_left_the_plan_while_the_form_was_filled_in_loses_nothing(
    client: FlaskClient, clinic: Clinic, step: str
) -> None:
    slot = first(clinic)
    page = details(client, clinic)
    with transaction(clinic.engine) as session:
        session.execute(delete(Slot).where(Slot.starts_at <= SlotName.parse(slot).starts_at))
    gone = after(client, f"/book/{slot}", page.form.filled(**PAT) | {"step": step})
    assert (gone.status, gone.heading) == (409, NOT_ANY_MORE)
    assert {name: gone.form.fields.get(name) for name in PAT} == {
        **PAT,
        "acknowledged": None if step == "translate" else "y",
    }
    assert stored(clinic) == []
    other = gone.press(next(iter(gone.form.buttons)), acknowledged="y")
    assert (other.status, other.heading) == (200, "Is this right?")
    assert other.press(BOOK).heading == "Your visit is booked"


@pytest.mark.parametrize("left", [True, False])
@on_sqlite
def test_the_page_of_a_taken_time_is_there_in_the_other_language_with_all_that_was_typed(
    client: FlaskClient, clinic: Clinic, left: bool
) -> None:
    page = details(client, clinic)
    clinic.book(first(clinic))
    if not left:
        with transaction(clinic.engine) as session:
            session.execute(text("UPDATE slot SET fit = 1, fit_open = 1 WHERE appointment_id IS NULL"))
    spanish = page.press(CONTINUE, **PAT).in_language("Español")
    assert (spanish.status, spanish.heading) == (409, "Alguien fue un momento más rápido")
    assert bool(spanish.form.buttons) is left
    assert {name: spanish.form.fields[name] for name in PAT if name != "acknowledged"} == {
        name: value for name, value in PAT.items() if name != "acknowledged"
    }
    assert (
        "acknowledged" not in spanish.form.fields
    )  # the text to tick is read in the language that it is then shown in


@on_sqlite
def test_a_taken_time_opened_anew_links_to_the_others(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    clinic.book(slot)
    page = look(client, f"/book/{slot}")
    assert (page.status, page.heading) == (409, GONE)
    assert page.main.all("form") == []
    assert (
        page.follow("Today, Monday, November 23, 11:00 AM Central Standard Time, Springfield").heading == "Your details"
    )


@on_sqlite
def test_where_nothing_is_left_a_taken_time_still_has_its_page(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    with transaction(clinic.engine) as session:
        session.execute(text("UPDATE slot SET fit = 1, fit_open = 1 WHERE appointment_id IS NULL"))
    page = look(client, f"/book/{slot}")
    assert (page.status, page.heading) == (409, GONE)
    assert page.follow("Call us").status == 200


NEVER = [
    "1-1-1",
    "x",
    "0-0-0",
    "1-1-99999999",
    f"{HUGE}-1-1",
    "1-1",
    "%00",
    "%FF",
    "1-1-1%0A",
    "..",
    "<script>",
    "a" * 3000,
]


@on_sqlite
def test_a_time_that_never_was_is_an_address_that_cannot_be_used(client: FlaskClient, clinic: Clinic) -> None:
    for slot in NEVER:
        for answer in (client.get(f"/book/{slot}"), client.post(f"/book/{slot}", data={**PAT, "step": "check"})):
            page = Page(client, answer, slot)
            assert (page.status, page.main.all("p")[1].text) == (422, "What cannot be used: slot"), slot
    for kind in ("x", "99", HUGE):
        page = look(client, f"/book/{first(clinic)}?type={kind}")
        assert (page.status, page.main.all("p")[1].text) == (422, "What cannot be used: type")


@pytest.mark.parametrize(
    ("start", "kind", "heading"),
    [
        ("2026-11-23T15:30:00+00:00", "1", NOT_ANY_MORE),  # within the notice
        ("2027-02-22T15:00:00+00:00", "1", NOT_ANY_MORE),  # beyond the horizon
        ("2026-11-24T15:00:00+00:00", "3", NOT_ANY_MORE),  # needling without a licence for it
        ("2026-11-23T22:15:00+00:00", "1", GONE),  # too short before closing
    ],
)
@on_sqlite
def test_a_time_that_cannot_be_had_is_told_kindly(
    client: FlaskClient, clinic: Clinic, start: str, kind: str, heading: str
) -> None:
    with transaction(clinic.engine) as session:
        session.execute(
            update(License)
            .where(License.kind == "dry_needling")
            .values(valid_until=at("2026-11-20T00:00:00+00:00").date())
        )
    clinic.plan()
    address = f"/book/{SlotName(1, 1, at(start))}?type={kind}"
    data = {**PAT, "explainer_version": EXPLAINER, "needling": "open", "language": "en"}
    pages = [
        look(client, address),
        *(after(client, address, data | {"step": step}) for step in ("check", "book", "change")),
    ]
    assert [(page.status, page.heading) for page in pages] == [(409, heading)] * 4
    assert stored(clinic) == []


@on_sqlite
def test_the_kind_of_visit_is_kept_to_the_end(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic, kind="Follow-up")
    check = look(client, f"/book/{slot}?type=2").press(CONTINUE, **PAT)
    assert "Follow-up, 45 minutes, with Ana Abbott" in check.main.text
    clinic.release(check.form.fields["hold"])
    clinic.book(slot)
    gone = check.press(BOOK)
    gone.press(next(iter(gone.form.buttons))).press(BOOK)
    with reading(clinic.engine) as session:
        kinds = session.scalars(select(Appointment.appointment_type_id)).all()
        assert session.scalars(select(Therapist.name)).one() == "Ana Abbott"
    assert sorted(kinds) == [1, 2]


@on_sqlite
@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-origin", 422), ("none", 422), (None, 422)])
def test_another_sites_page_cannot_make_a_browser_book(
    client: FlaskClient, clinic: Clinic, site: str | None, status: int
) -> None:
    slot = clinic.offers()[0].slot
    headers = {"Sec-Fetch-Site": site} if site else {}
    assert client.post(f"/book/{slot}", data={"step": "book"}, headers=headers).status_code == status
