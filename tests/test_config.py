"""The configuration: read once, checked, and wrong values named."""

from __future__ import annotations

import copy
import logging
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from quart import Quart

from quart_sched import APScheduler
from quart_sched.auth import HTTPBasicAuth
from quart_sched.config import KNOWN_KEYS, Settings
from quart_sched.errors import ConfigError


def job() -> None: ...


JOB = {"id": "job", "func": job, "trigger": "interval", "seconds": 5}


def test_the_defaults_are_flask_apschedulers() -> None:
    settings = Settings.from_mapping({})
    assert (settings.api_enabled, settings.api_prefix, settings.endpoint_prefix) == (False, "/scheduler", "scheduler.")
    assert (settings.allowed_hosts, settings.auth, settings.jobs) == (("*",), None, ())
    assert settings.job_defaults == {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1}


def test_every_key_is_read() -> None:
    auth = HTTPBasicAuth()
    settings = Settings.from_mapping(
        {
            "SCHEDULER_API_ENABLED": True,
            "SCHEDULER_API_PREFIX": "/cron/",
            "SCHEDULER_ENDPOINT_PREFIX": None,
            "SCHEDULER_ALLOWED_HOSTS": ["a", "b"],
            "SCHEDULER_AUTH": auth,
            "SCHEDULER_TIMEZONE": "Asia/Shanghai",
            "SCHEDULER_AUTOSTART": True,
            "SCHEDULER_SHUTDOWN_TIMEOUT": 0,
            "SCHEDULER_MAX_THREADS": 3,
            "SCHEDULER_MAX_RUNS": 4,
            "SCHEDULER_POLL_INTERVAL": 0.5,
            "SCHEDULER_MAX_CATCH_UP": 6,
            "SCHEDULER_GUARD_WORKERS": False,
            "SCHEDULER_API_ALLOWED_FUNCS": ["a:*"],
            "SCHEDULER_TRUSTED_HOSTS": ["Admin.Example", "[::1]"],
            "SCHEDULER_HISTORY_SIZE": 7,
            "JSONIFY_PRETTYPRINT_REGULAR": 1,
        }
    )
    assert (settings.api_prefix, settings.endpoint_prefix, settings.auth) == ("/cron", "", auth)
    assert settings.timezone == ZoneInfo("Asia/Shanghai")
    assert (settings.shutdown_timeout, settings.max_threads, settings.max_runs) == (0.0, 3, 4)
    assert (settings.poll_interval, settings.max_catch_up, settings.history_size) == (0.5, 6, 7)
    assert settings.trusted_hosts == ("admin.example", "[::1]")
    assert settings.pretty_json is True
    assert not settings.guard_workers


def test_old_names_still_count_and_newer_ones_win() -> None:
    assert Settings.from_mapping({"SCHEDULER_VIEWS_ENABLED": True}).api_enabled
    assert not Settings.from_mapping({"SCHEDULER_API_ENABLED": False, "SCHEDULER_VIEWS_ENABLED": True}).api_enabled
    assert Settings.from_mapping({"JOBS": [JOB]}).jobs[0].id == "job"
    both = {"SCHEDULER_JOBS": [{**JOB, "id": "newer"}], "JOBS": [JOB]}
    assert [definition.id for definition in Settings.from_mapping(both).jobs] == ["newer"]
    assert [definition.id for definition in Settings.from_mapping(both | {"SCHEDULER_JOBS": []}).jobs] == ["job"]


def test_attributes_set_before_are_defaults_under_the_configuration() -> None:
    assert Settings.from_mapping({}, api_prefix="/mine").api_prefix == "/mine"
    assert Settings.from_mapping({"SCHEDULER_API_PREFIX": ""}, api_prefix="/mine").api_prefix == ""


WRONG = [
    ("SCHEDULER_API_ENABLED", "yes", "True or False"),
    ("SCHEDULER_API_PREFIX", "scheduler", "begins with '/'"),
    ("SCHEDULER_API_PREFIX", 5, "begins with '/'"),
    ("SCHEDULER_API_PREFIX", "/a<b>", "begins with '/'"),
    ("SCHEDULER_ENDPOINT_PREFIX", 5, "a str"),
    ("SCHEDULER_ALLOWED_HOSTS", "localhost", "a list of str"),
    ("SCHEDULER_ALLOWED_HOSTS", [5], "a list of str"),
    ("SCHEDULER_ALLOWED_HOSTS", 5, "a list of str"),
    ("SCHEDULER_AUTH", "basic", "HTTPBasicAuth()"),
    ("SCHEDULER_JOBSTORES", [], "dict of alias to job store"),
    ("SCHEDULER_JOBSTORES", {5: {}}, "dict of alias to job store"),
    ("SCHEDULER_JOBSTORES", {"default": "redis"}, '"type" or "class"'),
    ("SCHEDULER_JOBSTORES", {"default": {"url": "x"}}, '"type" or "class"'),
    ("SCHEDULER_EXECUTORS", {"default": 5}, '"type" or "class"'),
    ("SCHEDULER_JOB_DEFAULTS", [], "misfire_grace_time"),
    ("SCHEDULER_JOB_DEFAULTS", {"grace": 1}, "'grace'"),
    ("SCHEDULER_JOB_DEFAULTS", {"coalesce": "perhaps"}, "True or False"),
    ("SCHEDULER_JOB_DEFAULTS", {"max_instances": 0}, "at least 1"),
    ("SCHEDULER_JOB_DEFAULTS", {"misfire_grace_time": "soon"}, "at least 1"),
    ("SCHEDULER_TIMEZONE", "Mars/Olympus", "time zone"),
    ("SCHEDULER_TIMEZONE", 5, "time zone"),
    ("SCHEDULER_JOBS", {"id": "job"}, "a list of dicts"),
    ("SCHEDULER_JOBS", "jobs", "a list of dicts"),
    ("SCHEDULER_JOBS", 5, "a list of dicts"),
    ("SCHEDULER_JOBS", [5], "a dict with id, func and trigger"),
    ("SCHEDULER_JOBS", [JOB, JOB], "used twice"),
    ("SCHEDULER_JOBS", [{**JOB, "seconds": -1}], "seconds: is -1"),
    ("SCHEDULER_JOBS", [{**JOB, "func": "json:nothing"}], "has no 'nothing'"),
    ("SCHEDULER_AUTOSTART", 1, "True or False"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", -1, "at least 0"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", float("nan"), "at least 0"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", True, "at least 0"),
    ("SCHEDULER_POLL_INTERVAL", 0, "above 0"),
    ("SCHEDULER_POLL_INTERVAL", "1", "at least 0"),
    ("SCHEDULER_MAX_THREADS", 0, "at least 1"),
    ("SCHEDULER_MAX_RUNS", 1.5, "at least 1"),
    ("SCHEDULER_API_ALLOWED_FUNCS", "app:*", "a list of str"),
    ("SCHEDULER_API_ALLOWED_FUNCS", ["app"], '"module:name" patterns'),
    ("SCHEDULER_TRUSTED_HOSTS", ["https://a"], "without scheme and port"),
    ("SCHEDULER_TRUSTED_HOSTS", ["[zz]"], "without scheme and port"),
]


@pytest.mark.parametrize(("key", "value", "expected"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_names_the_key_the_value_and_what_was_expected(key: str, value: Any, expected: str) -> None:
    app = Quart("configured")
    app.config[key] = value
    before = copy.copy(vars(app)["extensions"])
    scheduler = APScheduler()
    with pytest.raises(ConfigError) as caught:
        scheduler.init_app(app)
    assert key in str(caught.value)
    assert expected in str(caught.value)
    assert scheduler.app is None
    assert app.extensions == before
    assert not app.before_serving_funcs


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"SCHEDULER_JOBSTORES": {"default": {"type": "filesystem"}}}, "type 'filesystem'; expected one of"),
        ({"SCHEDULER_JOBSTORES": {"default": {"class": "json:dumps"}}}, "expected a subclass"),
        ({"SCHEDULER_JOBSTORES": {"default": {"class": "nowhere:Store"}}}, "cannot be made into a job store"),
        ({"SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy"}}}, "cannot be made into a job store"),
        ({"SCHEDULER_EXECUTORS": {"default": {"type": "rocket"}}}, "type 'rocket'; expected one of"),
        ({"SCHEDULER_EXECUTORS": {"default": {"class": "json:dumps"}}}, "expected a subclass"),
        ({"SCHEDULER_EXECUTORS": {"default": {"class": "nowhere:Executor"}}}, "cannot be made into an executor"),
        ({"SCHEDULER_EXECUTORS": {"default": {"type": "threadpool", "max_workers": 0}}}, "max_workers"),
        ({"SCHEDULER_EXECUTORS": {"default": {"type": "threadpool", "workers": 5}}}, "max_workers"),
        ({"JOBS": [{**JOB, "executor": "gone"}]}, "executor: is 'gone'"),
        ({"JOBS": [{**JOB, "jobstore": "gone"}]}, "jobstore: is 'gone'"),
        (
            {
                "JOBS": [{**JOB, "func": lambda: None}],
                "SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy", "url": "sqlite://"}},
            },
            "no importable name",
        ),
    ],
    ids=str,
)
def test_stores_executors_and_jobs_that_do_not_go_together_are_refused_before_anything_changes(
    key: dict[str, Any], expected: str
) -> None:
    app = Quart("configured")
    app.config.update(key)
    scheduler = APScheduler()
    stores = scheduler.scheduler.catalogue.slots
    with pytest.raises(ConfigError, match=expected):
        scheduler.init_app(app)
    assert scheduler.scheduler.catalogue.slots is stores
    assert scheduler.get_jobs() == []
    assert scheduler.app is None


def test_a_key_that_nobody_knows_is_warned_of_with_the_nearest_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    Settings.from_mapping({"SCHEDULER_API_ENABELD": True, "SCHEDULER_QQQ": 1, "OTHER": 1, 5: 1})
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "SCHEDULER_API_ENABELD is not known and has no effect; did you mean SCHEDULER_API_ENABLED?" in messages[0]
    assert "SCHEDULER_QQQ is not known" in messages[1]


async def test_values_are_never_changed_in_place() -> None:
    config = {
        "SCHEDULER_JOBSTORES": {
            "default": {"type": "memory"},
            "second": {"type": "sqlalchemy", "url": "sqlite://", "engine_options": {"echo": False}},
        },
        "SCHEDULER_EXECUTORS": {"default": {"type": "threadpool", "max_workers": 3}},
        "SCHEDULER_JOB_DEFAULTS": {"coalesce": "false", "max_instances": "3"},
        "JOBS": [{**JOB, "trigger": {"type": "interval", "seconds": 5}, "args": []}],
    }
    del config["JOBS"][0]["seconds"]  # type: ignore[attr-defined]  # a plain dict of the test
    before = copy.deepcopy(config)
    app = Quart("configured")
    app.config.update(config)
    scheduler = APScheduler(app=app)
    scheduler.start()
    async with app.test_app():
        pass
    assert {key: app.config[key] for key in before} == before


def test_job_defaults_may_be_strings_as_out_of_the_environment() -> None:
    settings = Settings.from_mapping(
        {"SCHEDULER_JOB_DEFAULTS": {"coalesce": " No ", "max_instances": "3", "misfire_grace_time": None}}
    )
    assert settings.job_defaults == {"misfire_grace_time": None, "coalesce": False, "max_instances": 3}


def test_instances_are_taken_as_they_are() -> None:
    store, executor = MemoryJobStore(), ThreadPoolExecutor(3)
    settings = Settings.from_mapping(
        {"SCHEDULER_JOBSTORES": {"default": store}, "SCHEDULER_EXECUTORS": {"default": executor}}
    )
    assert settings.jobstores["default"] is store
    assert settings.executors["default"] is executor
    executor.shutdown()


def test_the_default_zone_is_the_machines() -> None:
    assert Settings.from_mapping({"SCHEDULER_TIMEZONE": None}).timezone is not None
    assert Settings.from_mapping({"SCHEDULER_TIMEZONE": UTC}).timezone is UTC


def test_the_known_keys_are_those_of_the_settings() -> None:
    assert "SCHEDULER_API_ENABLED" in KNOWN_KEYS
    assert "JSONIFY_PRETTYPRINT_REGULAR" in KNOWN_KEYS
    assert "SCHEDULER_VIEWS_ENABLED" not in KNOWN_KEYS
