"""Settings from the environment, read once into one frozen object. Imports nothing of ours."""

import json
import os
import re
import secrets
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent
SHORTEST_SECRET = 32
FERNET_KEY_BYTES = 32
HIGHEST_PORT = 65535
SMALLEST_SHARE = 0.001
DEFAULT = re.compile("change|secret|default|example|password", re.IGNORECASE)
# The policy's whole numbers: what each starts from, the least and the most.
WHOLE_POLICY = {
    "ACCESS_GOAL_HOURS": (48, 1, 24 * 30),
    "BOOKING_NOTICE_MINUTES": (60, 0, 60 * 24 * 14),
    "BOOKING_HORIZON_DAYS": (90, 1, 730),
    "HOLD_MINUTES": (10, 1, 60),
}
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
HOST_NAME = re.compile(r"\[?[a-zA-Z0-9][a-zA-Z0-9.:-]*\]?")
MAILBOX = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.+_-]{0,63}@[a-zA-Z0-9][a-zA-Z0-9.-]{0,180}")
REMINDERS = re.compile(r"(email|sms):[1-9][0-9]{0,3}h(, ?(email|sms):[1-9][0-9]{0,3}h)*")
DATABASES = re.compile(r"(sqlite:///(?!:memory:)|postgresql(\+psycopg)?://|postgres://).+")
ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9][a-zA-Z0-9.-]*)(:[0-9]{1,5})?(/[\w.~-]+)*/?")


class SettingsError(Exception):
    """The environment asks for something this application refuses; the message lists every reason."""


@dataclass(frozen=True, slots=True)
class PolicyStart:
    """What the clinic's policy starts from; from then on it lives in the database."""

    clinic_name: str
    access_goal_hours: int
    access_target: float
    booking_notice_minutes: int
    booking_horizon_days: int
    hold_minutes: int
    reminders: str


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over; `tls` is STARTTLS: `required` checks the certificate, `auto` takes what is offered."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    app_env: Literal["development", "production"]
    database_url: str
    secret_key: str
    link_keys: tuple[str, ...]
    field_keys: tuple[str, ...]
    host: str
    port: int
    base_url: str
    web_workers: int
    trusted_proxies: int
    mail_server: MailServer | None
    mail_from: str
    smtp_timeout_seconds: int
    rate_limits: bool
    policy: PolicyStart
    instance: Path

    @property
    def address(self) -> str:
        """Where to listen, as host:port; an IPv6 host stands in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def production(self) -> bool:
        return self.app_env == "production"


def from_environment(environ: Mapping[str, str], *, instance: Path = ROOT / "instance") -> Settings:
    """Read every setting; raise SettingsError naming all that cannot be used."""
    reader = _Reader(environ)
    app_env: Literal["development", "production"] = (
        "production"
        if reader.choice("APP_ENV", "development", {"development", "production"}) == "production"
        else "development"
    )
    host = reader.text("HOST", "127.0.0.1")
    at = f"[{host}]" if ":" in host else host
    port = reader.whole("PORT", 8000, 1, HIGHEST_PORT)
    base_url = reader.like("BASE_URL", f"http://{at}:{port}", ADDRESS, "https://clinic.example").rstrip("/")
    keys = _keys(reader, app_env, instance)
    settings = Settings(
        app_env=app_env,
        database_url=driver_url(
            reader.like(
                "DATABASE_URL",
                f"sqlite:///{instance / 'scheduler.db'}",
                DATABASES,
                "sqlite:////srv/clinic.db or postgresql://user:password@host/clinic",
            )
        ),
        secret_key=keys["SECRET_KEY"][0],
        link_keys=keys["LINK_KEYS"],
        field_keys=keys["FIELD_KEYS"],
        host=host,
        port=port,
        base_url=base_url,
        web_workers=reader.whole("WEB_WORKERS", 2, 1, 64),
        trusted_proxies=reader.whole("TRUSTED_PROXIES", 0, 0, 8),
        mail_server=_mail_server(reader, app_env),
        mail_from=reader.like("MAIL_FROM", _sender(base_url), MAILBOX, "appointments@clinic.example"),
        smtp_timeout_seconds=reader.whole("SMTP_TIMEOUT_SECONDS", 10, 1, 300),
        rate_limits=reader.choice("RATE_LIMITS", "on", {"on", "off"}) == "on",
        policy=_policy(reader),
        instance=instance,
    )
    problems = (_refusals(settings, environ) if settings.production else {}) | reader.problems
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems.values())
        raise SettingsError(f"These settings cannot be used:\n{lines}")
    return settings


def _mail_server(reader: "_Reader", app_env: str) -> MailServer | None:
    """None without SMTP_HOST: mail then goes to files."""
    host = reader.like("SMTP_HOST", "", HOST_NAME, "mail.clinic.example")
    tls = reader.choice("SMTP_TLS", "required" if app_env == "production" else "auto", {"auto", "required", "off"})
    port = reader.whole("SMTP_PORT", 587, 1, HIGHEST_PORT)
    user, password = reader.text("SMTP_USER", "") or None, reader.text("SMTP_PASSWORD", "") or None
    if (user is None) != (password is None):
        reader.problems["SMTP_USER"] = "SMTP_USER and SMTP_PASSWORD go together: give both or neither"
    return MailServer(host, port, user, password, tls) if host else None


def _sender(base_url: str) -> str:
    """The sender where none is set: at the host of the clinic's pages, if that has a name."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    return f"appointments@{host}" if re.search("[a-z]", host) and ":" not in host else "appointments@localhost"


def _policy(reader: "_Reader") -> PolicyStart:
    whole = {name.lower(): reader.whole(name, *of_name) for name, of_name in WHOLE_POLICY.items()}
    return PolicyStart(
        clinic_name=reader.like("CLINIC_NAME", "Achieve Ortho Rehab", NAME, "one line of at most 200 characters"),
        access_target=reader.share("ACCESS_TARGET", 0.90),
        reminders=reader.like("REMINDERS", "email:48h,email:24h,sms:2h", REMINDERS, "email:48h,email:24h,sms:2h"),
        **whole,
    )


def _refusals(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """What production does not start with, by setting."""
    random = f"is missing, too short or a default: give at least {SHORTEST_SECRET} random characters"
    keys = [settings.secret_key, *settings.link_keys, *settings.field_keys]
    rules = {
        ("FLASK_DEBUG", "is on: turn it off"): environ.get("FLASK_DEBUG", "0") not in {"", "0", "false", "False"},
        ("BASE_URL", "must begin with https://: patients get links"): not settings.base_url.startswith("https://"),
        ("SMTP_HOST", "is missing: patients would get no messages"): settings.mail_server is None,
        ("SECRET_KEY", random): _weak(settings.secret_key),
        ("LINK_KEYS", random): not settings.link_keys or any(map(_weak, settings.link_keys)),
        ("FIELD_KEYS", random): not settings.field_keys or any(map(_weak, settings.field_keys)),
        ("LINK_KEYS", "must differ from SECRET_KEY and FIELD_KEYS"): len(set(keys)) < len(keys),
    }
    return {name: f"{name} {reason}" for (name, reason), broken in rules.items() if broken}


def _weak(key: str) -> bool:
    """Too short, repeating itself, or so plain that nobody's random generator made it."""
    few = len(set(key)) < SHORTEST_SECRET // 3
    return len(key) < SHORTEST_SECRET or few or key in (key + key)[1:-1] or DEFAULT.search(key) is not None


def _keys(reader: "_Reader", app_env: str, instance: Path) -> dict[str, tuple[str, ...]]:
    names = ("SECRET_KEY", "LINK_KEYS", "FIELD_KEYS")
    given = {name: tuple(reader.environ.get(name, "").replace(",", " ").split()) for name in names}
    given["SECRET_KEY"] = tuple(filter(None, [reader.environ.get("SECRET_KEY")]))  # one key, not a list
    if app_env == "development" and not all(given.values()):
        made = _development_keys(instance)
        given = {name: given[name] or made[name] for name in names}
    if not all(map(_is_fernet_key, given["FIELD_KEYS"])):
        reader.problems["FIELD_KEYS"] = "FIELD_KEYS: every key must be 32 random bytes in urlsafe base64"
    return given | {"SECRET_KEY": given["SECRET_KEY"] or ("",)}


def _is_fernet_key(key: str) -> bool:
    try:
        return len(urlsafe_b64decode(key)) == FERNET_KEY_BYTES
    except ValueError:
        return False


def _development_keys(instance: Path) -> dict[str, tuple[str, ...]]:
    """Keys made once and kept readable by their owner only; the first process to link the file wins."""
    path = instance / "keys.json"
    if not path.exists():
        instance.mkdir(parents=True, exist_ok=True)
        made = {
            "SECRET_KEY": [secrets.token_urlsafe(48)],
            "LINK_KEYS": [secrets.token_urlsafe(48)],
            "FIELD_KEYS": [urlsafe_b64encode(secrets.token_bytes(32)).decode()],
        }
        with tempfile.NamedTemporaryFile("w", dir=instance) as file:  # mode 0600 by its own rule
            json.dump(made, file)
            file.flush()
            if not path.exists():
                _link_once(Path(file.name), path)
    return {name: tuple(keys) for name, keys in json.loads(path.read_text()).items()}


def _link_once(made: Path, path: Path) -> None:
    try:
        os.link(made, path)
    except FileExistsError:
        return


def driver_url(url: str) -> str:
    """`postgres://` and `postgresql://` mean psycopg 3."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


class _Reader:
    """Reads values and collects what is wrong with them, so that all is said at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: dict[str, str] = {}

    def text(self, name: str, default: str) -> str:
        return self.environ.get(name) or default

    def choice(self, name: str, default: str, allowed: set[str]) -> str:
        value = self.text(name, default)
        if value in allowed:
            return value
        self.problems[name] = f"{name} is {value!r}: it must be one of {', '.join(sorted(allowed))}"
        return default

    def like(self, name: str, default: str, pattern: re.Pattern[str], example: str) -> str:
        value = self.text(name, default)
        if value == default or pattern.fullmatch(value):
            return value
        self.problems[name] = f"{name}: write it like {example}"  # without the value, which may hold a password
        return default

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        value = self.text(name, str(default))
        if value.isascii() and value.isdigit() and len(value) < len(str(most)) + 2 and least <= int(value) <= most:
            return int(value)
        self.problems[name] = f"{name} is {value!r}: it must be a whole number from {least} to {most}"
        return default

    def share(self, name: str, default: float) -> float:
        value = self.text(name, str(default))
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if SMALLEST_SHARE <= share <= 1:
            return share
        self.problems[name] = f"{name} is {value!r}: it must be a share from {SMALLEST_SHARE} to 1"
        return default
