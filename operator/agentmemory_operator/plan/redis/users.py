"""The users of a managed Redis, and what each may do."""

import hashlib
from collections.abc import Mapping, Sequence

OPERATOR, SIDECAR, REPLICA = "operator", "sidecar", "replica"
USERS = (OPERATOR, SIDECAR, REPLICA)

STAMP = "agentmemory-users"
"""A user that is always off. Its password is the hash of the users file, so that one question tells which a node has."""

RULES: Mapping[str, str] = {
    # No FLUSHALL, no FLUSHDB, no CLUSTER RESET: not even a defect can empty a node.
    OPERATOR: (
        "~* -@all +ping +info +config|set +acl|setuser +acl|getuser +migrate +restore +restore-asking +select +asking "
        "+cluster|myid +cluster|nodes +cluster|info +cluster|meet +cluster|forget +cluster|addslotsrange "
        "+cluster|replicate +cluster|failover +cluster|setslot +cluster|getkeysinslot +cluster|countkeysinslot"
    ),
    SIDECAR: (
        "~*:sess:* -@all +eval +evalsha +info +get +set +del +exists +pttl +pexpire +hset +hsetnx +hget +hmget +hgetall "
        "+hlen +hdel +rpush +ltrim +lrange +cluster|slots +asking"
    ),
    REPLICA: "resetkeys -@all +psync +replconf +ping +info +cluster|failover",
}
"""The sidecar's is what its own page asks for; a test holds the two together. The replica's is for the pods
themselves: replication, their probes, and the failover before they stop."""


def hashed(password: str) -> str:
    """As Redis keeps it."""
    return hashlib.sha256(password.encode()).hexdigest()


def definitions(passwords: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """``NAME RULE…`` of each user, as in ACL SETUSER.

    :param passwords: of each of ``USERS``: those that are valid, one or two.
    """
    # Off and without a password, nobody can be this user. But a server reads its append-only file as this user, and would
    # leave out every script's writes (they stand there as MULTI … EXEC) that the user may not make.
    lines = ["default reset off ~* &* +@all"]
    for user in USERS:
        hashes = " ".join(f"#{hashed(password)}" for password in passwords[user])
        lines.append(f"{user} reset on {hashes} resetchannels {RULES[user]}")
    return (*lines, f"{STAMP} reset off #{stamp(lines)}")


def stamp(lines: Sequence[str]) -> str:
    """The hash of definitions, without the stamp's own."""
    return hashlib.sha256("\n".join(line for line in lines if not line.startswith(STAMP)).encode()).hexdigest()


def acl_file(lines: Sequence[str]) -> str:
    """The file that a server starts with."""
    return "".join(f"user {line.replace(' reset ', ' ', 1)}\n" for line in lines)
