"""A sidecar whose every tier lies behind a proxy that can fail."""

from dataclasses import dataclass

from tests.faults import FaultProxy
from tests.sidecar.stand import Stand


@dataclass
class Tiers:
    """A sidecar whose every tier lies behind a proxy that can fail."""

    stand: Stand
    hot: FaultProxy
    state: FaultProxy
    archive: FaultProxy

    async def hot_is_back(self) -> None:
        await self.hot.heal()
        self.stand.services.hot_health.worked()
