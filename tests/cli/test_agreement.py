"""A real server, and the same commands with and without --url: they print the same JSON, and tell the same errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.programs import Folder, until

pytestmark = pytest.mark.integration


class Served:
    """A folder whose app is served, with some runs in the history."""

    def __init__(self, folder: Folder, url: str) -> None:
        self.folder = folder
        self.url = url

    def both(self, *args: str) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
        """Run a command here, and over --url where no app can be found."""
        elsewhere = {"QUART_APP": "no_such_app", "QUART_SCHED_URL": self.url}
        return self.folder.quart(*args), self.folder.quart(*args, **elsewhere)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Folder(tmp_path_factory.mktemp("served"))
    with folder.server() as url:
        for job_id, expected in (("answer", 0), ("fails", 1)):
            status, out, err = folder.quart("run", job_id, "--wait", "30", "--url", url)
            assert status == expected, (out, err)
        yield Served(folder, url)
    folder.close()


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("list", "--state", "scheduled", "--tag", "maths"),
        ("show", "answer"),
        ("show", "a/b c"),
        ("next", "long", "--count", "400"),
        ("runs",),
        ("runs", "fails"),
        ("runs", "fails", "--details"),
        ("runs", "answer", "--outcome", "succeeded", "--limit", "1"),
    ],
    ids=" ".join,
)
def test_the_json_is_the_same_either_way(served, command):
    here, there = served.both(*command, "--json")
    assert here == there
    status, out, err = here
    assert (status, err) == (0, "")
    assert json.loads(out)


@pytest.mark.parametrize(
    "command", [("show", "no"), ("next", "no"), ("runs", "no"), ("pause", "no"), ("resume", "no"), ("run", "no"),
                ("remove", "answer", "--yes"), ("remove", "no", "--yes")],
    ids=" ".join,
)  # fmt: skip
def test_the_errors_are_the_same_either_way(served, command):
    here, there = served.both(*command)
    assert here == there
    status, out, err = here
    assert (status, out) == (1, "")
    assert err.startswith("Error: Job ")
    assert err.count("\n") == 1


def test_what_is_paused_here_is_paused_there(served):
    assert served.folder.quart("pause", "long")[:2] == (0, "Job long is paused\n")
    here, there = served.both("show", "long", "--json")
    assert here == there
    assert json.loads(here[1])["state"] == "paused"
    status, out, _ = served.folder.quart("resume", "long", "--json", "--url", served.url)
    assert (status, json.loads(out)["state"]) == (0, "scheduled")
    here, there = served.both("show", "long", "--json")
    assert here == there


def test_a_pause_of_all_is_told_either_way(served):
    assert served.folder.quart("pause", "--all")[0] == 0
    until(lambda: served.folder.quart("list", "--url", served.url)[2])
    for command in (("list",), ("next", "long", "--json")):
        here, there = served.both(*command)
        assert (here[2], here[0]) == (there[2], there[0])
    for _, out, _ in served.both("next", "long", "--json"):
        assert json.loads(out)["paused"] is True
    assert "reason  The scheduler is paused: no job fires until it is resumed\n" in served.both("health")[1][1]
    assert served.folder.quart("resume", "--all", "--url", served.url)[0] == 0


def test_a_run_gives_the_same_record_either_way(served):
    here, there = (json.loads(out) for _, out, _ in served.both("run", "answer", "--wait", "30", "--json"))
    assert list(here) == list(there)
    assert (here["outcome"], here["result"]) == (there["outcome"], there["result"]) == ("succeeded", "42")
    assert (here["cause"], there["cause"]) == ("manual", "api")
    assert here["worker"] != there["worker"]


def test_a_run_goes_on_there_when_nobody_waits_for_it_any_more(served):
    status, out, _ = served.folder.quart("run", "long", "--wait", "0.2", "--url", served.url)
    assert status == 3
    assert "running, and it had not ended after 0.2 s" in out
    until(lambda: served.folder.notes("end"))


def test_what_a_run_put_out_steers_no_terminal(served, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for status, out, err in served.both("runs", "fails"):
        assert status == 0, err
        assert "ValueError: no \N{REPLACEMENT CHARACTER}[31mred" in out
        assert "\x1b" not in out


def test_a_plan_beside_a_server_of_the_same_code_is_empty(served):
    assert served.folder.quart("plan", "--check")[:2] == (0, "Nothing would change; 4 unchanged\n")


# Rights


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One that asks for credentials, and keeps its jobs in memory."""
    folder = Folder(tmp_path_factory.mktemp("guarded"), AUTH="1", MEMORY="1", QUART_APP="no_such_app")
    with folder.server() as url:
        yield Served(folder, url)
    folder.close()


@pytest.mark.parametrize(
    ("user", "password", "command", "status", "told"),
    [
        (None, None, "list", 1, "Error: Access Denied (401): give credentials in QUART_SCHED_USER"),
        ("reader", "wrong", "list", 1, "Error: Access Denied (401)"),
        ("reader", "r", "list", 0, ""),
        ("reader", "r", "pause", 1, "Error: This needs the right 'operate', which the credentials do not carry\n"),
        ("boss", "pä:ss", "pause", 0, ""),
        ("boss", "pä:ss", "resume", 0, ""),
    ],
)
def test_a_server_with_rights(guarded, user, password, command, status, told):
    environ = {} if user is None else {"QUART_SCHED_USER": user, "QUART_SCHED_PASSWORD": password}
    target = () if command == "list" else ("answer",)
    code, _, err = guarded.folder.quart(command, *target, "--url", guarded.url, **environ)
    assert (code, err[: len(told)] if told else err) == (status, told)


def test_jobs_in_a_servers_memory_are_reached_over_url(guarded):
    environ = {"QUART_SCHED_USER": "boss", "QUART_SCHED_PASSWORD": "pä:ss", "QUART_SCHED_URL": guarded.url}
    status, out, err = guarded.folder.quart("list", "--json", **environ)
    assert (status, err) == (0, "")
    assert {job["id"]: job["state"] for job in json.loads(out)} == dict.fromkeys(
        ["answer", "fails", "long", "a/b c"], "scheduled"
    )


# No app


@pytest.mark.parametrize("command", ["list", "plan", "worker", "db upgrade"])
@pytest.mark.parametrize("app", ["no_such_app", "run_app:nothing", "empty"])
def test_without_an_app_it_is_told_how_to_give_one(tmp_path: Path, command: str, app: str) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "empty.py").write_text("")
    try:
        status, out, err = folder.quart(*command.split(), QUART_APP=app)
    finally:
        folder.close()
    assert (status, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.endswith("; give an app with `quart --app` or QUART_APP, or a server with --url\n")
    assert err.count("\n") == 1


def test_a_setting_that_is_wrong_is_told(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.append("\napp.config['SCHEDULER_PRUNE'] = 'burn'\nscheduler.init_app(app)\n")
    try:
        status, _, err = folder.quart("list")
    finally:
        folder.close()
    assert status == 1
    assert err.startswith("Error: SCHEDULER_PRUNE is 'burn'")
    assert err.count("\n") == 1


def test_an_app_keeps_a_command_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from quart import Quart\nfrom quart_sched import APScheduler\napp = Quart(__name__)\n"
        "@app.cli.command('scheduler')\ndef own():\n    print('my own')\nAPScheduler(app=app)\n"
    )
    folder = Folder(tmp_path)
    try:
        status, out, _ = folder.quart(QUART_APP="own")
    finally:
        folder.close()
    assert (status, out) == (0, "my own\n")
