"""Statements as SQLAlchemy takes them, each kept: what it makes of one costs as much as many a database's answer."""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy

text = lru_cache(maxsize=1024)(sqlalchemy.text)
