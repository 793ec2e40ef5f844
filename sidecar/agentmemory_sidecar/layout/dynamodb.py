"""The DynamoDB table: its keys, its index and what it is created with.

What lies in it is told in :mod:`agentmemory_sidecar.stores.dynamodb_table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb.type_defs import (
        CreateTableInputTypeDef,
        UpdateContinuousBackupsInputTypeDef,
        UpdateTimeToLiveInputTypeDef,
    )

PARTITION_KEY = "pk"
SORT_KEY = "sk"
PENDING = "pending"
"""The attribute of items whose outbox is not empty, the hash key of the sparse index of the same name."""
EXPIRES = "expires"
"""The table's TTL attribute: epoch seconds."""
PING = "ping"
"""The hash key of the operator's heartbeats, one item for each AWS region; no session's has this form."""


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """The arguments of the three calls that make a table what the store needs, to be sent in this order."""

    create: CreateTableInputTypeDef
    time_to_live: UpdateTimeToLiveInputTypeDef
    backups: UpdateContinuousBackupsInputTypeDef


def table_definition(
    table: str,
    *,
    deletion_protection: bool = True,
    kms_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> TableDefinition:
    """What a table of this layout is created with. Without ``kms_key`` AWS encrypts with its own.

    Streams with both images are what global tables replicate by. Strong (MRSC) global tables are said to take no TTL;
    the store does not rely on it: an item past its expiry counts as absent whether or not it was deleted.
    """
    create: CreateTableInputTypeDef = {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": PARTITION_KEY, "AttributeType": "S"},
            {"AttributeName": SORT_KEY, "AttributeType": "S"},
            {"AttributeName": PENDING, "AttributeType": "S"},
        ],
        "KeySchema": [
            {"AttributeName": PARTITION_KEY, "KeyType": "HASH"},
            {"AttributeName": SORT_KEY, "KeyType": "RANGE"},
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": PENDING,
                "KeySchema": [
                    {"AttributeName": PENDING, "KeyType": "HASH"},
                    {"AttributeName": PARTITION_KEY, "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        "DeletionProtectionEnabled": deletion_protection,
    }
    if kms_key is not None:
        create["SSESpecification"] = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": kms_key}
    if tags:
        create["Tags"] = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return TableDefinition(
        create=create,
        time_to_live={
            "TableName": table,
            "TimeToLiveSpecification": {"AttributeName": EXPIRES, "Enabled": True},
        },
        backups={
            "TableName": table,
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        },
    )
