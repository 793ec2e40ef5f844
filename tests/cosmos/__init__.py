"""A strict stand-in for an Azure CosmosDB account, written from the REST API's documentation; see README.md here.

``async with CosmosAccount() as account: account.url, account.key``.
"""

from tests.cosmos.account import CosmosAccount as CosmosAccount
from tests.cosmos.account import Place as Place
