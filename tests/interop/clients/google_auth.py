"""google-auth: a federated credential whose subject is the VM's managed identity."""

import json

from google.auth import identity_pool
from google.auth.transport.requests import Request

credentials = identity_pool.Credentials.from_info(
    {
        "audience": "//iam.googleapis.com/a-workload-identity-provider",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {
            "url": "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01"
            "&resource=https://iam.googleapis.example",
            "headers": {"Metadata": "True"},
            "format": {"type": "json", "subject_token_field_name": "access_token"},
        },
    }
)
subject = credentials.retrieve_subject_token(Request())
print(json.dumps(subject[:20]))
assert subject.count(".") == 2
