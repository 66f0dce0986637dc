"""The claiming SQL store: jobs, live runs, history and workers in one database, shared by any number of processes."""
