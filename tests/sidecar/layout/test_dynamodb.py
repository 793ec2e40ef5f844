"""The table's definition, without a server."""

from agentmemory_sidecar.layout.dynamodb import table_definition


def test_the_definition_is_what_a_global_table_needs() -> None:
    definition = table_definition("memory", kms_key="alias/m", tags={"tenant": "acme"})
    assert definition.create["BillingMode"] == "PAY_PER_REQUEST"
    assert definition.create["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert definition.create["DeletionProtectionEnabled"]
    assert definition.create["SSESpecification"] == {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": "alias/m"}
    assert definition.create["Tags"] == [{"Key": "tenant", "Value": "acme"}]
    declared = {attribute["AttributeName"] for attribute in definition.create["AttributeDefinitions"]}
    index = definition.create["GlobalSecondaryIndexes"][0]
    used = {key["AttributeName"] for key in (*definition.create["KeySchema"], *index["KeySchema"])}
    assert declared == used  # DynamoDB refuses one that no key uses
