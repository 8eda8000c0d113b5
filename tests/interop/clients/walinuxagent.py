"""The Azure Linux agent: the health check of its IMDS client, and the compute metadata."""

import distro  # noqa: F401 - the agent needs it; without it, the error below would be misleading
from azurelinuxagent.common.protocol.imds import get_imds_client

client = get_imds_client("168.63.129.16")
healthy, error = client.validate()
print(error)
assert healthy
compute = client.get_compute()
assert compute.name == "emulated-machine"
assert compute.vmId
