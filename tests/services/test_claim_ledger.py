"""The ledger has one row for each change of what is told of a claim, whoever looks and however often."""

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Saying
from scheduler.services import claim_ledger, claims
from scheduler.services.claims import Verdict
from scheduler.worker import Worker
from tests.clinic import HOUR, Clinic
from tests.services.test_claim_words import fill

Row = tuple[str, int, str]


def looked(clinic: Clinic) -> None:
    """The worker's tick."""
    Worker(clinic.engine, clinic.clock, None).note_claims()  # type: ignore[arg-type] # this tick sends nothing


def rows(clinic: Clinic) -> list[Row]:
    with reading(clinic.engine) as session:
        found = claim_ledger.history(session, 99)
    return [(claim_id, row.number, row.says) for claim_id, changes in sorted(found.items()) for row in changes]


def test_the_first_look_keeps_how_each_claim_stands_and_further_ones_nothing(clinic: Clinic, clock: FixedClock) -> None:
    for _ in range(3):
        looked(clinic)
        clock.at += HOUR / 4
    assert rows(clinic) == [("everywhere", 1, "holds"), ("licensed", 1, "holds"), ("within_goal", 1, "holds")]


def test_each_change_is_one_row_with_its_reason(clinic: Clinic, clock: FixedClock) -> None:
    looked(clinic)
    for hours, says in ((48, "working_days"), (48, "working_days"), (72, "soonest")):
        fill(clinic, hours)
        clock.at += HOUR / 60
        looked(clinic)
        assert rows(clinic)[2][2] == says
    second = clinic.add_location("Chatham")
    clock.at += HOUR / 60
    looked(clinic)
    with reading(clinic.engine) as session:
        history = claim_ledger.history(session, 2)
    assert [(one.number, one.says, one.since) for one in history["within_goal"]] == [
        (3, Saying.SOONEST, clock.at - HOUR / 60),
        (2, Saying.WORKING_DAYS, clock.at - HOUR / 20),
    ]
    (newest, first) = history["everywhere"]
    assert (newest.says, newest.since) == (Saying.FAILS, clock.at)
    assert newest.breaches == [{"what": "nobody-works", "location_id": second}]
    assert (first.says, first.breaches) == (Saying.HOLDS, [])


def test_a_late_look_of_a_slow_worker_undoes_nothing(clinic: Clinic, clock: FixedClock) -> None:
    """It saw the claim hold before another saw it fail, and comes to write after that one."""
    now = clock.now()
    with reading(clinic.engine) as session:
        before = claim_ledger.standing(claims.present(session, now=now))
    clinic.add_location("Chatham")
    clock.at += HOUR
    looked(clinic)
    with transaction(clinic.engine) as session:
        assert claim_ledger.changed(session, before, now=now) == {}
        claim_ledger.note(session, before, now=now)
    assert [row for row in rows(clinic) if row[0] == "everywhere"] == [("everywhere", 1, "fails")]


def test_what_is_shown_comes_from_the_rows_and_never_from_the_ledger(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        claim_ledger.note(session, dict.fromkeys(claims.RULES, Verdict(Saying.FAILS)), now=clinic.clock.now())
    with reading(clinic.engine) as session:
        present = claims.present(session, now=clinic.clock.now())
    assert {verdict.says for verdict in claim_ledger.standing(present).values()} == {Saying.HOLDS}
