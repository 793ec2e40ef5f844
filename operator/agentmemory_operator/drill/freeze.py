"""Stops every other process of a pod, and lets them go on. The standard library alone, for it is handed to any Python as
``python -c``, in a container of a pod whose containers share one process namespace.

``argv``: for how many seconds at most. Out: ``{"stopped": number}`` or ``{"failed": text}``. They go on when standard input
ends, when the time is up, and when this process is gone, whatever ended it: a process of its own waits for that.
"""

import json
import os
import select
import signal
import sys


def others(*spared: int) -> set[int]:
    """All processes but these, and the one that keeps the pod's namespace."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1, os.getpid(), *spared}


def send(signal_: signal.Signals, processes: set[int]) -> int:
    """How many were there. Raises PermissionError for another user's."""
    found = 0
    for process in processes:
        try:
            os.kill(process, signal_)
            found += 1
        except ProcessLookupError:
            continue
    return found


def watchdog(longest_s: float) -> int:
    """Start the process that lets the others go on; returns its id. It knows that this one is gone by a pipe that ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(reading)
        os.set_inheritable(writing, False)
        return child
    os.close(writing)
    os.setsid()
    select.select([reading], [], [], longest_s)
    for process in others():
        try:
            os.kill(process, signal.SIGCONT)
        except OSError:  # gone, or another user's, which was never stopped
            continue
    os._exit(0)


def main() -> None:
    with open("/proc/1/comm") as file:
        first = file.read().strip()
    if first != "pause":
        print(
            json.dumps({"failed": f"its containers share no process namespace: the first process is {first}"}),
            flush=True,
        )
        return
    child = watchdog(float(sys.argv[1]))
    stopped: set[int] = set()
    try:
        while new := others(child) - stopped:
            send(signal.SIGSTOP, new)
            stopped |= new
    except PermissionError:
        said = "its sidecar runs as another user than the drill's agents: set settings.sidecar.runAsUser to theirs"
        print(json.dumps({"failed": f"{said}, {os.getuid()}"}), flush=True)
        return
    print(json.dumps({"stopped": len(stopped)}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
