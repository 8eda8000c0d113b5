"""New Relic's Python agent: which cloud does it run in."""

from newrelic.common.utilization import AzureUtilization

found = AzureUtilization.detect()
print(found)
assert found["name"] == "emulated-machine"
