"""Hypothesis strategies for states and patches."""

from hypothesis import strategies as st

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.state import Operation, Patch

names = st.sampled_from(["a", "b", "c/d", "e~f", "-", "0", "1", ""])
leaf = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "yes, two words"])
values = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
states = st.dictionaries(names, values, max_size=4)
pointers = st.lists(names, min_size=1, max_size=3).map(ptr.build)
operations = st.one_of(
    st.builds(Operation, st.just("set"), pointers, values),
    st.builds(Operation, st.just("remove"), pointers),
    st.builds(Operation, st.just("append"), pointers, st.lists(values, min_size=1, max_size=2)),
    st.builds(Operation, st.just("merge"), pointers, st.dictionaries(names, values, min_size=1, max_size=3)),
)
patches = st.lists(operations, max_size=4).map(lambda parts: Patch("p", "test", tuple(parts)))
