"""Pure definitions: triggers and jobs with their wire format, runs and events. No I/O, no clock, no event loop.

What holds values alone is a named tuple where many are made: the class and its instances cost a fraction of what those
of a frozen dataclass do.
"""
