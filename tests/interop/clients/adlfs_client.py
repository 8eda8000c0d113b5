"""adlfs, the Azure storage library of fsspec, pandas and dask."""

import asyncio

from adlfs import AzureBlobFileSystem


async def main() -> None:
    files = AzureBlobFileSystem(account_name="account", anon=False, asynchronous=True)
    try:
        await asyncio.wait_for(files._ls("container"), 20)
    except Exception as error:
        print(error)


asyncio.run(main())
