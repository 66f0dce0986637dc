"""What is wrong, in Chinese: the sentences that forms and buttons can bring about, by their pattern."""

from __future__ import annotations

import re

_WHOLE = (
    (r"is missing", "缺失"),
    (r"is missing; expected how often the job may start for one fire", "缺失；应为每次触发最多启动的次数"),
    (r"is missing; expected a kind of trigger", "缺失；请选择触发器类型"),
    (r"is missing; expected the time of the first fire, in ISO 8601", "缺失；应为第一次触发的时间"),
    (r'is missing; expected a crontab expression such as "(.*)"', r"缺失；应为 crontab 表达式，例如 \1"),
    (r"is missing; expected at least one of years, months, weeks and days", "缺失；年、月、周、天至少填一项"),
    (r"has no fire left; .*", "不会再触发；应为仍会触发的触发器"),
    (r"makes an interval of nothing; expected .*", "间隔为零；至少填一项"),
    (r"makes an interval of (.*); expected one between (.*) and (.*) days", r"间隔为 \1；应在 \2 与 \3 天之间"),
    (r"is (.*), which is no cron expression: (.*)", r"为 \1，不是 cron 表达式：\2"),
    (
        r"is (.*), of (\d+) fields?; expected 5 fields, .*",
        r"为 \1，有 \2 个字段；应为 5 个字段：分 时 日 月 周，前面可加秒",
    ),
    (r"do not fit (\S+): (.*)", r"与 \1 的参数不符：\2"),
    (r"has (.*); expected texts of 1 to (\d+) characters", r"含有 \1；应为 1 到 \2 个字符的文本"),
    (r"is no JSON: (.*)", r"不是 JSON：\1"),
    (r"is no JSON object; .*", '不是 JSON 对象；应为 {"trigger": …}'),
    (r"leaves more than ([\d,]+) fires; expected a shorter span", r"超过 \1 次触发；请缩短时间段"),
    (r"already exists", "已存在"),
    (r"Job (.*) already exists.*", r"作业 \1 已存在"),
    (r"Job (.*) not found", r"找不到作业 \1"),
    (r"Run (.*) not found", r"找不到运行 \1"),
    (r"Run (.*) is over: .*", r"运行 \1 已经结束"),
    (
        r"Job (.*) is already running \((.*)\) and its max_instances forbids another",
        r"作业 \1 已在运行（\2），max_instances 不允许再启动一次",
    ),
    (
        r"Job (.*) is declared, but not in the store yet: .*",
        r"作业 \1 在代码中声明，但尚未写入存储：下一个启动的进程会将其加入",
    ),
    (
        r"Job (.*) is declared in the code and would come back; .*",
        r"作业 \1 在代码中声明，删除后会再次出现；请将其暂停，或从代码中移除",
    ),
    (r"This needs the right '(.*)', which the credentials do not carry", r"此操作需要 \1 权限，而您的凭据没有该权限"),
    (r'Job store "(.*)" is not available: (.*)', r"作业存储 \1 不可用：\2"),
    (r"The run history in (.*) is not available: (.*)", r"\1 中的运行历史不可用：\2"),
)
"""Sentences of their own."""
_EXPECTED = (
    (r"a whole number", "整数"),
    (r"a number", "数字"),
    (r"a number from (\S+) to (\S+)", r"\1 到 \2 的数字"),
    (r"a whole number from (\S+) to (\S+)", r"\1 到 \2 的整数"),
    (r"a whole number from (\S+) to (\S+), the first attempt included", r"\1 到 \2 的整数（包括第一次尝试）"),
    (r"seconds above 0, at most (\S+), or null for no limit", r"大于 0、不超过 \1 的秒数；留空为无限制"),
    (
        r"seconds from 1 to (\S+), or null for SCHEDULER_OVERDUE_GRACE",
        r"1 到 \1 的秒数；留空则按 SCHEDULER_OVERDUE_GRACE",
    ),
    (r"a whole number of at least (\S+)", r"不小于 \1 的整数"),
    (r"a number of at least (\d+)", r"不小于 \1 的数字"),
    (r"a number of at least (\d+), and at most (\d+) seconds", r"\1 到 \2 秒的数字"),
    (r"whole seconds of at least (\d+), or null for no limit", r"不小于 \1 的整数秒；留空为无限制"),
    (r"a date such as (.*)", r"日期，例如 \1"),
    (r'a time zone such as "(.*)" or "(.*)"', r"时区，例如 \1 或 \2"),
    (r"'(.*)'(?:, '(.*)')? or '(.*)'", "可选的值之一"),
    (r"true or false", "true 或 false"),
    (r"a JSON list", "JSON 列表"),
    (r"a JSON object", "JSON 对象"),
    (r'JSON, such as 42, "text", true or \[1, 2\]', '有效的 JSON，例如 42、"text"、true 或 [1, 2]'),
    (r"a time that is not in the future", "不晚于现在的时间"),
    (r"a time before the end, (.*)", r"早于结束时间 \1 的时间"),
    (r"a time within 50 years from now", "距今 50 年以内的时间"),
    (r"an? (?:aware )?ISO 8601 date and time.*", "日期和时间，例如 2026-01-31 02:00"),
    (r"the id of a job", "作业的 ID"),
    (r"a text of at most (\S+) characters", r"最多 \1 个字符的文本"),
    (r"a text of (\S+) to (\S+) characters.*", r"\1 到 \2 个字符的文本"),
    (r"one of (.*)", r"以下之一：\1"),
    (r"the `next` of a page of .*", "页面链接中的值"),
)
"""What stands behind "is …; expected"."""


def tell(problem: str) -> str | None:
    """Return the sentence in Chinese, or None where there is none."""
    for pattern, chinese in _WHOLE:
        if found := re.fullmatch(pattern, problem, re.DOTALL):
            return found.expand(chinese)
    given, separator, expected = problem.rpartition("; expected ")
    if not separator or not given.startswith("is "):
        return None
    for pattern, chinese in _EXPECTED:
        if found := re.fullmatch(pattern, expected, re.DOTALL):
            what = "缺失" if given == "is missing" else f"为 {given.removeprefix('is ')}"
            return f"{what}；应为 {found.expand(chinese)}"
    return None
