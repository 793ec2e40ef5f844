"""``python -m examples.demo [--once]``: the story, in the order in which it is told.

Exit codes: 0 the fact survived (and serving ended by a signal), 1 it did not or something could not be started.
"""

import argparse
import os
import secrets
import signal
import sys
from contextlib import ExitStack
from types import FrameType

import anthropic

from examples.demo.conversation import Agent, Receipt, script
from examples.demo.servers import Claude, DemoError, Sidecar, data_directory, free_port, port_to_serve
from examples.demo.telling import Teller

CODE_WORDS = ("Bluebird", "Copper Fox", "Night Heron", "Silver Birch", "Tin Whistle", "Red Kite")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(Exception):
    """A signal asked us to end."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the conversation instead of serving on")
    once: bool = parser.parse_args().once
    for number in ENDING:
        signal.signal(number, _end)
    tell = Teller()
    try:
        with ExitStack() as running:
            # Entered first, so left last: a second Ctrl-C must not stop us from stopping the others.
            running.callback(lambda: [signal.signal(number, signal.SIG_IGN) for number in ENDING])
            return _run(tell, running, once=once)
    except Ended:
        tell.line("\nEnded.")
        return 0
    except DemoError as error:
        tell.failed(str(error))
    except anthropic.APIStatusError as error:
        tell.failed(f"Claude's side answered {error.status_code}: {error.message}")
    except anthropic.APIConnectionError as error:
        tell.failed(f"no connection through the sidecar: {error}")
    return 1


def _end(number: int, frame: FrameType | None) -> None:
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN)
    raise Ended


def _run(tell: Teller, running: ExitStack, *, once: bool) -> int:
    real = bool(os.environ.get("ANTHROPIC_API_KEY"))
    directory = data_directory()
    session = f"demo-{secrets.token_hex(3)}"
    fact = f"{secrets.choice(CODE_WORDS)} {secrets.randbelow(90) + 10}"

    port, asked_for = (free_port(), True) if once else port_to_serve()
    tell.title("agentmemory: a conversation that survives kill -9")
    tell.item("Claude", "the real one (ANTHROPIC_API_KEY is set)" if real else "a strict stand-in on this machine")
    tell.item("data", str(directory))
    tell.item("session", session)
    claude = None if real else running.enter_context(Claude(directory))
    sidecar = running.enter_context(Sidecar(directory, port, claude.url if claude else ""))
    tell.item("sidecar", f"{sidecar.url}, started in {sidecar.started_in:.1f} s with Valkey and Postgres")
    if claude:
        script(claude, session, fact)

    tell.title("1  The agent tells Claude a fact and is given a to-do list")
    first = Agent(sidecar.url, session)
    for said in first.tell_fact(fact):
        tell.said(said.who, said.text)
    tell.receipt(first.receipts[-1])

    tell.title("2  kill -9: the sidecar and its Valkey; the agent is gone too")
    del first
    for name, pid in sidecar.kill():
        tell.item(name, f"process {pid} killed")
    sidecar.start()
    tell.item("sidecar", f"{sidecar.url}, started again in {sidecar.started_in:.1f} s")

    tell.title("3  A new agent on the same session, with no history of its own")
    second = Agent(sidecar.url, session)
    for said in second.ask_for_it():
        tell.said(said.who, said.text)
    receipt = second.receipts[-1]
    tell.receipt(receipt)
    tell.remembered(sidecar.state(session), sidecar.injected(session))
    if problem := _lost(fact, second.answer, receipt):
        tell.failed(problem)
        return 1
    tell.title(f"The fact survived: it came from the {receipt.tier} tier, and the answer names {fact}")
    if once:
        return 0
    tell.serving(sidecar, directory, session, real=real, asked_for=asked_for)
    while True:
        if (code := sidecar.wait(1.0)) is not None:
            tell.failed(f"the sidecar ended by itself with code {code}; its log is {sidecar.log}")
            return 1


def _lost(fact: str, answer: str, receipt: Receipt) -> str:
    """Why this is no surviving memory; empty where it is one."""
    if fact.casefold() not in answer.casefold():
        return f"The fact did not survive: the answer does not name {fact}."
    if receipt.tier != "state":
        return (
            f"The memory came from the {receipt.tier or 'unknown'} tier; after these kills only the state tier has it."
        )
    if receipt.injected == 0:
        return "The answer names the fact, but nothing was injected: Claude cannot have it from the memory."
    return ""


if __name__ == "__main__":
    sys.exit(main())
