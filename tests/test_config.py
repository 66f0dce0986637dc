"""The configuration: read once, checked, and wrong values named."""

from __future__ import annotations

import copy
import logging
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.triggers.interval import IntervalTrigger
from quart import Quart

from quart_sched import APScheduler
from quart_sched.auth import HTTPBasicAuth
from quart_sched.config import KNOWN_KEYS, Settings
from quart_sched.errors import ConfigError
from tests.names import shown

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def job() -> None: ...


PICKLING = "apscheduler.jobstores.sqlalchemy:SQLAlchemyJobStore"
JOB = {"id": "job", "func": job, "trigger": "interval", "seconds": 5}


def test_the_defaults_are_flask_apschedulers() -> None:
    settings = Settings.from_mapping({})
    assert (settings.api_enabled, settings.api_prefix, settings.endpoint_prefix) == (False, "/scheduler", "scheduler.")
    assert (settings.allowed_hosts, settings.auth, settings.jobs) == (("*",), None, ())
    assert settings.job_defaults == {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1}


def test_the_defaults_of_what_is_ours() -> None:
    settings = Settings.from_mapping({})
    assert (settings.heartbeat, settings.lease, settings.prune) == (5.0, 20.0, "pause")
    assert (settings.history, settings.history_days) == (None, 30.0)
    assert (settings.log_bytes, settings.log_level) == (65_536, logging.INFO)


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
            "SCHEDULER_HISTORY": {"type": "memory"},
            "SCHEDULER_HISTORY_DAYS": 0.5,
            "SCHEDULER_HEARTBEAT": 0.1,
            "SCHEDULER_LEASE": 0.3,
            "SCHEDULER_LOG_BYTES": 0,
            "SCHEDULER_LOG_LEVEL": "DEBUG",
            "SCHEDULER_PRUNE": "keep",
            "JSONIFY_PRETTYPRINT_REGULAR": 1,
        }
    )
    assert (settings.api_prefix, settings.endpoint_prefix, settings.auth) == ("/cron", "", auth)
    assert settings.timezone == ZoneInfo("Asia/Shanghai")
    assert (settings.shutdown_timeout, settings.max_threads, settings.max_runs) == (0.0, 3, 4)
    assert (settings.poll_interval, settings.max_catch_up, settings.history_size) == (0.5, 6, 7)
    assert (settings.heartbeat, settings.lease, settings.prune) == (0.1, 0.3, "keep")
    assert (settings.history, settings.history_days) == ({"type": "memory"}, 0.5)
    assert (settings.log_bytes, settings.log_level) == (0, logging.DEBUG)
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
    ("SCHEDULER_API_PREFIX", "/a b", "begins with '/'"),
    ("SCHEDULER_API_PREFIX", "/a?b", "begins with '/'"),
    ("SCHEDULER_ENDPOINT_PREFIX", 5, "a str"),
    ("SCHEDULER_ALLOWED_HOSTS", "localhost", "a list of str"),
    ("SCHEDULER_ALLOWED_HOSTS", [5], "a list of str"),
    ("SCHEDULER_ALLOWED_HOSTS", 5, "a list of str"),
    ("SCHEDULER_ALLOWED_HOSTS", None, "a list of str"),
    ("SCHEDULER_ALLOWED_HOSTS", ["a", ""], "a list of str"),
    ("SCHEDULER_AUTH", "basic", "HTTPBasicAuth()"),
    ("SCHEDULER_AUTH", HTTPBasicAuth, "HTTPBasicAuth()"),
    ("SCHEDULER_JOBSTORES", [], "dict of alias to job store"),
    ("SCHEDULER_JOBSTORES", {5: {}}, "dict of alias to job store"),
    ("SCHEDULER_JOBSTORES", {"": {"type": "memory"}}, "dict of alias to job store"),
    ("SCHEDULER_JOBSTORES", {"default": ThreadPoolExecutor}, '"type" or "class"'),
    ("SCHEDULER_JOBSTORES", {"default": "redis"}, '"type" or "class"'),
    ("SCHEDULER_JOBSTORES", {"default": {"url": "x"}}, '"type" or "class"'),
    ("SCHEDULER_EXECUTORS", {"default": 5}, '"type" or "class"'),
    ("SCHEDULER_EXECUTORS", {"default": MemoryJobStore()}, '"type" or "class"'),
    ("SCHEDULER_EXECUTORS", "threadpool", "dict of alias to executor"),
    ("SCHEDULER_JOB_DEFAULTS", [], "misfire_grace_time"),
    ("SCHEDULER_JOB_DEFAULTS", {"grace": 1}, "'grace'"),
    ("SCHEDULER_JOB_DEFAULTS", {"coalesce": "perhaps"}, "True or False"),
    ("SCHEDULER_JOB_DEFAULTS", {"coalesce": None}, "True or False"),
    ("SCHEDULER_JOB_DEFAULTS", {"coalesce": 1}, "True or False"),
    ("SCHEDULER_JOB_DEFAULTS", {"max_instances": 0}, "at least 1"),
    ("SCHEDULER_JOB_DEFAULTS", {"max_instances": None}, "at least 1"),
    ("SCHEDULER_JOB_DEFAULTS", {"max_instances": "-1"}, "at least 1"),
    ("SCHEDULER_JOB_DEFAULTS", {"max_instances": ""}, "at least 1"),
    ("SCHEDULER_JOB_DEFAULTS", {"misfire_grace_time": 0}, "at least 1"),
    ("SCHEDULER_JOB_DEFAULTS", {"misfire_grace_time": "1.5"}, "at least 1"),
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
    ("SCHEDULER_JOBS", [JOB, "job"], "SCHEDULER_JOBS[1] is 'job'"),
    ("SCHEDULER_JOBS", [{"func": job, "trigger": "date"}], "(id None): id: is missing"),
    ("SCHEDULER_JOBS", [{"id": "job", "trigger": "date"}], "func: is missing; expected a callable"),
    ("SCHEDULER_JOBS", [{**JOB, "trigger": "rocket"}], "trigger: is 'rocket'; expected one of"),
    ("SCHEDULER_JOBS", [{**JOB, "secnods": 1}], "secnods: is not known; did you mean 'seconds'?"),
    ("SCHEDULER_JOBS", [{**JOB, "args": [1]}], "args: do not fit"),
    ("SCHEDULER_JOBS", [{**JOB, "max_instances": 0}], "max_instances: is 0"),
    ("SCHEDULER_JOBS", [{"id": "job", "func": job, "trigger": "cron", "hour": 99}], "hour: is"),
    ("SCHEDULER_AUTOSTART", 1, "True or False"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", -1, "at least 0"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", float("nan"), "at least 0"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", True, "at least 0"),
    ("SCHEDULER_POLL_INTERVAL", 0, "above 0"),
    ("SCHEDULER_POLL_INTERVAL", "1", "above 0"),
    ("SCHEDULER_POLL_INTERVAL", -1, "above 0"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", float("inf"), "at least 0"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", None, "at least 0"),
    ("SCHEDULER_HISTORY_SIZE", -1, "at least 0"),
    ("SCHEDULER_HISTORY_SIZE", True, "at least 0"),
    ("SCHEDULER_MAX_CATCH_UP", "100", "at least 1"),
    pytest.param("SCHEDULER_MAX_CATCH_UP", 10**5000, "at least 1", id="more digits than Python prints"),
    ("SCHEDULER_SHUTDOWN_TIMEOUT", 10**10, "at most 1000000000"),
    ("SCHEDULER_HEARTBEAT", 0, "above 0"),
    ("SCHEDULER_HEARTBEAT", -1, "above 0"),
    ("SCHEDULER_HEARTBEAT", None, "a number"),
    ("SCHEDULER_LEASE", 0, "above 0"),
    ("SCHEDULER_LEASE", "20", "a number"),
    ("SCHEDULER_LEASE", 14.9, "SCHEDULER_LEASE is 14.9; expected at least three times SCHEDULER_HEARTBEAT (5.0 s)"),
    ("SCHEDULER_HISTORY", "memory", 'None, or a dict with "type"'),
    ("SCHEDULER_HISTORY", [], 'None, or a dict with "type"'),
    ("SCHEDULER_HISTORY", {"type": "memory", 5: 1}, 'None, or a dict with "type"'),
    ("SCHEDULER_HISTORY", {}, "SCHEDULER_HISTORY['type'] is None; expected 'memory' or 'sqlalchemy'"),
    ("SCHEDULER_HISTORY", {"type": "redis"}, "SCHEDULER_HISTORY['type'] is 'redis'"),
    ("SCHEDULER_HISTORY", {"type": ["memory"]}, "SCHEDULER_HISTORY['type'] is ['memory']"),
    ("SCHEDULER_HISTORY_DAYS", 0, "days, a number above 0"),
    ("SCHEDULER_HISTORY_DAYS", "30", "days, a number above 0"),
    ("SCHEDULER_HISTORY_DAYS", True, "days, a number above 0"),
    ("SCHEDULER_HISTORY_DAYS", float("inf"), "at most 100000"),
    ("SCHEDULER_HISTORY_DAYS", float("nan"), "days, a number above 0"),
    ("SCHEDULER_LOG_BYTES", -1, "bytes, a whole number from 0 to 4,000,000"),
    ("SCHEDULER_LOG_BYTES", 4_000_001, "bytes, a whole number from 0 to 4,000,000"),
    ("SCHEDULER_LOG_BYTES", 0.5, "bytes, a whole number from 0 to 4,000,000"),
    ("SCHEDULER_LOG_BYTES", False, "bytes, a whole number from 0 to 4,000,000"),
    ("SCHEDULER_LOG_LEVEL", "LOUD", 'a logging level such as "DEBUG"'),
    ("SCHEDULER_LOG_LEVEL", True, 'a logging level such as "DEBUG"'),
    ("SCHEDULER_LOG_LEVEL", -1, 'a logging level such as "DEBUG"'),
    ("SCHEDULER_LOG_LEVEL", None, 'a logging level such as "DEBUG"'),
    ("SCHEDULER_PRUNE", "delete", "one of 'pause', 'remove', 'keep'"),
    ("SCHEDULER_PRUNE", True, "one of 'pause', 'remove', 'keep'"),
    ("SCHEDULER_PRUNE", ["keep"], "one of 'pause', 'remove', 'keep'"),
    ("SCHEDULER_GUARD_WORKERS", None, "True or False"),
    ("SCHEDULER_MAX_THREADS", 0, "at least 1"),
    ("SCHEDULER_MAX_RUNS", 1.5, "at least 1"),
    ("SCHEDULER_API_ALLOWED_FUNCS", "app:*", "a list of str"),
    ("SCHEDULER_API_ALLOWED_FUNCS", ["app"], '"module:name" patterns'),
    ("SCHEDULER_API_ALLOWED_FUNCS", ["a:b:c"], '"module:name" patterns'),
    ("SCHEDULER_API_ALLOWED_FUNCS", [5], "a list of str"),
    ("SCHEDULER_TRUSTED_HOSTS", ["https://a"], "without scheme and port"),
    ("SCHEDULER_TRUSTED_HOSTS", ["[zz]"], "without scheme and port"),
    ("SCHEDULER_TRUSTED_HOSTS", ["[::1]:5000"], "without scheme and port"),
    ("SCHEDULER_TRUSTED_HOSTS", "localhost", "a list of str"),
]


@pytest.mark.parametrize(("key", "value", "expected"), WRONG, ids=lambda value: shown(value)[:40])
def test_a_wrong_value_names_the_key_the_value_and_what_was_expected(key: str, value: Any, expected: str) -> None:
    app = Quart("configured")
    app.config[key] = value
    before = copy.copy(vars(app)["extensions"])
    scheduler = APScheduler()
    with pytest.raises(ConfigError) as caught:
        scheduler.init_app(app)
    message = str(caught.value)
    assert message.startswith(key)
    assert expected in message
    assert scheduler.app is None
    assert app.extensions == before
    assert not app.before_serving_funcs


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"SCHEDULER_JOBSTORES": {"default": {"type": "filesystem"}}}, "type 'filesystem'; expected one of"),
        ({"SCHEDULER_JOBSTORES": {"default": {"class": "json:dumps"}}}, "expected a subclass"),
        ({"SCHEDULER_JOBSTORES": {"default": {"class": "nowhere:Store"}}}, "cannot be made into a job store"),
        ({"SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy"}}}, "has no url"),
        ({"SCHEDULER_JOBSTORES": {"default": {"class": PICKLING}}}, "cannot be made into a job store"),
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
                "SCHEDULER_JOBSTORES": {"default": {"class": PICKLING, "url": "sqlite://"}},
            },
            "no importable name",
        ),
    ],
    ids=shown,
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


@pytest.mark.parametrize(
    ("key", "value", "start"),
    [
        ("JOBS", 5, "JOBS is 5"),
        ("JOBS", [{**JOB, "seconds": -1}], "JOBS[0] (id 'job')"),
        ("SCHEDULER_VIEWS_ENABLED", "yes", "SCHEDULER_VIEWS_ENABLED is 'yes'"),
        ("SCHEDULER_JOBS", [{**JOB, 5: 1}], "SCHEDULER_JOBS[0]"),
        ("SCHEDULER_JOBS", [{**JOB, "trigger": {5: 1}}], "SCHEDULER_JOBS[0]"),
        ("SCHEDULER_SHUTDOWN_TIMEOUT", 10**400, "SCHEDULER_SHUTDOWN_TIMEOUT is 1"),
        ("SCHEDULER_JOB_DEFAULTS", {"max_instances": "9" * 5000}, "SCHEDULER_JOB_DEFAULTS['max"),
        (
            "SCHEDULER_TRUSTED_HOSTS",
            ["example.com:5000"],
            "SCHEDULER_TRUSTED_HOSTS is ['example.com:5000']; expected a list of host names, without scheme and port",
        ),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_the_message_names_the_key_that_was_given(key: str, value: Any, start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_mapping({key: value})
    assert str(caught.value).startswith(start)


def test_a_heartbeat_that_outgrows_the_default_lease_is_refused_with_both_keys() -> None:
    with pytest.raises(ConfigError, match=r"SCHEDULER_LEASE is 20\.0; .* SCHEDULER_HEARTBEAT \(7 s\)"):
        Settings.from_mapping({"SCHEDULER_HEARTBEAT": 7})
    assert Settings.from_mapping({"SCHEDULER_HEARTBEAT": 7, "SCHEDULER_LEASE": 21}).lease == 21.0


def test_a_wrong_history_does_not_put_its_url_into_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_mapping({"SCHEDULER_HISTORY": {"type": "postgres", "url": "postgresql://me:secret@db/jobs"}})
    assert "secret" not in str(caught.value)


def test_the_settings_of_the_history_are_a_copy() -> None:
    given = {"type": "sqlalchemy", "url": "sqlite://", "engine_options": {"echo": False}}
    read = Settings.from_mapping({"SCHEDULER_HISTORY": given}).history
    assert read == given
    assert read is not given
    assert read is not None
    assert read["engine_options"] is not given["engine_options"]


@pytest.mark.parametrize(("given", "level"), [("warning", logging.WARNING), ("ERROR", 40), (15, 15), (0, 0)])
def test_a_log_level_is_a_name_or_a_number(given: Any, level: int) -> None:
    assert Settings.from_mapping({"SCHEDULER_LOG_LEVEL": given}).log_level == level


def test_an_ipv6_host_is_kept_in_the_brackets_in_which_requests_name_it() -> None:
    hosts = ["2001:DB8::1", "[2001:db8::2]", "10.0.0.1"]
    settings = Settings.from_mapping({"SCHEDULER_TRUSTED_HOSTS": hosts})
    assert settings.trusted_hosts == ("[2001:db8::1]", "[2001:db8::2]", "10.0.0.1")


@pytest.mark.parametrize("key", ["SCHEDULER_MAX_THREADS", "SCHEDULER_EXECUTORS", "SCHEDULER_JOBSTORES", "JOBS"])
def test_a_second_init_app_that_fails_leaves_the_first_as_it_was(key: str) -> None:
    wrong: dict[str, Any] = {
        "SCHEDULER_MAX_THREADS": 0,
        "SCHEDULER_EXECUTORS": {"default": {"type": "rocket"}},
        "SCHEDULER_JOBSTORES": {"default": {"type": "rocket"}},
        "JOBS": [{**JOB, "id": "new", "executor": "gone"}],
    }
    first, second = Quart("first"), Quart("second")
    first.config["JOBS"] = [JOB]
    scheduler = APScheduler(app=first)
    settings, slots = scheduler.settings, scheduler.scheduler.catalogue.slots
    executors = scheduler.scheduler._executors
    second.config |= {"SCHEDULER_API_ENABLED": True, "JOBS": [{**JOB, "id": "new"}], key: wrong[key]}
    rules = [str(rule) for rule in second.url_map.iter_rules()]
    with pytest.raises(ConfigError):
        scheduler.init_app(second)
    assert scheduler.app is first
    assert scheduler.settings is settings
    assert scheduler.scheduler.catalogue.slots is slots
    assert scheduler.scheduler._executors is executors
    assert [known.id for known in scheduler.get_jobs()] == ["job"]
    assert first.extensions["apscheduler"] is scheduler
    assert "apscheduler" not in second.extensions
    assert not hasattr(second, "apscheduler")
    assert not second.before_serving_funcs
    assert not second.after_serving_funcs
    assert [str(rule) for rule in second.url_map.iter_rules()] == rules


def test_a_failed_init_app_can_be_repeated_with_what_is_right() -> None:
    app = Quart("configured")
    app.config |= {"JOBS": [JOB], "SCHEDULER_MAX_RUNS": 0}
    scheduler = APScheduler()
    with pytest.raises(ConfigError, match="SCHEDULER_MAX_RUNS"):
        scheduler.init_app(app)
    app.config["SCHEDULER_MAX_RUNS"] = 5
    scheduler.init_app(app)
    assert [known.id for known in scheduler.get_jobs()] == ["job"]
    assert scheduler.settings.max_runs == 5


def test_a_wrong_default_is_named_by_its_key() -> None:
    with pytest.raises(ConfigError, match="SCHEDULER_API_PREFIX is 'mine'"):
        Settings.from_mapping({}, api_prefix="mine")


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings.from_mapping({}).max_runs = 5  # type: ignore[misc]  # that is what is tested


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
            "second": {"class": PICKLING, "url": "sqlite://", "engine_options": {"echo": False}},
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


def test_nested_options_are_copied_and_live_objects_in_them_kept() -> None:
    engine = object()
    options = {"nested": {"list": [1, "a"], "engine": engine}, "mixed": [engine], "pair": (1, 2)}
    config = {"SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy", **options}}}
    read = Settings.from_mapping(config).jobstores["default"]
    assert read == {"type": "sqlalchemy", **options}
    assert read["nested"] is not options["nested"]
    assert read["nested"]["list"] is not options["nested"]["list"]  # type: ignore[index]  # a dict of the test
    assert read["nested"]["engine"] is engine
    assert read["mixed"][0] is engine


@pytest.mark.parametrize("entry", [JOB, dict(JOB, trigger="interval", seconds=5.0)], ids=["ints", "floats"])
def test_jobs_may_come_as_a_tuple(entry: dict[str, Any]) -> None:
    [definition] = Settings.from_mapping({"JOBS": (entry,)}).jobs
    assert definition.trigger.to_dict() == {"trigger": "interval", "seconds": 5}


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"trigger": {"type": "cron", "hour": 3}}, {"trigger": "cron", "hour": "3"}),
        ({"trigger": {"type": "interval", "minutes": 2}}, {"trigger": "interval", "minutes": 2}),
        (
            {"trigger": IntervalTrigger(seconds=9, start_date=NOW, timezone=UTC)},
            {"trigger": "interval", "start_date": NOW.isoformat(), "seconds": 9, "timezone": "UTC"},
        ),
        ({"trigger": "date", "run_date": NOW}, {"trigger": "date", "run_date": NOW.isoformat()}),
        ({}, {"trigger": "date"}),
    ],
    ids=["cron dict", "interval dict", "object", "date", "nothing"],
)
def test_jobs_take_every_form_of_a_trigger(options: dict[str, Any], shown: dict[str, Any]) -> None:
    [definition] = Settings.from_mapping({"JOBS": [{"id": "job", "func": job, **options}]}).jobs
    assert definition.trigger.to_dict() == shown


def test_an_empty_list_of_jobs_is_none() -> None:
    for empty in ([], (), None):
        assert Settings.from_mapping({"JOBS": empty}).jobs == ()
        assert Settings.from_mapping({"SCHEDULER_JOBS": empty}).jobs == ()


def test_none_means_the_default_where_there_is_nothing_else_to_mean() -> None:
    keys = ("SCHEDULER_JOBSTORES", "SCHEDULER_EXECUTORS", "SCHEDULER_API_ALLOWED_FUNCS", "SCHEDULER_AUTH")
    settings = Settings.from_mapping(dict.fromkeys((*keys, "SCHEDULER_JOB_DEFAULTS", "SCHEDULER_API_PREFIX")))
    assert (settings.jobstores, settings.executors, settings.api_allowed_funcs) == ({}, {}, None)
    assert (settings.auth, settings.api_prefix) == (None, "")
    assert settings.job_defaults == {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1}


@pytest.mark.parametrize("text", ["true", "Yes", " on ", "1"])
def test_truth_may_be_told_in_words(text: str) -> None:
    assert Settings.from_mapping({"SCHEDULER_JOB_DEFAULTS": {"coalesce": text}}).job_defaults["coalesce"] is True


@pytest.mark.parametrize("text", ["False", "no", "OFF", " 0"])
def test_untruth_may_be_told_in_words(text: str) -> None:
    assert Settings.from_mapping({"SCHEDULER_JOB_DEFAULTS": {"coalesce": text}}).job_defaults["coalesce"] is False


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


@pytest.mark.parametrize("zone", ["Europe/Berlin", ZoneInfo("Europe/Berlin")], ids=["name", "tzinfo"])
def test_a_zone_may_be_a_name_or_a_tzinfo(zone: Any) -> None:
    assert Settings.from_mapping({"SCHEDULER_TIMEZONE": zone}).timezone == ZoneInfo("Europe/Berlin")


def test_the_known_keys_are_those_of_the_settings() -> None:
    assert "SCHEDULER_API_ENABLED" in KNOWN_KEYS
    assert "JSONIFY_PRETTYPRINT_REGULAR" in KNOWN_KEYS
    assert "SCHEDULER_VIEWS_ENABLED" not in KNOWN_KEYS
