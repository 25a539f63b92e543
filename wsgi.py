"""The only composition root: settings + engine + clock → app, and the commands of `flask --app wsgi`."""

import os
import sys

import config
from scheduler import cli, logs
from scheduler.app import create_app
from scheduler.clock import SystemClock
from scheduler.db import make_engine

os.umask(0o077)  # database, keys, backups and mail hold patients: for their owner only
try:
    settings = config.from_environment(os.environ)
except config.SettingsError as error:
    raise SystemExit(str(error)) from error
logs.configure(people=sys.stderr.isatty())
clock = SystemClock()
engine = make_engine(settings.database_url)
app = create_app(settings, engine, clock)
cli.install(app, settings, engine, clock)
