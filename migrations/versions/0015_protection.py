"""Times kept back for short notice, and how many of a day at each location."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
FREE, FREE_TWO = sa.text("fit > 0"), sa.text("fit > 1")
CHECKS = {
    "open_unless_protected": "(fit_open > 0) = (appointment_id IS NULL AND NOT protected)",
    "open_within_fit": "fit_open <= fit",
}
INDEXES = {
    "ix_slot_free_anywhere": (["starts_at", "therapist_id", "location_id", "fit", "needling"], FREE),
    "ix_slot_free_two_anywhere": (["starts_at", "therapist_id", "location_id", "fit", "needling"], FREE_TWO),
    "ix_slot_free_at": (["location_id", "starts_at", "therapist_id", "fit", "needling"], FREE),
}
TRIGGERS = {
    "tr_slot_taken_once": ("UPDATE OF appointment_id", "OLD.appointment_id <> NEW.appointment_id"),
    "tr_slot_taken_kept": ("DELETE", "OLD.appointment_id IS NOT NULL"),
}


def upgrade() -> None:
    """All that is free stays open to everybody, until the worker keeps some of it back."""
    _drop_indexes()
    with op.batch_alter_table("slot", table_kwargs={"sqlite_with_rowid": False}) as table:
        table.add_column(sa.Column("protected", sa.Boolean(), server_default=sa.false(), nullable=False))
        table.add_column(sa.Column("fit_open", sa.Integer(), nullable=True))
    op.execute("UPDATE slot SET fit_open = fit")
    _wait_for_keys()
    with op.batch_alter_table("slot", table_kwargs={"sqlite_with_rowid": False}) as table:
        table.alter_column("fit_open", existing_type=sa.Integer(), nullable=False)
        for name, rule in CHECKS.items():
            table.create_check_constraint(op.f(f"ck_slot_{name}"), rule)
    _index(["fit_open"])
    _guard()
    op.create_table(
        "protection_level",
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("least", sa.Integer(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("suggested", sa.Integer(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("decided_on", sa.Date(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("since", sa.Date(), nullable=False),
        sa.Column("pinned_by", sa.String(), nullable=True),
        sa.Column("pinned_at", INSTANT, nullable=True),
        sa.CheckConstraint("(pinned_by IS NULL) = (pinned_at IS NULL)", name=op.f("ck_protection_level_pinned_by_one")),
        sa.CheckConstraint("days >= 0", name=op.f("ck_protection_level_days_not_negative")),
        sa.CheckConstraint(
            "least BETWEEN 0 AND most AND most <= 100", name=op.f("ck_protection_level_bounds_in_order")
        ),
        sa.CheckConstraint("level BETWEEN 0 AND 100", name=op.f("ck_protection_level_level_possible")),
        sa.CheckConstraint("since <= decided_on", name=op.f("ck_protection_level_days_in_order")),
        sa.CheckConstraint("suggested >= 0", name=op.f("ck_protection_level_suggested_not_negative")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_protection_level_location_id")),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_protection_level")),
    )


def downgrade() -> None:
    """Nothing is kept back any more."""
    op.drop_table("protection_level")
    _drop_indexes()
    _wait_for_keys()
    with op.batch_alter_table("slot", table_kwargs={"sqlite_with_rowid": False}) as table:
        for name in CHECKS:
            table.drop_constraint(op.f(f"ck_slot_{name}"), type_="check")
        table.drop_column("fit_open")
        table.drop_column("protected")
    _index([])
    _guard()


def _drop_indexes() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="slot")


def _index(more: list[str]) -> None:
    for name, (columns, where) in INDEXES.items():
        op.create_index(name, "slot", [*columns, *more], unique=False, sqlite_where=where, postgresql_where=where)


def _wait_for_keys() -> None:
    """A table whose deferred keys still wait cannot be altered."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _guard() -> None:
    """On SQLite a table that is made anew has lost its triggers."""
    if op.get_bind().dialect.name == "sqlite":
        for name, (change, condition) in TRIGGERS.items():
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {change} ON slot WHEN {condition} "
                f"BEGIN SELECT RAISE(ABORT, '{name}'); END"
            )
