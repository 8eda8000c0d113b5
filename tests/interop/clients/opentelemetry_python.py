"""OpenTelemetry's Azure VM detector for Python."""

from opentelemetry.resource.detector.azure.vm import AzureVMResourceDetector

attributes = AzureVMResourceDetector().detect().attributes
print(dict(attributes))
assert attributes["host.name"] == "emulated-machine"
