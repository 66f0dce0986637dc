"""Private database servers, each with its own data on a free port of 127.0.0.1, to be stopped, killed and cut off.

They end with whoever started them, whatever happens: by `stop`, or by the kernel when the thread that started them
dies. So start them in a thread that lasts, the main one. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from tests.servers.ports import free_port

ACCOUNT = "nobody"
"""Whom the servers run as where we are root, as whom PostgreSQL refuses to run."""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Database:
    """A database system in which each test has a database of its own. To be used as a context manager."""

    kind: str
    label: str

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"quart-sched-{self.kind}-"))
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @classmethod
    def missing(cls) -> str | None:
        """Say what is not installed here; None where everything is."""
        return None

    def create(self, name: str) -> str:
        """Make an empty database and return its URL for SQLAlchemy."""
        raise NotImplementedError

    def writers(self, url: str) -> list[int]:
        """The pids of the processes that are within a transaction in which they have locked something, oldest first.

        To be asked while they stand still: what changes meanwhile may show late, or not at all.
        """
        raise NotImplementedError

    def settle_in(self) -> None:
        """Bring the server into the state of one that has worked for a while, where that makes a difference."""

    def close(self) -> None:
        """End the server and remove its data."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _set_up(self) -> None:
        """Make the data and start the server."""


class SQLite(Database):
    """Files in a folder."""

    kind = "sqlite"
    label = "SQLite"

    def create(self, name: str) -> str:
        return f"sqlite:///{self.folder / name}.db"

    def writers(self, url: str) -> list[int]:
        # In WAL mode the right to write is a lock on this byte of the shared memory file.
        inode, byte = os.stat(url.removeprefix("sqlite:///") + "-shm").st_ino, "120"
        locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
        return [
            int(pid)
            for *_, mode, pid, place, first, last in locks
            if mode == "WRITE" and int(place.rpartition(":")[2]) == inode and first <= byte <= last
        ]

    @staticmethod
    def hold(url: str, seconds: float) -> None:
        """Keep every other writer out for a while."""
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")


class Server(Database):
    """A server process. What a commit has acknowledged is on the disk, as in production."""

    driver: str
    crash_signal: signal.Signals
    stop_signal = signal.SIGTERM
    _admin: str
    _sessions: str
    _end_session: str
    _writers: str
    """Asks for the clients' ports."""
    _settle = 0.02
    """Seconds until a transaction whose process stands still shows as it is."""
    _process: subprocess.Popen[bytes] | None = None

    def _set_up(self) -> None:
        self.port = free_port()
        self.log = self.folder / "log"
        if os.geteuid() == 0:
            account = pwd.getpwnam(ACCOUNT)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._initialise()
        self.start()

    def _initialise(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def url(self, database: str) -> str:
        return f"{self.driver}://quart_sched@127.0.0.1:{self.port}/{database}"

    def create(self, name: str) -> str:
        with self.administer() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return self.url(name)

    @contextlib.contextmanager
    def administer(self) -> Iterator[sa.Connection]:
        """Yield a connection of its own that commits each statement."""
        engine = sa.create_engine(self.url(self._admin), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection
        engine.dispose()

    def sessions(self, database: str) -> list[int]:
        """The server's ids of the connections to `database`."""
        with self.administer() as connection:
            return list(connection.execute(sa.text(self._sessions), {"name": database}).scalars())

    def cut(self, database: str) -> int:
        """Break all connections to `database`, whatever they are doing; return how many there were."""
        found = self.sessions(database)
        with self.administer() as connection:
            for session in found:
                with contextlib.suppress(sa.exc.DBAPIError):  # it may have ended by itself
                    connection.execute(sa.text(self._end_session.format(session)))
        return len(found)

    def writers(self, url: str) -> list[int]:
        time.sleep(self._settle)
        with self.administer() as connection:
            ports = connection.execute(sa.text(self._writers), {"name": sa.make_url(url).database}).scalars()
            return [pid for port in ports if (pid := _pid_of(int(port))) is not None]

    def start(self) -> None:
        """Start the server and return when it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the server; it may not answer yet."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_account(), *self._command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def wait(self, timeout: float = 60) -> None:
        """Return when the server answers. Raises RuntimeError with its log when it does not."""
        deadline = time.monotonic() + timeout
        while True:
            assert self._process is not None
            try:
                with self.administer():
                    return
            except sa.exc.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.label} does not answer:\n{self.log.read_text()[-3000:]}") from error
                time.sleep(0.05)

    def stop(self, *, crash: bool = False) -> None:
        """Shut the server down: in good order, or as a power failure would."""
        if self._process is None:
            return
        self._process.send_signal(self.crash_signal if crash else self.stop_signal)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        self.stop(crash=True)
        super().close()

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*_as_account(), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


class PostgreSQL(Server):
    """PostgreSQL, of whatever version is installed; the newest where there are several."""

    kind = "postgresql"
    label = "PostgreSQL"
    driver = "postgresql+psycopg"
    crash_signal = signal.SIGQUIT
    stop_signal = signal.SIGINT  # does not wait for the clients
    _admin = "postgres"
    _sessions = "SELECT pid FROM pg_stat_activity WHERE datname = :name"
    _end_session = "SELECT pg_terminate_backend({})"
    _writers = (
        "SELECT client_port FROM pg_stat_activity "
        "WHERE datname = :name AND state = 'idle in transaction' AND backend_xid IS NOT NULL ORDER BY xact_start"
    )

    @staticmethod
    def _program(name: str) -> str | None:
        versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
        newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
        return str(newest) if newest else shutil.which(name)

    @classmethod
    def missing(cls) -> str | None:
        found = cls._program("postgres") and cls._program("initdb")
        return None if found else "PostgreSQL's server programs postgres and initdb are not installed"

    def _initialise(self) -> None:
        self._run(
            str(self._program("initdb")),
            *("-D", str(self.folder / "data"), "-U", "quart_sched", "-A", "trust", "--no-sync"),
            *("-E", "UTF8", "--locale", "C"),
        )

    def _command(self) -> list[str]:
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self._program("postgres")), "-D", str(self.folder / "data"), *options]

    def settle_in(self) -> None:
        # A new server fills each segment of its log before it uses it; later they are used over and over again.
        with self.administer() as connection:
            for _ in range(6):
                connection.execute(sa.text("SELECT pg_logical_emit_message(false, 'settle', ''), pg_switch_wal()"))
            connection.execute(sa.text("CHECKPOINT"))


class MariaDB(Server):
    """MariaDB."""

    kind = "mariadb"
    label = "MariaDB"
    driver = "mysql+pymysql"
    crash_signal = signal.SIGKILL
    _admin = "mysql"
    _sessions = "SELECT id FROM information_schema.processlist WHERE db = :name"
    _end_session = "KILL CONNECTION {}"
    _settle = 0.15  # what it shows of transactions is up to 0.1 s old
    _writers = (
        "SELECT SUBSTRING_INDEX(host, ':', -1) FROM information_schema.innodb_trx "
        "JOIN information_schema.processlist ON id = trx_mysql_thread_id "
        "WHERE db = :name AND trx_rows_locked > 0 ORDER BY trx_id"
    )

    @staticmethod
    def _program(name: str) -> str | None:
        return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    @classmethod
    def missing(cls) -> str | None:
        found = cls._program("mariadbd") and cls._program("mariadb-install-db")
        return None if found else "MariaDB's server programs mariadbd and mariadb-install-db are not installed"

    def _initialise(self) -> None:
        self._run(
            str(self._program("mariadb-install-db")),
            *("--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db"),
            "--auth-root-authentication-method=normal",
        )
        (self.folder / "account.sql").write_text(
            "CREATE USER IF NOT EXISTS quart_sched@'127.0.0.1';\n"
            "GRANT ALL ON *.* TO quart_sched@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def _command(self) -> list[str]:
        options = {
            "datadir": self.folder / "data",
            "socket": self.folder / "socket",
            "port": self.port,
            "bind-address": "127.0.0.1",
            "init-file": self.folder / "account.sql",
            "innodb-flush-log-at-trx-commit": 1,
            "skip-name-resolve": 1,
        }
        return [
            str(self._program("mariadbd")),
            "--no-defaults",
            *(f"--{key}={value}" for key, value in options.items()),
        ]


DATABASES: dict[str, type[Database]] = {cls.kind: cls for cls in (SQLite, PostgreSQL, MariaDB)}


def _pid_of(port: int) -> int | None:
    """Return the process whose socket of 127.0.0.1 has this port of its own."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    sockets = {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it may have been closed, or be another's
            if os.readlink(link) in sockets:
                return int(link.parts[2])
    return None


def _as_account() -> list[str]:
    change = ["--reuid", ACCOUNT, "--regid", str(pwd.getpwnam(ACCOUNT).pw_gid), "--clear-groups"]
    return ["setpriv", "--pdeathsig", "KILL", *(change if os.geteuid() == 0 else [])]
