"""Azure Monitor's OpenTelemetry exporter: the VM that its internal statistics name."""

from azure.monitor.opentelemetry.exporter.statsbeat import _statsbeat_metrics as statsbeat

metrics = statsbeat._StatsbeatMetrics.__new__(statsbeat._StatsbeatMetrics)
assert metrics._get_azure_compute_metadata()
print(metrics._vm_data)
assert metrics._vm_data["vmId"] == "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
