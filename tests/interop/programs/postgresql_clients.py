"""Connect with several clients until the token in PGPASSFILE has been replaced twice.

    python postgresql_clients.py PORT SOCKET_DIRECTORY

Each new token becomes the role's password, as Azure accepts each new token. No client gets a
password: all of them read PGPASSFILE.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psycopg
import psycopg2

PORT, SOCKETS = sys.argv[1:]
SERVER = {"host": "127.0.0.1", "port": int(PORT), "user": "web"}
QUERY = "SELECT current_user"


def current_token() -> str:
    return Path(os.environ["PGPASSFILE"]).read_text().strip().rpartition(":")[2]


def set_password(token: str) -> None:
    administrator = psycopg.connect(host=SOCKETS, port=int(PORT), user="postgres")
    with administrator as connection:
        connection.execute(psycopg.sql.SQL("ALTER ROLE web PASSWORD {}").format(token))


def with_psql() -> str:
    command = ["psql", "-h", "127.0.0.1", "-p", PORT, "-U", "web", "-wAtc", QUERY, "postgres"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def with_psycopg() -> str:
    with psycopg.connect(dbname="postgres", **SERVER) as connection:
        return connection.execute(QUERY).fetchone()[0]


def with_psycopg2() -> str:
    connection = psycopg2.connect(dbname="postgres", **SERVER)
    cursor = connection.cursor()
    cursor.execute(QUERY)
    found = cursor.fetchone()[0]
    connection.close()
    return found


def with_asyncpg() -> str:
    async def connect() -> str:
        connection = await asyncpg.connect(database="postgres", **SERVER)
        try:
            return await connection.fetchval(QUERY)
        finally:
            await connection.close()

    return asyncio.run(connect())


def main() -> None:
    seen: list[str] = []
    deadline = time.monotonic() + 120
    while len(seen) < 3 and time.monotonic() < deadline:
        token = current_token()
        if token in seen:
            time.sleep(0.1)
            continue
        seen.append(token)
        set_password(token)
        users = [with_psql(), with_psycopg(), with_psycopg2(), with_asyncpg()]
        print(" ".join(users), flush=True)


main()
