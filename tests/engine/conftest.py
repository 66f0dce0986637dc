"""What tests of the engine share with those of the stores: clusters of processes on a database."""

from tests.stores.conftest import cluster, cluster_clock, tables

__all__ = ["cluster", "cluster_clock", "tables"]
