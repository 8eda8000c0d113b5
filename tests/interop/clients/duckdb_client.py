"""DuckDB's azure extension with the managed identity, without environment variables."""

import duckdb
from duckdb_extensions import import_extension

import_extension("azure")
connection = duckdb.connect()
connection.execute("LOAD azure")
connection.execute(
    "CREATE SECRET storage (TYPE azure, PROVIDER managed_identity, ACCOUNT_NAME 'account')"
)
try:
    connection.execute("SELECT * FROM read_blob('az://container/file')").fetchall()
except Exception as error:
    print(error)
