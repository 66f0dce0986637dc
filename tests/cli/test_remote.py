"""The commands over --url: what is asked of a server, with which credentials, and what is told of its answers."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from quart_sched.cli import commands
from quart_sched.cli.messages import Refused
from quart_sched.cli.remote import Remote

JOB = {"id": "a", "state": "paused", "trigger_description": "at 03:00 (UTC)", "next_run_time": None, "tags": []}


class Server(http.server.ThreadingHTTPServer):
    """Answers each request as it was told to, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, Any]] = []
        self.bodies: list[bytes] = []
        self.answer: tuple[int, Any] | Callable[[Handler], None] = (200, JOB)
        self.url = f"http://127.0.0.1:{self.server_port}/scheduler"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def _handle(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization")))
        self.server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        answer = self.server.answer
        if callable(answer):
            answer(self)
        else:
            self.reply(*answer)

    def reply(self, status: int, content: Any) -> None:
        body = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _handle

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"QUART_SCHED_{name}", raising=False)


def invoke(*args: str, **environ: str) -> Result:
    """Run a command where there is no app at all."""
    result = CliRunner(env=environ).invoke(commands, list(args))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


# What is asked


@pytest.mark.parametrize("where", ["group", "command", "environment"])
def test_the_address_stands_before_or_behind_the_command_or_in_the_environment(server, where):
    result = {
        "group": lambda: invoke("--url", server.url, "show", "a"),
        "command": lambda: invoke("show", "a", "--url", server.url),
        "environment": lambda: invoke("show", "a", QUART_SCHED_URL=server.url),
    }[where]()
    assert result.exit_code == 0, result.output
    assert server.requests == [("GET", "/scheduler/jobs/a", None)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("show", "a"), [("GET", "/jobs/a")]),
        (("show", "a/b c?d#e%é"), [("GET", "/jobs/a%2Fb%20c%3Fd%23e%25%C3%A9")]),
        (("pause", "a"), [("POST", "/jobs/a/pause")]),
        (("resume", "a"), [("POST", "/jobs/a/resume")]),
        (("remove", "a", "--yes"), [("GET", "/jobs/a"), ("DELETE", "/jobs/a")]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_each_command_asks_for_its_path(server, command, expected):
    assert invoke(*command, "--url", server.url + "/").exit_code == 0
    assert [(method, path.removeprefix("/scheduler")) for method, path, _ in server.requests] == expected


def test_a_list_is_filtered_and_a_page_of_runs_has_its_query(server):
    server.answer = (200, [JOB, JOB | {"id": "b", "state": "scheduled"}])
    result = invoke("list", "--state", "paused", "--json", "--url", server.url)
    assert [job["id"] for job in json.loads(result.stdout)] == ["a"]
    server.answer = (200, {"items": [], "next": None})
    invoke("runs", "a", "--outcome", "failed", "--limit", "5", "--url", server.url)
    assert server.requests[-1][1] == "/scheduler/jobs/a/runs?outcome=failed&limit=5"
    invoke("runs", "--url", server.url)
    assert server.requests[-1][1] == "/scheduler/runs?limit=20"


def test_an_answer_without_content_is_a_success(server):
    server.answer = (204, None)
    result = invoke("pause", "--all", "--url", server.url)
    assert (result.exit_code, result.stdout) == (0, "Paused: no job fires\n")
    assert server.requests == [("POST", "/scheduler/pause", None)]


# Credentials


def test_user_and_password_are_sent_as_basic(server):
    invoke("show", "a", "--url", server.url, QUART_SCHED_USER="boss", QUART_SCHED_PASSWORD="pä:ss")
    assert server.requests[0][2] == "Basic " + base64.b64encode("boss:pä:ss".encode()).decode()


def test_a_token_is_sent_as_bearer(server):
    invoke("show", "a", "--url", server.url, QUART_SCHED_TOKEN="t0ken")
    assert server.requests[0][2] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TOKEN": "a", "USER": "b"}, "Both QUART_SCHED_TOKEN and QUART_SCHED_USER are set; expected one of them"),
        ({"PASSWORD": "secret"}, "QUART_SCHED_PASSWORD is set, but QUART_SCHED_USER is not"),
        ({"USER": "a:b"}, "QUART_SCHED_USER has a colon in it, which Basic authentication does not allow"),
        (
            {"TOKEN": "secret\nX: y"},
            "QUART_SCHED_TOKEN holds what no header can; expected ASCII text on one line",
        ),
    ],
)
def test_credentials_that_cannot_be_sent_are_told_without_what_is_secret(server, environ, expected):
    result = invoke("list", "--url", server.url, **{f"QUART_SCHED_{name}": value for name, value in environ.items()})
    assert (result.exit_code, result.stderr) == (2, f"Error: {expected}\n")
    assert server.requests == []


def test_credentials_are_not_sent_on_to_where_a_server_redirects(server):
    other = Server()

    def redirect(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", other.url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answer = redirect
    result = invoke("list", "--url", server.url, QUART_SCHED_TOKEN="t0ken")
    other.server_close()
    assert result.exit_code == 1
    assert "answers 302 Found" in result.stderr
    assert other.requests == []


# What comes back


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 503])
def test_the_servers_own_message_is_told(server, status):
    server.answer = (status, {"error_message": "Not \x1b[31mso"})
    result = invoke("pause", "a", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "Error: Not \N{REPLACEMENT CHARACTER}[31mso\n")


def test_missing_credentials_are_told_with_where_to_give_them(server):
    server.answer = (401, {"error_message": "Access Denied"})
    assert invoke("list", "--url", server.url).stderr == (
        "Error: Access Denied (401): give credentials in QUART_SCHED_USER and QUART_SCHED_PASSWORD, "
        "or QUART_SCHED_TOKEN\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>"), (200, b"\xff\xfe"), (200, "text"), (200, [1]), (200, b""), (404, b"<html>"),
        (500, {"other": "shape"}), (502, b""),
    ],
    ids=str,
)  # fmt: skip
def test_another_server_than_ours_is_told_by_its_answer(server, answer):
    server.answer = answer
    result = invoke("show", "a", "--url", server.url)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {server.url} answers {answer[0]} ")
    assert result.stderr.count("\n") == 1


FLASK_JOB = {"id": "a", "name": "a", "func": "app:a", "trigger": "cron", "next_run_time": "2026-03-02T03:00:00+00:00"}


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("list",), [FLASK_JOB]), (("list",), ["a"]), (("show", "a"), FLASK_JOB), (("pause", "a"), FLASK_JOB),
        (("resume", "a"), FLASK_JOB), (("remove", "a", "--yes"), FLASK_JOB), (("run", "a"), FLASK_JOB),
        (("run", "a", "--wait", "1"), FLASK_JOB), (("backfill", "a", "--from", "2026-03-01"), FLASK_JOB),
        (("next", "a"), FLASK_JOB), (("runs",), FLASK_JOB), (("explain", "a", "2026-03-01"), FLASK_JOB),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_an_api_with_the_same_paths_is_told_by_what_it_lacks(server, command, answer):
    server.answer = (200, answer)
    result = invoke(*command, "--url", server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {server.url} answers 200 OK, not as quart_sched's API does; expected ")
    assert [method for method, *_ in server.requests if method == "DELETE"] == []


def test_a_server_that_is_down_is_told():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/scheduler"
        result = invoke("list", "--url", url)
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: Cannot reach {url}: Connection refused. Is the server running?\n",
    )


def test_a_name_that_is_none_is_told():
    result = invoke("list", "--url", "http://no-such-host.invalid/scheduler")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Cannot reach http://no-such-host.invalid/scheduler: ")


def test_a_server_that_does_not_answer_is_given_up(server):
    release = threading.Event()
    server.answer = lambda handler: release.wait(10)
    begin = time.monotonic()
    result = invoke("list", "--url", server.url, "--timeout", "0.2")
    release.set()
    assert time.monotonic() - begin < 5
    assert (result.exit_code, result.stderr) == (1, f"Error: {server.url} did not answer within 0.2 s\n")


@pytest.mark.parametrize("sent", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]"])
def test_a_connection_that_breaks_is_told(server, sent):
    def cut(handler: Handler) -> None:
        handler.wfile.write(sent)
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.answer = cut
    result = invoke("list", "--url", server.url)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: Cannot reach {server.url}: ")


@pytest.mark.parametrize(
    "url",
    [
        "localhost:5000", "file:///etc/passwd", "ftp://host/x", "http://", "http://host:port/x", "http://host:99999/x",
        "http://host/x?y", "http://host/x#y", "http://ho st/x", "http://[::1/x", "http://höst/x", "http://host/x\ny",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_told(url):
    result = invoke("list", "--url", url)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --url is ")
    assert result.stderr.endswith("; expected an address as http://127.0.0.1:5000/scheduler\n")


def test_credentials_do_not_belong_into_the_address():
    result = invoke("list", "--url", "http://boss:secret@127.0.0.1/scheduler")
    assert result.exit_code == 2
    assert "secret" not in result.output


def test_an_ipv6_address_is_one():
    Remote("http://[::1]:5000/scheduler", timeout=1, environ={})
    with pytest.raises(Refused):
        Remote("http://::1:5000/scheduler", timeout=1, environ={})


# Backfills


def backfilled(*run_ids: str | None, dry_run: bool = False) -> dict[str, Any]:
    items = [{"scheduled_at": f"2026-03-0{day}T03:00:00+00:00", "run_id": id} for day, id in enumerate(run_ids, 1)]
    return {"job_id": "a", "items": items, "left_out": 1, "dry_run": dry_run}


def test_a_dry_run_shows_the_fires(server):
    server.answer = (200, backfilled(None, None, dry_run=True))
    span = ("--from", "2026-03-01", "--to", "2026-03-03")
    result = invoke("backfill", "a", *span, "--dry-run", "--concurrency", "3", "--url", server.url)
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "FIRE                       RUN",
            "2026-03-01 03:00:00+00:00  -",
            "2026-03-02 03:00:00+00:00  -",
            "2 fires would run; 1 left out",
        ],
    )
    assert server.requests == [("POST", "/scheduler/jobs/a/backfill", None)]
    body = {"start": "2026-03-01", "end": "2026-03-03", "dry_run": True, "concurrency": 3, "rerun": False}
    assert json.loads(server.bodies[0]) == body


@pytest.mark.parametrize(("outcome", "status"), [("succeeded", 0), ("failed", 1)])
def test_the_fires_are_waited_for_in_their_order(server, outcome, status):
    answers = iter(
        [
            backfilled("r1", "r2"),
            record("succeeded"),
            record("queued", run_id="r2", final=False, attempts=("r2",)),
            record(outcome, run_id="r2", attempts=("r2",)),
        ]
    )
    server.answer = lambda handler: handler.reply(200, next(answers))
    result = invoke("backfill", "a", "--from", "2026-03-01", "--json", "--url", server.url)
    assert result.exit_code == status
    assert json.loads(result.stdout)["outcomes"] == dict(Counter(["succeeded", outcome]))
    assert [path.removeprefix("/scheduler") for _, path, _ in server.requests] == [
        "/jobs/a/backfill", "/runs/r1", "/runs/r2", "/runs/r2",
    ]  # fmt: skip


@pytest.mark.parametrize(("outcome", "status"), [("succeeded", 3), ("failed", 1)])
def test_a_fire_whose_record_the_server_has_not_kept_is_told(server, outcome, status):
    answers = iter([(200, backfilled("r1", "r2")), GONE, (200, record(outcome, run_id="r2", attempts=("r2",)))])
    server.answer = lambda handler: handler.reply(*next(answers))
    result = invoke("backfill", "a", "--from", "2026-03-01", "--json", "--url", server.url)
    assert result.exit_code == status
    assert json.loads(result.stdout)["outcomes"] == {"unknown": 1, outcome: 1}


def test_a_backfill_need_not_be_waited_for(server):
    server.answer = (200, backfilled("r1"))
    result = invoke("backfill", "a", "--from", "2026-03-01", "--no-wait", "--json", "--url", server.url)
    assert (result.exit_code, json.loads(result.stdout)) == (0, backfilled("r1"))
    assert len(server.requests) == 1


def test_a_backfill_needs_a_beginning(server):
    result = invoke("backfill", "a", "--url", server.url)
    assert result.exit_code == 2
    assert "Missing option '--from'" in result.stderr


# Explanations

EXPLAINED = {
    "job_id": "a", "at": "2026-03-02T03:00:00+00:00", "verdict": "missed", "description": "It came too late.",
    "outcome": "missed", "run_ids": None, "late": 12.5,
}  # fmt: skip


def test_an_explanation_is_told_in_a_sentence_with_its_details(server):
    server.answer = (200, EXPLAINED)
    at = "2026-03-02T03:00:00+01:00"
    result = invoke("explain", "a", at, "--url", server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "It came too late.",
        "at       2026-03-02T03:00:00+00:00",
        "verdict  missed",
        "outcome  missed",
        "late     12.5",
    ]
    assert server.requests[0][1] == "/scheduler/jobs/a/explain?at=2026-03-02T03%3A00%3A00%2B01%3A00"
    assert json.loads(invoke("explain", "a", at, "--json", "--url", server.url).stdout) == EXPLAINED


def test_a_moment_that_is_none_is_told(server):
    server.answer = (400, {"error_message": "at: is 'soon'; expected a time"})
    result = invoke("explain", "a", "soon", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "Error: at: is 'soon'; expected a time\n")


# Health


@pytest.mark.parametrize(
    ("code", "body", "status"),
    [
        (200, {"status": "ok", "reasons": []}, 0),
        (200, {"status": "degraded", "reasons": ["The store is away"]}, 0),
        (503, {"status": "failing", "reasons": ["The scheduler is not running"]}, 1),
        (503, {"status": "failing"}, 1),
    ],
)
def test_health_is_told_with_its_reasons(server, code, body, status):
    server.answer = (code, body)
    result = invoke("health", "--json", "--url", server.url)
    assert (result.exit_code, json.loads(result.stdout), result.stderr) == (status, body, "")
    shown = invoke("health", "--url", server.url).stdout
    assert shown.splitlines() == [f"status  {body['status']}", *(f"reason  {why}" for why in body.get("reasons", []))]
    assert {path for _, path, _ in server.requests} == {"/scheduler/health/ready"}


@pytest.mark.parametrize(
    "answer", [(404, b"<html>"), (503, {"error_message": "away"}), (200, [1]), (503, b"")], ids=str
)
def test_a_server_without_health_is_told(server, answer):
    server.answer = answer
    result = invoke("health", "--url", server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")


# Runs


def record(outcome: str, *, run_id: str = "r1", final: bool = True, attempts: tuple[str, ...] = ("r1",)) -> Any:
    ended = {"duration": None, "error": None}
    return {"run_id": run_id, "outcome": outcome, "final": final, "attempts": list(attempts), **ended}


def test_a_run_is_started_and_left_to_the_server(server):
    server.answer = (202, {"run_id": "r1", "job_id": "a"})
    result = invoke("run", "a", "--url", server.url, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"run_id": "r1", "job_id": "a"})
    assert server.requests == [("POST", "/scheduler/jobs/a/run?wait=0", None)]


@pytest.mark.parametrize(("outcome", "status"), [("succeeded", 0), ("failed", 1), ("cancelled", 1), ("timed_out", 1)])
def test_a_run_is_waited_for_through_its_attempts(server, outcome, status):
    answers = iter(
        [
            {"run_id": "r1", "job_id": "a"},
            record("queued", final=False),
            record("failed", final=False, attempts=("r1", "r2")),
            record("running", run_id="r2", final=False, attempts=("r1", "r2")),
            record(outcome, run_id="r2", attempts=("r1", "r2")),
        ]
    )

    server.answer = lambda handler: handler.reply(200, next(answers))
    result = invoke("run", "a", "--wait", "60", "--url", server.url)
    assert (result.exit_code, result.stdout) == (status, f"Run r2 of job a: {outcome}\n")
    paths = [path.removeprefix("/scheduler") for _, path, _ in server.requests]
    assert paths == ["/jobs/a/run?wait=0", "/runs/r1", "/runs/r1", "/runs/r2", "/runs/r2"]


GONE = (404, {"error_message": "Run r1 not found"})


@pytest.mark.parametrize("before", [[], [(200, record("running", final=False))]], ids=["at once", "later"])
def test_a_run_that_the_server_has_not_kept_on_record_has_not_failed(server, before):
    start = (202, {"run_id": "r1", "job_id": "a"})
    answers = iter([start, *before, GONE, start, GONE])
    server.answer = lambda handler: handler.reply(*next(answers))
    result = invoke("run", "a", "--wait", "60", "--url", server.url)
    assert (result.exit_code, result.stdout, result.stderr) == (
        3, "Run r1 of job a is not on record (any more), so that it is not known how it ended\n", ""
    )  # fmt: skip
    as_json = invoke("run", "a", "--wait", "60", "--json", "--url", server.url)
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (3, {"run_id": "r1", "job_id": "a", "outcome": None})


def test_arguments_are_sent_as_they_were_given(server):
    server.answer = (202, {"run_id": "r1", "job_id": "a"})
    args, kwargs = [1, "é", {"$decimal": "1.5"}], {"x": None}
    invoke("run", "a", "--args", json.dumps(args), "--kwargs", json.dumps(kwargs), "--url", server.url)
    assert json.loads(server.bodies[0]) == {"args": args, "kwargs": kwargs}
    invoke("run", "a", "--args", "[]", "--url", server.url)
    assert json.loads(server.bodies[1]) == {"args": []}


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--args", "1,2", "is no JSON: "), ("--args", "{}", "'{}' is no JSON list"),
        ("--kwargs", "[1]", "is no JSON object"),
        ("--args", "[NaN]", "NaN is no JSON number"), ("--kwargs", "{'a': 1}", "is no JSON: "),
        ("--args", "[" * 100_000, "is no JSON: "),
    ],
    ids=lambda value: value[:10],
)  # fmt: skip
def test_arguments_that_are_no_json_are_told(server, option, value, told):
    result = invoke("run", "a", option, value, "--url", server.url)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': " in result.stderr
    assert told in result.stderr
    assert server.requests == []


def test_a_run_that_overlap_forbids_is_told(server):
    server.answer = (409, {"error_message": "Job a is already running (r0)"})
    result = invoke("run", "a", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "Error: Job a is already running (r0)\n")


def test_the_group_is_there_for_every_quart_command():
    from importlib.metadata import entry_points

    [point] = entry_points(group="quart.commands", name="scheduler")
    assert point.load() is commands
    assert isinstance(commands, click.Group)
