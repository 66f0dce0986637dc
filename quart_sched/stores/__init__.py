"""Where jobs are kept: the memory store, and the adapter for APScheduler's own stores."""
