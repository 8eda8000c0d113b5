// Prints the number of parts of a token from the unmodified @azure/identity.
import { createRequire } from "node:module";
const require = createRequire(process.argv[2] + "/");
const { ManagedIdentityCredential } = require("@azure/identity");
const credential = new ManagedIdentityCredential();
const token = await credential.getToken("https://vault.azure.net/.default");
console.log(token.token.split(".").length, token.expiresOnTimestamp > Date.now());
