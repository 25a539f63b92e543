"""Closures of locations and time off of therapists."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite


def upgrade() -> None:
    op.create_table(
        "closure",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        *_range("closure"),
        sa.CheckConstraint("length(reason) BETWEEN 1 AND 200", name=op.f("ck_closure_reason_length")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_closure_location_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_closure")),
        sqlite_autoincrement=True,  # a number is never given again: an open page must not act on another row
    )
    op.create_index(op.f("ix_closure_location_id_ends_on"), "closure", ["location_id", "ends_on"])
    op.create_table(
        "time_off",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("therapist_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("imported_as", sa.String(), nullable=True),
        sa.Column("asked_at", INSTANT, nullable=False),
        *_range("time_off"),
        sa.CheckConstraint("status IN ('asked', 'approved', 'declined')", name=op.f("ck_time_off_status_known")),
        sa.CheckConstraint("length(note) BETWEEN 1 AND 200", name=op.f("ck_time_off_note_length")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_time_off_therapist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_time_off")),
        sa.UniqueConstraint("therapist_id", "imported_as", name=op.f("uq_time_off_therapist_id_imported_as")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_time_off_therapist_id_ends_on"), "time_off", ["therapist_id", "ends_on"])


def downgrade() -> None:
    op.drop_table("time_off")
    op.drop_table("closure")


def _range(table: str) -> list[sa.Column[object] | sa.CheckConstraint]:
    checks = {
        "starts_on_grid": "starts_minute BETWEEN 0 AND 1440 - 15 AND starts_minute % 15 = 0",
        "ends_on_grid": "ends_minute BETWEEN 15 AND 1440 AND ends_minute % 15 = 0",
        "range_in_order": "starts_on < ends_on OR (starts_on = ends_on AND starts_minute < ends_minute)",
    }
    return [
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("starts_minute", sa.Integer(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False),
        sa.Column("ends_minute", sa.Integer(), nullable=False),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}")) for name, rule in checks.items()),
    ]
