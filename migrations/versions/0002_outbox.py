"""The outbox at work: leases, tries, what was withdrawn, and how each channel does."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
CHECKS = {
    "lease_goes_with_its_end": "(lease IS NULL) = (leased_until IS NULL)",
    "only_owed_is_leased": "status = 'owed' OR lease IS NULL",
    "tries_not_negative": "tries >= 0",
}


def upgrade() -> None:
    with op.batch_alter_table("outbox_message") as table:
        table.add_column(sa.Column("tries", sa.Integer(), server_default="0", nullable=False))
        table.add_column(sa.Column("retry_at", INSTANT, nullable=True))
        table.add_column(sa.Column("lease", sa.Uuid(), nullable=True))
        table.add_column(sa.Column("leased_until", INSTANT, nullable=True))
        table.add_column(sa.Column("withdrawn_at", INSTANT, nullable=True))
        for name, rule in CHECKS.items():
            table.create_check_constraint(op.f(f"ck_outbox_message_{name}"), rule)
    with op.batch_alter_table("attempt") as table:
        # A clock set back while a message is under way must not refuse the note that it was sent.
        table.drop_constraint(op.f("ck_attempt_times_in_order"), type_="check")
    op.create_table(
        "channel_state",
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("paused_until", INSTANT, nullable=True),
        sa.CheckConstraint("failures >= 0", name=op.f("ck_channel_state_failures_not_negative")),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_channel_state")),
    )


def downgrade() -> None:
    op.drop_table("channel_state")
    op.execute("UPDATE attempt SET finished_at = started_at WHERE finished_at < started_at")
    with op.batch_alter_table("attempt") as table:
        table.create_check_constraint(
            op.f("ck_attempt_times_in_order"), "finished_at IS NULL OR finished_at >= started_at"
        )
    with op.batch_alter_table("outbox_message") as table:
        for name in CHECKS:
            table.drop_constraint(op.f(f"ck_outbox_message_{name}"), type_="check")
        for column in ("withdrawn_at", "leased_until", "lease", "retry_at", "tries"):
            table.drop_column(column)
