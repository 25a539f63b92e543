"""A kind of visit's own notice and horizon, and who offers it where."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

OWN = {
    "notice_minutes": ("notice_not_negative", "notice_minutes >= 0"),
    "horizon_days": ("horizon_positive", "horizon_days > 0"),
}


def upgrade() -> None:
    with op.batch_alter_table("appointment_type") as table:
        for column, (name, rule) in OWN.items():
            table.add_column(sa.Column(column, sa.Integer(), nullable=True))
            table.create_check_constraint(op.f(f"ck_appointment_type_{name}"), rule)
    for one in ("therapist", "location"):
        table_name = f"appointment_type_{one}"
        op.create_table(
            table_name,
            sa.Column("appointment_type_id", sa.Integer(), nullable=False),
            sa.Column(f"{one}_id", sa.Integer(), nullable=False),
            sa.ForeignKeyConstraint(
                ["appointment_type_id"], ["appointment_type.id"], name=op.f(f"fk_{table_name}_appointment_type_id")
            ),
            sa.ForeignKeyConstraint([f"{one}_id"], [f"{one}.id"], name=op.f(f"fk_{table_name}_{one}_id")),
            sa.PrimaryKeyConstraint("appointment_type_id", f"{one}_id", name=op.f(f"pk_{table_name}")),
        )


def downgrade() -> None:
    op.drop_table("appointment_type_location")
    op.drop_table("appointment_type_therapist")
    with op.batch_alter_table("appointment_type") as table:
        for column, (name, _) in OWN.items():
            table.drop_constraint(op.f(f"ck_appointment_type_{name}"), type_="check")
            table.drop_column(column)
