// MSAL for Node.js.
import { ManagedIdentityApplication } from "@azure/msal-node";

const result = await new ManagedIdentityApplication().acquireToken({
  resource: "https://vault.azure.net",
});
console.log(result.tokenType);
if (result.accessToken.split(".").length !== 3) process.exit(1);
