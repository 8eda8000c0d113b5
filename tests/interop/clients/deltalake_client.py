"""delta-rs: open a table with the managed identity, without environment variables."""

import os

import deltalake

options = {
    "azure_storage_account_name": "account",
    "azure_storage_endpoint": os.environ["STORAGE"],
    "azure_storage_use_emulator": "false",
    "allow_http": "true",
}
try:
    deltalake.DeltaTable("az://container/table", storage_options=options)
except Exception as error:
    print(error)
