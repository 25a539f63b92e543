"""Times held while somebody books."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
STATUS_KNOWN = {
    "0009": "status IN ('booked', 'arrived', 'fulfilled', 'cancelled', 'noshow')",
    "0010": "status IN ('held', 'booked', 'arrived', 'fulfilled', 'cancelled', 'noshow')",
}
CHECKS = {
    "expires_at_goes_with_hold": "(status = 'held') = (expires_at IS NOT NULL)",
    "patient_goes_with_visit": "(status = 'held') = (patient_id IS NULL)",
    "needling_goes_with_visit": "(status = 'held') = (needling IS NULL)",
    "hold_says_nothing": (
        "status <> 'held' OR (note_sealed IS NULL AND cancel_reason_sealed IS NULL "
        "AND explainer_version_id IS NULL AND imported_as IS NULL)"
    ),
}
# A taken cell is never deleted, so it is freed first, with a fit that no other has; the worker plans the time anew.
FREE_HELD = """
    UPDATE slot SET appointment_id = NULL, fit = 1000000
    WHERE appointment_id IN (SELECT id FROM appointment WHERE status = 'held')
"""
HELD_ONLY = {
    "ix_appointment_expires_at": ["expires_at"],
    "ix_appointment_therapist_id_expires_at": ["therapist_id", "expires_at"],
}
EXPIRES = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    with op.batch_alter_table("appointment") as table:
        table.add_column(sa.Column("expires_at", INSTANT, nullable=True))
        table.alter_column("patient_id", existing_type=sa.Uuid(), nullable=True)
        table.alter_column("needling", existing_type=sa.String(), nullable=True)
        table.drop_constraint(op.f("ck_appointment_status_known"), type_="check")
        table.create_check_constraint(op.f("ck_appointment_status_known"), STATUS_KNOWN["0010"])
        for name, rule in CHECKS.items():
            table.create_check_constraint(op.f(f"ck_appointment_{name}"), rule)
    for name, columns in HELD_ONLY.items():
        op.create_index(
            op.f(name), "appointment", columns, unique=False, sqlite_where=EXPIRES, postgresql_where=EXPIRES
        )
    op.create_table(
        "hold",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("address_hash", sa.String(), nullable=True),
        sa.Column("holder_sha256", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["appointment_id"], ["appointment.id"], name=op.f("fk_hold_appointment_id")),
        sa.PrimaryKeyConstraint("appointment_id", name=op.f("pk_hold")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_hold_token_sha256")),
    )
    op.create_index(op.f("ix_hold_address_hash"), "hold", ["address_hash"], unique=False)
    op.create_index(op.f("ix_hold_holder_sha256"), "hold", ["holder_sha256"], unique=False)


def downgrade() -> None:
    op.drop_table("hold")
    op.execute(FREE_HELD)
    op.execute("DELETE FROM slot WHERE fit = 1000000")
    op.execute("DELETE FROM appointment WHERE status = 'held'")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table whose deferred keys still wait cannot be altered
    for name in HELD_ONLY:
        op.drop_index(op.f(name), table_name="appointment")
    with op.batch_alter_table("appointment") as table:
        for name in CHECKS:
            table.drop_constraint(op.f(f"ck_appointment_{name}"), type_="check")
        table.drop_constraint(op.f("ck_appointment_status_known"), type_="check")
        table.create_check_constraint(op.f("ck_appointment_status_known"), STATUS_KNOWN["0009"])
        table.alter_column("needling", existing_type=sa.String(), nullable=False)
        table.alter_column("patient_id", existing_type=sa.Uuid(), nullable=False)
        table.drop_column("expires_at")
