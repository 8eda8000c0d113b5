"""Why hosts have no identity of the user, and the ways to a token there."""

from __future__ import annotations

from typing import NamedTuple

from .._facts.facts import HostKind

LOG_IN = "az login; then use AzureCliCredential or DefaultAzureCredential"
FEDERATE = (
    "az identity federated-credential create --identity-name NAME --resource-group GROUP --name "
    "other-cloud --issuer ISSUER --subject SUBJECT # federation with tokens of that cloud"
)
OR_ARC = ", or connect the machine to Azure Arc: sudo azcmagent connect"


class Terms(NamedTuple):
    """Why a host has no identity of the user, and the way to a token there."""

    meaning: str
    remedy: str


HOSTS = {
    HostKind.CONTAINER_INSTANCES: Terms(
        "this container group of Container Instances has no such managed identity, or a network "
        "rule blocks the metadata service",
        "create the container group again with an identity: az container create --resource-group "
        "GROUP --name NAME --assign-identity RESOURCE_ID",
    ),
    HostKind.GITHUB_RUNNER: Terms(
        "this is a GitHub-hosted runner: its machine belongs to GitHub and has no managed "
        "identity of yours",
        "log in with OpenID Connect: the action azure/login with client-id, tenant-id and "
        "subscription-id, and permissions id-token: write; then use AzureCliCredential",
    ),
    HostKind.PIPELINES_AGENT: Terms(
        "this is a Microsoft-hosted agent of Azure Pipelines: its machine has no managed identity "
        "of yours",
        "use a service connection with workload identity federation: the task AzureCLI@2 with "
        "AzureCliCredential, or AzurePipelinesCredential",
    ),
    HostKind.CODESPACES: Terms(
        "this is a GitHub codespace, which has no managed identity",
        LOG_IN.replace("az login", "az login --use-device-code"),
    ),
    HostKind.GITLAB_RUNNER: Terms(
        "this is a GitLab-hosted runner: its machine belongs to GitLab and has no managed identity "
        "of yours",
        "log in with OpenID Connect: id_tokens in .gitlab-ci.yml, then az login "
        "--service-principal --username CLIENT_ID --tenant TENANT --federated-token TOKEN",
    ),
    HostKind.DATABRICKS: Terms(
        "this is a Databricks cluster, whose programs may not use the identity of its machines",
        "use a service credential of Unity Catalog as the credential: "
        "dbutils.credentials.getServiceCredentialsProvider",
    ),
    HostKind.AUTOMATION: Terms(
        "this is a runbook of Azure Automation, whose account has no managed identity",
        "az resource update --ids AUTOMATION_ACCOUNT_ID --set identity.type=SystemAssigned",
    ),
    HostKind.BATCH: Terms(
        "this is a node of an Azure Batch pool, whose identities are the user-assigned ones of the "
        "pool: it has no such identity",
        "az batch pool show --pool-id {pool} --query identity # then select one: --client-id "
        "CLIENT_ID; or create the pool again with identity.userAssignedIdentities",
    ),
    HostKind.SYNAPSE: Terms(
        "this is Apache Spark in Azure Synapse or Microsoft Fabric, whose notebooks and jobs get "
        "tokens from their own library and not from the metadata service",
        "call notebookutils.credentials.getToken, or in Azure Synapse "
        "mssparkutils.credentials.getToken",
    ),
    HostKind.WSL: Terms(
        "this is the Windows Subsystem for Linux, which has no managed identity", LOG_IN
    ),
}
POD_MEANING = (
    "this is a Kubernetes pod without workload identity: the metadata service has the identities "
    "of the node pool only, and AKS's IMDS restriction or a NetworkPolicy may block it for pods "
    "without hostNetwork"
)
