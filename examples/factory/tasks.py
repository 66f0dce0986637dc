"""What the scheduler runs."""

from quart import current_app

from .extensions import scheduler


@scheduler.task("interval", id="heartbeat", seconds=2)
async def heartbeat() -> None:
    print(f"heartbeat of {current_app.name}")  # jobs run inside the application context


async def count_down(left: int) -> None:
    print(f"countdown: {left}")
    if left == 0:
        await scheduler.aio.remove_job("countdown")
    else:
        await scheduler.aio.modify_job("countdown", args=[left - 1])
