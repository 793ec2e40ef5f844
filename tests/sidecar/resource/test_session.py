from agentmemory_sidecar.resource.session import LockScope, OnConflict
from tests.sidecar.resource.resources import resource


def test_a_session_in_full() -> None:
    session = resource("""
session:
  identity:
    headers: [X-Agent-Session, X-Session]
    userHeaders: [X-User-Id]
    projectHeaders: [X-Project-Id]
    defaults: {user: ann, project: apollo}
  lock: {ttl: 90s, onConflict: Wait, maxWait: 30s, scope: Turn}
""").spec.session
    assert session.identity.headers == ("X-Agent-Session", "X-Session")
    assert (session.identity.defaults.user, session.identity.defaults.project) == ("ann", "apollo")
    assert (session.lock.on_conflict, session.lock.scope) == (OnConflict.WAIT, LockScope.TURN)
    assert (session.lock.ttl.seconds, session.lock.max_wait.seconds) == (90, 30)
