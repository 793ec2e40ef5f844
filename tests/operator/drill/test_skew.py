"""A sidecar with a clock that is off: what its Python code asks of the wall clock, and nothing else, is."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time

import pytest

from agentmemory_operator.drill.line import SKEW

OFF_S = 3600.0
ASKED = """
import time
real, monotonic = time.time(), time.monotonic()
skew = {"__name__": "skew"}
exec(SKEW, skew)
from datetime import UTC, date, datetime
import calendar, email.utils, io, logging
skew["shift"](OFF)
found = {
    "time": time.time(), "time_ns": time.time_ns() / 1e9, "clock": time.clock_gettime(time.CLOCK_REALTIME),
    "clock_ns": time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9, "gmtime": calendar.timegm(time.gmtime()),
    "localtime": time.mktime(time.localtime()), "strftime": float(time.strftime("%s")),
    "now": datetime.now().timestamp(), "aware": datetime.now(UTC).timestamp(),
    "today": datetime.today().timestamp(), "mail": email.utils.parsedate_to_datetime(email.utils.formatdate()).timestamp(),
}
said = io.StringIO()
logging.basicConfig(stream=said, format="%(asctime)s %(message)s")
logging.warning("told")
found["log"] = datetime.strptime(said.getvalue()[:19], "%Y-%m-%d %H:%M:%S").timestamp()
assert type(datetime.now()) is datetime and isinstance(date.today(), date)
assert time.gmtime(0).tm_year == 1970
assert abs(time.monotonic() - monotonic) < 60
import json
print(json.dumps({name: value - real for name, value in found.items()}))
"""


@pytest.mark.parametrize("off", [OFF_S, -OFF_S])
def test_all_that_python_asks_of_the_wall_clock_is_off(off: float) -> None:
    program = f"SKEW, OFF = {SKEW!r}, {off}\n{ASKED}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert all(abs(value - off) < 60 for value in found.values()), found


def test_a_sidecar_is_started_with_it_and_shows_it(tmp_path: Path) -> None:
    command = [
        sys.executable, "-c", SKEW, str(OFF_S), "sidecar", "--config-dir", str(tmp_path), "--listen", "127.0.0.1:0",
        "--probes", "127.0.0.1:0", "--admin-socket", str(tmp_path / "admin.sock"),
    ]  # fmt: skip
    around = {**os.environ, "PYTHONUNBUFFERED": "1"}
    sidecar = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=around)
    try:
        assert sidecar.stdout is not None
        probes = re.search(r"probes on (\S+),", sidecar.stdout.readline())
        assert probes
        where = probes[1].removeprefix("http://")
        with urllib.request.urlopen(f"http://{where}/livez", timeout=30) as answer:
            shown = parsedate_to_datetime(answer.headers["date"]).timestamp()
    finally:
        sidecar.terminate()
        sidecar.wait(30)
        assert sidecar.stdout is not None
        sidecar.stdout.close()
    assert abs(shown - time() - OFF_S) < 60
