"""`make run`: schema, demo, first tick, then a web server and a worker under one parent, from one Python start.

The parent only waits. When it is told to stop, or either child ends, it ends the other; if it is killed outright, Linux
tells the children (the parent-death signal), so that nothing survives it.
"""

import ctypes
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Sequence

from flask import Flask
from gunicorn.app.base import BaseApplication

from config import Settings

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 7
PATIENCE_SECONDS = 8
KEEPALIVE_SECONDS = 75  # longer than clients and proxies keep theirs, so that no request meets a closing connection
THREADS = 4
STOPS = {signal.SIGTERM, signal.SIGINT}
WAITED_FOR = STOPS | {signal.SIGCHLD, signal.SIGALRM}


def serve(app: Flask, settings: Settings, run_worker: Callable[[], None], *, hints: Sequence[str] = ()) -> int:
    """Run web server and worker until a signal; return the exit code of the whole: 0 when asked to stop.

    Once the port is open the hints are printed, and then the address.
    """
    signal.signal(
        signal.SIGCHLD, lambda *_: None
    )  # a signal that is ignored by default cannot be waited for everywhere
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    children = {_fork(run_worker), _fork(_WebServer(app, settings, hints).run)}
    code: int | None = None
    while children:
        received = signal.sigwait(WAITED_FOR)
        ended = _ended(children)
        children -= ended.keys()
        if received == signal.SIGALRM:
            _signal_all(children, signal.SIGKILL)
        elif code is None and (ended or received in STOPS):
            code = max((abs(status) or 1 for status in ended.values()), default=0)
            _signal_all(children, signal.SIGTERM)
            signal.alarm(PATIENCE_SECONDS)
    return code or 0


def require_free_port(settings: Settings) -> None:
    """Say at once that the port is taken, rather than after all is set up; raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((settings.host, settings.port))


def _ended(children: Collection[int]) -> dict[int, int]:
    """Exit codes of those children that have ended, by pid."""
    waited = (os.waitpid(child, os.WNOHANG) for child in children)
    return {pid: os.waitstatus_to_exitcode(status) for pid, status in waited if pid}


def _signal_all(children: Collection[int], number: signal.Signals) -> None:
    """Signal each child; to kill means its whole process group, web workers included."""
    for child in children:
        (os.killpg if number == signal.SIGKILL else os.kill)(child, number)


def _fork(run: Callable[[], None]) -> int:
    """Start a child that dies with its parent, in a process group that Ctrl-C does not reach; return its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED_FOR)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            run()
            code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 nobody above this child is left to print it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _WebServer(BaseApplication):  # type: ignore[misc]
    """gunicorn, told what to do in code; threads, since browsers open connections ahead of need (decision 4)."""

    def __init__(self, app: Flask, settings: Settings, hints: Sequence[str]) -> None:
        self.app = app
        self.settings = settings
        self.hints = hints
        super().__init__()

    def load_config(self) -> None:
        said = "\n".join([*self.hints, f"Open {self.settings.base_url}"])
        for name, value in {
            "bind": self.settings.address,
            "workers": self.settings.web_workers,
            "threads": THREADS,
            "worker_class": "gthread",
            "graceful_timeout": GRACE_SECONDS,
            "keepalive": KEEPALIVE_SECONDS,
            "loglevel": "warning",
            "when_ready": lambda _server: print(said, flush=True),  # noqa: T201
            "forwarded_allow_ips": "",
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self.app
