"""The tables of the index by name; `rows` describes their rows."""

from typing import NamedTuple

import lmdb


class Tables(NamedTuple):
    """Handles of one open database."""

    entries: lmdb._Database
    queue: lmdb._Database
    pins: lmdb._Database
    kept: lmdb._Database
    owners: lmdb._Database
    folders: lmdb._Database
    main: lmdb._Database


def open_tables(environment: lmdb.Environment) -> Tables:
    """Opens the tables, and makes the missing ones. Raises lmdb.Error."""
    return Tables(*(environment.open_db(name.encode()) for name in Tables._fields))
