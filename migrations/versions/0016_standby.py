"""Hours on standby, the days on which they are opened, and the record of what was done to keep the goal."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
CHECKS = {
    "lever_known": "lever IN ('elsewhere', 'standby', 'ask')",
    "promise_known": "promise IN ('kept', 'missed', 'foreseen')",
    "therapist_named": "(lever = 'elsewhere') = (therapist_id IS NULL)",
    "times_in_order": "starts_at < ends_at",
    "cells_positive": "cells > 0",
    "only_standby_closes": "closed_at IS NULL OR lever = 'standby'",
}


def upgrade() -> None:
    with op.batch_alter_table("working_hours", table_kwargs={"sqlite_autoincrement": True}) as table:
        for name in ("standby", "opens_by_rule"):
            table.add_column(sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False))
        table.create_check_constraint(op.f("ck_working_hours_rule_opens_standby"), "standby OR NOT opens_by_rule")
    op.create_table(
        "lever_use",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("lever", sa.String(), nullable=False),
        sa.Column("promise", sa.String(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("place_id", sa.Integer(), nullable=False),
        sa.Column("therapist_id", sa.Integer(), nullable=True),
        sa.Column("used_at", INSTANT, nullable=False),
        sa.Column("used_by", sa.String(), nullable=False),
        sa.Column("starts_at", INSTANT, nullable=False),
        sa.Column("ends_at", INSTANT, nullable=False),
        sa.Column("cells", sa.Integer(), nullable=False),
        sa.Column("closed_at", INSTANT, nullable=True),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_lever_use_{name}")) for name, rule in CHECKS.items()),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_lever_use_location_id")),
        sa.ForeignKeyConstraint(["place_id"], ["location.id"], name=op.f("fk_lever_use_place_id")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_lever_use_therapist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lever_use")),
    )
    op.create_index(op.f("ix_lever_use_location_id_used_at"), "lever_use", ["location_id", "used_at"], unique=False)
    op.create_table(
        "standby_opening",
        sa.Column("working_hours_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("lever_use_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["working_hours_id"], ["working_hours.id"], name=op.f("fk_standby_opening_working_hours_id")
        ),
        sa.ForeignKeyConstraint(["lever_use_id"], ["lever_use.id"], name=op.f("fk_standby_opening_lever_use_id")),
        sa.PrimaryKeyConstraint("working_hours_id", "day", name=op.f("pk_standby_opening")),
        sa.UniqueConstraint("lever_use_id", name=op.f("uq_standby_opening_lever_use_id")),
    )


def downgrade() -> None:
    """Hours on standby go: as plain hours every one of their days could be booked.

    So do their openings; what was opened and is free stays on offer until the next plan, which has none of it.
    """
    op.drop_table("standby_opening")
    op.drop_table("lever_use")
    op.execute("DELETE FROM working_hours WHERE standby")
    with op.batch_alter_table("working_hours") as table:
        table.drop_constraint(op.f("ck_working_hours_rule_opens_standby"), type_="check")
        table.drop_column("opens_by_rule")
        table.drop_column("standby")
