"""A pod in, a JSON Patch out.

The pod is raw JSON and stays so: typed models drop what they do not know, as ``restartPolicy`` of init containers was by
other injectors. Each change is guarded by itself, so that a pod that was injected before gets only what it still lacks:
variables of containers that somebody else added since, say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentmemory_operator.inject import baseurl
from agentmemory_operator.inject.baseurl import Found
from agentmemory_operator.inject.container import COMMAND, NAME, UPSTREAMS, downward, sidecar, volumes
from agentmemory_operator.inject.edits import Edits
from agentmemory_operator.inject.options import PREFIX, Options, OptionsError
from agentmemory_operator.inject.resources import is_guaranteed, sidecar_resources
from agentmemory_operator.inject.session import NO_SESSION, Session, TemplateError
from agentmemory_operator.names import INJECT
from agentmemory_operator.settings import Settings

MIRROR = "kubernetes.io/config.mirror"
DEFAULT_GRACE_S = 30


class Reason(StrEnum):
    """What became of a pod, as the label of a metric."""

    INJECTED = "injected"
    COMPLETE = "complete"
    """Injected before, and nothing lacks."""
    OPTED_OUT = "opted_out"
    MIRROR = "mirror_pod"
    BAD_LABEL = "bad_label"
    BAD_ANNOTATION = "bad_annotation"
    HOST_NETWORK = "host_network"
    WINDOWS = "windows"
    NAME_TAKEN = "name_taken"
    PORT_TAKEN = "port_taken"
    VOLUME_TAKEN = "volume_taken"
    VARIABLE_TAKEN = "variable_taken"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one pod. ``patch`` is RFC 6902; ``message`` says why it is refused."""

    allowed: bool
    reason: Reason
    patch: tuple[Mapping[str, Any], ...] = ()
    message: str = ""
    warnings: tuple[str, ...] = ()


class Unfit(Exception):
    """The pod cannot have the sidecar. The text says why and what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Work:
    """A pod while it is injected."""

    edits: Edits
    options: Options
    settings: Settings
    session: Session
    upstreams: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.edits.pod["spec"]
        return spec


def inject(pod: dict[str, Any], namespace: str, settings: Settings) -> Decision:
    """Decide on a pod that is being created in ``namespace``. The pod is not changed.

    A pod that asks by its own label and cannot have the sidecar is refused; one that is only in a namespace with the label
    starts without it, with a warning.
    """
    metadata = pod.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    asks = (metadata.get("labels") or {}).get(INJECT)
    if asks == "false":
        return Decision(True, Reason.OPTED_OUT)
    if MIRROR in annotations:
        return Decision(True, Reason.MIRROR)
    if asks not in (None, "true"):
        return _refused(Reason.BAD_LABEL, f'label {INJECT}: must be "true" or "false"')
    try:
        options = Options.read(annotations)
        session = options.session.render(pod, namespace) if options.session else NO_SESSION
        work = _Work(Edits(pod), options, settings, session)
        _check(work)
        _inject(work)
    except OptionsError as error:
        return _refused(Reason.BAD_ANNOTATION, str(error))
    except TemplateError as error:
        return _refused(Reason.BAD_ANNOTATION, f"annotation {PREFIX}session: {error}")
    except Unfit as error:
        if asks:
            return _refused(error.reason, str(error))
        return Decision(True, error.reason, warnings=(f"agentmemory: not injected: {error}",))
    operations = tuple(work.edits.operations)
    warnings = tuple(f"agentmemory: {text}" for text in work.warnings)
    return Decision(True, Reason.INJECTED if operations else Reason.COMPLETE, operations, warnings=warnings)


def is_injected(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has the sidecar."""
    return _sidecar_index(pod.get("spec") or {}) is not None


def _refused(reason: Reason, message: str) -> Decision:
    return Decision(False, reason, message=f"agentmemory: {message}")


def _containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield kind, index, container


def _is_sidecar(kind: str, container: Mapping[str, Any]) -> bool:
    begins = tuple((container.get("command") or ())[: len(COMMAND)])
    return kind == "initContainers" and container.get("name") == NAME and begins == COMMAND


def _sidecar_index(spec: Mapping[str, Any]) -> int | None:
    return next((index for kind, index, container in _containers(spec) if _is_sidecar(kind, container)), None)


# --------------------------------------------------------------------------------------------- what stands in the way


def _check(work: _Work) -> None:
    """Raises Unfit for a pod that cannot have the sidecar."""
    spec, own = work.spec, work.settings.sidecar
    if spec.get("hostNetwork"):
        raise Unfit(
            Reason.HOST_NETWORK,
            "spec.hostNetwork: the sidecar's ports would be the node's: turn it off, or take the label away",
        )
    system = (spec.get("os") or {}).get("name") or (spec.get("nodeSelector") or {}).get("kubernetes.io/os")
    if system == "windows":
        raise Unfit(Reason.WINDOWS, f"the sidecar runs on Linux only: take the label {INJECT} away from Windows pods")
    for kind, index, container in _containers(spec):
        where = f"spec.{kind}[{index}]"
        if _is_sidecar(kind, container):
            continue
        if container.get("name") == NAME:
            raise Unfit(Reason.NAME_TAKEN, f'{where}.name: "{NAME}" is the sidecar\'s name: rename this container')
        for port in container.get("ports") or ():
            if port.get("containerPort") in (own.port, own.probe_port):
                raise Unfit(
                    Reason.PORT_TAKEN,
                    f"{where}.ports: {port['containerPort']} is the sidecar's: use another port in this container, or "
                    "give the sidecar another one with the Helm values settings.sidecar.port and settings.sidecar.probePort",
                )


# ------------------------------------------------------------------------------------------------ one change after another


def _inject(work: _Work) -> None:
    there = _sidecar_index(work.spec)
    work.upstreams = _upstreams(work, there)
    guaranteed = there is None and is_guaranteed(work.spec)
    resources = sidecar_resources(work.options, work.settings.sidecar, guaranteed=guaranteed)
    if there is None:
        value = baseurl.written_upstreams(work.upstreams | _literals(work))
        container = sidecar(work.options, work.settings, resources, value, work.session)
        work.edits.extend(("spec", "initContainers"), [container], front=True)
    else:
        _mend_sidecar(work, there)
    _add_volumes(work)
    _add_pull_secrets(work)
    for kind, index in _agents(work):
        _point(work, kind, index)
    _grace(work)
    _warn_of_names(work)


def _upstreams(work: _Work, there: int | None) -> dict[str, str]:
    """What the sidecar that is there has."""
    if there is None:
        return {}
    _, entry = baseurl.variable(work.spec["initContainers"][there], UPSTREAMS)
    try:
        return baseurl.read_upstreams(entry.get("value") or "")
    except ValueError:
        raise Unfit(Reason.NAME_TAKEN, f"the sidecar's variable {UPSTREAMS} was changed by somebody else") from None


def _agents(work: _Work) -> list[tuple[str, int]]:
    """Where the containers are that talk through the sidecar: all but other sidecars, and what runs before ours."""
    there = _sidecar_index(work.spec)
    chosen = work.options.containers
    found = []
    for kind, index, container in _containers(work.spec):
        if chosen and container.get("name") not in chosen:
            continue
        starts_later = there is None or index > there
        if kind == "containers" or (starts_later and container.get("restartPolicy") != "Always"):
            found.append((kind, index))
    return found


def _literals(work: _Work) -> dict[str, str]:
    """The base URLs that become upstreams, by container."""
    found = {}
    for kind, index in _agents(work):
        container = work.spec[kind][index]
        url = baseurl.current(container, work.settings.sidecar.port)
        if url.found is Found.LITERAL:
            found[container["name"]] = url.url
    return found


def _mend_sidecar(work: _Work, there: int) -> None:
    path = ("spec", "initContainers", there)
    container = work.spec["initContainers"][there]
    if container.get("restartPolicy") != "Always":
        # Injectors that know an older pod drop it, and the agent would wait for a sidecar that never ends.
        work.edits.add((*path, "restartPolicy"), "Always")
    upstreams = work.upstreams | _literals(work)
    if upstreams != work.upstreams:
        index, _ = baseurl.variable(container, UPSTREAMS)
        value = baseurl.written_upstreams(upstreams)
        if index >= 0:
            work.edits.replace((*path, "env", index, "value"), value)
        else:
            work.edits.extend((*path, "env"), [{"name": UPSTREAMS, "value": value}])


def _add_volumes(work: _Work) -> None:
    existing = {volume.get("name"): volume for volume in work.spec.get("volumes") or ()}
    there = _sidecar_index(work.spec)
    assert there is not None
    # One that was put there under other settings has other mounts.
    mounted = {mount.get("name") for mount in work.spec["initContainers"][there].get("volumeMounts") or ()}
    missing = []
    for volume in volumes(work.options, work.settings):
        if volume["name"] not in mounted:
            continue
        if (found := existing.get(volume["name"])) is None:
            missing.append(volume)
        elif _meaning(found) != _meaning(volume):
            raise Unfit(Reason.VOLUME_TAKEN, f'spec.volumes: "{volume["name"]}" is the sidecar\'s: rename this volume')
    work.edits.extend(("spec", "volumes"), missing)


def _meaning(volume: Mapping[str, Any]) -> object:
    """What a volume is, without what the API server fills in."""
    if secret := volume.get("secret"):
        return "secret", secret.get("secretName")
    if projected := volume.get("projected"):
        tokens = [source.get("serviceAccountToken") or {} for source in projected.get("sources") or ()]
        return "projected", [(token.get("audience"), token.get("path")) for token in tokens]
    return sorted(key for key in volume if key != "name"), (volume.get("emptyDir") or {}).get("medium")


def _add_pull_secrets(work: _Work) -> None:
    existing = [secret.get("name") for secret in work.spec.get("imagePullSecrets") or ()]
    missing = [{"name": name} for name in work.settings.images.pull_secrets if name not in existing]
    work.edits.extend(("spec", "imagePullSecrets"), missing)


def _point(work: _Work, kind: str, index: int) -> None:
    """Give one container its variables."""
    container, path = work.spec[kind][index], ("spec", kind, index, "env")
    name, port = container["name"], work.settings.sidecar.port
    url = baseurl.current(container, port)
    if url.found is Found.LEFT:
        work.warnings.append(
            f"container {name}: {baseurl.BASE_URL} {url.why}; it is left alone, so this container has no memory"
        )
        return
    if proxy := baseurl.proxied(container):
        work.warnings.append(
            f"container {name}: {proxy} would catch requests to the sidecar: add 127.0.0.1 to NO_PROXY"
        )
    added: list[dict[str, Any]] = []
    if url.found is not Found.OURS:
        value = baseurl.base_url(port, name if url.found is Found.LITERAL else "", work.session.encoded)
        first = _variables(work, container)
        if url.index >= 0:
            work.edits.replace((*path, url.index), {"name": baseurl.BASE_URL, "value": value})
            # A value may refer only to variables that come before it.
            work.edits.extend(path, first, front=True)
        else:
            added += [*first, {"name": baseurl.BASE_URL, "value": value}]
    if baseurl.variable(container, baseurl.HINTS)[0] < 0:
        added.append({"name": baseurl.HINTS, "value": "1"})
    work.edits.extend(path, added)


def _variables(work: _Work, container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The variables that the session refers to."""
    found = []
    for name, field_path in work.session.variables.items():
        index, entry = baseurl.variable(container, name)
        if index < 0:
            found.append(downward(name, field_path))
        elif ((entry.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath") != field_path:
            raise Unfit(
                Reason.VARIABLE_TAKEN,
                f"container {container['name']}: {name} is a variable of the session annotation: rename yours",
            )
    return found


def _grace(work: _Work) -> None:
    there = work.spec.get("terminationGracePeriodSeconds")
    wanted = work.options.grace_period_seconds
    seconds = DEFAULT_GRACE_S if there is None else there
    if wanted is not None and wanted > seconds:
        path = ("spec", "terminationGracePeriodSeconds")
        work.edits.add(path, wanted) if there is None else work.edits.replace(path, wanted)
        seconds = wanted
    if seconds < work.settings.sidecar.drain.seconds:
        work.warnings.append(
            f"terminationGracePeriodSeconds is {seconds}, and the sidecar may need {work.settings.sidecar.drain} to save "
            f"what runs when the pod is stopped: raise it, or set the annotation {PREFIX}grace-period-seconds"
        )


def _warn_of_names(work: _Work) -> None:
    names = {container.get("name") for _, _, container in _containers(work.spec)}
    if missing := [name for name in work.options.containers if name not in names]:
        work.warnings.append(f"annotation {PREFIX}containers: the pod has no container {', '.join(missing)}")
