from agentmemory_sidecar.resource.errors import NotSupportedYet, ResourceError


def test_one_line_for_each_problem() -> None:
    error = NotSupportedYet(["a: is wrong", "b: is too"])
    assert isinstance(error, ResourceError)
    assert error.problems == ("a: is wrong", "b: is too")
    assert str(error) == "a: is wrong\nb: is too"
