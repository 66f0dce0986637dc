"""The pages. They use `scheduler.aio`, whose verbs never hold up the event loop."""

from quart import Blueprint
from quart.typing import ResponseReturnValue

from .extensions import scheduler
from .tasks import count_down

web = Blueprint("web", __name__)


@web.get("/")
async def index() -> dict[str, str]:
    return {job.id: str(job.trigger) for job in await scheduler.aio.get_jobs()}


@web.post("/countdown/<int:seconds>")
async def start_countdown(seconds: int) -> ResponseReturnValue:
    await scheduler.aio.add_job(
        "countdown", count_down, args=[seconds], trigger="interval", seconds=1, replace_existing=True
    )
    return {"countdown": seconds}, 201
