"""Where one sidecar finds its stores: addresses, credentials and limits, in plain units."""

from typing import Literal

from pydantic import SecretStr

from agentmemory_sidecar.resource.archive import LockMode
from agentmemory_sidecar.resource.formats import Config, Secret


class TlsConfig(Config):
    """TLS settings of one connection; all texts are PEM."""

    ca_pem: str = ""
    """The authorities to trust; empty for the system's."""
    certificate_pem: str = ""
    """A client certificate with its chain; empty for none."""
    key_pem: Secret = SecretStr("")
    """The client certificate's private key."""


class RedisHot(Config):
    """A Redis, a Valkey, or a cluster of them."""

    kind: Literal["redis"] = "redis"
    """What tells it apart."""
    urls: tuple[str, ...]
    """`redis://HOST:PORT[/DB]` or `rediss://…` (TLS); several only for a cluster's nodes."""
    cluster: bool = False
    """Whether it is a Redis Cluster."""
    username: str = ""
    """The ACL user; empty for `default`."""
    password: Secret = SecretStr("")
    """The password; empty for none."""
    tls: TlsConfig | None = None
    """TLS settings for `rediss://`; None for the defaults."""


class EmbeddedStore(Config):
    """A store that the sidecar's own process starts and stops, below `data_dir`."""

    kind: Literal["embedded"] = "embedded"
    """What tells it apart."""


class PostgresStore(Config):
    """A Postgres."""

    kind: Literal["postgres"] = "postgres"
    """What tells it apart."""
    dsn: Secret
    """`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`."""
    tls: TlsConfig | None = None
    """TLS settings; None for what the DSN says. With them TLS is always used, and the server verified."""


class AwsConfig(Config):
    """How to reach an AWS service, and as whom."""

    region: str
    """The AWS region to call and sign for."""
    endpoint: str = ""
    """The service's URL; empty for AWS's own."""
    role_arn: str = ""
    """A role to assume first; empty for none."""
    access_key_id: str = ""
    """A static key's id; empty to use the process's own identity."""
    secret_access_key: Secret = SecretStr("")
    """The static key."""
    session_token: Secret = SecretStr("")
    """The static key's session token."""
    tls: TlsConfig | None = None
    """TLS settings for `endpoint`; None for the defaults."""


class RegionAws(Config):
    """An endpoint in another region."""

    region: str
    """The region of the resource; what is written there is written into its head."""
    aws: AwsConfig
    """Where, and as whom."""


class DynamoDbState(Config):
    """A DynamoDB table."""

    kind: Literal["dynamodb"] = "dynamodb"
    """What tells it apart."""
    table: str
    """The table's name."""
    strong: bool = False
    """Whether the regions see one another's writes at once (one head) or later (a head for each region)."""
    aws: AwsConfig
    """Where, and as whom."""
    elsewhere: tuple[RegionAws, ...] = ()
    """The same table's endpoints in the resource's other regions, to be asked in this order while this region's is away."""


class CosmosConfig(Config):
    """How to reach an Azure CosmosDB account, and as whom."""

    endpoint: str
    """The account's URL."""
    key: Secret
    """The account's key."""
    locations: tuple[str, ...] = ()
    """Azure locations, the nearest first; where each takes writes, the first is the one to write in."""
    tls: TlsConfig | None = None
    """TLS settings for `endpoint`; None for the defaults."""


class RegionCosmos(Config):
    """The account as another region reaches it."""

    region: str
    """The region of the resource; what is written there is written into its head."""
    access: CosmosConfig
    """Where, and as whom."""


class CosmosDbState(Config):
    """An Azure CosmosDB container."""

    kind: Literal["cosmosdb"] = "cosmosdb"
    """What tells it apart."""
    database: str
    """The database's name."""
    container: str
    """The container's name."""
    multi_region_writes: bool = False
    """Whether the account takes writes in each of its regions (a head for each region) or in one (one head)."""
    access: CosmosConfig
    """Where, and as whom."""
    elsewhere: tuple[RegionCosmos, ...] = ()
    """The same for the resource's other regions, to be asked in this order while this region's is away."""


class S3Archive(Config):
    """An S3 bucket."""

    kind: Literal["s3"] = "s3"
    """What tells it apart."""
    bucket: str
    """This region's bucket."""
    key_prefix: str = ""
    """What every key begins with."""
    path_style: bool = False
    """Whether the bucket is in the path and not in the host name; with an endpoint of its own it always is."""
    lock_mode: LockMode | None = None
    """The Object Lock that each record is written with; None leaves it to the bucket's default."""
    lock_days: int = 0
    """For how long (days)."""
    kms_key_arn: str = ""
    """The KMS key that encrypts each object at rest; empty leaves it to the bucket's default."""
    aws: AwsConfig
    """Where, and as whom."""
