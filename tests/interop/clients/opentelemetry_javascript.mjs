// OpenTelemetry's detector of Azure VMs, for JavaScript.
import { azureVmDetector } from "@opentelemetry/resource-detector-azure";

const found = await azureVmDetector.detect();
const attributes = {};
for (const [name, value] of Object.entries(found.attributes ?? {})) attributes[name] = await value;
console.log(attributes);
if (attributes["host.name"] !== "emulated-machine") process.exit(1);
