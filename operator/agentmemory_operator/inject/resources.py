"""What the sidecar asks of its node, and the pod's class of service with it."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from agentmemory_operator.inject.options import PREFIX, Options, OptionsError
from agentmemory_operator.settings import SidecarSettings

_UNITS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:[eE]([+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]?))")
_COUNTED = ("cpu", "memory")
"""The resources that decide on a pod's class of service."""


def amount(quantity: str | int | float) -> Decimal:
    """A Kubernetes quantity as a number. Raises ValueError for what is none."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"not a quantity: {quantity!r}")
    number, exponent, unit = Decimal(match[1]), match[2], match[3] or ""
    if exponent:
        return number.scaleb(int(exponent))
    return number * 2 ** (10 * (_BINARY.index(unit) + 1)) if unit in _BINARY else number.scaleb(_UNITS[unit])


def is_guaranteed(spec: Mapping[str, Any]) -> bool:
    """Whether every container of the pod has limits for CPU and memory, and requests equal to them.

    With resources of the pod as a whole (Kubernetes 1.34), those decide and a sidecar changes nothing: False.
    """
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return not spec.get("resources") and bool(containers) and all(map(_container_is_guaranteed, containers))


def _container_is_guaranteed(container: Mapping[str, Any]) -> bool:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    try:
        return all(
            name in limits and amount(requests.get(name, limits[name])) == amount(limits[name]) > 0
            for name in _COUNTED
        )  # fmt: skip
    except ValueError:
        return False


def sidecar_resources(options: Options, settings: SidecarSettings, *, guaranteed: bool) -> dict[str, dict[str, str]]:
    """Requests and limits of the sidecar. Raises OptionsError where a request is more than its limit.

    In a Guaranteed pod both are equal, or the pod would lose that class: the memory limit, and a CPU limit that lets the
    sidecar start in a few seconds.
    """
    requests, limits = dict(settings.resources.requests), dict(settings.resources.limits)
    chosen = {
        "cpu": (options.cpu_request, options.cpu_limit),
        "memory": (options.memory_request, options.memory_limit),
    }
    for name, (request, limit) in chosen.items():
        requests |= {name: request} if request else {}
        limits |= {name: limit} if limit else {}
        if guaranteed:
            own = limits.get(name) or (settings.guaranteed_cpu if name == "cpu" and not request else requests.get(name))
            if own:
                requests[name] = limits[name] = own
        elif name in requests and name in limits and amount(requests[name]) > amount(limits[name]):
            raise OptionsError(
                [
                    f"annotation {PREFIX}{name}-{'request' if request else 'limit'}: the sidecar would request "
                    f"{requests[name]} with a limit of {limits[name]}: give {PREFIX}{name}-"
                    f"{'limit' if request else 'request'} too"
                ]
            )
    return {kind: amounts for kind, amounts in (("requests", requests), ("limits", limits)) if amounts}
