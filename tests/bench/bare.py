"""The measure of all others: a Flask page that does nothing, of the size of an answer, on the same kind of server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from flask import Flask, Response

from config import ROOT
from scheduler.serve import THREADS
from tests.bench.load import Address
from tests.server import free_port

SIZE = "BENCH_BARE_BYTES"
START_SECONDS = 30
BODY = b'{"items": "' + b"." * (int(os.environ.get(SIZE, "0")) - 13) + b'"}'

app = Flask("bare")
app.add_url_rule("/", view_func=lambda: Response(BODY, mimetype="application/json"))


@contextmanager
def serving_bare(size: int, worker_class: str, workers: int) -> Iterator[Address]:
    """Serve the bare page, `size` bytes of JSON, by gunicorn until the block ends."""
    with gunicorn("tests.bench.bare:app", {"PATH": os.environ["PATH"], SIZE: str(size)}, worker_class, workers) as at:
        yield at


@contextmanager
def gunicorn(app: str, env: dict[str, str], worker_class: str, workers: int) -> Iterator[Address]:
    """Serve an application by gunicorn alone, as `make run` does but without its worker, until the block ends."""
    port = free_port()
    settings = {"worker-class": worker_class, "workers": str(workers), "bind": f"127.0.0.1:{port}"}
    if worker_class == "gthread":
        settings["threads"] = str(THREADS)
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", app, "--log-level", "warning", *options],
        cwd=ROOT,
        env=env,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_open(port)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("The bare page did not open.")
