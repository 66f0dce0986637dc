"""What happened to a fire, and who changed what, over REST."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from quart_sched.auth import HTTPBasicAuth
from tests.web.timetable import get, tick

KEYS = [
    "job_id", "at", "verdict", "description", "outcome", "run_ids", "late", "from", "to", "fires", "blocked_by", "into",
    "cause", "pause", "down", "clock_change", "previous", "next",
]  # fmt: skip


async def test_a_fire_is_explained_with_the_same_keys_whatever_the_answer(client, clock, scheduler):
    await clock.advance(seconds=3600)
    [run] = (await scheduler.aio.runs("hourly")).items
    status, ran = await get(client, "/jobs/hourly/explain?at=2026-03-02T12:30")
    assert (status, list(ran)) == (200, KEYS)
    assert {key: ran[key] for key in ran if ran[key] is not None} == {
        "job_id": "hourly",
        "at": "2026-03-02T12:30:00+00:00",
        "verdict": "ran",
        "description": f"The fire of 2026-03-02 12:30 (UTC) ran at 12:30, on time, on {run.worker}, "
        "and succeeded after 0 seconds.",
        "outcome": "succeeded",
        "run_ids": [run.run_id],
        "late": 0.0,
    }
    status, none = await get(client, "/jobs/hourly/explain?at=2026-03-02T12:31")
    assert (status, list(none), none["verdict"]) == (200, KEYS, "not_a_fire")
    assert (none["previous"], none["next"]) == ("2026-03-02T12:30:00+00:00", "2026-03-02T13:30:00+00:00")
    status, gap = await get(client, "/jobs/daily/explain?at=2026-03-29T02:30")
    assert (status, list(gap), gap["verdict"], gap["at"]) == (200, KEYS, "clock_gap", "2026-03-29T02:30:00")
    assert gap["clock_change"]["effect"] == "moved"


async def test_a_naive_time_is_read_in_the_zone_of_the_trigger_and_an_offset_may_come_bare(client):
    for at in ("2026-03-03T02:30", "2026-03-03T02:30:00+01:00", "2026-03-03T02:30:00%2B01:00", "2026-03-03T01:30:00Z"):
        found = (await get(client, f"/jobs/daily/explain?at={at}"))[1]
        assert (found["verdict"], found["at"]) == ("to_come", "2026-03-03T02:30:00+01:00")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/jobs/hourly/explain", "at: is missing; expected an ISO 8601 date and time"),
        ("/jobs/hourly/explain?at=", "at: is ''; expected an ISO 8601 date and time"),
        ("/jobs/hourly/explain?at=noon", "at: is 'noon'; expected an ISO 8601 date and time"),
        ("/jobs/hourly/explain?at=9999-12-31", "at: is 9999-12-31T00:00:00; expected a time within 50 years from now"),
        ("/jobs/hourly/explain?at=0001-01-01", "at: is 0001-01-01T00:00:00; expected a time within"),
        ("/jobs/hourly/explain?time=1", "time: is '1', but not known here; expected at"),
        ("/audit?limit=0", "limit: is '0'; expected a whole number from 1 to 500"),
        ("/audit?cursor=x", "cursor: is 'x'; expected the `next` of a page of changes"),
        ("/audit?actor=x", "actor: is 'x', but not known here; expected job_id, limit, cursor"),
    ],
)
async def test_what_is_wrong_with_the_parameters_is_named(client, path, expected):
    status, error = await get(client, path)
    assert (status, list(error)) == (400, ["error_message"])
    assert error["error_message"].startswith(expected)


async def test_a_job_that_nobody_has_ever_heard_of_is_not_found(client):
    assert await get(client, "/jobs/nobody/explain?at=2026-03-02") == (404, {"error_message": "Job nobody not found"})


@pytest.mark.parametrize("job_id", ["a/b", "ü b", "a/explain", "explain"])
async def test_a_job_with_an_odd_id_is_explained(client, scheduler, job_id):
    scheduler.add_job(job_id, tick, trigger="interval", hours=1)
    status, found = await get(client, f"/jobs/{quote(job_id)}/explain?at=2026-03-02T13:00")
    assert (status, found["job_id"], found["verdict"]) == (200, job_id, "to_come")


async def test_a_job_whose_id_ends_like_the_question_can_still_be_looked_at(client, scheduler):
    scheduler.add_job("a/explain", tick, trigger="interval", hours=1)
    status, job = await get(client, "/jobs/a/explain")
    assert (status, job["id"]) == (200, "a/explain")


async def test_the_audit_list_says_who_did_what_and_when_newest_first(client, scheduler, clock):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(lambda auth: {"read", "operate", "admin"})
    headers = {"Authorization": "Basic YWxpY2U6c2VjcmV0"}
    for seconds, verb, path, body in (
        (1, "POST", "/jobs/hourly/pause", None),
        (2, "PATCH", "/jobs/hourly", {"max_instances": 3, "name": "Each hour"}),
        (3, "POST", "/jobs/hourly/resume", None),
        (4, "POST", "/pause", None),
        (5, "DELETE", "/jobs/hourly", None),
        (6, "DELETE", "/jobs/hourly", None),
    ):
        await clock.advance(seconds=1)
        response = await client.open(f"/scheduler{path}", method=verb, headers=headers, json=body)
        assert (response.status_code == 404) == (seconds == 6)
    status, page = await get(client, "/audit?limit=5", headers=headers)
    assert status == 200
    assert page["items"] == [
        {"at": f"2026-03-02T12:00:0{second}+00:00", "actor": "alice", "action": action, "job_id": job_id,
         "version": None, "detail": detail}
        for second, action, job_id, detail in (
            (5, "remove", "hourly", None),
            (4, "pause", None, None),
            (3, "resume", "hourly", None),
            (2, "modify", "hourly", "name, max_instances"),
            (1, "pause", "hourly", None),
        )
    ]  # fmt: skip
    rest = (await get(client, f"/audit?cursor={page['next']}", headers=headers))[1]
    assert [(each["action"], each["job_id"], each["actor"]) for each in rest["items"]] == [
        ("declare", "daily", "deploy"),
        ("declare", "hourly", "deploy"),
        ("start", None, "code"),
    ]
    assert rest["next"] is None
    of_job = (await get(client, "/audit?job_id=daily", headers=headers))[1]
    assert [each["action"] for each in of_job["items"]] == ["declare"]


@pytest.mark.parametrize("path", ["/jobs/hourly/explain?at=2026-03-02T13:30", "/audit"])
async def test_both_need_the_right_to_read(client, scheduler, path):
    scheduler.auth = HTTPBasicAuth()
    rights: set[str] = {"operate"}
    scheduler.authenticate(lambda auth: rights)
    headers = {"Authorization": "Basic YTpi"}
    assert (await get(client, path, headers=headers))[0] == 403
    rights.add("read")
    assert (await get(client, path, headers=headers))[0] == 200
    assert (await client.post(f"/scheduler{path}", headers=headers)).status_code == 405
