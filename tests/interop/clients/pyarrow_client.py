"""Apache Arrow's Azure file system (Azure SDK for C++) with the managed identity."""

from pyarrow.fs import AzureFileSystem

try:
    AzureFileSystem("account").get_file_info("container/file")
except Exception as error:
    print(error)
