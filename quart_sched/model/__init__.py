"""Pure definitions: triggers and jobs with their wire format, runs and events. No I/O, no clock, no event loop."""
