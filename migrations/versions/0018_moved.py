"""Visits that were moved are told of, cancellations that came late are kept, and the clinic says what late is."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

TO_STAFF = (
    "'set-password', 'locked-out', 'day-changed', 'test', 'address-changed', 'ways-in-changed', 'license-ends', "
    "'time-off-decided', 'goal-foreseen', 'goal-missed', 'goal-kept'"
)
LATE = "status = 'cancelled' OR NOT cancelled_late"
HOURS = "cancel_notice_hours BETWEEN 0 AND 336"


def upgrade() -> None:
    """What was cancelled before was under no such policy, so none of it was late."""
    _know("'confirmation', 'reminder', 'cancellation', 'moved'")
    with op.batch_alter_table("appointment") as table:
        table.add_column(sa.Column("cancelled_late", sa.Boolean(), server_default=sa.false(), nullable=False))
        table.create_check_constraint(op.f("ck_appointment_only_cancelled_is_late"), LATE)
    with op.batch_alter_table("clinic_policy") as table:
        table.add_column(sa.Column("cancel_notice_hours", sa.Integer(), server_default="24", nullable=False))
        table.create_check_constraint(op.f("ck_clinic_policy_cancel_notice_known"), HOURS)


def downgrade() -> None:
    """The word of a move is forgotten, with the tries to send it; the visits stay where they are."""
    message = sa.table("outbox_message", sa.column("id"), sa.column("kind"))
    of_these = message.c.kind == "moved"
    attempt = sa.table("attempt", sa.column("message_id"))
    op.execute(sa.delete(attempt).where(attempt.c.message_id.in_(sa.select(message.c.id).where(of_these))))
    op.execute(sa.delete(message).where(of_these))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table whose deferred keys still wait cannot be altered
    _know("'confirmation', 'reminder', 'cancellation'")
    with op.batch_alter_table("clinic_policy") as table:
        table.drop_constraint(op.f("ck_clinic_policy_cancel_notice_known"), type_="check")
        table.drop_column("cancel_notice_hours")
    with op.batch_alter_table("appointment") as table:
        table.drop_constraint(op.f("ck_appointment_only_cancelled_is_late"), type_="check")
        table.drop_column("cancelled_late")


def _know(to_patients: str) -> None:
    with op.batch_alter_table("outbox_message") as table:
        table.drop_constraint(op.f("ck_outbox_message_kind_known"), type_="check")
        table.create_check_constraint(op.f("ck_outbox_message_kind_known"), f"kind IN ({to_patients}, {TO_STAFF})")
