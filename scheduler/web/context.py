"""What every view may use, put together once by create_app."""

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from flask import current_app
from sqlalchemy import Engine

from config import Settings
from scheduler.clock import Clock
from scheduler.keys import Keyring


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    engine: Engine
    clock: Clock
    keys: Keyring
    started_at: datetime


def now() -> datetime:
    return context().clock.now()


def context() -> Context:
    return cast("Context", current_app.extensions["scheduler"])
