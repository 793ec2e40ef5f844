"""Calls to the AWS stand-in, through its pod: drills look at what the operator made, and break it."""

import json
from typing import Any

from e2e.cluster.shell import Failed, kubectl

_CALL = """
import json, sys, boto3
region, service, operation, arguments = json.loads(sys.stdin.read())
client = boto3.client(service, region_name=region, endpoint_url="http://aws.standins:4566",
                      aws_access_key_id="drill", aws_secret_access_key="drill")
print(json.dumps(getattr(client, operation)(**arguments), default=str))
"""


async def aws(region: str, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
    """One call with boto3, from the operator's pod, which has it. Raises Failed with AWS's error."""
    pod = ["-n", "agentmemory-system", "exec", "-i", "deploy/agentmemory-operator", "--"]
    call = json.dumps([region, service, operation, arguments])
    output = await kubectl(*pod, "python", "-c", _CALL, stdin=call, check=False)
    if output.code:
        raise Failed(f"{service} {operation} in {region}: {output.err.strip().splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(output.out)
    return answer


_SET = """
import json, sys, urllib.request
what, body = json.loads(sys.stdin.read())
address = "http://127.0.0.1:4566/_aws/" + what
data = None if body is None else json.dumps(body).encode()
request = urllib.request.Request(address, data, {"content-type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


async def stand_in(what: str, **settings: Any) -> Any:
    """Set one of the stand-in's controls (tests/aws/README.md), from its own pod; ``state`` reads."""
    pod = ["-n", "standins", "exec", "-i", "deploy/aws", "--"]
    given = json.dumps([what, None if what == "state" else settings])
    return json.loads((await kubectl(*pod, "python", "-c", _SET, stdin=given)).out)
