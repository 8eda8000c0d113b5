"""What each check is about, for ``--explain`` and for who reads a finding elsewhere."""

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
_WORKLOAD = "https://learn.microsoft.com/azure/aks/workload-identity-overview"
_CODES = "https://learn.microsoft.com/entra/identity-platform/reference-error-codes"
_VAULT = "https://learn.microsoft.com/azure/key-vault/general/common-error-codes"


class Entry(NamedTuple):
    """What a check is about.

    Attributes:
        title: a few words.
        looked_at: what it looks at.
        cause: what may be at fault.
        evidence: how to see it without this tool.
        remedy: what mends it.
        link: the page that says more.
    """

    title: str
    looked_at: str
    cause: str
    evidence: str
    remedy: str
    link: str


CATALOGUE = {
    "II001": Entry(
        "the endpoint", "the URL that a variable or the default names",
        "A variable names no http or https URL.",
        "The variable's value, in the environment of the process itself: /proc/PID/environ.",
        "Correct the variable, or unset it.", _TOKEN,
    ),
    "II002": Entry(
        "variables of other hosts", "IDENTITY_*, IMDS_ENDPOINT, MSI_*, AZURE_FEDERATED_TOKEN_FILE",
        "A shell's profile, a container image or a unit file still sets what another host set.",
        "env | grep -E '^(IDENTITY|IMDS|MSI)_'; nothing answers where they lead.",
        "Unset them where they are set.", _TOKEN,
    ),
    "II003": Entry(
        "the source of tokens", "the rules of detection, and the variables each of them needs",
        "The first rule whose conditions all hold decides who is asked.",
        "The conditions that each of the other rules lacks.",
        "Set what is missing, or name the source: --source imds or --source arc.", _TOKEN,
    ),
    "II004": Entry(
        "AZURE_CLIENT_ID", "the variable AZURE_CLIENT_ID, and the kind of source",
        "DefaultAzureCredential takes it as the selector of a user-assigned identity; most Azure "
        "Arc agents have none.",
        "The token is refused, or not confirmed, though the system-assigned identity works.",
        "Unset AZURE_CLIENT_ID on Azure Arc servers.", _ARC,
    ),
    "II005": Entry(
        "the resource", "the resource or scope that was asked for",
        "A scope was sent as resource: it ends with /.default or with a permission's name.",
        "AADSTS500011 or invalid_resource in the answer.",
        "Name the resource alone, such as https://vault.azure.net.", _CODES,
    ),
    "II010": Entry(
        "the workload's own token", "the file that AZURE_FEDERATED_TOKEN_FILE names, and its exp",
        "The webhook did not change the pod, or the kubelet no longer renews the file.",
        "ls -l $AZURE_FEDERATED_TOKEN_FILE; the exp of the token in it.",
        "Label the pod azure.workload.identity/use=true; make the pod anew.", _WORKLOAD,
    ),
    "II015": Entry(
        "the container", "/.dockerenv, /run/.containerenv, /proc/1/cgroup, KUBERNETES_SERVICE_HOST",
        "A container has a loopback of its own, where the host's Azure Arc agent is not.",
        "Connection refused in the container, and an answer on the host.",
        "Run with --network host and mount the agent's tokens directory.", _ARC,
    ),
    "II020": Entry(
        "IPv4", "this machine's addresses",
        "The service has an IPv4 address only; this network has IPv6 only.",
        "ip -4 address shows the loopback's alone.",
        "Give the interface, the pod or the container network an IPv4 address.", _VM,
    ),
    "II021": Entry(
        "the route", "the kernel's answer to where a packet would leave, policy rules included",
        "There is no default route, or a rule makes the address unreachable.",
        "ip route get 169.254.169.254; ip rule",
        "ip route add 169.254.169.254/32 via THE_DEFAULT_GATEWAY", _VM,
    ),
    "II022": Entry(
        "the network interface", "the table of routes; the addresses in the VM's own metadata",
        "A failover cluster's driver, a second interface or a VPN has a route that catches the "
        "address; the service takes requests of the primary interface's primary address only.",
        "ip route get 169.254.169.254 (Windows: route print) names another interface than the "
        "default route's.",
        "Linux: ip route add 169.254.169.254/32 via THE_DEFAULT_GATEWAY dev THE_PRIMARY_INTERFACE. "
        "Windows: route add 169.254.169.254/32 THE_PRIMARY_ADDRESS metric 1 -p", _VM,
    ),
    "II023": Entry(
        "the connection", "one TCP connection to the endpoint",
        "Nobody listens, a firewall or network policy drops packets, or this is no Azure VM.",
        "curl -sv --noproxy '*' -m 2 -H Metadata:true http://169.254.169.254/metadata/versions",
        "Allow this user and this process the address; on no Azure VM use another credential.", _VM,
    ),
    "II024": Entry(
        "proxies", "http_proxy, all_proxy and no_proxy, in small letters and in capitals",
        "Clients that heed proxies ask the proxy, which reaches its own machine's service or none.",
        "curl succeeds with --noproxy '*' only.",
        "export NO_PROXY=169.254.169.254", _VM,
    ),
    "II025": Entry(
        "who answers", "the first answers' status, headers and beginning",
        "Another cloud's metadata service, Docker Desktop, a captive portal or a proxy answers.",
        "Server: EC2ws; Metadata-Flavor: Google; Via; a redirect; a page of HTML.",
        "Take what stands between out of the way, or use another credential there.", _VM,
    ),
    "II026": Entry(
        "answers", "whether a request gets an answer once the connection is made",
        "The service is overloaded, or something in between swallows requests.",
        "curl connects, and waits.",
        "Try again within minutes, then look for what is on the way.", _TOKEN,
    ),
    "II030": Entry(
        "Azure Arc's agent", "the agent's program, and its port",
        "The agent does not run, or was never installed here.",
        "azcmagent show; systemctl status himdsd",
        "sudo systemctl start himdsd", _AGENT,
    ),
    "II031": Entry(
        "the agent's port", "the owner of the socket that listens there",
        "Another program took the port before the agent.",
        "sudo ss -ltnp 'sport = :40342'",
        "Stop what is there, then sudo systemctl restart himdsd.", _ARC,
    ),
    "II032": Entry(
        "the agent's key files", "this user, its groups, and the tokens directory",
        "Only root and the group himds may read them (Windows: Administrators and Hybrid agent "
        "extension applications).",
        "id; sudo ls -l /var/opt/azcmagent/tokens",
        "sudo usermod -aG himds USER, then log in again or restart the service.", _ARC,
    ),
    "II033": Entry(
        "the key file's place", "the path in the agent's challenge",
        "The challenge names a file elsewhere: this is a container without the directory, or "
        "somebody else answers.",
        "The path after Basic realm= in the answer's WWW-Authenticate header.",
        "Mount the tokens directory into the container, or update the agent.", _ARC,
    ),
    "II034": Entry(
        "the agent's certificate", "the certificates in /var/opt/azcmagent/certs",
        "The server was off or not connected for 90 days.",
        "azcmagent show says Expired.",
        "sudo azcmagent disconnect --force-local-only; sudo azcmagent connect", _AGENT,
    ),
    "II035": Entry(
        "user-assigned identities on Azure Arc", "whether the answer confirms the identity",
        "Older agents ignore the selector.",
        "The answer does not repeat client_id, object_id or msi_res_id.",
        "Leave the selector out, or update the agent.", _ARC,
    ),
    "II040": Entry(
        "a pause of all processes", "the pause that processes of this user share",
        "A process was told 429 or 410; all processes rest until then.",
        "A file that ends in .pause in the shared directory.",
        "Wait; find what asks so often.", _TOKEN,
    ),
    "II041": Entry(
        "throttling", "whether an answer was 429",
        "All processes of the machine together ask more than 20 times a second, or 5 at once.",
        "ss -tnp dst 169.254.169.254, several times",
        "Keep one credential in a process; share the cache.", _TOKEN,
    ),
    "II042": Entry(
        "the service's health", "the status of the last answer",
        "410: it is being updated, for 70 s at most. 404 and 5xx: it is being updated or is ill.",
        "The same status by curl.",
        "Wait; then restart or redeploy the VM, and open a support case.", _TOKEN,
    ),
    "II050": Entry(
        "the identity", "the answer to the token request, and to one without the selector",
        "The machine has no identity, several of which none was named, or not the named one.",
        "az vm identity show --resource-group GROUP --name VM",
        "az vm identity assign --resource-group GROUP --name VM [--identities RESOURCE_ID]", _FAQ,
    ),
    "II051": Entry(
        "a recreated identity", "object ids of the fresh token and of those that are shared",
        "An identity that is deleted and made anew has another object id, though its name is old.",
        "oid in the token, and principalId in az identity show.",
        "imds-identity cache clear; assign the identity and its roles again.", _FAQ,
    ),
    "II060": Entry(
        "Microsoft Entra ID's code", "an AADSTS code in the answer",
        "Microsoft Entra ID refused what the service asked of it.",
        "The code; --explain CODE tells more of it.",
        "As the code has it.", _CODES,
    ),
    "II061": Entry(
        "a token", "the whole way from the request to the token",
        "What no other check explains; the failure's own words tell.",
        "imds-identity token RESOURCE -o claims --verbose",
        "As the words say.", _TOKEN,
    ),
    "II062": Entry(
        "what the token says", "aud, tid, oid, appid, xms_mirid and roles of the token",
        "A resource that refuses a good token: 401 for its audience or tenant, 403 for missing "
        "roles, an access policy or a firewall.",
        "AKV10022 (audience), AKV10032 (tenant), ForbiddenByRbac, ForbiddenByPolicy, "
        "ForbiddenByFirewall in the resource's answer.",
        "az role assignment create --assignee OBJECT_ID --role ROLE --scope RESOURCE_ID", _VAULT,
    ),
    "II070": Entry(
        "the clock", "this machine's time against the Date of the answers",
        "The clock is not synchronised.",
        "chronyc tracking; timedatectl (Windows: w32tm /query /status)",
        "sudo chronyc makestep (Windows: w32tm /resync /force)", _VM,
    ),
    "II071": Entry(
        "the token's time", "nbf and exp of the token against the service's time",
        "The service gave a token out of its time.",
        "imds-identity token RESOURCE -o claims",
        "Try again, and report it.", _TOKEN,
    ),
    "II080": Entry(
        "the shared directory", "its owner and its mode",
        "It belongs to another user (after sudo, or in a container that runs as another user).",
        "ls -ld of the directory",
        "Name another one by IMDS_IDENTITY_CACHE, of this user and with mode 700.", _TOKEN,
    ),
    "II081": Entry(
        "what is shared", "the tokens and failures in the shared directory",
        "Nothing: it is shown for who wonders where a token came from.",
        "imds-identity cache show",
        "imds-identity cache clear", _TOKEN,
    ),
    "II090": Entry(
        "the firmware", "the chassis asset tag and the maker, in the DMI tables",
        "Elsewhere than on an Azure VM there is no metadata service of Azure.",
        "cat /sys/class/dmi/id/chassis_asset_tag is 7783-7084-3265-9085-8269-3286-77 on Azure.",
        "Use another credential where this is no Azure VM.", _VM,
    ),
    "II091": Entry(
        "Python", "versions of Python, of the system and of packages",
        "Nothing: it is shown for support.",
        "python --version; pip list",
        "pip install --upgrade imds-identity", _TOKEN,
    ),
}  # fmt: skip


def explained(asked: str) -> str:
    """What a check or a code is about.

    Args:
        asked: as ``II021`` or ``AADSTS500011``, in any case.

    Raises:
        ValueError: if there is no such thing.
    """
    from .codes import CODES

    number = asked.strip().upper()
    if number in CATALOGUE:
        entry = CATALOGUE[number]
        return (
            f"{number}: {entry.title}\n\nLooks at  {entry.looked_at}.\nCause     {entry.cause}\n"
            f"Evidence  {entry.evidence}\nRemedy    {entry.remedy}\nSee       {entry.link}"
        )
    if number in CODES:
        code = CODES[number]
        link = _VAULT if number.startswith("AKV") else _CODES
        return f"{number}\n\nCause     {code.meaning}.\nRemedy    {code.remedy}\nSee       {link}"
    raise ValueError(
        f"there is no check or code {asked!r}: checks are II001 to {max(CATALOGUE)}, "
        f"codes {', '.join(CODES)}"
    )
