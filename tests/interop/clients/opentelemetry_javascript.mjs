// OpenTelemetry's Azure VM detector for JavaScript.
import { azureVmDetector } from "@opentelemetry/resource-detector-azure";

const resource = await azureVmDetector.detect();
const attributes = {};
for (const [name, value] of Object.entries(resource.attributes ?? {})) attributes[name] = await value;
console.log(attributes);
if (attributes["host.name"] !== "emulated-machine") process.exit(1);
