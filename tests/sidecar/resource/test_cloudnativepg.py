from pathlib import Path

import pytest

from agentmemory_sidecar.resource import LocalValues, ResourceError, Unresolved, cloudnativepg, compile_resource
from agentmemory_sidecar.resource.state import ClusterRef
from agentmemory_sidecar.resource.store_config import PostgresStore
from tests.sidecar.resource.resources import resource

REF = ClusterRef(name="pg")
URI = "postgresql://app:p%40ss@pg-rw.agents:5432/app"


def secrets(folder: Path, **files: dict[str, str]) -> LocalValues:
    for name, keys in files.items():
        for key, text in keys.items():
            path = folder / f"pg-{name}" / key.replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return LocalValues(folder, folder)


def test_the_login_is_its_uri(tmp_path: Path) -> None:
    assert cloudnativepg.login(REF, "agents", secrets(tmp_path, app={"uri": URI})) == URI


def test_a_host_without_namespace_gets_the_clusters(tmp_path: Path) -> None:
    values = secrets(tmp_path, app={"uri": "postgresql://pg-rw:p@pg-rw:5432/app"})
    assert cloudnativepg.login(REF, "agents", values) == "postgresql://pg-rw:p@pg-rw.agents:5432/app"


def test_the_resource_may_name_another_database(tmp_path: Path) -> None:
    values = secrets(tmp_path, app={"uri": URI})
    login = cloudnativepg.login(ClusterRef(name="pg", database="memory"), "agents", values)
    assert login == "postgresql://app:p%40ss@pg-rw.agents:5432/memory"


def test_a_login_in_parts(tmp_path: Path) -> None:
    parts = {"host": "pg-rw", "dbname": "app", "username": "app", "password": "p@ss/w:rd"}
    values = secrets(tmp_path, app=parts)
    assert cloudnativepg.login(REF, "agents", values) == "postgresql://app:p%40ss%2Fw%3Ard@pg-rw.agents:5432/app"


@pytest.mark.parametrize("uri", ["mysql://h/d", "postgresql:///d", "text"])
def test_another_kind_of_secret_is_told_so_without_its_content(tmp_path: Path, uri: str) -> None:
    with pytest.raises(Unresolved, match="is it CloudNativePG's") as told:
        cloudnativepg.login(REF, "agents", secrets(tmp_path, app={"uri": uri}))
    assert uri not in str(told.value)


@pytest.mark.parametrize("tier", ["state", "archive"])
def test_a_sidecar_gets_login_and_authority(tmp_path: Path, tier: str) -> None:
    values = secrets(tmp_path, app={"uri": URI}, ca={"ca_crt": "PEM"})
    declared = resource(f"{tier}: {{postgres: {{clusterRef: {{name: pg}}}}}}")
    config = compile_resource(declared, "local", values=values, data_dir=tmp_path)
    store = getattr(config, tier)
    assert isinstance(store, PostgresStore)
    assert store.dsn.get_secret_value() == URI
    assert store.tls
    assert store.tls.ca_pem == "PEM"


def test_a_missing_secret_names_the_field_and_the_way_out(tmp_path: Path) -> None:
    values = secrets(tmp_path, app={"uri": URI})
    declared = resource("state: {postgres: {clusterRef: {name: pg}}}")
    with pytest.raises(ResourceError, match=r"spec.state.postgres.clusterRef: .*pg-ca.*tls.caFrom"):
        compile_resource(declared, "local", values=values, data_dir=tmp_path)


def test_an_authority_of_the_resources_own_is_taken_instead(tmp_path: Path) -> None:
    values = secrets(tmp_path, app={"uri": URI}, own={"ca_crt": "OWN"})
    where = "{secretKeyRef: {name: pg-own, key: ca.crt}}"
    declared = resource(f"state: {{postgres: {{clusterRef: {{name: pg}}, tls: {{caFrom: {where}}}}}}}")
    config = compile_resource(declared, "local", values=values, data_dir=tmp_path)
    assert isinstance(config.state, PostgresStore)
    assert config.state.tls
    assert config.state.tls.ca_pem == "OWN"
