"""A drill's hands in a pod: reads requests as lines of JSON, makes them, prints the answers. The standard library alone, for
it is handed to any Python as ``python -c``.

In: ``{"path", "body", "timeout"}``; out: ``{"status", "headers", "body"}`` or ``{"lost": text}``.
"""

import http.client
import json
import os
import sys
import urllib.parse
from typing import Any


def make(request: dict[str, Any]) -> dict[str, Any]:
    """One request to the base URL that the pod was given. The key never leaves the pod."""
    base = urllib.parse.urlsplit(os.environ["ANTHROPIC_BASE_URL"])
    kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    connection = kind(base.netloc, timeout=request["timeout"])
    headers = {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": os.environ.get("ANTHROPIC_API_KEY", "none"),
    }
    try:
        connection.request("POST", base.path.rstrip("/") + request["path"], json.dumps(request["body"]), headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        text = answer.read()
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        return {"status": answer.status, "headers": found, "body": body}
    except (OSError, http.client.HTTPException) as error:
        return {"lost": type(error).__name__}
    finally:
        connection.close()


if __name__ == "__main__":
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(make(json.loads(line))), flush=True)
