"""The texts are those of Claude Code 2.1.330's own tools."""

import pytest

from agentmemory_sidecar.memory.rules import Rules, ToolResult, derive
from agentmemory_sidecar.memory.state import apply, empty

RULES = Rules()


class Session:
    """A state that tool calls and results change, as a step's commit does."""

    def __init__(self) -> None:
        self.state = empty("u")
        self.skipped: list[tuple[str, str]] = []

    def result(self, name, given, text, *, is_error=False):
        self._take(derive("s", [], [ToolResult("t", name, given, text, is_error)], RULES, self.state))
        return self

    def call(self, name, given):
        block = {"type": "tool_use", "id": "t", "name": name, "input": given}
        self._take(derive("s", [block], [], RULES, self.state))
        return self

    def created(self, number, subject, **more):
        given = {"subject": subject, "description": subject, **more}
        return self.result("TaskCreate", given, f"Task #{number} created successfully: {subject}")

    def updated(self, number, fields, **given):
        return self.result("TaskUpdate", {"taskId": str(number), **given}, f"Updated task #{number} {fields}")

    def _take(self, derived):
        self.state = apply(self.state, derived.patch)
        self.skipped += derived.skipped

    @property
    def list(self):
        return self.state["active_mission"]["sub_tasks"]

    @property
    def tasks(self):
        return self.state["active_mission"].get("tasks", {})


def todo(content, status="pending"):
    return {"content": content, "status": status, "activeForm": content}


def test_todo_write_names_the_whole_list():
    session = Session().call("TodoWrite", {"todos": [todo("a"), todo("b", "in_progress"), todo("c", "completed")]})
    assert session.list == ["a", "b (in progress)", "c (completed)"]
    assert session.call("TodoWrite", {"todos": []}).list == []


def test_tasks_are_kept_by_id_and_listed_in_their_order():
    session = Session()
    for number in (2, 10, 1):
        session.created(number, f"task {number}", description="how")
    assert session.list == ["task 1", "task 2", "task 10"]
    assert session.tasks["10"] == {"subject": "task 10", "status": "pending", "description": "how"}
    session.updated(2, "status", status="in_progress").updated(1, "subject, status", subject="one", status="completed")
    assert session.list == ["one (completed)", "task 2 (in progress)", "task 10"]
    session.updated(2, "deleted", status="deleted")
    assert session.list == ["one (completed)", "task 10"]
    assert set(session.tasks) == {"1", "10"}


def test_the_result_tells_the_subject_of_a_call_that_was_repaired():
    session = Session().result("TaskCreate", {"title": "x"}, "Task #1 created successfully: x\nSome reminder.")
    assert session.list == ["x"]


def test_dependencies_are_kept():
    session = Session().created(1, "a").created(2, "b").updated(2, "blockedBy", addBlockedBy=["1"])
    session.updated(2, "blocks", addBlocks=["1"])
    assert session.tasks["2"]["blocked_by"] == ["1"]
    assert session.tasks["1"]["blocked_by"] == ["2"]


def test_a_task_list_is_the_whole_truth():
    session = Session().created(1, "Fix (soon)").created(2, "gone")
    text = "#1 [completed] Fix (soon) (worker-1)\n#3 [pending] Second line\nof a subject [blocked by #1, #4]"
    session.result("TaskList", {}, text)
    assert session.list == ["Fix (soon) (completed)", "Second line\nof a subject"]
    assert session.tasks["3"]["blocked_by"] == ["1", "4"]
    assert session.result("TaskList", {}, "No tasks found").list == []
    assert session.tasks == {}


def test_a_task_that_is_shown_is_learnt():
    text = "Task #7: Deploy\nStatus: in_progress\nDescription: all of it"
    assert Session().result("TaskGet", {"taskId": "7"}, text).list == ["Deploy (in progress)"]


def test_both_kinds_of_list_stand_behind_each_other():
    session = Session().call("TodoWrite", {"todos": [todo("write")]}).created(1, "task")
    assert session.list == ["write", "task"]
    session.updated(1, "status", status="completed").call("TodoWrite", {"todos": [todo("write", "completed")]})
    assert session.list == ["write (completed)", "task (completed)"]
    session.updated(1, "subject", subject="renamed")
    assert session.list == ["write (completed)", "renamed (completed)"]


def test_failures_change_nothing():
    session = Session().created(1, "a")
    before = session.state
    session.result("TaskUpdate", {"taskId": "9", "status": "completed"}, "Task #9 not found")
    session.result("TaskUpdate", {"taskId": "1", "status": "completed"}, "Updated task #1 status", is_error=True)
    session.result("TaskCreate", {"subject": "x"}, "Hook refused it")
    session.result("TaskGet", {"taskId": "1"}, "Task not found")
    assert session.state == before
    assert [tool for tool, _ in session.skipped] == ["TaskUpdate", "TaskCreate", "TaskGet"]


MALFORMED = [
    None, [], "x", {}, {"todos": 1}, {"todos": [1]}, {"todos": [{"content": 1}]}, {"todos": [todo("x", "done")]},
    {"todos": [todo(" ")]}, {"todos": [todo("x", None)]},
]  # fmt: skip


@pytest.mark.parametrize("given", MALFORMED)
def test_malformed_todos_give_a_reason(given):
    session = Session().call("TodoWrite", given)
    assert session.state == empty("u")
    assert session.skipped[0][0] == "TodoWrite"


def test_malformed_states_and_inputs_never_raise():
    session = Session()
    session.state = {"active_mission": {"tasks": [1], "sub_tasks": {"x": 1}}}
    session.created(1, "a").updated(1, "status", status=["x"], addBlocks="x", addBlockedBy=[1]).result(
        "TaskList", None, "#"
    )
    assert session.skipped
    session.state = {"active_mission": "text"}
    assert session.created(1, "a").state == {"active_mission": "text"}
