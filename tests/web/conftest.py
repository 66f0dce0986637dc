"""What tests of the API share with those of the stores: clusters of processes on a database."""

from tests.stores.conftest import cluster, tables

__all__ = ["cluster", "tables"]
