"""Patients are found by what likely twins share, and can be erased: by hand, and by the clinic's policy."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
EMPTY = sa.text("''")
LOOKED_FOR = ("folded_name", "email", "phone")
REACHABLE = "email IS NOT NULL OR phone IS NOT NULL"
SAYS_NOTHING = "erased_at IS NULL OR (email IS NULL AND phone IS NULL AND birth_date IS NULL)"


def upgrade() -> None:
    with op.batch_alter_table("patient") as table:
        table.alter_column("folded_name", server_default=EMPTY)  # read off SQLite it would come back in brackets
        table.add_column(sa.Column("erased_at", INSTANT, nullable=True))
        table.drop_constraint(op.f("ck_patient_reachable"), type_="check")
        table.create_check_constraint(op.f("ck_patient_reachable"), f"erased_at IS NOT NULL OR {REACHABLE}")
        table.create_check_constraint(op.f("ck_patient_erased_says_nothing"), SAYS_NOTHING)
    for column in LOOKED_FOR:
        op.create_index(op.f(f"ix_patient_{column}"), "patient", [column])
    with op.batch_alter_table("clinic_policy") as table:
        table.add_column(sa.Column("retention_months", sa.Integer(), nullable=True))
        table.create_check_constraint(op.f("ck_clinic_policy_retention_positive"), "retention_months > 0")


def downgrade() -> None:
    """Whoever is erased stays erased: what the schema then asks for says so."""
    with op.batch_alter_table("clinic_policy") as table:
        table.drop_constraint(op.f("ck_clinic_policy_retention_positive"), type_="check")
        table.drop_column("retention_months")
    for column in LOOKED_FOR:
        op.drop_index(op.f(f"ix_patient_{column}"), "patient")
    with op.batch_alter_table("patient") as table:
        table.alter_column("folded_name", server_default=EMPTY)
        table.drop_constraint(op.f("ck_patient_erased_says_nothing"), type_="check")
    op.execute("UPDATE patient SET phone = 'erased' WHERE erased_at IS NOT NULL")
    with op.batch_alter_table("patient") as table:
        table.alter_column("folded_name", server_default=EMPTY)
        table.drop_constraint(op.f("ck_patient_reachable"), type_="check")
        table.create_check_constraint(op.f("ck_patient_reachable"), REACHABLE)
        table.drop_column("erased_at")
