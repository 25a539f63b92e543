"""The clinic's people: accounts, sessions, messages to them; what is offered, what moved in."""

import sqlalchemy as sa
from alembic import op

from scheduler.words import folded

revision = "0005"
down_revision = "0004"

INSTANT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")  # microseconds since 1970 on SQLite
KIND_KNOWN = {
    "0004": "kind IN ('confirmation', 'reminder', 'cancellation')",
    "0005": (
        "kind IN ('confirmation', 'reminder', 'cancellation', 'set-password', 'locked-out', 'day-changed', 'test', "
        "'address-changed', 'ways-in-changed')"
    ),
}
MESSAGE_CHECKS = {
    "staff_kinds_go_to_staff": (
        "kind IN ('set-password', 'locked-out', 'day-changed', 'test', 'address-changed', 'ways-in-changed') "
        "= (account_id IS NOT NULL)"
    ),
    "to_patient_or_staff": "(appointment_id IS NULL) = (account_id IS NOT NULL)",
    "version_goes_with_visit": "(appointment_id IS NULL) = (visit_version IS NULL)",
    "about_goes_with_staff": "(about IS NULL) = (account_id IS NULL)",
}
OWED_TO_STAFF = sa.text("status = 'owed' AND account_id IS NOT NULL")
PATIENTS_A_CHUNK = 5000
AUDIT_INDEXES = {
    "ix_audit_event_happened_at": ["happened_at"],
    "ix_audit_event_actor_happened_at": ["actor", "happened_at"],
    "ix_audit_event_action_happened_at": ["action", "happened_at"],
}
FROM_AN_ADDRESS = sa.text("address IS NOT NULL")
NOT_TRUNCATED = "tr_audit_event_not_truncated"
FLAGS = (("location", "online"), ("location", "active"), ("appointment_type", "active"))


def upgrade() -> None:
    _accounts()
    _ways_in()
    op.create_table(
        "told",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("visit_version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("told_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_told_account_id")),
        sa.ForeignKeyConstraint(["appointment_id"], ["appointment.id"], name=op.f("fk_told_appointment_id")),
        sa.PrimaryKeyConstraint("appointment_id", "visit_version", "status", name=op.f("pk_told")),
    )
    for table, flag in FLAGS:
        op.add_column(table, sa.Column(flag, sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("clinic_policy", sa.Column("imported_reminded_at", INSTANT, nullable=True))
    op.add_column("appointment", sa.Column("imported_as", sa.String(), nullable=True))
    op.create_index("uq_appointment_imported_as", "appointment", ["imported_as"], unique=True)
    op.create_index(op.f("ix_appointment_location_id_starts_at"), "appointment", ["location_id", "starts_at"])
    _names_to_look_for()
    op.add_column("audit_event", sa.Column("address", sa.String(), nullable=True))
    _audit_searched()
    _messages_to_staff()


def _names_to_look_for() -> None:
    """Every patient's name as it is looked for, written in chunks."""
    op.add_column("patient", sa.Column("folded_name", sa.String(), server_default=sa.text("''"), nullable=False))
    patient = sa.table("patient", sa.column("id", sa.Uuid()), sa.column("name"), sa.column("folded_name"))
    given = sa.select(patient.c.id, patient.c.name).order_by(patient.c.id).limit(PATIENTS_A_CHUNK)
    fold = patient.update().where(patient.c.id == sa.bindparam("of")).values(folded_name=sa.bindparam("folded"))
    connection = op.get_bind()
    rows = connection.execute(given).all()
    while rows:
        connection.execute(fold, [{"of": row.id, "folded": folded(row.name)} for row in rows])
        rows = connection.execute(given.where(patient.c.id > rows[-1].id)).all()


def _accounts() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("everywhere", sa.Boolean(), nullable=False),
        sa.Column("therapist_id", sa.Integer(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("needs_second_factor", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("totp_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("totp_used_step", sa.Integer(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "length(email) BETWEEN 3 AND 254 AND email = lower(email)", name=op.f("ck_account_email_written_small")
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_account_name_length")),
        sa.CheckConstraint("role IN ('admin', 'front-desk', 'therapist')", name=op.f("ck_account_role_known")),
        sa.CheckConstraint("generation >= 1", name=op.f("ck_account_generation_positive")),
        sa.CheckConstraint(
            "length(language) = 2 AND language = lower(language)", name=op.f("ck_account_language_code")
        ),
        sa.ForeignKeyConstraint(["therapist_id"], ["therapist.id"], name=op.f("fk_account_therapist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("email", name=op.f("uq_account_email")),
        sa.UniqueConstraint("therapist_id", name=op.f("uq_account_therapist_id")),
    )
    op.create_table(
        "account_location",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_account_location_account_id")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_account_location_location_id")),
        sa.PrimaryKeyConstraint("account_id", "location_id", name=op.f("pk_account_location")),
    )


def _ways_in() -> None:
    op.create_table(
        "passkey",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("used_at", INSTANT, nullable=True),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("ck_passkey_name_length")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_passkey_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkey")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_passkey_credential_id")),
    )
    op.create_table(
        "recovery_code",
        sa.Column("code_sha256", sa.String(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("used_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_recovery_code_account_id")),
        sa.PrimaryKeyConstraint("code_sha256", name=op.f("pk_recovery_code")),
    )
    op.create_table(
        "staff_session",
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("full", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("proved_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_staff_session_account_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_staff_session")),
    )
    op.create_table(
        "used_challenge",
        sa.Column("challenge_sha256", sa.String(), nullable=False),
        sa.Column("used_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("challenge_sha256", name=op.f("pk_used_challenge")),
    )
    op.create_index(op.f("ix_used_challenge_used_at"), "used_challenge", ["used_at"])
    op.create_table(
        "sign_in_attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("tried_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_attempt")),
    )
    op.create_table(
        "calendar_feed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("detailed", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_calendar_feed_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendar_feed")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_calendar_feed_token_sha256")),
    )
    for table in ("passkey", "recovery_code", "staff_session", "calendar_feed"):
        op.create_index(op.f(f"ix_{table}_account_id"), table, ["account_id"])
    op.create_index(op.f("ix_sign_in_attempt_subject_tried_at"), "sign_in_attempt", ["subject", "tried_at"])
    op.create_index(op.f("ix_sign_in_attempt_tried_at"), "sign_in_attempt", ["tried_at"])


def _audit_searched() -> None:
    """Every way to look through the audit has its index; and nothing empties it at one stroke."""
    for name, columns in AUDIT_INDEXES.items():
        op.create_index(op.f(name), "audit_event", columns)
    op.create_index(
        "ix_audit_event_address",
        "audit_event",
        ["address", "happened_at"],
        sqlite_where=FROM_AN_ADDRESS,
        postgresql_where=FROM_AN_ADDRESS,
    )
    if op.get_bind().dialect.name == "postgresql":  # SQLite knows a DELETE only, which is refused already
        op.execute(
            f"CREATE TRIGGER {NOT_TRUNCATED} BEFORE TRUNCATE ON audit_event"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _messages_to_staff() -> None:
    with op.batch_alter_table("outbox_message") as table:
        table.add_column(sa.Column("account_id", sa.Integer(), nullable=True))
        table.add_column(sa.Column("about", sa.String(), nullable=True))
        table.alter_column("appointment_id", existing_type=sa.Uuid(), nullable=True)
        table.alter_column("visit_version", existing_type=sa.Integer(), nullable=True)
        table.create_foreign_key(op.f("fk_outbox_message_account_id"), "account", ["account_id"], ["id"])
        table.drop_constraint(op.f("ck_outbox_message_kind_known"), type_="check")
        table.create_check_constraint(op.f("ck_outbox_message_kind_known"), KIND_KNOWN["0005"])
        for name, rule in MESSAGE_CHECKS.items():
            table.create_check_constraint(op.f(f"ck_outbox_message_{name}"), rule)
    op.create_index(
        "uq_outbox_message_to_staff",
        "outbox_message",
        ["account_id", "kind", "about"],
        unique=True,
        sqlite_where=OWED_TO_STAFF,
        postgresql_where=OWED_TO_STAFF,
    )


def downgrade() -> None:
    op.execute("DELETE FROM attempt WHERE message_id IN (SELECT id FROM outbox_message WHERE account_id IS NOT NULL)")
    op.execute("DELETE FROM outbox_message WHERE account_id IS NOT NULL")
    op.drop_index("uq_outbox_message_to_staff", "outbox_message")
    with op.batch_alter_table("outbox_message") as table:
        for name in MESSAGE_CHECKS:
            table.drop_constraint(op.f(f"ck_outbox_message_{name}"), type_="check")
        table.drop_constraint(op.f("ck_outbox_message_kind_known"), type_="check")
        table.create_check_constraint(op.f("ck_outbox_message_kind_known"), KIND_KNOWN["0004"])
        table.drop_constraint(op.f("fk_outbox_message_account_id"), type_="foreignkey")
        table.alter_column("visit_version", existing_type=sa.Integer(), nullable=False)
        table.alter_column("appointment_id", existing_type=sa.Uuid(), nullable=False)
        table.drop_column("about")
        table.drop_column("account_id")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER {NOT_TRUNCATED} ON audit_event")
    op.drop_index("ix_audit_event_address", "audit_event")
    for name in AUDIT_INDEXES:
        op.drop_index(op.f(name), "audit_event")
    op.drop_column("audit_event", "address")
    op.drop_column("patient", "folded_name")
    op.drop_index(op.f("ix_appointment_location_id_starts_at"), "appointment")
    op.drop_index("uq_appointment_imported_as", "appointment")
    op.drop_column("appointment", "imported_as")
    op.drop_column("clinic_policy", "imported_reminded_at")
    for table_name, flag in FLAGS:
        op.drop_column(table_name, flag)
    for table_name in (
        "told",
        "calendar_feed",
        "sign_in_attempt",
        "used_challenge",
        "staff_session",
        "recovery_code",
        "passkey",
        "account_location",
        "account",
    ):
        op.drop_table(table_name)
