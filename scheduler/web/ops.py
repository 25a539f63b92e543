"""For those who run the software: is it up, is it able, how does it do, and the documentation of its API."""

from collections.abc import Iterator

from apiflask import APIBlueprint
from flask import Response, current_app, jsonify, render_template
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from scheduler import schema
from scheduler.db import reading
from scheduler.errors import Unavailable
from scheduler.services import health
from scheduler.web.context import context
from scheduler.web.problems import TITLES

ops = APIBlueprint("ops", __name__, enable_openapi=False)
HELP = {
    "appointments": "Visits by status",
    "holds": "Times that are kept while somebody books",
    "outbox_messages": "Messages by fate",
    "outbox_oldest_due_seconds": "Age of the oldest message that is due and not sent",
    "mail_failures_in_a_row": "Tries to send mail that failed since the last that went well",
    "free_cells_ahead": "Free quarter hours ahead in all calendars",
    "worker_silence_seconds": "Time since the worker's last tick, on the database's clock",
}


@ops.get("/healthz")
def healthz() -> Response:
    """The process is up."""
    return jsonify(status="ok")


@ops.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Able to book: the database answers, the schema is this code's, the worker ticks."""
    reason = _not_ready()
    if reason is None:
        return jsonify(status="ok"), 200
    return jsonify(status="unavailable", reason=reason), 503


def _not_ready() -> str | None:
    try:
        with reading(context().engine) as session:
            if not schema.is_current(session.connection()):
                return "The database's schema is not the one this program was written for: run `db upgrade`."
            quiet = health.silence(session)
    except Unavailable:
        return "The database does not answer."
    since_start = context().clock.now() - context().started_at
    if (since_start if quiet is None else quiet) > health.SILENCE_ALLOWED:
        return "The worker's last tick is too old: is a `worker` running?"
    return None


@ops.get("/metrics")
def metrics() -> Response:
    """Prometheus' text format, counted from the database at each scrape, so every web process tells the same."""
    registry = CollectorRegistry()
    registry.register(_Figures())
    return Response(generate_latest(registry), content_type="text/plain; version=0.0.4; charset=utf-8")


class _Figures:
    def collect(self) -> Iterator[Metric]:
        with reading(context().engine) as session:
            figures = health.figures(session, now=context().clock.now())
        for name, meaning in HELP.items():
            samples = {label: value for (figure, label), value in figures.items() if figure == name}
            family = GaugeMetricFamily(f"scheduler_{name}", meaning, labels=["status"] if any(samples) else [])
            for label, value in samples.items():
                family.add_metric([label] if label else [], value)
            yield family


@ops.get("/api/docs")
def docs() -> str:
    """The API explained, from the same specification that programs read."""
    return render_template("docs.html", spec=current_app.spec, titles=TITLES)  # type: ignore[attr-defined]
