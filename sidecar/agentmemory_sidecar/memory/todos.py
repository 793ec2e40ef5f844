"""Claude Code's to-do tools, read into ``/active_mission``: ``TodoWrite`` and the task tools of 2.1.

``TodoWrite`` names its whole list each time. The task tools keep ids, which only their results tell, so tasks lie under
``/active_mission/tasks/<id>`` and ``/active_mission/sub_tasks`` is written anew from them. Where both kinds were used, the
list holds the to-dos first and the tasks behind them. Each reader returns operations, or a text saying why it has none.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.state import Operation, State

SUB_TASKS = "/active_mission/sub_tasks"
TASKS = "/active_mission/tasks"

_SUFFIXES = {"pending": "", "in_progress": " (in progress)", "completed": " (completed)"}
_CREATED = re.compile(r"Task #(\S+) created successfully(?:: (.*))?")
_UPDATED = re.compile(r"Updated task #(\S+)(?: |$)")
_LISTED = re.compile(r"#(\S+) \[(pending|in_progress|completed)\] (.*)")
_BLOCKED = re.compile(r" \[blocked by (#\S+(?:, #\S+)*)\]$")
_OWNED = re.compile(r" \([^()]*\)$")
_SHOWN = re.compile(r"Task #(\S+): (.*)\nStatus: (pending|in_progress|completed)(?:\n|$)")

Task = dict[str, Any]
Read = list[Operation] | str


def todo_write(state: State, given: Any) -> Read:
    """``{"todos": [{"content", "status", "activeForm"}, …]}``, read when it is called."""
    todos = given.get("todos") if isinstance(given, dict) else None
    if not isinstance(todos, list):
        return "todos is no list"
    lines = []
    for number, todo in enumerate(todos):
        content = todo.get("content") if isinstance(todo, dict) else None
        status = todo.get("status", "pending") if isinstance(todo, dict) else None
        if (
            not isinstance(content, str)
            or not content.strip()
            or not isinstance(status, str)
            or status not in _SUFFIXES
        ):
            return f"todos/{number} has no content or no known status"
        lines.append(content.strip() + _SUFFIXES[status])
    return [Operation("set", SUB_TASKS, lines + _rendered(_tasks(state)))]


def task_create(state: State, given: Any, result: str) -> Read:
    """The result tells id and subject; a call that Claude Code repaired may lack the subject in its own input."""
    if not (match := _CREATED.match(result)):
        return "the result names no created task"
    given = given if isinstance(given, dict) else {}
    subject = match[2] or _text(given, "subject") or _text(given, "title") or f"Task #{match[1]}"
    task: Task = {"subject": subject, "status": "pending"}
    if (description := _text(given, "description") or _text(given, "content")) and description != subject:
        task["description"] = description
    return _changed(state, {match[1]: task})


def task_update(state: State, given: Any, result: str) -> Read:
    """``{"taskId", "subject"?, "description"?, "status"?, "owner"?, "addBlocks"?, "addBlockedBy"?}``."""
    if not (match := _UPDATED.match(result)):
        return "the result says that nothing was updated"
    if not isinstance(given, dict):
        return "the input is no object"
    name, old = match[1], _tasks(state)
    status = given.get("status")
    if status == "deleted":
        return _changed(state, {name: None})
    task = dict(old.get(name, {}))
    task |= {member: text for member in ("subject", "description", "owner") if (text := _text(given, member))}
    if isinstance(status, str) and status in _SUFFIXES:
        task["status"] = status
    task.setdefault("status", "pending")
    if blockers := _ids(given, "addBlockedBy"):
        task["blocked_by"] = _union(task, blockers)
    changes: dict[str, Task | None] = {name: task}
    for other in _ids(given, "addBlocks"):
        if other != name and other in old:
            changes[other] = {**old[other], "blocked_by": _union(old[other], [name])}
    return _changed(state, changes)


def task_list(state: State, given: Any, result: str) -> Read:
    """All tasks: those that it does not name are gone."""
    old = _tasks(state)
    if result.strip() == "No tasks found":
        return _changed(state, dict.fromkeys(old))
    listed: dict[str, Task] = {}
    name = ""
    for line in result.splitlines():
        if match := _LISTED.match(line):
            name = match[1]
            listed[name] = {**old.get(name, {}), "subject": match[3], "status": match[2]}
        elif name:
            listed[name]["subject"] += "\n" + line
    if not listed:
        return "the result lists no tasks"
    for name, task in listed.items():
        task.pop("blocked_by", None)
        if match := _BLOCKED.search(task["subject"]):
            task["subject"] = task["subject"][: match.start()]
            task["blocked_by"] = [part.strip(" #") for part in match[1].split(",")]
        known = old.get(name, {}).get("subject")
        # An owner stands in brackets behind the subject, and so may the subject's own last words: what is known decides.
        if known and task["subject"].startswith(known) and _OWNED.fullmatch(task["subject"][len(known) :]):
            task["subject"] = known
    return _changed(state, dict.fromkeys(old) | listed)


def task_get(state: State, given: Any, result: str) -> Read:
    """One task in full."""
    if not (match := _SHOWN.match(result)):
        return "the result shows no task"
    return _changed(state, {match[1]: {**_tasks(state).get(match[1], {}), "subject": match[2], "status": match[3]}})


ON_CALL: Mapping[str, Callable[[State, Any], Read]] = {"TodoWrite": todo_write}
ON_RESULT: Mapping[str, Callable[[State, Any, str], Read]] = {
    "TaskCreate": task_create,
    "TaskUpdate": task_update,
    "TaskList": task_list,
    "TaskGet": task_get,
}


def _changed(state: State, changes: Mapping[str, Task | None]) -> list[Operation]:
    """Operations for changed tasks (None: gone), and the list written anew; none where nothing changes."""
    old = _tasks(state)
    new = {**old, **changes}
    operations = [
        Operation("remove", ptr.join(TASKS, name)) if task is None else Operation("set", ptr.join(TASKS, name), task)
        for name, task in changes.items()
        if task != old.get(name)
    ]
    tasks = {name: task for name, task in new.items() if task is not None}
    listed = ptr.get(state, SUB_TASKS)
    listed = listed if isinstance(listed, list) else []
    known = {task.get("subject") for task in (*old.values(), *tasks.values())}
    lines = [line for line in listed if _bare(line) not in known] + _rendered(tasks)
    return operations if lines == listed else [*operations, Operation("set", SUB_TASKS, lines)]


def _tasks(state: State) -> dict[str, Task]:
    found = ptr.get(state, TASKS)
    return {name: task for name, task in found.items() if isinstance(task, dict)} if isinstance(found, dict) else {}


def _rendered(tasks: Mapping[str, Task]) -> list[str]:
    def order(name: str) -> tuple[int, int, str]:
        return (0, int(name), name) if name.isdecimal() and len(name) < 10 else (1, 0, name)

    return [
        str(tasks[name].get("subject") or f"Task #{name}") + _SUFFIXES.get(str(tasks[name].get("status")), "")
        for name in sorted(tasks, key=order)
    ]


def _bare(line: Any) -> Any:
    """A line of the list without its status."""
    if isinstance(line, str):
        for suffix in _SUFFIXES.values():
            if suffix and line.endswith(suffix):
                return line.removesuffix(suffix)
    return line


def _text(given: Mapping[str, Any], member: str) -> str:
    value = given.get(member)
    return value.strip() if isinstance(value, str) else ""


def _ids(given: Mapping[str, Any], member: str) -> list[str]:
    value = given.get(member)
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _union(task: Task, names: list[str]) -> list[str]:
    known = task.get("blocked_by")
    return list(dict.fromkeys([*(known if isinstance(known, list) else []), *names]))
