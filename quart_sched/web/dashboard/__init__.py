"""The dashboard: the scheduler in a browser. Pages made on the server, which work without script as well."""

from .routes import present, register

__all__ = ["present", "register"]
