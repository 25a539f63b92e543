"""How the public claims stood, how far a miss of the access goal was told, and three more messages to the staff."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
WORDS = "'goal-foreseen', 'goal-missed', 'goal-kept'"
BEFORE = (
    "'set-password', 'locked-out', 'day-changed', 'test', 'address-changed', 'ways-in-changed', 'license-ends', "
    "'time-off-decided'"
)


def upgrade() -> None:
    _know(f"{BEFORE}, {WORDS}")
    op.create_table(
        "claim_change",
        sa.Column("claim", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("says", sa.String(), nullable=False),
        sa.Column("breaches", sa.JSON(), nullable=False),
        sa.CheckConstraint("length(claim) > 0", name=op.f("ck_claim_change_claim_given")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_claim_change_number_positive")),
        sa.CheckConstraint(
            "says IN ('holds', 'working_days', 'soonest', 'fails')", name=op.f("ck_claim_change_saying_known")
        ),
        sa.PrimaryKeyConstraint("claim", "number", name=op.f("pk_claim_change")),
    )
    op.create_table(
        "access_watch",
        sa.Column("appointment_type_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("missed", sa.Boolean(), nullable=False),
        sa.Column("missed_since", INSTANT, nullable=False),
        sa.Column("missed_turning", INSTANT, nullable=True),
        sa.Column("missed_told", sa.Boolean(), nullable=False),
        sa.Column("foreseen", sa.Boolean(), nullable=False),
        sa.Column("foreseen_since", INSTANT, nullable=False),
        sa.Column("foreseen_turning", INSTANT, nullable=True),
        sa.Column("foreseen_told", sa.Boolean(), nullable=False),
        sa.Column("plan_sha256", sa.String(), nullable=False),
        sa.Column("gaps_told", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["appointment_type_id"], ["appointment_type.id"], name=op.f("fk_access_watch_appointment_type_id")
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_access_watch_location_id")),
        sa.PrimaryKeyConstraint("appointment_type_id", "location_id", name=op.f("pk_access_watch")),
    )
    op.create_table(
        "access_word",
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("goal_hours", sa.Integer(), nullable=False),
        sa.Column("said_at", INSTANT, nullable=False),
        sa.CheckConstraint(f"kind IN ({WORDS})", name=op.f("ck_access_word_kind_known")),
        sa.CheckConstraint(
            "reason IN ('structural', 'capacity', 'none-open')", name=op.f("ck_access_word_reason_known")
        ),
        sa.CheckConstraint(
            "(kind = 'goal-kept') = (reason IS NULL)", name=op.f("ck_access_word_reason_goes_with_miss")
        ),
        sa.CheckConstraint("goal_hours > 0", name=op.f("ck_access_word_goal_positive")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_access_word_location_id")),
        sa.PrimaryKeyConstraint("location_id", "kind", "day", name=op.f("pk_access_word")),
    )


def downgrade() -> None:
    """Messages of these kinds are forgotten, with the tries to send them."""
    for table in ("access_word", "access_watch", "claim_change"):
        op.drop_table(table)
    message = sa.table("outbox_message", sa.column("id"), sa.column("kind"))
    of_these = message.c.kind.in_(["goal-foreseen", "goal-missed", "goal-kept"])
    attempt = sa.table("attempt", sa.column("message_id"))
    op.execute(sa.delete(attempt).where(attempt.c.message_id.in_(sa.select(message.c.id).where(of_these))))
    op.execute(sa.delete(message).where(of_these))
    _know(BEFORE)


def _know(to_staff: str) -> None:
    rules = {
        "kind_known": f"kind IN ('confirmation', 'reminder', 'cancellation', {to_staff})",
        "staff_kinds_go_to_staff": f"kind IN ({to_staff}) = (account_id IS NOT NULL)",
    }
    with op.batch_alter_table("outbox_message") as table:
        for name, rule in rules.items():
            table.drop_constraint(op.f(f"ck_outbox_message_{name}"), type_="check")
            table.create_check_constraint(op.f(f"ck_outbox_message_{name}"), rule)
