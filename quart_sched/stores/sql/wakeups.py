"""Wake-ups through PostgreSQL's NOTIFY: a hint to look at once. Polling goes on underneath."""

from __future__ import annotations

from typing import Any

from .database import Database


class Wakeups:
    """A connection of its own that listens. Its socket is to be watched by the event loop."""

    def __init__(self, database: Database, channel: str) -> None:
        """Connect and listen; this blocks. Raises what the driver raises."""
        # Outside of the pool, which would close it at its own time.
        connection = database.engine.raw_connection()
        driver: Any = connection.driver_connection
        connection.detach()
        self._driver = driver
        try:
            # Kept, as the driver does not tell it any more of a connection that is lost.
            self._fileno = int(driver.fileno())
            driver.autocommit = True
            driver.execute(f'LISTEN "{channel}"')
        except BaseException:
            driver.close()
            raise

    def fileno(self) -> int:
        """The socket, readable when there is something to `read`."""
        return self._fileno

    def read(self) -> bool:
        """Take what has come, without waiting; tell whether it was a notification. Raises OSError at the end."""
        try:
            self._driver.pgconn.consume_input()
            found = False
            while self._driver.pgconn.notifies() is not None:
                found = True
        except Exception as error:  # the driver's own class
            raise OSError(str(error)) from error
        return found

    def close(self) -> None:
        """End the connection."""
        self._driver.close()
