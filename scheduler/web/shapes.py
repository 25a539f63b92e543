"""JSON that more than one place tells: the API and a command, in the same words."""

from datetime import UTC, datetime
from typing import Any

from scheduler.services.access_goal import Access, Standing
from scheduler.timeline import zone_of


def local(instant: datetime, time_zone: str) -> str:
    """An instant as the API writes it: to the second, in the offset of its location."""
    return instant.astimezone(zone_of(time_zone)).isoformat(timespec="seconds")


def access(measured: Access) -> dict[str, Any]:
    """The answer of GET /access."""
    return {
        "goal_hours": measured.goal_hours,
        "target": measured.target,
        "measured_at": measured.measured_at.astimezone(UTC).isoformat(timespec="seconds"),
        "appointment_type": str(measured.appointment_type_id),
        "overall": _standing(measured.overall),
        "locations": [
            {"id": str(at.location.id), "name": at.location.name, **_standing(at)} for at in measured.locations
        ],
    }


def _standing(standing: Standing) -> dict[str, Any]:
    found, zone = standing.figures, standing.time_zone
    start = found.next_available_at
    return {
        "next_available_at": local(start, zone) if start is not None and zone is not None else None,
        "next_available_hours": found.next_available_hours,
        "third_next_available_hours": found.third_next_available_hours,
        "within_goal": found.within_goal,
        "attainment_28d": standing.attainment_28d,
    }
