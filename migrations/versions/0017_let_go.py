"""Days on which nothing is kept back, the local day that a lever was used for, and one letter of several locations.

A therapist is asked once for a day; a letter about the goal is about the moment at which its words were said.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
ASKED = sa.text("lever = 'ask'")
BEFORE = {
    "lever_known": "lever IN ('elsewhere', 'standby', 'ask')",
    "only_standby_closes": "closed_at IS NULL OR lever = 'standby'",
}
AFTER = {
    "lever_known": "lever IN ('elsewhere', 'release', 'standby', 'ask')",
    "day_named": "(lever = 'elsewhere') = (day IS NULL)",
    "only_what_opens_closes": "closed_at IS NULL OR lever IN ('standby', 'release')",
}
USE = sa.table("lever_use", *(sa.column(name) for name in ("id", "lever", "starts_at", "place_id", "location_id")))
DAY = sa.table("lever_use", sa.column("id"), sa.column("day", sa.Date()))
WORD = sa.table(
    "access_word", *(sa.column(name) for name in ("location_id", "kind", "said_at")), sa.column("day", sa.Date())
)
LETTER = sa.table(
    "outbox_message",
    *(sa.column(name) for name in ("id", "account_id", "kind", "about", "status", "reason", "lease", "leased_until")),
)
WORDS = ("goal-foreseen", "goal-missed", "goal-kept")
PLACE = sa.table("location", sa.column("id"), sa.column("time_zone"))


def upgrade() -> None:
    """Who was asked twice for one day keeps the first row of it."""
    op.create_table(
        "let_go_day",
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("let_go_by", sa.String(), nullable=False),
        sa.Column("let_go_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_let_go_day_location_id")),
        sa.PrimaryKeyConstraint("location_id", "day", name=op.f("pk_let_go_day")),
    )
    op.add_column("lever_use", sa.Column("day", sa.Date(), nullable=True))
    _name_days()
    _rename_letters({f"{word.location_id} {word.day}": _at(word.said_at).isoformat() for word in _words()})
    op.execute(
        "DELETE FROM lever_use WHERE lever = 'ask' AND id NOT IN ("
        "SELECT min(id) FROM lever_use WHERE lever = 'ask' GROUP BY location_id, therapist_id, day)"
    )
    _replace(BEFORE, AFTER)
    op.create_index(
        "uq_lever_use_asked",
        "lever_use",
        ["location_id", "therapist_id", "day"],
        unique=True,
        sqlite_where=ASKED,
        postgresql_where=ASKED,
    )


def downgrade() -> None:
    """What was let go stays so until the worker keeps it back again; the record of it goes.

    A letter that is still owed tells of one of its locations.
    """
    _rename_letters({_at(word.said_at).isoformat(): f"{word.location_id} {word.day}" for word in _words()})
    op.drop_index("uq_lever_use_asked", "lever_use")
    op.execute("DELETE FROM lever_use WHERE lever = 'release'")
    _replace(AFTER, BEFORE)
    op.drop_column("lever_use", "day")
    op.drop_table("let_go_day")


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    with op.batch_alter_table("lever_use") as table:
        for name in old:
            table.drop_constraint(op.f(f"ck_lever_use_{name}"), type_="check")
        for name, rule in new.items():
            table.create_check_constraint(op.f(f"ck_lever_use_{name}"), rule)


def _name_days() -> None:
    """The local day on which the times of each use begin, but of other locations' times."""
    database = op.get_bind()
    uses = sa.select(USE.c.id, USE.c.starts_at, PLACE.c.time_zone).join(PLACE, PLACE.c.id == USE.c.place_id)
    found = database.execute(uses.where(USE.c.lever != "elsewhere")).all()
    for number, starts_at, zone in found:
        database.execute(sa.update(DAY).where(DAY.c.id == number).values(day=_local(starts_at, zone)))


def _words() -> Sequence[Any]:
    return op.get_bind().execute(sa.select(WORD).order_by(WORD.c.location_id.desc())).all()


def _rename_letters(names: dict[str, str]) -> None:
    """What the letters are about that are still owed: of those that become one, the first goes."""
    database = op.get_bind()
    owed = sa.select(LETTER).where(LETTER.c.status == "owed", LETTER.c.kind.in_(WORDS)).order_by(LETTER.c.id)
    known = set[tuple[int, str, str]]()
    for row in database.execute(owed).all():
        name = names.get(row.about)
        if name is None or (row.account_id, row.kind, name) in known:
            fate = {"status": "suppressed", "reason": "told in another letter", "lease": None, "leased_until": None}
        else:
            known.add((row.account_id, row.kind, name))
            fate = {"about": name}
        database.execute(sa.update(LETTER).where(LETTER.c.id == row.id).values(**fate))


def _local(instant: Any, zone: str) -> date:  # noqa: ANN401 as a column holds it
    return _at(instant).astimezone(ZoneInfo(zone)).date()


def _at(instant: Any) -> datetime:  # noqa: ANN401 a datetime on PostgreSQL, microseconds on SQLite
    return instant.astimezone(UTC) if isinstance(instant, datetime) else EPOCH + timedelta(microseconds=instant)
