"""Visits that were booked as one series, and visits that staff booked against a rule."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "series_visit",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("first_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["appointment_id"], ["appointment.id"], name=op.f("fk_series_visit_appointment_id")),
        sa.ForeignKeyConstraint(["first_id"], ["appointment.id"], name=op.f("fk_series_visit_first_id")),
        sa.PrimaryKeyConstraint("appointment_id", name=op.f("pk_series_visit")),
    )
    op.create_index(op.f("ix_series_visit_first_id"), "series_visit", ["first_id"], unique=False)
    op.create_table(
        "booking_override",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("reason_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("used_by", sa.String(), nullable=False),
        sa.CheckConstraint("length(rule) > 0", name=op.f("ck_booking_override_rule_given")),
        sa.CheckConstraint("length(used_by) > 0", name=op.f("ck_booking_override_used_by_given")),
        sa.ForeignKeyConstraint(
            ["appointment_id"], ["appointment.id"], name=op.f("fk_booking_override_appointment_id")
        ),
        sa.PrimaryKeyConstraint("appointment_id", name=op.f("pk_booking_override")),
    )


def downgrade() -> None:
    """Visits stay as they are: each by itself, and those against a rule like any other."""
    op.drop_table("booking_override")
    op.drop_table("series_visit")
