"""New Relic's Python agent: its detection of the cloud."""

from newrelic.common.utilization import AzureUtilization

detected = AzureUtilization.detect()
print(detected)
assert detected["name"] == "emulated-machine"
