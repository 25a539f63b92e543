"""Brakes on attempts. What was really booked is counted in the database (services.limits), across all processes."""

import hmac
from ipaddress import ip_address, ip_network
from typing import Any

from flask import Flask, request
from flask_limiter import Limiter
from werkzeug.exceptions import Forbidden

from scheduler.web.context import context

ATTEMPTS = "300 per minute"  # by one address at one process: above what people do, below what a script wants
ATTEMPTS_SECONDS = 60
IPV4 = 4


def install(app: Flask) -> None:
    """Brake every route that changes anything; call it when all routes are known."""
    limiter = Limiter(network, app=app, storage_uri="memory://")
    changing = {rule.endpoint for rule in app.url_map.iter_rules() if {"POST", "DELETE"} & (rule.methods or set())}
    for endpoint in changing:
        view: Any = limiter.limit(ATTEMPTS)(app.view_functions[endpoint])
        app.view_functions[endpoint] = view


def hashed_address() -> str:
    """The caller's address under the clinic's key: enough to count by, useless to find a person by."""
    return hashed(network())


def hashed(text: str) -> str:
    """A text under the clinic's key, to count by."""
    return hmac.digest(context().settings.secret_key.encode(), text.encode(), "sha256").hex()


def counted_address() -> str | None:
    """The caller's address as limits count it; None where the clinic has limits off."""
    return hashed_address() if context().settings.rate_limits else None


def network() -> str:
    """Whom a request counts to: an IPv4 address without its port, or the /64 that one IPv6 customer has alone."""
    told = request.remote_addr or ""
    try:
        address = ip_address(told if told.count(":") != 1 else told.partition(":")[0])
    except ValueError:
        return "unknown"
    address = getattr(address, "ipv4_mapped", None) or address  # what a socket for both kinds calls an IPv4 address
    return str(address) if address.version == IPV4 else str(ip_network((address, 64), strict=False))


def refuse_other_sites() -> None:
    """Refuse what another site's page makes a browser send; browsers say so by themselves, others say nothing."""
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden
