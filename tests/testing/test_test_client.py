"""A test client alone starts nothing: only what serves the app, or a block of virtual time, does."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("autostart", [False, True])
async def test_no_job_runs_under_a_test_client(scheduler, app, autostart):
    ran = []
    app.config.update(SCHEDULER_API_ENABLED=True, SCHEDULER_AUTOSTART=autostart)
    scheduler.init_app(app)
    scheduler.add_job("job", lambda: ran.append(1), trigger="date")
    if not autostart:
        scheduler.start()
    client = app.test_client()
    async with client:
        assert (await client.get("/")).status_code == 404
        info = await (await client.get("/scheduler")).get_json()
    assert info["running"] is False
    assert not scheduler.running
    assert ran == []
    async with app.test_app():
        assert scheduler.running
