"""Brakes on attempts. What was really booked is counted in the database (services.limits), across all processes."""

import hmac
from typing import Any

from flask import Flask, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from scheduler.web.context import context

ATTEMPTS = "300 per minute"  # by one address at one process: above what people do, below what a script wants
ATTEMPTS_SECONDS = 60


def install(app: Flask) -> None:
    """Brake every route that takes POST; call it when all routes are known."""
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://")
    posts = {rule.endpoint for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    for endpoint in posts:
        view: Any = limiter.limit(ATTEMPTS)(app.view_functions[endpoint])
        app.view_functions[endpoint] = view


def hashed_address() -> str:
    """The caller's address under the clinic's key: enough to count by, useless to find a person by."""
    address = request.remote_addr or "unknown"
    return hmac.digest(context().settings.secret_key.encode(), address.encode(), "sha256").hex()
