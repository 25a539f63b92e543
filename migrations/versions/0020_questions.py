"""Questions to the clinic, the messages about them, and how many an address asks."""

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations

revision = "0020"
down_revision = "0019"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
HOURS = sa.Numeric(8, 2, asdecimal=False)
OPEN = sa.text("answered_at IS NULL")
STAFF_BEFORE = (
    "'set-password', 'locked-out', 'day-changed', 'test', 'address-changed', 'ways-in-changed', 'license-ends', "
    "'time-off-decided', 'goal-foreseen', 'goal-missed', 'goal-kept'"
)
NEW_TO_STAFF = "'question-asked', 'question-waits'"
NEW_TO_PATIENTS = "'question-received', 'question-answered'"
BEFORE = "'confirmation', 'reminder', 'cancellation', 'moved', 'my-visits'"
SOMEBODY = "(appointment_id IS NULL) = (account_id IS NOT NULL OR visits_request_id IS NOT NULL{})"


def upgrade() -> None:
    op.create_table(
        "contact_request",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("form_sha256", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("phone", sa.String(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("therapist_id", sa.Integer(), nullable=True),
        sa.Column("message_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("reminded_at", INSTANT, nullable=True),
        sa.Column("answered_at", INSTANT, nullable=True),
        sa.Column("answered_by", sa.Integer(), nullable=True),
        sa.Column("answered_how", sa.String(), nullable=True),
        sa.Column("answer_sealed", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("email IS NOT NULL OR phone IS NOT NULL", name=op.f("ck_contact_request_reachable")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_contact_request_name_length")),
        sa.CheckConstraint("length(email) BETWEEN 3 AND 254", name=op.f("ck_contact_request_email_length")),
        sa.CheckConstraint("length(phone) BETWEEN 3 AND 20", name=op.f("ck_contact_request_phone_length")),
        sa.CheckConstraint(
            "length(language) = 2 AND language = lower(language)", name=op.f("ck_contact_request_language_code")
        ),
        sa.CheckConstraint("answered_how IN ('email', 'phone')", name=op.f("ck_contact_request_answered_how_known")),
        sa.CheckConstraint(
            "(answered_at IS NULL) = (answered_by IS NULL)", name=op.f("ck_contact_request_answered_by_one")
        ),
        sa.CheckConstraint(
            "(answered_at IS NULL) = (answered_how IS NULL)", name=op.f("ck_contact_request_answered_some_way")
        ),
        sa.CheckConstraint(
            "(answer_sealed IS NOT NULL) = (answered_how IS NOT NULL AND answered_how = 'email')",
            name=op.f("ck_contact_request_answer_goes_with_email"),
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_contact_request_location_id")),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_contact_request_therapist_id")),
        sa.ForeignKeyConstraint(["answered_by"], ["account.id"], name=op.f("fk_contact_request_answered_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact_request")),
        sa.UniqueConstraint("form_sha256", name=op.f("uq_contact_request_form_sha256")),
    )
    op.create_index(
        "ix_contact_request_open", "contact_request", ["asked_at"], sqlite_where=OPEN, postgresql_where=OPEN
    )
    for column in ("asked_at", "email", "phone"):
        op.create_index(op.f(f"ix_contact_request_{column}"), "contact_request", [column])
    op.create_table(
        "access_question",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("appointment_type_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("here_hours", HOURS, nullable=True),
        sa.Column("anywhere_hours", HOURS, nullable=True),
        sa.Column("goal_hours", sa.Integer(), nullable=False),
        sa.CheckConstraint("goal_hours > 0", name=op.f("ck_access_question_goal_positive")),
        sa.CheckConstraint(
            "here_hours IS NULL OR (anywhere_hours IS NOT NULL AND anywhere_hours <= here_hours)",
            name=op.f("ck_access_question_here_not_before_anywhere"),
        ),
        sa.ForeignKeyConstraint(
            ["appointment_type_id"], ["appointment_type.id"], name=op.f("fk_access_question_appointment_type_id")
        ),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_access_question_location_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_question")),
    )
    op.create_index(
        op.f("ix_access_question_appointment_type_id_asked_at"), "access_question", ["appointment_type_id", "asked_at"]
    )
    with op.batch_alter_table("booking_count") as table:
        table.add_column(sa.Column("asked", sa.Integer(), server_default="0", nullable=False))
        table.create_check_constraint(op.f("ck_booking_count_asked_not_negative"), "asked >= 0")
    with op.batch_alter_table("outbox_message") as table:
        table.add_column(sa.Column("contact_request_id", sa.Uuid(), nullable=True))
        _know(table, f"{STAFF_BEFORE}, {NEW_TO_STAFF}", f", {NEW_TO_PATIENTS}")
        _replace(table, "to_patient_or_staff", SOMEBODY.format(" OR contact_request_id IS NOT NULL"))
        table.create_check_constraint(
            op.f("ck_outbox_message_question_kinds_have_question"),
            f"kind IN ({NEW_TO_PATIENTS}) = (contact_request_id IS NOT NULL)",
        )
        table.create_foreign_key(
            op.f("fk_outbox_message_contact_request_id"), "contact_request", ["contact_request_id"], ["id"]
        )
        table.create_unique_constraint(
            op.f("uq_outbox_message_contact_request_id_kind"), ["contact_request_id", "kind"]
        )


def downgrade() -> None:
    """Questions are forgotten, with the messages about them and the tries to send those."""
    message = sa.table("outbox_message", sa.column("id"), sa.column("kind"))
    of_these = message.c.kind.in_(["question-asked", "question-waits", "question-received", "question-answered"])
    attempt = sa.table("attempt", sa.column("message_id"))
    op.execute(sa.delete(attempt).where(attempt.c.message_id.in_(sa.select(message.c.id).where(of_these))))
    op.execute(sa.delete(message).where(of_these))
    with op.batch_alter_table("outbox_message") as table:
        table.drop_constraint(op.f("uq_outbox_message_contact_request_id_kind"), type_="unique")
        table.drop_constraint(op.f("fk_outbox_message_contact_request_id"), type_="foreignkey")
        table.drop_constraint(op.f("ck_outbox_message_question_kinds_have_question"), type_="check")
        _replace(table, "to_patient_or_staff", SOMEBODY.format(""))
        _know(table, STAFF_BEFORE)
        table.drop_column("contact_request_id")
    with op.batch_alter_table("booking_count") as table:
        table.drop_constraint(op.f("ck_booking_count_asked_not_negative"), type_="check")
        table.drop_column("asked")
    op.drop_table("access_question")
    op.drop_table("contact_request")


def _know(table: BatchOperations, to_staff: str, more: str = "") -> None:
    _replace(table, "kind_known", f"kind IN ({BEFORE}, {to_staff}{more})")
    _replace(table, "staff_kinds_go_to_staff", f"kind IN ({to_staff}) = (account_id IS NOT NULL)")


def _replace(table: BatchOperations, name: str, rule: str) -> None:
    table.drop_constraint(op.f(f"ck_outbox_message_{name}"), type_="check")
    table.create_check_constraint(op.f(f"ck_outbox_message_{name}"), rule)
