"""Explanations in Chinese: what happened to a fire, told out of the same facts as the English sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from ....model.circumstances import Hold
from ....model.clock_marks import ClockMark
from ....model.explanation import Explanation
from ....model.runs import RunRecord
from ....model.sentences import spell
from ....model.zones import zone_name

_ENDS = {
    "succeeded": "成功结束",
    "failed": "失败",
    "timed_out": "超时",
    "cancelled": "被取消",
    "lost": "随进程一起丢失",
    "running": "仍在运行",
    "retry_wait": "正在等待下一次尝试",
    "queued": "正在排队",
}
_UNKNOWN = {
    "job_absent": "作业当时不存在：它已被删除，或之后才添加。下面的变更列表中有记录。",
    "no_record": "{fire}应该运行，但没有相关记录：记录已被删除，或早于历史的范围。",
}
_UNITS = {"day": "天", "hour": "小时", "minute": "分钟", "second": "秒"}


def explain(found: Explanation, zone: tzinfo, last: RunRecord | None) -> str:
    """Return what `found` says, in times of `zone`; `last` is the record of the last of its runs."""
    fire = f"{_stamp(found.at, zone)}的触发"
    late = "" if found.late is None else _spell(found.late)
    match found.verdict:
        case "ran":
            text = _ran(found, zone, last, fire)
        case "waiting":
            text = f"{fire}已被领取，正在等待{'下一次尝试' if found.outcome == 'retry_wait' else '轮到它'}。"
        case "cancelled":
            text = f"{fire}在开始前被取消{_error(last)}。"
        case "missed":
            told = f"晚了 {late}才被发现" if late else "被发现得太晚"
            text = f"{fire}被错过：{told}，已不允许再启动{_shared(found, zone)}{_because(found, zone)}。"
        case "coalesced":
            into = f"运行 {found.into}" if found.into else "之后的一次触发（尚未运行）"
            text = f"{fire}合并到{into}：检查作业时两次都已到期{_shared(found, zone)}{_because(found, zone)}。"
        case "skipped":
            blocked = f"：{'、'.join(found.blocked_by)}" if found.blocked_by else ""
            text = f"{fire}被跳过，因为正在运行的数量已达到 max_instances{blocked}。"
        case "job_paused" | "scheduler_paused" | "process_down" | "broken":
            why = _held(found, zone)
            text = f"{fire}没有运行，因为{why}。"
        case "overdue":
            text = f"{fire}已到期{f' {late}' if late else ''}，还没有进程领取它。"
        case "to_come":
            why = f"，但{_held(found, zone)}" if found.pause is not None or found.down is not None else ""
            text = f"{fire}尚未到来{why}。"
        case "clock_gap" if found.clock_change is not None:
            text = mark(found.clock_change)
        case "job_absent" | "no_record":
            text = _UNKNOWN[found.verdict].format(fire=fire)
        case _:
            nearest = [f"前一次触发是{_stamp(found.previous, zone)}"] if found.previous else []
            nearest += [f"后一次是{_stamp(found.next, zone)}"] if found.next else []
            text = f"作业在{_stamp(found.at, zone)}不触发{'：' if nearest else ''}{'，'.join(nearest)}。"
    return text.strip()


def mark(change: ClockMark, at: datetime | None = None) -> str:
    """Return what a clock change does to the fire `at`."""
    wall = change.wall.strftime("%H:%M")
    day = change.change.at.astimezone(change.zone).date()
    clocks = f"{day}（{zone_name(change.zone)}）时钟{'拨快' if change.change.forward else '拨慢'}"
    if change.effect == "left_out":
        return f"{clocks}：{wall} 被跳过，作业不为它触发。"
    if change.effect == "moved":
        instead = "另一时间" if at is None else f" {at.astimezone(UTC).astimezone(change.zone):%H:%M} "
        return f"{clocks}：{wall} 被跳过，作业改在{instead}触发。"
    which = "" if at is None else "，这是第一次" if at.astimezone(UTC) < change.change.at else "，这是第二次"
    fires = {"both": "，作业两次都触发", "once": "，作业只触发一次"}.get(change.effect or "", "")
    return f"{clocks}：{wall} 出现两次{fires}{which}。"


def _spell(seconds: float) -> str:
    return spell(seconds, lambda number, unit: f"{number} {_UNITS[unit]}")


def _ran(found: Explanation, zone: tzinfo, last: RunRecord | None, fire: str) -> str:
    late = f"，晚了 {_spell(found.late)}" if found.late and found.late >= 0.1 else "，准时开始"
    beside = last is not None and last.cause != "schedule" and last.attempt == 1
    what = "作业在计划之外运行了" if beside else f"{fire}运行了{late}"
    where = f"，进程 {last.worker}" if last is not None and last.worker else ""
    tries = f"，共 {len(found.run_ids)} 次尝试" if len(found.run_ids) > 1 else ""
    took = "" if last is None or last.duration is None else f"，耗时 {_spell(last.duration)}"
    end = f"，{_ENDS.get(found.outcome or '', found.outcome or '')}"
    return f"{what}{where}{_because(found, zone)}{tries}{took}{end}{_error(last)}。"


def _error(last: RunRecord | None) -> str:
    if last is None or not (last.error_type or last.error_message):
        return ""
    line = (last.error_message or "").strip().partition("\n")[0][:200]
    return f"（{'：'.join(filter(None, (last.error_type, line)))}）"


def _shared(found: Explanation, zone: tzinfo) -> str:
    if found.first is None or found.last is None or found.first == found.last:
        return ""
    many = "所有触发" if found.fires is None else f"共 {found.fires} 次触发"
    return f"；{_stamp(found.first, zone)}至{_stamp(found.last, zone)}的{many}都是如此"


def _because(found: Explanation, zone: tzinfo) -> str:
    return f"，因为{_held(found, zone)}" if found.cause is not None else ""


def _held(found: Explanation, zone: tzinfo) -> str:
    """Return what kept the fire back."""
    if found.pause is not None:
        hold = found.pause.hold
        if hold.by == "prune":
            return f"代码{_span(hold, zone)}不再声明该作业"
        who = f"由 {hold.by} " if hold.by else ""
        return f"{'作业' if found.pause.scope == 'job' else '调度器'}{who}{_span(hold, zone)}处于暂停状态"
    if found.down is not None:
        return f"{_span(found.down, zone)}没有进程在运行"
    return "当时作业无法运行"


def _span(hold: Hold, zone: tzinfo) -> str:
    begin = f"自{_stamp(hold.since, zone)}" if hold.since else ""
    if hold.until is None:
        return f"{begin}起" if begin else "当时"
    return f"{begin}至{_stamp(hold.until, zone)}"


def _stamp(at: datetime, zone: tzinfo) -> str:
    local = at if at.tzinfo is None else at.astimezone(UTC).astimezone(zone)
    rounded = local + timedelta(microseconds=500) if local.microsecond else local
    form = "milliseconds" if local.microsecond else "seconds" if local.second else "minutes"
    return f" {rounded.date()} {rounded.time().isoformat(form)} "
