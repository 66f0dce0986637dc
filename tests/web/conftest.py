"""What tests of the API share: an app with a timetable, and with those of the stores clusters of processes."""

from tests.stores.conftest import cluster, cluster_clock, tables
from tests.web.timetable import client

__all__ = ["client", "cluster", "cluster_clock", "tables"]
