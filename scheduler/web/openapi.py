"""What the specification says beyond the schemas: the header that makes booking repeatable, and every problem."""

from typing import Any

from scheduler.web.schemas import Problem

PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "New for each booking; the same key and body give the same visit for seven days.",
    "schema": {"type": "string", "minLength": 8, "maxLength": 255, "pattern": "^[ -~]*$"},
}
EXAMPLE = {
    "slot": "an id of /slots",
    "appointment_type": "1",
    "patient": {"name": "Pat Doe", "email": "pat@example.com", "phone": "312-555-0142", "birth_date": "1980-01-31"},
    "consent": {"explainer_version": "version of /explainer", "language": "en", "acknowledged": True},
    "needling": "talk_first",
    "language": "en",
    "note": "Lower back, three weeks now",
    "reminders": {"email": True, "sms": False},
}
EVERYWHERE = {422: "A value or field is invalid or unknown; errors names it", 503: "Not possible now: Retry-After"}
BY_TOKEN = {404: "There is no visit with this token"}
CHANGING = {429: "Too many requests, or past a limit: Retry-After"}
WITH_BODY = {
    400: "The body is missing, malformed or no JSON object",
    409: "The calendar as it stands says no; type ends in the reason, alternatives holds up to three other times",
    413: "The body is larger than 64 KiB",
    415: "The body is not sent as application/json",
}


def describe(spec: Any) -> Any:  # noqa: ANN401 a dict, as the JSON form of the specification is
    """Complete the generated specification; called once, when it is first asked for."""
    spec["components"]["schemas"]["Problem"] = Problem.model_json_schema(
        ref_template="#/components/schemas/Problem.{model}"
    )
    nested = spec["components"]["schemas"]["Problem"].pop("$defs")
    spec["components"]["schemas"].update({f"Problem.{name}": schema for name, schema in nested.items()})
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            if method in {"get", "post", "delete"}:
                _add_problems(path, method, operation)
    booking = spec["paths"]["/api/v1/appointments"]["post"]
    booking.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    booking["requestBody"]["content"]["application/json"]["example"] = EXAMPLE
    spec["paths"] = dict(sorted(spec["paths"].items()))
    return spec


def _add_problems(path: str, method: str, operation: dict[str, Any]) -> None:
    problems = EVERYWHERE | (BY_TOKEN if "{token}" in path else {}) | (WITH_BODY if method == "post" else {})
    problems |= CHANGING if method != "get" else {}
    for status, meaning in sorted(problems.items()):
        operation["responses"][str(status)] = {
            "description": meaning,
            "content": {"application/problem+json": PROBLEM},
        }
    if method == "post":
        operation["requestBody"]["required"] = True
