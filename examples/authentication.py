"""Protect the REST API: people log in by Basic authentication, a monitoring system by a bearer token.

    ADMIN_PASSWORD=secret python examples/authentication.py

    curl -i http://127.0.0.1:5000/scheduler/jobs                                            401
    curl -u viewer:viewer http://127.0.0.1:5000/scheduler/jobs                              200: may read
    curl -u viewer:viewer -X POST http://127.0.0.1:5000/scheduler/jobs/tick/run             403: may not run
    curl -u admin:secret -X POST http://127.0.0.1:5000/scheduler/jobs/tick/run              200: may do everything
    curl -H "Authorization: Bearer monitor-token" http://127.0.0.1:5000/scheduler/jobs      200: may read

Where one scheme is enough, `SCHEDULER_AUTH = HTTPBasicAuth()` or `HTTPBearerAuth()` does it, without a class.
"""

import os
from hmac import compare_digest

from quart import Quart

from quart_sched import APScheduler
from quart_sched.auth import Authorization, HTTPAuth, HTTPBasicAuth, HTTPBearerAuth

PASSWORDS = {"admin": os.environ.get("ADMIN_PASSWORD", "admin"), "viewer": "viewer"}
RIGHTS = {"admin": {"read", "operate", "admin"}, "viewer": {"read"}}
MONITOR_TOKEN = os.environ.get("MONITOR_TOKEN", "monitor-token")


class BasicOrBearer(HTTPAuth):
    """Accepts both schemes, and asks browsers for the first."""

    basic, bearer = HTTPBasicAuth(), HTTPBearerAuth()

    def get_authorization(self) -> Authorization | None:
        return self.basic.get_authorization() or self.bearer.get_authorization()

    def get_authenticate_header(self) -> str | None:
        return self.basic.get_authenticate_header()


class Config:
    SCHEDULER_API_ENABLED = True
    SCHEDULER_AUTH = BasicOrBearer()


app = Quart(__name__)
app.config.from_object(Config)
scheduler = APScheduler(app=app)


@scheduler.authenticate
async def authenticate(auth: Authorization) -> set[str]:
    """Return the caller's rights. True would mean all of them, False or nothing that the caller is turned away."""
    if auth.auth_type == "bearer":
        return {"read"} if same(auth["token"], MONITOR_TOKEN) else set()
    password = PASSWORDS.get(auth["username"])
    return RIGHTS[auth["username"]] if password and same(auth["password"], password) else set()


def same(given: str, expected: str) -> bool:
    return compare_digest(given.encode(), expected.encode())  # takes equally long for every wrong guess


@scheduler.task("interval", id="tick", seconds=2)
async def tick() -> None:
    print("tick")


scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
