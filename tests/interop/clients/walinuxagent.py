"""Azure's Linux agent: the health check of its IMDS client, and the compute document."""

import distro  # noqa: F401 - the agent needs it; without it the failure below would mislead
from azurelinuxagent.common.protocol.imds import get_imds_client

client = get_imds_client("168.63.129.16")
healthy, complaint = client.validate()
print(complaint)
assert healthy
compute = client.get_compute()
assert compute.name == "emulated-machine"
assert compute.vmId
