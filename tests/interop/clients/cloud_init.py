"""cloud-init's Azure data source: the complete instance metadata."""

from cloudinit.sources import DataSourceAzure

document = DataSourceAzure.get_metadata_from_imds(
    retries=1, md_type=DataSourceAzure.MetadataType.ALL, api_version="2021-08-01"
)
assert document["compute"]["name"] == "emulated-machine"
assert document["network"]["interface"][0]["macAddress"]
