"""The log of a run: what its code writes, from wherever it runs, within bounds and unseen by the handlers."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import signal
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.engine.logs import LogCapture, RunLog, _run_log

LIMIT = 65_536
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00 [A-Z]+ [\w.]+: ")


class Shown(logging.Handler):
    """A handler that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def shown() -> Iterator[Shown]:
    """The root logger at WARNING, with one more handler; all loggers' settings are put back."""
    root, handler = logging.getLogger(), Shown()
    level = root.level
    root.setLevel(logging.WARNING)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)
    logging.disable(logging.NOTSET)


@pytest.fixture
def logger(shown: Shown, request: pytest.FixtureRequest) -> logging.Logger:
    """A logger of the test's own, without a level."""
    return logging.getLogger(f"shop.{request.node.name.partition('[')[0]}")


@pytest.fixture
def captured() -> Iterator[LogCapture]:
    log_capture = LogCapture()
    log_capture.install()
    yield log_capture
    log_capture.remove()


@pytest.fixture(autouse=True)
def logging_is_left_as_it_was() -> Iterator[None]:
    before = logging.Logger.isEnabledFor, logging.Logger.callHandlers
    yield
    assert (logging.Logger.isEnabledFor, logging.Logger.callHandlers) == before


@contextmanager
def capture(run_log: RunLog) -> Iterator[None]:
    """What a run's context brings about, for a block."""
    token = _run_log.set(run_log)
    try:
        yield
    finally:
        _run_log.reset(token)


def lines(run_log: RunLog) -> list[str]:
    """What was logged, line by line, without the time."""
    return [line.partition(" ")[2] for line in (run_log.text() or "").splitlines()]


def messages(run_log: RunLog) -> list[str]:
    return [line.split(": ", 1)[1] for line in (run_log.text() or "").splitlines()]


def record_of(message: Any, *args: Any, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("shop", level, "jobs.py", 1, message, args, None)


def log_of(*texts: str, limit: int = LIMIT) -> RunLog:
    run_log = RunLog(limit, logging.INFO)
    for text in texts:
        run_log.append(record_of(text))
    return run_log


def in_thread(call: Callable[[], Any]) -> None:
    """Call in a thread, in a copy of this context, as plain functions of jobs are called."""
    thread = threading.Thread(target=copy_context().run, args=(call,))
    thread.start()
    thread.join()


# What a line is


def test_a_line_has_the_time_in_utc_the_level_the_logger_and_the_message() -> None:
    run_log, record = RunLog(LIMIT, logging.INFO), record_of("sold %d", 3)
    record.created = datetime(2026, 11, 24, 6, 0, 0, 123456, tzinfo=UTC).timestamp()
    run_log.append(record)
    assert run_log.text() == "2026-11-24T06:00:00.123456+00:00 INFO shop: sold 3"


def test_a_log_without_lines_is_none() -> None:
    assert RunLog(LIMIT, logging.INFO).text() is None


def test_an_exception_brings_its_traceback(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        try:
            raise ValueError("out of stock")
        except ValueError:
            logger.exception("Could not sell")
    first, second, *_, last = (run_log.text() or "").splitlines()
    assert first.endswith(f" ERROR {logger.name}: Could not sell")
    assert (second, last) == ("Traceback (most recent call last):", "ValueError: out of stock")


def test_an_exception_asked_for_where_there_is_none_adds_nothing(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.error("nothing raised", exc_info=True)
    assert lines(run_log) == [f"ERROR {logger.name}: nothing raised"]


def test_the_stack_is_kept_where_it_is_asked_for(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.info("here", stack_info=True)
    assert "\nStack (most recent call last):\n" in (run_log.text() or "")


def test_the_traceback_text_of_a_record_from_elsewhere_is_kept() -> None:
    run_log, record = RunLog(LIMIT, logging.INFO), record_of("failed there")
    record.exc_text = "Traceback of another process"
    run_log.append(record)
    assert (run_log.text() or "").endswith(": failed there\nTraceback of another process")


def test_the_message_is_formatted_at_once(logger: logging.Logger, captured: LogCapture) -> None:
    run_log, basket = RunLog(LIMIT, logging.INFO), ["apple"]
    with capture(run_log):
        logger.info("basket %s", basket)
        basket.append("pear")
    assert messages(run_log) == ["basket ['apple']"]


def test_the_record_reaches_the_handlers_unchanged(logger: logging.Logger, captured: LogCapture) -> None:
    seen: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(dict(vars(record)))  # type: ignore[method-assign]
    logger.addHandler(handler)
    with capture(RunLog(LIMIT, logging.INFO)):
        logger.warning("sold %d", 3, exc_info=ValueError("x"))
    assert (seen[0]["msg"], seen[0]["args"], seen[0]["exc_text"]) == ("sold %d", (3,), None)
    assert "message" not in seen[0]
    assert seen[0]["funcName"] == "test_the_record_reaches_the_handlers_unchanged"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class RaisesBroken:
    def __str__(self) -> str:
        raise BrokenError


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ("sold %d apples", ("three",), ["'sold %d apples'", "TypeError"]),
        ("sold %s of %s", (3,), ["'sold %s of %s'", "not enough arguments"]),
        ("sold %s", (Broken(),), ["'sold %s'", "no words"]),
        (Broken(), (), ["Broken", "no words"]),
        ("sold %s", (RaisesBroken(),), ["'sold %s'", "BrokenError"]),
    ],
)
def test_a_message_that_cannot_be_formatted_says_so_and_harms_nothing(
    message: Any, args: tuple[Any, ...], expected: list[str]
) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    run_log.append(record_of(message, *args))
    run_log.append(record_of("on we go"))
    first, second = messages(run_log)
    assert "could not be formatted" in first
    assert [word for word in expected if word not in first] == []
    assert second == "on we go"


def test_a_job_goes_on_after_a_message_that_cannot_be_formatted(
    logger: logging.Logger, captured: LogCapture, capsys: pytest.CaptureFixture[str]
) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.info("sold %d apples", "three")
        logger.info("on we go")
    assert len(lines(run_log)) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("moment", [None, float("nan"), 1e300])
def test_a_record_without_a_sane_time_leaves_a_line_that_says_so(moment: Any) -> None:
    run_log, record = RunLog(LIMIT, logging.INFO), record_of("when?")
    record.created = moment
    run_log.append(record)
    assert "could not be formatted" in (run_log.text() or "")


def test_what_utf_8_and_databases_cannot_hold_is_escaped() -> None:
    assert messages(log_of("file \udcff\0 read")) == ["file \\udcff\\0 read"]


# Whose lines


def test_nothing_is_captured_outside_of_a_run(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    logger.warning("before")
    with capture(run_log):
        pass
    logger.warning("after")
    assert run_log.text() is None
    assert not logger.isEnabledFor(logging.INFO)


def test_nothing_is_captured_while_no_capture_is_installed(logger: logging.Logger, shown: Shown) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.info("unseen")
        logger.warning("shown")
    assert (run_log.text(), shown.messages) == (None, ["shown"])


def test_lines_from_a_thread_with_the_context_are_captured(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        in_thread(lambda: logger.info("from the thread"))
        thread = threading.Thread(target=Context().run, args=(logger.warning, "of another context"))
        thread.start()
        thread.join()
    assert messages(run_log) == ["from the thread"]


async def test_each_of_many_tasks_has_its_own_log(logger: logging.Logger, captured: LogCapture) -> None:
    async def child(number: int) -> None:
        await asyncio.sleep(0)
        logger.info("child of %d", number)

    async def job(number: int, run_log: RunLog) -> None:
        with capture(run_log):
            logger.info("begin %d", number)
            await asyncio.create_task(child(number))
            await asyncio.to_thread(logger.info, "thread of %d", number)
            logger.info("end %d", number)

    logs = [RunLog(LIMIT, logging.INFO) for _ in range(10)]
    await asyncio.gather(*(job(number, run_log) for number, run_log in enumerate(logs)))
    for n, run_log in enumerate(logs):
        assert messages(run_log) == [f"begin {n}", f"child of {n}", f"thread of {n}", f"end {n}"]


async def test_what_outlives_the_run_writes_nowhere(logger: logging.Logger, captured: LogCapture, shown: Shown) -> None:
    run_log, ended = RunLog(LIMIT, logging.INFO), asyncio.Event()

    async def outlive() -> None:
        logger.info("in time")
        await ended.wait()
        logger.info("late")
        assert not logger.isEnabledFor(logging.INFO)
        logger.warning("late, and shown")

    with capture(run_log):
        task = asyncio.create_task(outlive())
        await asyncio.sleep(0)
    run_log.close()
    text = run_log.text()
    ended.set()
    await task
    assert messages(run_log) == ["in time"]
    assert run_log.text() == text
    assert shown.messages == ["late, and shown"]


def test_a_line_that_is_under_way_when_the_log_closes_is_not_shown(
    logger: logging.Logger, captured: LogCapture, shown: Shown
) -> None:
    run_log = RunLog(LIMIT, logging.INFO)

    def close(record: logging.LogRecord) -> bool:
        run_log.close()
        return True

    logger.addFilter(close)
    with capture(run_log):
        logger.info("too late")
    assert (run_log.text(), shown.messages) == (None, [])


def test_an_inner_capture_ends_with_its_block(logger: logging.Logger, captured: LogCapture) -> None:
    outer, inner = RunLog(LIMIT, logging.INFO), RunLog(LIMIT, logging.INFO)
    with capture(outer):
        logger.info("one")
        with capture(inner):
            logger.info("two")
        logger.info("three")
    assert (messages(outer), messages(inner)) == (["one", "three"], ["two"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_captures_nothing_even_if_the_log_was_busy(logger: logging.Logger, captured: LogCapture) -> None:
    run_log, busy, done = RunLog(LIMIT, logging.INFO), threading.Event(), threading.Event()

    def hold() -> None:
        with run_log._lock:
            busy.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    busy.wait(10)
    with capture(run_log):
        child = os.fork()
        if not child:
            signal.alarm(10)  # a child that hangs dies
            logger.info("in the child")
            os._exit(logger.isEnabledFor(logging.INFO))
        done.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0
        logger.info("in the parent")
    assert messages(run_log) == ["in the parent"]


# At which level


def test_the_level_asked_for_holds_whatever_the_root_loggers(
    logger: logging.Logger, captured: LogCapture, shown: Shown
) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.debug("one")
        logger.info("two")
        logger.warning("three")
        assert [level for level in (10, 20, 30) if logger.isEnabledFor(level)] == [20, 30]
    assert messages(run_log) == ["two", "three"]
    assert shown.messages == ["three"]


def test_a_root_logger_below_the_level_asked_for_brings_no_more(
    logger: logging.Logger, captured: LogCapture, shown: Shown
) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    run_log = RunLog(LIMIT, logging.ERROR)
    with capture(run_log):
        logger.debug("one")
        logger.error("two")
    assert messages(run_log) == ["two"]
    assert shown.messages == ["one", "two"]


def test_each_run_has_the_level_that_it_asked_for(logger: logging.Logger, captured: LogCapture, shown: Shown) -> None:
    fine, coarse = RunLog(LIMIT, logging.DEBUG), RunLog(LIMIT, logging.ERROR)
    for run_log in (fine, coarse, fine):
        with capture(run_log):
            logger.debug("fine")
            logger.error("coarse")
    assert messages(fine) == ["fine", "coarse"] * 2
    assert messages(coarse) == ["coarse"]
    assert shown.messages == ["coarse"] * 3


def test_the_root_logger_itself_is_captured_at_the_level_asked_for(captured: LogCapture, shown: Shown) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logging.getLogger().info("by the root")
        logging.info("by the module")
    assert lines(run_log) == ["INFO root: by the root", "INFO root: by the module"]
    assert shown.messages == []


@pytest.mark.parametrize("own", [True, False], ids=["own", "an ancestor's"])
def test_a_loggers_own_level_holds(logger: logging.Logger, captured: LogCapture, shown: Shown, own: bool) -> None:
    writer = logger if own else logger.getChild("a.b")
    logger.setLevel(logging.ERROR)
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        writer.warning("not wanted")
        writer.error("wanted")
    logger.setLevel(logging.DEBUG)
    with capture(run_log):
        writer.debug("wanted by the logger")
    logger.setLevel(logging.NOTSET)
    assert messages(run_log) == ["wanted", "wanted by the logger"]
    assert shown.messages == messages(run_log)


def test_logging_disable_holds(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logging.disable(logging.INFO)
        logger.info("disabled")
        logger.handle(record_of("given past the levels, but disabled"))
        logger.warning("not disabled")
        logging.disable(logging.NOTSET)
        logger.info("enabled again")
    assert messages(run_log) == ["not disabled", "enabled again"]


def test_a_disabled_logger_stays_so(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    logger.disabled = True
    with capture(run_log):
        logger.error("disabled")
        assert not logger.isEnabledFor(logging.ERROR)
    logger.disabled = False
    assert run_log.text() is None


def test_a_loggers_filters_hold(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    logger.addFilter(lambda record: "secret" not in record.getMessage())
    with capture(run_log):
        logger.info("a secret")
        logger.info("no more")
    assert messages(run_log) == ["no more"]


def test_a_logger_that_does_not_propagate_is_captured(
    logger: logging.Logger, captured: LogCapture, shown: Shown
) -> None:
    logger.propagate, own = False, Shown()
    logger.addHandler(own)
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.info("for the log")
        logger.warning("for both")
    assert messages(run_log) == ["for the log", "for both"]
    assert (own.messages, shown.messages) == (["for both"], [])


def test_a_run_leaves_no_trace_in_the_loggers_cache_of_levels(logger: logging.Logger, captured: LogCapture) -> None:
    with capture(RunLog(LIMIT, logging.DEBUG)):
        assert logger.isEnabledFor(logging.DEBUG)
        assert logger._cache == {logging.DEBUG: False}  # type: ignore[attr-defined]
    assert not logger.isEnabledFor(logging.DEBUG)


def test_a_level_that_changes_during_a_run_takes_effect(
    logger: logging.Logger, captured: LogCapture, shown: Shown
) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.info("for the log")
        logging.getLogger().setLevel(logging.INFO)
        logger.info("for both")
        logging.getLogger().setLevel(logging.WARNING)
        logger.info("for the log again")
    assert len(lines(run_log)) == 3
    assert shown.messages == ["for both"]


# What the handlers see


def test_a_record_given_to_handle_is_shown_whatever_its_level(
    logger: logging.Logger, captured: LogCapture, shown: Shown
) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.handle(record_of("from another process"))
        logger.handle(record_of("too fine for the log", level=logging.DEBUG))
    assert messages(run_log) == ["from another process"]
    assert shown.messages == ["from another process", "too fine for the log"]


def test_a_library_with_switches_of_its_own_is_shown_as_ever(
    logger: logging.Logger, captured: LogCapture, shown: Shown
) -> None:
    # SQLAlchemy's `echo` goes past `isEnabledFor`, while the logger above has a level of its own.
    logger.setLevel(logging.WARNING)
    with capture(RunLog(LIMIT, logging.INFO)):
        logger._log(logging.INFO, "SELECT 1", ())
    logger.setLevel(logging.NOTSET)
    assert shown.messages == ["SELECT 1"]


def test_what_a_handler_logs_is_captured_and_does_not_recur(logger: logging.Logger, captured: LogCapture) -> None:
    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logging.getLogger("shop.sender").info("sent %s", record.getMessage())

    logger.addHandler(Sender())
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.warning("news")
    assert lines(run_log) == [f"WARNING {logger.name}: news", "INFO shop.sender: sent news"]


def test_an_argument_that_logs_while_it_is_formatted_does_not_recur(
    logger: logging.Logger, captured: LogCapture
) -> None:
    class Talkative:
        def __str__(self) -> str:
            logger.info("formatting %s", self)
            return "talk"

    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logger.info("%s", Talkative())
    assert messages(run_log) == ["talk"]


def test_an_argument_that_stops_the_job_leaves_the_capture_in_place(
    logger: logging.Logger, captured: LogCapture
) -> None:
    class Stop:
        def __str__(self) -> str:
            raise asyncio.CancelledError

    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        with pytest.raises(asyncio.CancelledError):
            logger.info("%s", Stop())
        logger.info("still here")
    assert messages(run_log) == ["still here"]


def test_the_last_resort_does_not_show_what_is_for_the_log_alone(captured: LogCapture) -> None:
    lonely, stream = logging.Logger("lonely", logging.NOTSET), io.StringIO()
    parent = logging.RootLogger(logging.WARNING)
    lonely.parent, lonely.manager = parent, logging.Manager(parent)
    run_log, last_resort = RunLog(LIMIT, logging.INFO), logging.lastResort
    logging.lastResort = logging.StreamHandler(stream)
    try:
        with capture(run_log):
            lonely.info("quiet")
            lonely.warning("loud")
    finally:
        logging.lastResort = last_resort
    assert messages(run_log) == ["quiet", "loud"]
    assert stream.getvalue() == "loud\n"


def test_a_logger_outside_of_the_hierarchy_keeps_its_level(captured: LogCapture) -> None:
    detached, handler = logging.Logger("detached", logging.WARNING), Shown()
    detached.addHandler(handler)
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        detached.info("below")
        detached.warning("above")
    assert messages(run_log) == handler.messages == ["above"]


def test_subclasses_with_rules_of_their_own_work_as_ever(captured: LogCapture, shown: Shown) -> None:
    class Eager(logging.Logger):
        def isEnabledFor(self, level: int) -> bool:
            return True

    class Stamping(logging.Logger):
        def isEnabledFor(self, level: int) -> bool:
            return super().isEnabledFor(level)

        def callHandlers(self, record: logging.LogRecord) -> None:
            record.msg = f"stamped {record.msg}"
            super().callHandlers(record)

    run_log = RunLog(LIMIT, logging.INFO)
    for cls in (Eager, Stamping):
        writer = cls(cls.__name__)
        writer.parent = logging.getLogger()
        with capture(run_log):
            writer.info("one")
            writer.warning("two")
    assert messages(run_log) == ["one", "two", "stamped one", "stamped two"]
    assert shown.messages == ["one", "two", "stamped two"]


def test_a_logger_adapter_is_captured(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        logging.LoggerAdapter(logger, {}).info("adapted")
    assert messages(run_log) == ["adapted"]


# The bound


def test_a_log_of_exactly_the_limit_is_whole() -> None:
    text = log_of("a", "b").text()
    assert text is not None
    assert messages(log_of("a", "b", limit=len(text))) == ["a", "b"]


def test_a_full_log_keeps_its_beginning_and_says_how_much_is_missing() -> None:
    run_log = log_of(*(f"line {number}" for number in range(1000)), limit=1000)
    text = run_log.text()
    assert text is not None
    assert 950 < len(text.encode()) <= 1000
    *kept, notice = text.splitlines()
    whole = [line for number, line in enumerate(kept) if re.fullmatch(f"{LINE.pattern}line {number}", line)]
    assert len(kept) - len(whole) <= 1
    assert notice == f"[the log is full at 1000 bytes; lines missing or cut: {1000 - len(whole)}]"


def test_one_huge_line_keeps_its_head() -> None:
    text = log_of("x" * 10_000_000, limit=500).text()
    assert text is not None
    head, notice = text.splitlines()
    assert LINE.match(head)
    assert head.endswith("xxx")
    assert notice == "[the log is full at 500 bytes; lines missing or cut: 1]"


@pytest.mark.parametrize("limit", range(230, 250))
def test_no_character_is_cut_in_half(limit: int) -> None:
    text = log_of("€" * 100, "😀" * 100, limit=limit).text()
    assert text is not None
    assert limit - 30 < len(text.encode()) <= limit
    head, notice = text.splitlines()
    assert set(head.split(": ", 1)[1]) == {"€"}
    assert notice.endswith("missing or cut: 2]")


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=30), st.integers(0, 3000))
def test_the_text_is_never_longer_than_the_limit(texts: list[str], limit: int) -> None:
    text = log_of(*texts, limit=limit).text()
    whole = log_of(*texts).text()
    assert len((text or "").encode()) <= limit
    if whole is not None and len(whole.encode()) <= limit:
        assert text is not None
        assert "log is full" not in text or "log is full" in whole
    elif whole is not None and limit >= 100:
        assert text is not None
        assert text.splitlines()[-1].startswith(f"[the log is full at {limit} bytes; lines missing or cut: ")


def test_a_log_of_no_bytes_has_no_text() -> None:
    assert log_of("a", "b", limit=0).text() is None


def test_a_full_log_counts_on_and_formats_no_more() -> None:
    formatted: list[int] = []

    class Counting:
        def __str__(self) -> str:
            formatted.append(1)
            return "x" * 200

    run_log = RunLog(400, logging.INFO)
    for _ in range(1000):
        run_log.append(record_of("%s", Counting()))
    assert len(formatted) == 2
    # The second line was cut.
    assert (run_log.text() or "").endswith("lines missing or cut: 999]")


def test_a_full_log_asks_for_no_more_lines(logger: logging.Logger, captured: LogCapture, shown: Shown) -> None:
    run_log = RunLog(100, logging.INFO)
    with capture(run_log):
        logger.info("x" * 100)
        assert not logger.isEnabledFor(logging.INFO)
        logger.info("more")
        logger.error("shown")
    assert shown.messages == ["shown"]
    assert (run_log.text() or "").endswith("lines missing or cut: 4]")


def test_many_lines_cost_bounded_memory(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(10_000, logging.INFO)
    with capture(run_log):
        logger.info("begin")
        tracemalloc.start()
        try:
            for number in range(20_000):
                logger.info("line %d", number)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held < 50_000
    assert len((run_log.text() or "").encode()) <= 10_000


def test_lines_of_many_threads_are_all_there_and_whole(logger: logging.Logger, captured: LogCapture) -> None:
    run_log, together = RunLog(10**7, logging.INFO), threading.Barrier(8)

    def write(thread: int) -> None:
        together.wait()
        for number in range(200):
            logger.info("%d-%d", thread, number)

    run_in_threads(run_log, write)
    written = messages(run_log)
    assert sorted(written) == sorted(f"{thread}-{number}" for thread in range(8) for number in range(200))
    for thread in range(8):
        own = [int(text.split("-")[1]) for text in written if text.startswith(f"{thread}-")]
        assert own == list(range(200))


def test_lines_of_many_threads_that_overflow_are_all_counted(logger: logging.Logger, captured: LogCapture) -> None:
    run_log, together = RunLog(2000, logging.INFO), threading.Barrier(8)

    def write(thread: int) -> None:
        together.wait()
        for _ in range(200):
            logger.info("line")

    run_in_threads(run_log, write)
    *kept, notice = (run_log.text() or "").splitlines()
    whole = sum(line.endswith(": line") for line in kept)
    assert int(notice.split(": ")[1].rstrip("]")) == 8 * 200 - whole


def run_in_threads(run_log: RunLog, write: Callable[[int], None]) -> None:
    """Call `write` with 0 to 7, each in a thread that has the log in its context; switch between them often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with capture(run_log):
            threads = [threading.Thread(target=copy_context().run, args=(write, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)


def test_a_line_written_while_its_thread_is_inside_the_log_does_not_hang() -> None:
    # As a signal handler or a finalizer may.
    run_log = log_of("one")

    def write() -> None:
        with run_log._lock:
            run_log.append(record_of("two"))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert messages(run_log) == ["one", "two"]


# Installing


def test_the_capture_is_in_force_until_the_last_is_removed(logger: logging.Logger) -> None:
    before = logging.Logger.isEnabledFor, logging.Logger.callHandlers
    first, second, run_log = LogCapture(), LogCapture(), RunLog(LIMIT, logging.INFO)
    with capture(run_log):
        first.install()
        second.install()
        logger.info("both")
        first.remove()
        logger.info("one")
        second.remove()
        logger.info("none")
    assert messages(run_log) == ["both", "one"]
    assert (logging.Logger.isEnabledFor, logging.Logger.callHandlers) == before


def test_installing_or_removing_again_changes_nothing(logger: logging.Logger) -> None:
    before = logging.Logger.isEnabledFor, logging.Logger.callHandlers
    log_capture, other, run_log = LogCapture(), LogCapture(), RunLog(LIMIT, logging.INFO)
    log_capture.remove()
    log_capture.install()
    log_capture.install()
    other.install()
    other.remove()
    other.remove()
    with capture(run_log):
        logger.info("once")
    log_capture.remove()
    assert messages(run_log) == ["once"]
    assert (logging.Logger.isEnabledFor, logging.Logger.callHandlers) == before


def test_it_can_be_installed_again(logger: logging.Logger, captured: LogCapture) -> None:
    run_log = RunLog(LIMIT, logging.INFO)
    captured.remove()
    captured.install()
    with capture(run_log):
        logger.info("again")
    assert messages(run_log) == ["again"]


def test_what_others_wrapped_around_it_stays(
    logger: logging.Logger, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    # Put the attributes back afterwards, whatever the test leaves.
    monkeypatch.setattr(logging.Logger, "isEnabledFor", logging.Logger.isEnabledFor)
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    log_capture, run_log = LogCapture(), RunLog(LIMIT, logging.INFO)
    log_capture.install()
    inner = logging.Logger.isEnabledFor, logging.Logger.callHandlers

    def their_is_enabled_for(self: logging.Logger, level: int) -> bool:
        return inner[0](self, level)

    def theirs(self: logging.Logger, record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        inner[1](self, record)

    monkeypatch.setattr(logging.Logger, "isEnabledFor", their_is_enabled_for)
    monkeypatch.setattr(logging.Logger, "callHandlers", theirs)
    with capture(run_log):
        logger.info("one")
        log_capture.remove()
        assert logging.Logger.callHandlers is theirs
        logger.info("two")
        logger.warning("three")
        log_capture.install()
        logger.info("four")
        logger.warning("five")
    log_capture.remove()
    assert logging.Logger.callHandlers is theirs
    # Between the two, logging is as it was; afterwards each line is there once.
    assert messages(run_log) == ["one", "four", "five"]
    assert shown.messages == ["three", "five"]
    assert seen == ["one", "three", "five"]


def test_the_wrapped_methods_keep_their_names(captured: LogCapture) -> None:
    assert logging.Logger.isEnabledFor.__name__ == "isEnabledFor"
    assert logging.Logger.callHandlers.__name__ == "callHandlers"
