"""The testing kit: jobs in virtual time, which a test moves on by hours in milliseconds.

::

    async def test_the_report_goes_out_every_morning(virtual_scheduler, virtual_clock):
        virtual_scheduler.add_job("report", send_report, trigger="cron", hour=7)
        await virtual_clock.advance(days=7)
        assert [fire.outcome for fire in virtual_clock.fires] == ["succeeded"] * 7
"""

from .activity import VirtualTimeError
from .block import VirtualTime, VirtualTimeWarning, inline, virtual_time
from .clock import VirtualClock
from .loop import VirtualEventLoop

__all__ = [
    "VirtualClock",
    "VirtualEventLoop",
    "VirtualTime",
    "VirtualTimeError",
    "VirtualTimeWarning",
    "inline",
    "virtual_time",
]
