"""The extensions, made here without an application so that every module can import them."""

from quart_sched import APScheduler

scheduler = APScheduler()
