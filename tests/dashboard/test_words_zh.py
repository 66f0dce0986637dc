"""Explanations and mistakes in Chinese: told out of the same facts as in English."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest

from quart_sched import errors
from quart_sched.errors import InvalidDefinition
from quart_sched.model.backfill import BackfillRequest
from quart_sched.model.circumstances import Hold
from quart_sched.model.explanation import Explanation, Pause, Verdict
from quart_sched.model.forecast import preview
from quart_sched.model.policies import RETRY
from quart_sched.model.runs import RunQuery, RunRecord
from quart_sched.model.trigger_parser import parse_trigger
from quart_sched.web.dashboard import fields, forms, words
from quart_sched.web.dashboard.words import explanations_zh, problems_zh

BERLIN = ZoneInfo("Europe/Berlin")
AT = datetime(2026, 1, 31, 2, 0, tzinfo=BERLIN)
HELD = Hold(AT - timedelta(hours=3), AT + timedelta(hours=1), "anna")


def told(verdict: Verdict, run: RunRecord | None = None, **facts: Any) -> str:
    return explanations_zh.explain(Explanation("job", AT, verdict, "In English.", **facts), BERLIN, run)


def record(**facts: Any) -> RunRecord:
    given: dict[str, Any] = {"started_at": AT, "finished_at": AT + timedelta(seconds=5)} | facts
    return RunRecord("r", "f", "job", AT, given.pop("outcome", "failed"), "schedule", "web-1:7", 1, **given)


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_each_verdict_is_told_without_a_word_of_english(verdict: Verdict) -> None:
    text = told(verdict)
    assert text.endswith("。")
    assert not re.findall(r"[A-Za-z]{2,}", text.replace("max_instances", ""))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (
            told("ran", record(error_type="ValueError", error_message="no\nmore"), outcome="failed", late=90.0,
                 run_ids=("a", "b")),
            ("2026-01-31 02:00", "晚了 1 分钟 30 秒", "web-1:7", "共 2 次尝试", "失败（ValueError：no）", "耗时 5 秒"),
        ),
        (told("ran", record(outcome="succeeded"), outcome="succeeded", late=0.0), ("准时开始", "成功结束")),
        (told("missed", late=3.0, first=AT - timedelta(hours=1), last=AT, fires=2, cause="process_down", down=HELD),
         ("晚了 3 秒", "共 2 次触发", "2026-01-30 23:00", "没有进程在运行")),
        (told("job_paused", pause=Pause("job", HELD)), ("作业由 anna 自 2026-01-30 23:00 至 2026-01-31 03:00",)),
        (told("scheduler_paused", pause=Pause("scheduler", Hold(AT))), ("调度器自 2026-01-31 02:00 起",)),
        (told("to_come", pause=Pause("job", Hold(AT, by="prune"))), ("尚未到来", "代码", "不再声明")),
        (told("skipped", blocked_by=("x", "y")), ("x、y",)),
        (told("not_a_fire", previous=AT - timedelta(days=1), next=AT + timedelta(days=1)),
         ("前一次触发是 2026-01-30 02:00", "后一次是 2026-02-01 02:00")),
        (told("overdue", late=61.0), ("1 分钟 1 秒",)),
        (told("overdue", late=86_700.0), ("已到期 1 天，",)),
    ],
)  # fmt: skip
def test_the_facts_are_in_the_sentence(text: str, facts: tuple[str, ...]) -> None:
    for fact in facts:
        assert fact in text


def test_english_pages_keep_the_english_sentence() -> None:
    found = Explanation("job", AT, "overdue", "In English.")
    assert words.explain(found, BERLIN, None, "en") == "In English."
    assert words.explain(found, BERLIN, None, "zh") != "In English."


def test_a_clock_change_is_told_with_what_it_does_to_the_fire() -> None:
    now = datetime(2026, 3, 28, 12, tzinfo=UTC)
    trigger = parse_trigger({"trigger": "cron", "hour": 2, "minute": 30, "timezone": "Europe/Berlin"})
    for begin, expected in (
        (now, "拨快：02:30 被跳过"),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), "拨慢：02:30 出现两次"),
    ):
        fires = preview(trigger.build(BERLIN, begin), begin, 2)
        marked = next(fire for fire in fires.items if fire.clock_change)
        assert expected in words.clocks(marked.clock_change, marked.at, "zh")
        assert words.clocks(marked.clock_change, marked.at, "en") == marked.clock_change.description


def mistakes() -> set[str]:
    """Return what the forms say to all kinds of nonsense."""
    found: set[str] = set()
    starts = {
        "interval": {"minutes": "5"}, "cron": {"hour": "5"}, "crontab": {"expression": "* * * * *"},
        "calendarinterval": {"days": "1"}, "date": {"run_date": "2026-01-01"},
    }  # fmt: skip
    for kind, start in starts.items():
        found |= {*forms.read_trigger(_given({"kind": kind}))[1].values()}
        for name in forms.LAYOUT[kind]:
            for text in ("x", "-1", "99999", "1.5.2"):
                values = {f"t.{kind}.{key}": value for key, value in (start | {name: text}).items()}
                found |= {*forms.read_trigger(_given({"kind": kind, **values}))[1].values()}
    for text in ("[", "[]", '{"trigger": "x"}'):
        found |= {*forms.read_trigger(_given({"kind": "json", "t.json": text}))[1].values()}
    for key in (
        *(f"o.{name}" for name in forms.OPTIONS),
        *(f"o.retry.{name}" for name in RETRY),
        "tags",
        "name",
    ):
        for text in ("x" * 2001, "-1", "99999999999", "0.5"):
            given = _given({"o.max_instances": "1", "o.max_queue": "1", "o.retry.attempts": "2", key: text})
            found |= {*forms.read_options(given, policies=True)[1].values()}

    def func(a: int, b: float, c: bool, *d: Any, **e: Any) -> None: ...

    for text in ("x", "[", "{}", "1", "true", "[1]", ""):
        found |= {*fields.read(_given({f"a.{name}": text for name in "abcde"}), func)[2].values()}
    now = datetime.now(UTC)
    for asked in ({"start": "x"}, {"start": "2999-01-01"}, {"start": "2020-01-01", "end": "2999-01-01"},
                  {"start": "2020-01-01", "concurrency": "0"}, {}):  # fmt: skip
        with pytest.raises(InvalidDefinition) as caught:
            BackfillRequest.parse(asked, timezone=UTC, now=now)
        found.add(caught.value.problem)
    for query in ({"since": "x"}, {"outcome": "x"}, {"cursor": "x"}):
        with pytest.raises(InvalidDefinition) as caught:
            RunQuery.parse(query, timezone=UTC)
        found.add(caught.value.problem)
    return found


def _given(values: dict[str, str]) -> forms.Given:
    return lambda key: values.get(key, "")


def test_what_the_forms_can_say_is_wrong_has_words() -> None:
    found = mistakes()
    assert len(found) > 60
    assert {problem for problem in found if problems_zh.tell(problem) is None} == set()


def test_what_the_buttons_can_be_refused_with_has_words() -> None:
    refusals: list[errors.SchedulerError] = [
        errors.JobNotFound("a"),
        errors.RunNotFound("1"),
        errors.RunOver("1", "succeeded"),
        errors.OverlapForbidden("a", ["1", "2"]),
        errors.DeclaredJob("a"),
        errors.Forbidden("This needs the right 'operate', which the credentials do not carry"),
        errors.StoreUnavailable("default", OSError("away")),
    ]
    assert [str(error) for error in refusals if problems_zh.tell(str(error)) is None] == []


def test_what_has_no_words_stays_in_english_and_says_so() -> None:
    assert words.wrong("is odd", "zh") == ("is odd", "en")
    assert words.wrong("is missing", "zh") == ("缺失", "zh")
    assert words.wrong("is missing", "en") == ("is missing", "en")
    assert words.wrong(InvalidDefinition("since", "is missing"), "zh") == ("since: 缺失", "zh")
