import asyncio, logging
from quart import Quart
from quart_sched import APScheduler
app = Quart("x"); s = APScheduler()
l = logging.getLogger("job")
@s.task("interval", id="tick", seconds=0.3)
async def tick(): 
    l.info("one"); await asyncio.sleep(0.6); l.info("two")
app.config.update(SCHEDULER_API_ENABLED=True, TESTING=True)
s.init_app(app); s.start()
async def main():
    async with app.test_app() as t:
        c = t.test_client()
        async with c.request("/scheduler/events") as conn:
            await conn.send_complete()
            async def read():
                while True:
                    print((await conn.receive()).decode(), end="")
            try:
                await asyncio.wait_for(read(), 1.5)
            except asyncio.TimeoutError: pass
        print(len(s.scheduler.live._feed.streams))
asyncio.run(main())
