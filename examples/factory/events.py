"""Listeners: they are called for every event that matches their mask, and may be coroutine functions."""

from apscheduler.events import EVENT_JOB_ADDED, EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobEvent, JobExecutionEvent

from .extensions import scheduler


def job_added(event: JobEvent) -> None:
    print(f"event: {event.job_id} was added")


async def job_done(event: JobExecutionEvent) -> None:
    print(f"event: {event.job_id} {'failed' if event.exception else 'is done'}")


scheduler.add_listener(job_added, EVENT_JOB_ADDED)
scheduler.add_listener(job_done, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
