"""Commands on a terminal: what turns while one waits, and what Ctrl-C ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys

import pytest

from tests.cli.programs import Folder, until

pytestmark = pytest.mark.integration


def on_terminal(folder: Folder, *args: str, **environ: str) -> tuple[int, str]:
    """Run `quart scheduler ...` on a terminal of its own; return its exit code and what it showed."""
    controller, terminal = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(folder.root), "QUART_APP": "run_app", "TERM": "xterm", **environ}
    command = [sys.executable, "-m", "quart", "scheduler", *args]
    process = subprocess.Popen(
        command, cwd=folder.path, env=env, stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 4096):
            shown += chunk
    except OSError:
        pass  # The other side is closed.
    finally:
        os.close(controller)
    return process.wait(60), shown.decode()


def test_on_a_terminal_something_turns_and_leaves_nothing_behind(folder):
    worker = folder.worker(LONG="0.5")  # It brings the jobs in.
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    status, shown = on_terminal(folder, "run", "long", LONG="0.5")
    assert status == 0, shown
    turning, _, rest = shown.rpartition("\r\x1b[K")
    assert "\r| long runs, 0 s" in turning
    assert "\r/ long runs, 0 s" in turning
    assert rest.startswith("Run ")
    assert rest.count("\n") == 1


def test_on_a_terminal_states_have_colours_unless_nobody_wants_them(folder):
    assert "\x1b[33mpending\x1b[0m" in on_terminal(folder, "list")[1]
    assert "\x1b" not in on_terminal(folder, "list", NO_COLOR="1")[1]


@pytest.mark.parametrize(
    ("numbers", "code", "told"),
    [([signal.SIGINT], 1, "\nAborted!\n"), ([signal.SIGTERM], 143, ""), ([signal.SIGTERM] * 3, 143, "")],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM again and again"],
)
def test_a_signal_cancels_a_run_here(folder, numbers, code, told):
    worker = folder.worker(LONG="60")  # It brings the jobs in.
    process = folder.start("-m", "quart", "scheduler", "run", "long", log="run.log", LONG="60")
    until(lambda: folder.notes("begin"), lambda: folder.text("run.log"))
    for number in numbers:
        process.send_signal(number)
    assert process.wait(20) == code
    assert folder.text("run.log") == told
    assert folder.notes("after_serving") == [f"{process.pid} after_serving"]
    _, out, _ = folder.quart("runs", "long", "--json")
    assert [run["outcome"] for run in json.loads(out)["items"]] == ["cancelled"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_ctrl_c_ends_the_wait_for_a_server_that_does_not_answer(folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/scheduler"
        process = folder.start("-m", "quart", "scheduler", "list", "--url", url, log="list.log")
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 1
    assert "Traceback" not in folder.text("list.log")
