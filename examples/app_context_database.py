"""Jobs that use a database through the application context. Needs `pip install aiosqlite`.

    python examples/app_context_database.py

Every second a job writes a row into `ticks.sqlite3`, and http://127.0.0.1:5000/ says how many there are.
The connection is opened before each run and closed after it, also after a run that failed. Where it cannot be opened,
the run fails.
"""

import os

import aiosqlite
from quart import Quart, current_app, g

from quart_sched import APScheduler

app = Quart(__name__)
app.config["DATABASE"] = os.environ.get("DATABASE", "ticks.sqlite3")
app.config["SCHEDULER_API_ENABLED"] = True
scheduler = APScheduler(app=app)


@app.before_serving
async def create_table() -> None:
    async with aiosqlite.connect(app.config["DATABASE"]) as db:
        await db.execute("CREATE TABLE IF NOT EXISTS tick (at TEXT NOT NULL)")
        await db.commit()


@scheduler.before_run
async def open_database() -> None:
    g.db = await aiosqlite.connect(current_app.config["DATABASE"])


@scheduler.after_run
async def close_database() -> None:
    if (db := g.pop("db", None)) is not None:  # as where it could not be opened
        await db.close()


@scheduler.task("interval", id="write_row", seconds=1)
async def write_row() -> None:
    cursor = await g.db.execute("INSERT INTO tick VALUES (datetime('now'))")
    await g.db.commit()
    print(f"wrote row {cursor.lastrowid}")


@app.get("/")
async def count_rows() -> dict[str, int]:
    async with (
        aiosqlite.connect(current_app.config["DATABASE"]) as db,
        db.execute("SELECT count(*) FROM tick") as cursor,
    ):
        row = await cursor.fetchone()
    return {"rows": row[0] if row else 0}


scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
