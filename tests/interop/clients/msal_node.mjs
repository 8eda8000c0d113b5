// MSAL for Node.js.
import { ManagedIdentityApplication } from "@azure/msal-node";

const answer = await new ManagedIdentityApplication().acquireToken({
  resource: "https://vault.azure.net",
});
console.log(answer.tokenType);
if (answer.accessToken.split(".").length !== 3) process.exit(1);
