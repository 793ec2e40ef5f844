"""The requests that the DynamoDB store sends, one method each, for a job in a pool thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentmemory_sidecar.stores.aws import Call, error_code
from agentmemory_sidecar.stores.dynamodb_item import Item, Update, expired, names

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

BATCH = 25
"""Keys of one BatchGetItem, which answers at most 16 MB, counting whole items of up to 400 KB."""
SLIM = "pk, sk, #expires, #written"
VERSIONS = "pk, sk, #turn, #version, #expires, #written"


class Refused(Exception):
    """A condition did not hold; ``item`` is what was there, empty for nothing."""

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item


class Requests:
    """One job's requests on one table. Reads are strongly consistent, but for the index, which cannot be."""

    def __init__(self, call: Call[DynamoDBClient], table: str) -> None:
        self._call = call
        self._client = call.client
        self._table = table

    def get(self, key: Item, wanted: str) -> Item | None:
        """The attributes ``wanted`` (aliases) of one item."""
        answer = self._call.repeat(
            self._client.get_item,
            TableName=self._table,
            Key=key,
            ConsistentRead=True,
            ProjectionExpression=wanted,
            ExpressionAttributeNames=names(wanted),
        )
        return answer.get("Item")

    def query(
        self, pk: str, low: str, high: str, *, since: str = "", limit: int | None = None, only: str = ""
    ) -> Iterator[Item]:
        """The items of a partition from sort key ``low`` to ``high``, after ``since``; with ``only``, no more than
        these attributes of them. A request for each page, the next one when the caller gets there."""
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :low AND :high",
            "ExpressionAttributeValues": {":pk": {"S": pk}, ":low": {"S": low}, ":high": {"S": high}},
            "ConsistentRead": True,
        }
        if only:
            arguments |= {"ProjectionExpression": only, "ExpressionAttributeNames": names(only)}
        if since:
            arguments["ExclusiveStartKey"] = {"pk": {"S": pk}, "sk": {"S": since}}
        return self._pages(arguments, limit)

    def marked(self, mark: str, limit: int) -> list[Item]:
        """Keys of the items that the pending index holds under ``mark``. It lags behind the items."""
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": "pending",
            "KeyConditionExpression": "#pending = :pending",
            "ExpressionAttributeNames": names("#pending"),
            "ExpressionAttributeValues": {":pending": {"S": mark}},
        }
        return [{"pk": row["pk"], "sk": row["sk"]} for row in self._pages(arguments, limit)]

    def still_marked(self, keys: Sequence[Item]) -> list[Item]:
        """Those of these keys whose item, read consistently, is alive and still pending; in the same order."""
        wanted = "pk, sk, #pending, #expires"
        found: set[tuple[str, str]] = set()
        left = list(keys)
        while left:
            batch, left = left[:BATCH], left[BATCH:]
            request: Any = {
                "Keys": batch,
                "ConsistentRead": True,
                "ProjectionExpression": wanted,
                "ExpressionAttributeNames": names(wanted),
            }
            answer: Any = self._call.repeat(self._client.batch_get_item, RequestItems={self._table: request})
            rows = answer["Responses"].get(self._table, [])
            now = time.time()
            found |= {identity(row) for row in rows if "pending" in row and not expired(row, now)}
            if rows:  # else it is throttled, and the next sweep will see them
                left += answer["UnprocessedKeys"].get(self._table, {}).get("Keys", [])
        return [key for key in keys if identity(key) in found]

    def update(self, update: Update, key: Item, **more: Any) -> Item:
        """One conditional UpdateItem, once; the attributes it was asked to return. Raises :class:`Refused`."""
        arguments = update.arguments(self._table, key) | more
        with refusals():
            answer: Any = self._call.once(self._client.update_item, **arguments)
        return answer.get("Attributes", {})  # type: ignore[no-any-return]

    def put(self, item: Item, **condition: Any) -> None:
        """One PutItem, once. Raises :class:`Refused`."""
        if condition:
            condition["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        with refusals():
            self._call.once(self._client.put_item, TableName=self._table, Item=item, **condition)

    def delete(self, item: Item) -> None:
        self._call.once(self._client.delete_item, TableName=self._table, Key={"pk": item["pk"], "sk": item["sk"]})

    def _pages(self, arguments: dict[str, Any], limit: int | None) -> Iterator[Item]:
        left = limit
        while left is None or left > 0:
            if left is not None:
                arguments["Limit"] = left
            answer: Any = self._call.repeat(self._client.query, **arguments)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            left = None if left is None else left - len(answer["Items"])


def identity(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


@contextmanager
def refusals() -> Iterator[None]:
    """Raises :class:`Refused` for a condition that did not hold."""
    try:
        yield
    except Exception as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise
        raise Refused(vars(error)["response"].get("Item", {})) from None
