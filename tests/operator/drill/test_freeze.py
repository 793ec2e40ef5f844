"""What stops a pod's processes, in a process namespace of its own whose first process is named as a pod's is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentmemory_operator.drill.line import FREEZE

POD = """
import json, os, signal, subprocess, sys, time

def state(process):
    return open(f"/proc/{process.pid}/stat").read().rpartition(")")[2].split()[0]

def until(process, wanted):
    while state(process) not in wanted:
        time.sleep(0.01)

def freeze(longest):
    freezer = subprocess.Popen(
        [sys.executable, "-u", "-c", sys.argv[1], longest], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return freezer, json.loads(freezer.stdout.readline())

sidecar = subprocess.Popen(["sleep", "600"])
until(sidecar, "S")
how, longest = sys.argv[2:]
freezer, said = freeze(longest)
if "stopped" in said:
    until(sidecar, "T")
    if how == "ended":
        freezer.stdin.close()
    elif how == "killed":
        freezer.kill()
    until(sidecar, "S")
    said["went_on"] = True
freezer.kill()
sidecar.kill()
print(json.dumps(said | {"as_it_was": state(sidecar) != "T"}))
"""


def in_a_pod(folder: Path, first: str, how: str, longest: str) -> dict[str, Any]:
    unshare = shutil.which("unshare")
    assert unshare, "unshare (util-linux) makes the namespace: install it"
    program = folder / first
    program.symlink_to(Path(sys.executable).resolve())
    rights = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        [unshare, *rights, "--pid", "--fork", "--mount-proc", program, "-c", POD, FREEZE, how, longest],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("how", "longest"), [("ended", "600"), ("killed", "600"), ("left", "0.2")])
def test_processes_stand_still_and_go_on_however_the_pause_ends(tmp_path: Path, how: str, longest: str) -> None:
    assert in_a_pod(tmp_path, "pause", how, longest) == {"stopped": 1, "went_on": True, "as_it_was": True}


def test_a_namespace_that_is_no_pods_is_left_alone(tmp_path: Path) -> None:
    found = in_a_pod(tmp_path, "init", "ended", "600")
    assert "the first process is init" in found["failed"]
    assert found["as_it_was"]
