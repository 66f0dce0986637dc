"""Where jobs are kept: the memory store, the SQL store, and the adapter for APScheduler's own."""
