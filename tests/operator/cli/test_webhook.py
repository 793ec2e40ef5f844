"""The command as a process: what it says of bad input, and that it ends as it is told."""

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentmemory_operator.cli.webhook import webhook
from tests.operator.webhook.asking import write_pair
from tests.operator.webhook.test_tls import held


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--settings", "none.yaml", "--cert-dir", "."], "none.yaml: cannot be read"),
        (["--settings", "bad.yaml", "--cert-dir", "."], "bad.yaml: images.sidecars"),
        (["--settings", "good.yaml"], "--cert-dir"),
        (["--settings", "good.yaml", "--cert-dir", ".", "--listen", "8443"], "must be HOST:PORT"),
        (["--settings", "good.yaml", "--cert-dir", ".", "--probes", "x:99999"], "must be HOST:PORT"),
    ],
)
def test_bad_input_is_exit_2_and_says_what(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("images: {sidecars: x}")
    Path("good.yaml").write_text("{}")
    done = CliRunner().invoke(webhook, arguments)
    assert done.exit_code == 2
    assert says in done.output


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("{}")
    (tmp_path / "certificates").mkdir()
    write_pair(tmp_path / "certificates", held())
    command = [
        sys.executable, "-m", "agentmemory_sidecar.cli", "webhook", "--settings", str(tmp_path / "settings.yaml"),
        "--cert-dir", str(tmp_path / "certificates"), "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0",
        "--linger", "0",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "serving on port" in line)
        with urllib.request.urlopen(f"http://127.0.0.1:{line.split()[-1]}/readyz") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


def test_it_imports_neither_kopf_nor_the_kubernetes_client() -> None:
    code = (
        "import sys, agentmemory_operator.cli.webhook; "
        "sys.exit(' '.join({name.partition('.')[0] for name in sys.modules} & {'kopf', 'kubernetes', 'boto3'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_port_that_is_taken_is_exit_1(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--settings", str(tmp_path / "settings.yaml"), "--cert-dir", str(tmp_path)]
        done = CliRunner().invoke(webhook, [*arguments, "--listen", f"127.0.0.1:{port}", "--probes", "127.0.0.1:0"])
    assert done.exit_code == 1
    assert "cannot listen" in done.output
