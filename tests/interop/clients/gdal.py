"""GDAL through rasterio: open a file in a storage account with the managed identity."""

import rasterio

try:
    with rasterio.Env(AZURE_STORAGE_ACCOUNT="account", GDAL_HTTP_MAX_RETRY=0, GDAL_HTTP_TIMEOUT=2):
        rasterio.open("/vsiaz/container/picture.tif")
except rasterio.errors.RasterioIOError as error:
    print(error)
