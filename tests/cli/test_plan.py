"""`quart scheduler plan`: what a deploy would change, told to people, to programs and to CI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quart_sched import APScheduler
from tests.cli.commands import Declare, build, deploy, invoke, sql

pytestmark = pytest.mark.integration  # there is a database in each


def job(*_: Any) -> None: ...


def code(**jobs: dict[str, Any]) -> Declare:
    def declare(scheduler: APScheduler) -> None:
        for job_id, options in jobs.items():
            trigger = {} if "trigger" in options else {"trigger": "cron", "hour": 3}
            scheduler.add_job(job_id, job, **(trigger | options))

    return declare


OLD = code(same={}, args={"args": (1,)}, moved={}, gone={})
ARGS = {"args": {"from": [1], "to": [2, "x"]}}
NEW = code(same={}, args={"args": (2, "x")}, moved={"hour": 4}, new={"trigger": "interval", "minutes": 5})


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    entry = sql(tmp_path / "jobs.db")
    deploy(entry, OLD)
    return entry


def plan(store: Any, declare: Declare, *args: str, **config: Any) -> Any:
    return invoke(build(store, declare, **config)[0], "plan", *args)


def test_each_kind_of_change_is_told(store):
    result = plan(store, NEW)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "+ new would be added: every 5 minutes",
        "~ args would be changed",
        "    args: [1] -> [2, \"x\"]",
        "~ moved would be changed",
        "    hour: 3 -> 4",
        "- gone is declared no longer, and would be paused",
        "1 added, 2 changed, 1 pruned; 1 unchanged",
    ]  # fmt: skip


def test_the_same_as_json(store):
    result = plan(store, NEW, "--json")
    assert json.loads(result.stdout) == {
        "added": [{"id": "new", "jobstore": "default", "trigger_description": "every 5 minutes"}],
        "changed": [
            {
                "id": "args",
                "jobstore": "default",
                "modified": False,
                "changes": {"args": {"from": [1], "to": [2, "x"]}},
            },
            {"id": "moved", "jobstore": "default", "modified": False, "changes": {"hour": {"from": "3", "to": "4"}}},
        ],
        "restored": [],
        "pruned": [{"id": "gone", "jobstore": "default"}],
        "refused": [],
        "invalid": [],
        "unchanged": 1,
        "prune": "pause",
    }


@pytest.mark.parametrize(("declare", "status"), [(OLD, 0), (NEW, 2)])
def test_check_ends_with_2_where_anything_would_change(store, declare, status):
    assert plan(store, declare, "--check").exit_code == status


def test_a_plan_changes_nothing_however_often_it_is_made(store):
    first = plan(store, NEW, "--json", SCHEDULER_PRUNE="remove").stdout
    assert plan(store, NEW, "--json", SCHEDULER_PRUNE="remove").stdout == first
    assert plan(store, OLD).stdout == "Nothing would change; 4 unchanged\n"


def test_after_the_deploy_the_plan_is_empty_and_lifts_what_was_pruned(store):
    deploy(store, NEW)
    assert plan(store, NEW, "--check").exit_code == 0
    assert "+ gone is declared again, and would fire again\n" in plan(store, OLD).stdout


def test_a_job_that_is_removed_is_told_so(store):
    assert "- gone is declared no longer, and would be removed\n" in plan(store, NEW, SCHEDULER_PRUNE="remove").stdout
    assert "gone" not in plan(store, NEW, SCHEDULER_PRUNE="keep").stdout


def test_a_declaration_that_cannot_be_scheduled_ends_with_1(store):
    parts = [{"trigger": "cron", "hour": 3}, {"trigger": "cron", "hour": 4}]

    def declare(scheduler: APScheduler) -> None:
        OLD(scheduler)
        scheduler.add_job("never", job, trigger="and", triggers=parts)

    result = plan(store, declare)
    assert result.exit_code == 1
    assert result.stdout.startswith("! never cannot be scheduled: trigger: gives no next fire: ")
    assert result.stdout.endswith("1 invalid; 4 unchanged\n")


def test_before_the_first_deploy_everything_is_new_and_no_file_is_made(tmp_path):
    result = plan(sql(tmp_path / "none.db"), OLD, "--check")
    assert result.exit_code == 2
    assert result.stdout.endswith("4 added; 0 unchanged\n")
    assert list(tmp_path.iterdir()) == []


def test_with_the_memory_store_there_is_nothing_to_compare_with():
    result = plan({"type": "memory"}, OLD, "--check")
    assert (result.exit_code, result.stdout) == (0, "Nothing would change; 0 unchanged\n")
    assert result.stderr == ("The store 'default' is used by one process alone, which adds its jobs when it starts.\n")


@pytest.mark.parametrize(
    "command",
    [("plan",), ("worker",), ("db", "sql"), ("db", "upgrade"), ("db", "import")],
    ids=" ".join,
)
def test_what_concerns_the_store_here_takes_no_server(store, command):
    result = invoke(build(store, OLD)[0], "--url", "http://127.0.0.1:5000/scheduler", *command)
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: `{command[-1]}` concerns the app and its store here; leave --url out\n",
    )
