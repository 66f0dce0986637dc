"""An application factory with a blueprint, tasks and event listeners in modules of their own.

Run it from the folder above `examples`, in either way:

    python -m examples.factory
    hypercorn "examples.factory:create_app()" --bind 127.0.0.1:5000

It prints "heartbeat" every two seconds, and what the listeners see. The blueprint adds and shows jobs:

    curl -X POST http://127.0.0.1:5000/countdown/3
    curl http://127.0.0.1:5000/
"""

from quart import Quart

# The decorators in `events` and `tasks` register when these modules are imported.
from . import events, tasks  # noqa: F401
from .extensions import scheduler
from .web import web


class Config:
    SCHEDULER_API_ENABLED = True


def create_app() -> Quart:
    """Make the application. A test may call this as often as it likes: the scheduler goes with the newest one."""
    app = Quart(__name__)
    app.config.from_object(Config)
    app.register_blueprint(web)
    scheduler.init_app(app)
    scheduler.start()
    return app
