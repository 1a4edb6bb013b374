"""The store: where intent lives, one SQLite file per instance.

Records are JSON documents, one row each.  All are also held in memory: reads never touch the disk, and there is one
copy of each, replaced as a whole and never changed in place.  What must be unique (names, addresses, ports, interface
names) follows from the records (`Record.claims`) and is held in memory alone, in a dictionary in which no claim can
have two owners: the file belongs to one daemon, and 500 published ports are a thousand claims.

Durability: write-ahead log with ``synchronous=NORMAL``.  A committed transaction survives the death of the process at
any instant; a power cut may lose the last ones but never damages the file (sqlite.org/wal.html).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fairlead.errors import Conflict, DiskFull, FairleadError
from fairlead.model import Record, decode, encode
from fairlead.store.reserve import Reserve

R = TypeVar("R", bound=Record)

_SCHEMA = """
create table if not exists record (kind text not null, id text not null, body blob not null, primary key (kind, id))
    without rowid;
create table if not exists setting (name text primary key, value text not null) without rowid;
"""


class Store:
    """Records of the given kinds.  Safe to use from several threads; a transaction excludes all others."""

    def __init__(self, path: Path, kinds: Iterable[type[Record]], *, look_only: bool = False) -> None:
        """Open or make the file at `path`; raises `FairleadError` when it cannot be used.

        With `look_only` nothing can be written, and a file that is not there is an empty store.
        """
        self._lock = threading.RLock()
        self._records: dict[type[Record], dict[str, Record]] = {kind: {} for kind in kinds}
        self._owners: dict[str, Record] = {}
        self._claims: dict[tuple[type[Record], str], frozenset[str]] = {}
        self._stems: dict[str, dict[str, Record]] = {}
        self._undo: list[Callable[[], None]] | None = None
        self._statements: list[tuple[str, tuple[object, ...]]] = []
        """Of the transaction under way."""
        self._grows = False
        """Whether it adds records, or only changes and removes some."""
        self.fault: Callable[[str], None] = lambda point: None
        """Called after each commit, so that tests can kill the process there."""
        try:
            self._db = _looked_at(path) if look_only else _opened(path)
            self._load()
        except sqlite3.Error as error:
            raise _explain(error, path) from error
        self._path = path
        self._reserve = None if look_only else Reserve(path.with_suffix(".reserve"))

    def _load(self) -> None:
        kinds = {kind.__name__: kind for kind in self._records}
        for name, id_, body in self._db.execute("select kind, id, body from record"):
            if kind := kinds.get(name):
                self._hold(kind, id_, decode(kind, body))

    # Reading

    def get(self, kind: type[R], id_: str) -> R | None:
        """The record with this full id."""
        return self._records[kind].get(id_)  # type: ignore[return-value]

    def all(self, kind: type[R]) -> list[R]:
        """Every record of a kind, in no promised order."""
        return list(self._records[kind].values())  # type: ignore[arg-type]

    def owner(self, claim: str) -> Record | None:
        """The record that holds `claim` (see `Record.claims`)."""
        return self._owners.get(claim)

    def owners(self, stem: str) -> list[tuple[str, Record]]:
        """The claims ``STEM@REST``, as REST with the record that holds it."""
        return list(self._stems.get(stem, {}).items())

    def setting(self, name: str) -> str | None:
        """A single value that belongs to no record, such as a sysctl's value before we changed it."""
        row = self._db.execute("select value from setting where name = ?", (name,)).fetchone()
        return row[0] if row else None

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen together or not at all; nests into the outermost one."""
        with self._lock:
            if self._undo is not None:
                yield
                return
            self._undo, self._statements, self._grows = [], [], False
            try:
                self._db.execute("begin immediate")
                yield
                self._commit()
            except BaseException as error:
                for undo in reversed(self._undo):
                    undo()
                if self._db.in_transaction:
                    self._db.execute("rollback")
                if isinstance(error, sqlite3.Error):
                    raise _explain(error, self._path) from error
                raise
            finally:
                self._undo = None
        self.fault("commit")

    def _commit(self) -> None:
        """On a full disk what adds nothing gets the reserve, so that one can stop and remove things to make room."""
        try:
            self._db.execute("commit")
        except sqlite3.Error as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            if not full or self._grows or self._reserve is None or not self._reserve.give():
                raise
            if self._db.in_transaction:
                self._db.execute("rollback")
            self._db.execute("begin immediate")
            for statement in self._statements:
                self._db.execute(*statement)
            self._db.execute("commit")
        else:
            if self._reserve:
                self._reserve.keep()

    def _execute(self, sql: str, *values: object) -> None:
        self._statements.append((sql, values))
        self._db.execute(sql, values)

    def put(self, *records: Record) -> None:
        """Add or replace records; raises `Conflict` when another record holds one of their claims."""
        with self.transaction():
            for record in records:
                self._put(record)

    def delete(self, *records: Record) -> None:
        """Remove records and free their claims; absent ones are no error."""
        with self.transaction():
            for record in records:
                self._delete(record)

    def keep(self, name: str, value: str | None) -> None:
        """Keep a setting, or forget it with None."""
        with self.transaction():
            if value is None:
                self._execute("delete from setting where name = ?", name)
            else:
                self._execute("insert or replace into setting values (?, ?)", name, value)

    def close(self) -> None:
        """Close the file; the store is not used after this."""
        self._db.close()

    def _put(self, record: Record) -> None:
        kind = type(record)
        self._grows |= record.id not in self._records[kind]
        self._exchange(kind, record.id, record)
        self._execute("insert or replace into record values (?, ?, ?)", kind.__name__, record.id, encode(record))

    def _delete(self, record: Record) -> None:
        kind = type(record)
        if record.id in self._records[kind]:
            self._exchange(kind, record.id, None)
            self._execute("delete from record where kind = ? and id = ?", kind.__name__, record.id)

    def _exchange(self, kind: type[Record], id_: str, new: Record | None) -> None:
        old = self._records[kind].get(id_)
        self._hold(kind, id_, new)
        self._on_rollback(lambda: self._hold(kind, id_, old))

    def _hold(self, kind: type[Record], id_: str, record: Record | None) -> None:
        """Have this record, or none, with its claims, in memory; raises `Conflict` with nothing changed."""
        before = self._claims.get((kind, id_), frozenset())
        claims = frozenset(record.claims()) if record else frozenset()
        for claim in claims - before:
            if owner := self._owners.get(claim):
                raise Conflict(f"{claim} is taken by {type(owner).__name__.lower()} {owner.id[:12]}")
        for claim in before - claims:
            self._free(claim)
        if record is None:
            self._records[kind].pop(id_, None)
            self._claims.pop((kind, id_), None)
            return
        self._records[kind][id_] = record
        self._claims[kind, id_] = claims
        self._owners.update(dict.fromkeys(claims, record))
        for claim in claims:
            stem, at, rest = claim.partition("@")
            if at:
                self._stems.setdefault(stem, {})[rest] = record

    def _free(self, claim: str) -> None:
        del self._owners[claim]
        stem, at, rest = claim.partition("@")
        if at:
            del self._stems[stem][rest]
            if not self._stems[stem]:
                del self._stems[stem]

    def _on_rollback(self, undo: Callable[[], None]) -> None:
        assert self._undo is not None, "written outside a transaction"
        self._undo.append(undo)


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=normal")
    db.executescript(_SCHEMA)
    return db


def _looked_at(path: Path) -> sqlite3.Connection:
    if path.exists():
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    db.executescript(_SCHEMA)
    return db


def _explain(error: sqlite3.Error, path: Path) -> FairleadError:
    if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return DiskFull(f"no space left for the state in {path.parent}: free some and try again")
    return FairleadError(f"the state file {path} cannot be used: {error}")
