"""What each check examines, for ``--explain`` and for the findings."""

from __future__ import annotations

from typing import NamedTuple

_VM = "https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service"
_TOKEN = (
    "https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/"  # noqa: S105
    "how-to-use-vm-token"
)
_FAQ = (
    "https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/"
    "managed-identities-faq"
)
_ARC = "https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication"
_AGENT = "https://learn.microsoft.com/azure/azure-arc/servers/troubleshoot-agent-onboard"
_NETWORK = "https://learn.microsoft.com/azure/azure-arc/servers/network-requirements"
_WORKLOAD = "https://learn.microsoft.com/azure/aks/workload-identity-overview"
CODES_LINK = "https://learn.microsoft.com/entra/identity-platform/reference-error-codes"
VAULT_LINK = "https://learn.microsoft.com/azure/key-vault/general/common-error-codes"


class CatalogEntry(NamedTuple):
    """The description of a check; its title, ``looked_at`` and link are also in the finding."""

    title: str
    looked_at: str
    cause: str
    evidence: str
    remedy: str
    link: str


CATALOG = {
    "II001": CatalogEntry(
        "endpoint", "the URL in a variable or the default URL, and white space around values",
        "A variable contains a value that is not an http or https URL, or white space.",
        "The variable's value in the process's own environment: /proc/PID/environ.",
        "Correct or unset the variable.", _TOKEN,
    ),
    "II002": CatalogEntry(
        "leftover variables", "IDENTITY_*, IMDS_ENDPOINT, MSI_*, AZURE_FEDERATED_TOKEN_FILE",
        "A shell profile, a container image or a unit file sets variables of another host.",
        "env | grep -E '^(IDENTITY|IMDS|MSI)_'; nothing responds at the URLs in them.",
        "Unset the variables where they are set.", _TOKEN,
    ),
    "II003": CatalogEntry(
        "token source", "the detection rules, and the variables that each of them needs",
        "The first rule whose conditions are all met selects the token source.",
        "The conditions that each of the other rules lacks.",
        "Set the missing variables, or name the source: --source imds or --source arc.", _TOKEN,
    ),
    "II004": CatalogEntry(
        "AZURE_CLIENT_ID", "the variable AZURE_CLIENT_ID, and the token source",
        "DefaultAzureCredential uses it to select a user-assigned identity, which most Azure Arc "
        "agents do not support. A credential without a selector does not use it, except for "
        "workload identity.",
        "The token is refused or not confirmed, but the system-assigned identity works; or the "
        "token is another identity's.",
        "Unset AZURE_CLIENT_ID on Azure Arc servers; elsewhere, pass it as client_id.", _ARC,
    ),
    "II005": CatalogEntry(
        "resource", "the requested resource or scope",
        "A scope was sent as the resource: it ends with /.default or with the name of a "
        "permission.",
        "The response contains AADSTS500011 or invalid_resource.",
        "Use the resource alone, such as https://vault.azure.net.", CODES_LINK,
    ),
    "II006": CatalogEntry(
        "EnvironmentCredential", "AZURE_CLIENT_SECRET and AZURE_CLIENT_CERTIFICATE_PATH",
        "DefaultAzureCredential prefers a service principal in the environment to the managed "
        "identity.",
        "env | grep -o '^AZURE_CLIENT_[A-Z_]*'",
        "Unset these variables, or use ManagedIdentityCredential.", _TOKEN,
    ),
    "II010": CatalogEntry(
        "workload token file", "the file in AZURE_FEDERATED_TOKEN_FILE, and its token's exp claim",
        "The webhook did not change the pod, or the kubelet no longer renews the file.",
        "ls -l $AZURE_FEDERATED_TOKEN_FILE; the exp claim of the token in it.",
        "Label the pod azure.workload.identity/use=true, and recreate the pod.", _WORKLOAD,
    ),
    "II011": CatalogEntry(
        "federated credential", "an AADSTS code in the response, and iss, sub and aud of the token",
        "The client ID is another tenant's or disabled, or the identity has no federated "
        "credential for this service account.",
        "az identity federated-credential list --identity-name NAME --resource-group GROUP",
        "az identity federated-credential create with the issuer, subject and audience of the "
        "pod's token.", _WORKLOAD,
    ),
    "II012": CatalogEntry(
        "application", "a token of --as-application in --tenant, and iss, sub and aud of the "
        "identity's token",
        "The application has no federated credential for the identity, is not known in the tenant, "
        "or cannot reach Microsoft Entra ID.",
        "az ad app federated-credential list --id CLIENT_ID",
        "az ad app federated-credential create with the issuer, subject and audience of the "
        "identity's token.", CODES_LINK,
    ),
    "II015": CatalogEntry(
        "container", "/.dockerenv, /run/.containerenv, /proc/1/cgroup, KUBERNETES_SERVICE_HOST",
        "A container has its own loopback interface; the host's Azure Arc agent does not listen "
        "there.",
        "Connections are refused in the container, but work on the host.",
        "Run with --network host and mount the agent's tokens directory.", _ARC,
    ),
    "II016": CatalogEntry(
        "kind of host", "variables of hosts, the kernel's release, and the firmware",
        "An app without an identity, a pod without workload identity, a machine of a CI service, a "
        "developer's machine or another cloud: it has no managed identity of yours.",
        "env | grep -E '^(WEBSITE|CONTAINER_APP|KUBERNETES|GITHUB|TF_BUILD)'; "
        "cat /sys/class/dmi/id/sys_vendor",
        "The host's own way: az webapp identity assign, az containerapp identity assign, workload "
        "identity, azure/login with OpenID Connect, or az login.", _FAQ,
    ),
    "II020": CatalogEntry(
        "IPv4", "this machine's addresses",
        "The service has an IPv4 address only, and this network is IPv6 only.",
        "ip -4 address shows only the loopback address.",
        "Assign an IPv4 address to the interface, the pod or the container network.", _VM,
    ),
    "II021": CatalogEntry(
        "route", "the kernel's route to the service, including policy rules",
        "There is no default route, or a policy rule makes the address unreachable.",
        "ip route get 169.254.169.254; ip rule",
        "ip route replace 169.254.169.254/32 via DEFAULT_GATEWAY", _VM,
    ),
    "II022": CatalogEntry(
        "network interface", "the routing table, and the addresses in the VM's own metadata",
        "A failover cluster's driver, a second interface or a VPN adds a route that includes the "
        "address. The service accepts requests from the primary interface's primary address only.",
        "ip route get 169.254.169.254 (Windows: route print) shows another interface than that of "
        "the default route.",
        "Linux: ip route replace 169.254.169.254/32 via DEFAULT_GATEWAY dev PRIMARY_INTERFACE. "
        "Windows: route add 169.254.169.254/32 PRIMARY_ADDRESS metric 1 -p", _VM,
    ),
    "II023": CatalogEntry(
        "connection", "one TCP connection to the endpoint",
        "No process listens there, a firewall or network policy drops packets, or the machine is "
        "not an Azure VM.",
        "curl -sv --noproxy '*' -m 2 -H Metadata:true http://169.254.169.254/metadata/versions",
        "Allow this user and process to connect; if this is not an Azure VM, use another "
        "credential.", _VM,
    ),
    "II024": CatalogEntry(
        "proxy settings", "http_proxy, all_proxy and no_proxy, in lower and upper case",
        "Clients that use proxy settings send metadata requests to the proxy, which reaches the "
        "metadata service of its own machine or none.",
        "curl succeeds only with --noproxy '*'.",
        "export NO_PROXY=169.254.169.254", _VM,
    ),
    "II025": CatalogEntry(
        "responding server", "the status, headers and start of the first responses",
        "Another cloud's metadata service, Docker Desktop, a captive portal, a proxy or the VM's "
        "guest proxy agent responds.",
        "Server: EC2ws; Metadata-Flavor: Google; Via; a redirect; HTML; 403 without a body.",
        "Exempt the address from the proxy or portal, allow the program in the VM's access rules, "
        "or use another credential there.", _VM,
    ),
    "II026": CatalogEntry(
        "response", "whether a request gets a response once the connection is made",
        "The service is overloaded, or a proxy or firewall drops the requests.",
        "curl connects, then waits.",
        "Try again in a few minutes; then look for a proxy or a redirecting firewall rule.", _TOKEN,
    ),
    "II027": CatalogEntry(
        "TLS certificate", "the issuer of the server's certificate, and REQUESTS_CA_BUNDLE",
        "A proxy that inspects the traffic signs certificates with its own authority, or another "
        "server responds.",
        "curl -v https://login.microsoftonline.com shows the issuer.",
        "export REQUESTS_CA_BUNDLE=FILE, with that issuer's certificate in FILE.", _WORKLOAD,
    ),
    "II028": CatalogEntry(
        "internet", "with --network: TLS connections to Microsoft's services, and the proxy",
        "A firewall or a proxy blocks services that Microsoft Entra ID's tokens depend on.",
        "azcmagent check; curl -v https://login.microsoftonline.com",
        "Allow the hosts on port 443, or set the proxy.", _NETWORK,
    ),
    "II029": CatalogEntry(
        "Metadata Security Protocol", "Azure's guest proxy agent, its status, and its header",
        "None: this shows whether the VM's access rules apply to requests.",
        "az vm show --query securityProfile.proxyAgentSettings",
        "Allow the user and the program in the VM's access rules.", _VM,
    ),
    "II030": CatalogEntry(
        "Azure Arc agent", "the agent's program, and its port",
        "The agent is not running, or was never installed.",
        "azcmagent show; systemctl status himdsd",
        "sudo systemctl start himdsd", _AGENT,
    ),
    "II031": CatalogEntry(
        "Azure Arc agent's port", "the owner of the socket that listens on the agent's port",
        "Another program opened the port before the agent did.",
        "sudo ss -ltnp 'sport = :40342'",
        "Stop that program, then sudo systemctl restart himdsd.", _ARC,
    ),
    "II032": CatalogEntry(
        "access to the key files", "this user, its groups, and the tokens directory",
        "Only root and the group himds may read them (Windows: Administrators and Hybrid agent "
        "extension applications).",
        "id; sudo ls -l /var/opt/azcmagent/tokens",
        "sudo usermod -aG himds USER, then log in again or restart the service.", _ARC,
    ),
    "II033": CatalogEntry(
        "key file path", "the path in the agent's challenge",
        "The challenge names a file in another directory: this is a container without the "
        "directory, or another server responds.",
        "The path after Basic realm= in the response's WWW-Authenticate header.",
        "Mount the tokens directory into the container, or update the agent.", _ARC,
    ),
    "II034": CatalogEntry(
        "Azure Arc agent's certificate",
        "the certificates in /var/opt/azcmagent/certs, if the package cryptography is installed",
        "The server was off or not connected to Azure for 90 days.",
        "azcmagent show reports Expired.",
        "sudo azcmagent disconnect --force-local-only; sudo azcmagent connect", _AGENT,
    ),
    "II035": CatalogEntry(
        "user-assigned identities on Azure Arc", "whether the response confirms the identity",
        "Older agents ignore the selector.",
        "The response does not contain the requested client_id, object_id or msi_res_id.",
        "Remove the selector, or update the agent.", _ARC,
    ),
    "II036": CatalogEntry(
        "Azure Arc agent's connection", "the agent's response, and its file agentconfig.json",
        "The agent was installed but never connected, was disconnected, or cannot reach Azure.",
        "azcmagent show reports Disconnected.",
        "sudo azcmagent connect; azcmagent check", _AGENT,
    ),
    "II037": CatalogEntry(
        "Azure Arc agent's version", "whether the agent refuses the request's api-version",
        "The agent is years old and does not know the api-version.",
        "The response to a token request names older versions; azcmagent version",
        "sudo apt-get install --only-upgrade azcmagent", _AGENT,
    ),
    "II040": CatalogEntry(
        "shared back-off", "the back-off time that this user's processes share",
        "The service sent 429 or 410 to one process; all processes then wait.",
        "A file with the extension .pause in the shared token cache.",
        "Wait, and find the process that sends too many requests.", _TOKEN,
    ),
    "II041": CatalogEntry(
        "throttling", "whether a response has the status 429",
        "All processes of the machine together send more than 20 requests a second, or 5 at once.",
        "ss -tnp dst 169.254.169.254, several times",
        "Use one credential in each process, and the shared token cache.", _TOKEN,
    ),
    "II042": CatalogEntry(
        "service health", "the status of the last response",
        "410: the service is being updated, for at most 70 s. 404 and 5xx: it is being updated or "
        "is failing.",
        "curl shows the same status.",
        "Wait; then restart or redeploy the VM, and open a support case.", _TOKEN,
    ),
    "II050": CatalogEntry(
        "identity", "the responses to the token request, and to one without the selector",
        "The machine has no identity, does not have the selected one, or has several of which none "
        "is selected.",
        "az vm identity show --resource-group GROUP --name VM",
        "az vm identity assign --resource-group GROUP --name VM [--identities RESOURCE_ID]", _FAQ,
    ),
    "II051": CatalogEntry(
        "recreated identity", "the object IDs of the new token and of the cached ones",
        "An identity that is deleted and recreated has a new object ID, even under the same name.",
        "oid in the token, and principalId in az identity show.",
        "imds-identity cache clear; assign the identity and its roles again.", _FAQ,
    ),
    "II060": CatalogEntry(
        "Microsoft Entra ID error code", "an AADSTS code in the response",
        "Microsoft Entra ID refused the metadata service's request.",
        "The code; --explain CODE explains it.",
        "The remedy for that code.", CODES_LINK,
    ),
    "II061": CatalogEntry(
        "token request", "the complete token request",
        "A cause that no other check explains; see the error message.",
        "imds-identity token RESOURCE -o claims --verbose",
        "Follow the error message.", _TOKEN,
    ),
    "II062": CatalogEntry(
        "token claims", "aud, tid, oid, appid, xms_mirid and roles of the token",
        "The resource rejects a valid token: 401 for its audience or tenant, 403 for missing "
        "roles, an access policy or a firewall.",
        "AKV10022 (audience), AKV10032 (tenant), ForbiddenByRbac, ForbiddenByPolicy, "
        "ForbiddenByFirewall in the resource's response.",
        "az role assignment create --assignee OBJECT_ID --role ROLE --scope RESOURCE_ID",
        VAULT_LINK,
    ),
    "II070": CatalogEntry(
        "clock", "this machine's time and the Date headers of the responses",
        "The clock is not synchronized.",
        "chronyc tracking; timedatectl (Windows: w32tm /query /status)",
        "sudo chronyc makestep (Windows: w32tm /resync /force)", _VM,
    ),
    "II071": CatalogEntry(
        "token validity", "nbf and exp of the token, and the service's time",
        "The service issued a token that is not valid now.",
        "imds-identity token RESOURCE -o claims",
        "Try again, and report it.", _TOKEN,
    ),
    "II080": CatalogEntry(
        "shared cache directory", "its owner and its mode",
        "It belongs to another user (after sudo, or in a container that runs as another user).",
        "ls -ld of the directory",
        "Set IMDS_IDENTITY_CACHE to a directory that this user owns and that has mode 700.", _TOKEN,
    ),
    "II081": CatalogEntry(
        "shared cache contents", "the tokens and failures in the shared token cache",
        "None: this shows where a token may have come from.",
        "imds-identity cache show",
        "imds-identity cache clear", _TOKEN,
    ),
    "II090": CatalogEntry(
        "firmware", "the chassis asset tag and the manufacturer, in the DMI tables",
        "Only Azure VMs have Azure's metadata service.",
        "cat /sys/class/dmi/id/chassis_asset_tag is 7783-7084-3265-9085-8269-3286-77 on Azure.",
        "If this is not an Azure VM, use another credential.", _VM,
    ),
    "II091": CatalogEntry(
        "versions", "the versions of Python, of the system and of packages",
        "None: this is information for support.",
        "python --version; pip list",
        "pip install --upgrade imds-identity", _TOKEN,
    ),
}  # fmt: skip
