"""Settings: their defaults, what is refused and how it is told, keys that development makes once."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.fernet import Fernet

import config
from config import MailServer, PolicyStart, Settings, SettingsError, from_environment

KEY_NAMES = ("SECRET_KEY", "LINK_KEYS", "FIELD_KEYS")
LONG = "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz"
OTHER_LONG = "tests-only-9876543210-zyxwvutsrqponmlkjihgfedcba"
FIELD_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PRODUCTION = {
    "APP_ENV": "production",
    "BASE_URL": "https://clinic.example",
    "SMTP_HOST": "mail.example",
    "SECRET_KEY": LONG,
    "LINK_KEYS": OTHER_LONG,
    "FIELD_KEYS": FIELD_KEY,
}
STARTERS = 8
READ_KEYS_AT_THE_SIGNAL = """
import pathlib, sys, time, config
instance, signal = map(pathlib.Path, sys.argv[1:])
print("ready", flush=True)
while not signal.exists():
    time.sleep(0.001)
settings = config.from_environment({}, instance=instance)
print(settings.secret_key, settings.link_keys, settings.field_keys)
"""


def problems(environ: dict[str, str], instance: Path) -> list[str]:
    """What is refused of these settings, one line each."""
    with pytest.raises(SettingsError) as refused:
        from_environment(environ, instance=instance)
    return [line.removeprefix("  - ") for line in str(refused.value).splitlines()[1:]]


def keys_of(settings: Settings) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return settings.secret_key, settings.link_keys, settings.field_keys


# --- defaults and values


def test_an_empty_environment_gives_the_documented_defaults(tmp_path: Path) -> None:
    found = asdict(from_environment({}, instance=tmp_path))
    for made in ("secret_key", "link_keys", "field_keys"):
        assert found.pop(made)
    assert found == {
        "app_env": "development",
        "database_url": f"sqlite:///{tmp_path}/scheduler.db",
        "host": "127.0.0.1",
        "port": 8000,
        "base_url": "http://127.0.0.1:8000",
        "web_workers": 2,
        "trusted_proxies": 0,
        "mail_server": None,
        "mail_from": "appointments@localhost",
        "smtp_timeout_seconds": 10,
        "rate_limits": True,
        "instance": tmp_path,
        "policy": {
            "clinic_name": "Achieve Ortho Rehab",
            "access_goal_hours": 48,
            "access_target": 0.9,
            "booking_notice_minutes": 60,
            "booking_horizon_days": 90,
            "hold_minutes": 10,
            "reminders": "email:48h,email:24h,sms:2h",
        },
    }


def test_an_empty_value_counts_as_not_given(tmp_path: Path) -> None:
    names = ("APP_ENV", "PORT", "HOST", "BASE_URL", "RATE_LIMITS", "DATABASE_URL", "SMTP_HOST", "ACCESS_TARGET")
    assert from_environment(dict.fromkeys(names, ""), instance=tmp_path) == from_environment({}, instance=tmp_path)


def test_every_value_given_is_the_one_used(tmp_path: Path) -> None:
    given = {
        "HOST": "0.0.0.0",  # noqa: S104 only read, never bound
        "PORT": "65535",
        "BASE_URL": "https://clinic.example/",
        "WEB_WORKERS": "64",
        "TRUSTED_PROXIES": "1",
        "SMTP_HOST": "mail.example",
        "SMTP_PORT": "2525",
        "SMTP_USER": "clinic",
        "SMTP_PASSWORD": "let me in",
        "SMTP_TLS": "off",
        "SMTP_TIMEOUT_SECONDS": "3",
        "MAIL_FROM": "front.desk@clinic.example",
        "RATE_LIMITS": "off",
        "CLINIC_NAME": "Springfield PT",
        "ACCESS_GOAL_HOURS": "24",
        "ACCESS_TARGET": "1",
        "BOOKING_NOTICE_MINUTES": "0",
        "BOOKING_HORIZON_DAYS": "730",
        "HOLD_MINUTES": "5",
        "REMINDERS": "email:24h",
    }
    found = from_environment(given, instance=tmp_path)
    assert (found.host, found.port, found.web_workers, found.trusted_proxies) == (given["HOST"], 65535, 64, 1)
    assert (found.base_url, found.rate_limits) == ("https://clinic.example", False)
    assert found.mail_server == MailServer("mail.example", 2525, "clinic", "let me in", "off")
    assert (found.mail_from, found.smtp_timeout_seconds) == ("front.desk@clinic.example", 3)
    assert found.policy == PolicyStart("Springfield PT", 24, 1.0, 0, 730, 5, "email:24h")


def test_links_lead_to_where_the_server_listens_unless_told_otherwise(tmp_path: Path) -> None:
    found = from_environment({"HOST": "192.0.2.1", "PORT": "9000"}, instance=tmp_path)
    assert found.base_url == "http://192.0.2.1:9000"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://clinic@db/scheduler", "postgresql+psycopg://clinic@db/scheduler"),
        (
            "postgresql://clinic@db/scheduler?sslmode=require",
            "postgresql+psycopg://clinic@db/scheduler?sslmode=require",
        ),
        ("postgresql+psycopg://clinic@db/scheduler", "postgresql+psycopg://clinic@db/scheduler"),
        ("sqlite:///clinic.db", "sqlite:///clinic.db"),
    ],
)
def test_a_postgresql_url_means_psycopg_3(given: str, used: str, tmp_path: Path) -> None:
    assert from_environment({"DATABASE_URL": given}, instance=tmp_path).database_url == used


@pytest.mark.parametrize("given", [f"{LONG},{OTHER_LONG}", f"{LONG} {OTHER_LONG}", f" {LONG} ,\n{OTHER_LONG} "])
def test_several_keys_keep_their_order_newest_first(given: str, tmp_path: Path) -> None:
    assert from_environment({"LINK_KEYS": given}, instance=tmp_path).link_keys == (LONG, OTHER_LONG)


@pytest.mark.parametrize(
    ("base_url", "sender"),
    [
        ("https://clinic.example", "appointments@clinic.example"),
        ("https://clinic.example:8443/visits", "appointments@clinic.example"),
        ("http://192.0.2.1:9000", "appointments@localhost"),
        ("http://[::1]:9000", "appointments@localhost"),
    ],
)
def test_mail_comes_from_the_clinics_own_host_unless_told_otherwise(base_url: str, sender: str, tmp_path: Path) -> None:
    assert from_environment({"BASE_URL": base_url}, instance=tmp_path).mail_from == sender


def test_settings_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    found = from_environment({}, instance=tmp_path)
    for field in fields(found):
        with pytest.raises(AttributeError):
            setattr(found, field.name, None)


# --- values that cannot be used


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ENV", "staging"),
        ("APP_ENV", "Production"),
        ("RATE_LIMITS", "no"),
        *(("PORT", value) for value in ("0", "65536", "-1", "8000.0", " 8000", "http", "٨٠٠٠")),
        pytest.param("PORT", "9" * 5000, id="more digits than Python reads"),
        ("WEB_WORKERS", "0"),
        ("WEB_WORKERS", "65"),
        ("TRUSTED_PROXIES", "9"),
        ("ACCESS_GOAL_HOURS", "0"),
        ("BOOKING_NOTICE_MINUTES", "-1"),
        ("BOOKING_HORIZON_DAYS", "0"),
        ("BOOKING_HORIZON_DAYS", "731"),
        ("HOLD_MINUTES", "61"),
        *(("ACCESS_TARGET", value) for value in ("0", "1.01", "-0.5", "nan", "inf", "90%")),
        *(("SMTP_HOST", value) for value in ("mail example", "-mail", "mail\nhost")),
        ("SMTP_PORT", "0"),
        ("SMTP_TLS", "yes"),
        ("SMTP_USER", "without a password"),
        ("SMTP_TIMEOUT_SECONDS", "0"),
        *(("MAIL_FROM", value) for value in ("clinic", "Clinic <a@b.example>", "a@b.example,c@d.example", "a@b\nc")),
        ("FIELD_KEYS", "too-short"),
        ("FIELD_KEYS", "ключ"),
        ("FIELD_KEYS", f"{FIELD_KEY},bad"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, tmp_path: Path) -> None:
    (problem,) = problems({name: value}, tmp_path)
    assert problem.startswith(name)


def test_all_values_that_cannot_be_used_are_named_at_once(tmp_path: Path) -> None:
    bad = ["APP_ENV", "PORT", "WEB_WORKERS", "TRUSTED_PROXIES", "RATE_LIMITS", "FIELD_KEYS"]
    bad += ["ACCESS_GOAL_HOURS", "ACCESS_TARGET", "BOOKING_NOTICE_MINUTES", "BOOKING_HORIZON_DAYS", "HOLD_MINUTES"]
    found = problems(dict.fromkeys(bad, "x"), tmp_path)
    assert sorted(problem.split()[0].rstrip(":") for problem in found) == sorted(bad)


# --- keys that development makes


def test_development_keys_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    first = from_environment({}, instance=tmp_path / "instance")
    (file,) = (tmp_path / "instance").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert keys_of(from_environment({}, instance=tmp_path / "instance")) == keys_of(first)


def test_development_keys_are_strong_and_of_one_clinic_only(tmp_path: Path) -> None:
    first, second = (from_environment({}, instance=tmp_path / name) for name in ("one", "two"))
    for ours, theirs in zip(keys_of(first), keys_of(second), strict=True):
        assert ours != theirs
    for key in (first.secret_key, *first.link_keys):
        assert len(key) >= 48
    assert Fernet(first.field_keys[0]).decrypt(Fernet(first.field_keys[0]).encrypt(b"note")) == b"note"


def test_keys_given_in_development_are_used_beside_those_made(tmp_path: Path) -> None:
    made = from_environment({}, instance=tmp_path)
    found = from_environment({"LINK_KEYS": "short"}, instance=tmp_path)
    assert keys_of(found) == (made.secret_key, ("short",), made.field_keys)


def test_no_key_is_made_when_all_are_given(tmp_path: Path) -> None:
    given = {name: PRODUCTION[name] for name in KEY_NAMES}
    assert keys_of(from_environment(given, instance=tmp_path)) == (LONG, (OTHER_LONG,), (FIELD_KEY,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("round_", range(5))
def test_threads_that_start_at_once_get_the_same_keys(round_: int, tmp_path: Path) -> None:
    together = Barrier(STARTERS)

    def start(_: int) -> Settings:
        together.wait()
        return from_environment({}, instance=tmp_path / "instance")

    with ThreadPoolExecutor(STARTERS) as threads:
        found = list(threads.map(start, range(STARTERS)))
    assert found == [found[0]] * STARTERS
    assert [file.name for file in (tmp_path / "instance").iterdir()] == ["keys.json"]


def test_processes_that_start_at_once_get_the_same_keys(tmp_path: Path) -> None:
    instance, signal = tmp_path / "instance", tmp_path / "signal"
    with starters([sys.executable, "-c", READ_KEYS_AT_THE_SIGNAL, str(instance), str(signal)]) as processes:
        signal.touch()
        said = [process.communicate(timeout=30)[0] for process in processes]
    assert said == [said[0]] * STARTERS
    assert from_environment({}, instance=instance).secret_key in said[0]
    assert [file.name for file in instance.iterdir()] == ["keys.json"]


@contextmanager
def starters(command: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that have all said that they are ready; none outlives the block."""
    processes = [subprocess.Popen(command, cwd=config.ROOT, stdout=subprocess.PIPE, text=True) for _ in range(STARTERS)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


# --- production


def test_a_complete_production_environment_is_accepted(tmp_path: Path) -> None:
    found = from_environment(PRODUCTION, instance=tmp_path)
    assert found.production
    assert found.base_url == "https://clinic.example"
    assert found.mail_server == MailServer("mail.example", 587, None, None, "required")
    assert found.mail_from == "appointments@clinic.example"
    assert keys_of(found) == (LONG, (OTHER_LONG,), (FIELD_KEY,))


@pytest.mark.parametrize("off", ["", "0", "false", "False"])
def test_production_accepts_debug_that_is_off(off: str, tmp_path: Path) -> None:
    assert from_environment({**PRODUCTION, "FLASK_DEBUG": off}, instance=tmp_path).production


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLASK_DEBUG", "1"),
        ("FLASK_DEBUG", "true"),
        ("BASE_URL", "http://clinic.example"),
        ("BASE_URL", "clinic.example"),
        ("BASE_URL", ""),
        ("SMTP_HOST", ""),
        *((name, "") for name in KEY_NAMES),
        *((name, LONG[: config.SHORTEST_SECRET - 1]) for name in KEY_NAMES),
        ("SECRET_KEY", "changeme" * 5),
        ("SECRET_KEY", "x" * 64),
        ("LINK_KEYS", "dev" * 20),
        ("LINK_KEYS", f"{LONG},short"),
        ("FIELD_KEYS", f"{FIELD_KEY},short"),
    ],
)
def test_production_refuses_what_is_unsafe_and_names_it(name: str, value: str, tmp_path: Path) -> None:
    (problem,) = problems({**PRODUCTION, name: value}, tmp_path)
    assert problem.startswith(name)


def test_production_refuses_everything_at_once_and_makes_no_keys(tmp_path: Path) -> None:
    found = problems({"APP_ENV": "production", "FLASK_DEBUG": "1", "PORT": "x"}, tmp_path)
    named = sorted(problem.split()[0] for problem in found)
    assert named == sorted(["PORT", "FLASK_DEBUG", "BASE_URL", "SMTP_HOST", *KEY_NAMES])
    assert list(tmp_path.iterdir()) == []


def test_production_never_uses_the_keys_of_development(tmp_path: Path) -> None:
    from_environment({}, instance=tmp_path)
    without_keys = {name: value for name, value in PRODUCTION.items() if name not in KEY_NAMES}
    assert sorted(problem.split()[0] for problem in problems(without_keys, tmp_path)) == sorted(KEY_NAMES)


@pytest.mark.parametrize("environ", [{**PRODUCTION, "LINK_KEYS": "hush-1"}, {"FIELD_KEYS": "hush-2"}])
def test_a_refusal_never_tells_a_key(environ: dict[str, str], tmp_path: Path) -> None:
    said = "\n".join(problems(environ, tmp_path))
    assert "hush" not in said
    assert LONG not in said


# --- the module


def test_the_module_of_settings_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(config.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REMINDERS", "rubbish"),
        ("REMINDERS", "email:48"),
        ("REMINDERS", "email:48h,\temail:24h"),
        ("DATABASE_URL", "nonsense"),
        ("BASE_URL", "javascript:alert(1)"),
        ("CLINIC_NAME", "x" * 201),
        ("ACCESS_TARGET", "0.0001"),
    ],
)
def test_a_value_that_would_fail_later_is_refused_at_the_start(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=name):
        from_environment({name: value}, instance=tmp_path)


def test_a_secret_key_is_one_key_whatever_it_holds(tmp_path: Path) -> None:
    assert from_environment({"SECRET_KEY": "abc def,ghi"}, instance=tmp_path).secret_key == "abc def,ghi"


def test_production_refuses_a_field_key_of_zeros(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FIELD_KEYS"):
        from_environment({**PRODUCTION, "FIELD_KEYS": "A" * 43 + "="}, instance=tmp_path)


@pytest.mark.parametrize(
    "key",
    [
        "please-change-this-secret-key-now",
        "0123456789abcdef" * 2,
        "abcdefghij" * 4,
        "a-password-of-some-length-0815-xyz",
    ],
)
@pytest.mark.parametrize("name", ["SECRET_KEY", "LINK_KEYS"])
def test_production_refuses_a_key_that_can_be_guessed(name: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=name):
        from_environment({**PRODUCTION, name: key}, instance=tmp_path)


def test_production_refuses_one_key_for_two_purposes(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LINK_KEYS"):
        from_environment({**PRODUCTION, "LINK_KEYS": PRODUCTION["SECRET_KEY"]}, instance=tmp_path)


def test_a_refused_database_url_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        from_environment({"DATABASE_URL": "mysql://user:hunter2@host/db"}, instance=tmp_path)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["https://:443", "https://good@evil", 'https://a"><script>', "https://a b"])
def test_an_address_that_cannot_stand_in_a_link_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="BASE_URL"):
        from_environment({"BASE_URL": url}, instance=tmp_path)
