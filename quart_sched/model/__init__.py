"""Pure definitions: triggers and jobs with their wire format, runs and events. No I/O, no clock, no event loop.

What only holds values is a named tuple: to make such a class at each import, and an instance at each fire, takes a
fraction of what a frozen dataclass takes.
"""
