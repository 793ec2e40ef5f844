"""What a CloudNativePG Cluster tells those who want to connect: two Secrets in its namespace.

``<name>-app`` has the application's login: ``uri``, or ``host``, ``port``, ``dbname``, ``user`` (or ``username``) and
``password``. ``<name>-ca`` has, as ``ca.crt``, the authority that signs the server's certificate.
"""

from urllib.parse import quote, urlsplit, urlunsplit

from agentmemory_sidecar.resource.common import SecretKeyRef, ValueFrom
from agentmemory_sidecar.resource.references import Resolver, Unresolved
from agentmemory_sidecar.resource.state import ClusterRef


def secret_names(ref: ClusterRef) -> tuple[str, str]:
    """The Secrets that a Cluster's users read: login and authority."""
    return f"{ref.name}-app", f"{ref.name}-ca"


def login(ref: ClusterRef, namespace: str, values: Resolver) -> str:
    """The DSN. Its host carries the namespace, so that it is found from other namespaces too. Raises Unresolved."""
    app, _ = secret_names(ref)
    try:
        uri = _value(values, app, "uri")
    except Unresolved:
        uri = _from_parts(values, app)
    parts = urlsplit(uri)
    if not parts.hostname or parts.scheme not in ("postgresql", "postgres"):
        raise Unresolved(f"the key uri of Secret {app} is no postgresql:// URI with a host: is it CloudNativePG's?")
    path = f"/{ref.database}" if ref.database else parts.path
    user, _, host = parts.netloc.rpartition("@")
    if "." not in parts.hostname:
        host = host.replace(parts.hostname, f"{parts.hostname}.{namespace}", 1)
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host, path=path))


def authority(ref: ClusterRef, values: Resolver) -> str:
    """The authority that signs the server's certificate, PEM. Raises Unresolved."""
    _, ca = secret_names(ref)
    try:
        return _value(values, ca, "ca.crt")
    except Unresolved as error:
        raise Unresolved(f"{error}; where the Cluster has another authority, give it as tls.caFrom") from None


def _from_parts(values: Resolver, app: str) -> str:
    host, database = _value(values, app, "host"), _value(values, app, "dbname")
    password = quote(_value(values, app, "password"), safe="")
    user = quote(_either(values, app, "user", "username"), safe="")
    try:
        port = _value(values, app, "port")
    except Unresolved:
        port = "5432"
    return f"postgresql://{user}:{password}@{host}:{port}/{quote(database, safe='')}"


def _either(values: Resolver, name: str, key: str, other: str) -> str:
    try:
        return _value(values, name, key)
    except Unresolved:
        return _value(values, name, other)


def _value(values: Resolver, name: str, key: str) -> str:
    return values.resolve(ValueFrom(secretKeyRef=SecretKeyRef(name=name, key=key)))
