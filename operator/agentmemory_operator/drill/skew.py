"""Runs ``agentmemory`` with a clock that is off. The standard library alone, for it is handed to the sidecar's own Python as
``python -c``.

``argv``: by how many seconds, and the command's own arguments. What Python code asks of the wall clock is off from then on
(``time.time`` and its kin, ``datetime.now`` and its kin); the monotonic clocks are not, for no process steps them, nor is
what C code asks for, such as OpenSSL for the validity of a certificate.
"""

import ctypes
import datetime
import gc
import sys
import time
from typing import Any

_time, _time_ns, _gettime, _gettime_ns = time.time, time.time_ns, time.clock_gettime, time.clock_gettime_ns


class Plain:
    """A function that, like those of C, is no method of a class that keeps it."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def shift(by_s: float) -> None:
    """Set this process's wall clock forward, or back."""
    by_ns = round(by_s * 1e9)
    strftime, asctime = time.strftime, time.asctime
    shifted = {
        "time": lambda: _time() + by_s,
        "time_ns": lambda: _time_ns() + by_ns,
        "clock_gettime": lambda clock: _gettime(clock) + (by_s if clock == time.CLOCK_REALTIME else 0),
        "clock_gettime_ns": lambda clock: _gettime_ns(clock) + (by_ns if clock == time.CLOCK_REALTIME else 0),
        **{name: _of_now(getattr(time, name)) for name in ("gmtime", "localtime", "ctime")},
        "strftime": lambda form, moment=None: strftime(form, time.localtime() if moment is None else moment),
        "asctime": lambda moment=None: asctime(time.localtime() if moment is None else moment),
    }
    for name, function in shifted.items():
        setattr(time, name, Plain(function))
    # datetime.today and date.today ask time.time already.
    _replace(
        datetime.datetime,
        now=classmethod(lambda cls, tz=None: cls.fromtimestamp(time.time(), tz)),
        utcnow=classmethod(lambda cls: cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)),
    )


def _of_now(function: Any) -> Any:
    """A function whose argument is now unless it is given."""
    return lambda seconds=None: function(time.time() if seconds is None else seconds)


def _replace(type_: type, **methods: Any) -> None:
    """Methods of a type that is written in C: whoever imported it has the new ones, and its instances stay its own."""
    (members,) = gc.get_referents(type_.__dict__)
    members.update(methods)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(type_))


if __name__ == "__main__":
    shift(float(sys.argv[1]))
    sys.argv = ["agentmemory", *sys.argv[2:]]
    from agentmemory_sidecar.cli.main import main

    main()
