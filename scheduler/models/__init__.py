"""Tables and their constraints. Importing this package makes all of them known to `Base.metadata`."""

from scheduler.models.access import AccessDay, AccessRequest, AccessSample, Lever, LeverUse, Promise, ProtectionLevel
from scheduler.models.accounts import (
    Account,
    AccountLocation,
    CalendarFeed,
    Passkey,
    RecoveryCode,
    Role,
    SignInAttempt,
    StaffSession,
    UsedChallenge,
)
from scheduler.models.audit import AuditEvent
from scheduler.models.booking import Appointment, Hold, IdempotencyKey, ManageLink, Needling, Patient, Status
from scheduler.models.contact import Answered, ContactRequest
from scheduler.models.explainer import ExplainerVersion
from scheduler.models.messaging import Attempt, Channel, ChannelState, Fate, Kind, OutboxMessage, Told
from scheduler.models.operations import BookingCount, Heartbeat
from scheduler.models.practice import (
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    ClinicPolicy,
    License,
    Location,
    StateRule,
    Therapist,
    TherapistLanguage,
)
from scheduler.models.schedule import CalendarPlan, Closure, Slot, StandbyOpening, TimeOff, TimeOffStatus, WorkingHours
from scheduler.models.watch import AccessWatch, AccessWord, ClaimChange, Reason, Saying

__all__ = [
    "AccessDay",
    "AccessRequest",
    "AccessSample",
    "AccessWatch",
    "AccessWord",
    "Account",
    "AccountLocation",
    "Answered",
    "Appointment",
    "AppointmentType",
    "AppointmentTypeLocation",
    "AppointmentTypeTherapist",
    "Attempt",
    "AuditEvent",
    "BookingCount",
    "CalendarFeed",
    "CalendarPlan",
    "Channel",
    "ChannelState",
    "ClaimChange",
    "ClinicPolicy",
    "Closure",
    "ContactRequest",
    "ExplainerVersion",
    "Fate",
    "Heartbeat",
    "Hold",
    "IdempotencyKey",
    "Kind",
    "Lever",
    "LeverUse",
    "License",
    "Location",
    "ManageLink",
    "Needling",
    "OutboxMessage",
    "Passkey",
    "Patient",
    "Promise",
    "ProtectionLevel",
    "Reason",
    "RecoveryCode",
    "Role",
    "Saying",
    "SignInAttempt",
    "Slot",
    "StaffSession",
    "StandbyOpening",
    "StateRule",
    "Status",
    "Therapist",
    "TherapistLanguage",
    "TimeOff",
    "TimeOffStatus",
    "Told",
    "UsedChallenge",
    "WorkingHours",
]
