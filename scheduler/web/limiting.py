"""Brakes on attempts. What was really booked is counted in the database (services.limits), across all processes."""

import hmac

from flask import request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from scheduler.web.context import context

ATTEMPTS = "120 per minute"  # by one address at one process: above what people do, below what a script wants
limiter = Limiter(get_remote_address, storage_uri="memory://")


def hashed_address() -> str:
    """The caller's address under the clinic's key: enough to count by, useless to find a person by."""
    address = request.remote_addr or "unknown"
    return hmac.digest(context().settings.secret_key.encode(), address.encode(), "sha256").hex()
