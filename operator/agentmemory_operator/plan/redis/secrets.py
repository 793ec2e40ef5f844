"""When passwords and certificates are made, renewed and let go. Pure; making them is `act.redis_keys`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmemory_operator import names
from agentmemory_operator.plan.redis.pki import Certificate
from agentmemory_operator.plan.redis.users import REPLICA, USERS, acl_file, definitions
from agentmemory_operator.plan.values import Action, Manifest

DAY_S = 86400.0
PASSWORD_OVERLAP_S = 3600.0
"""So long are a user's old and new password both valid: far longer than a changed Secret takes to reach a pod."""
AUTHORITY_DAYS, AUTHORITY_LEFT_DAYS = 3650, 730
"""How long an authority lives, and with how much left it gets a successor."""
LEAF_DAYS, LEAF_LEFT_DAYS = 90, 30
"""How long a server's certificate lives, and with how much left it is renewed."""
TRUSTED_FIRST_S = DAY_S
"""An authority is trusted everywhere for so long before it signs."""

ROTATE = f"{names.GROUP}/rotate-redis-passwords"
"""Annotation of a resource: when its text changes, the passwords of its managed Redis are made anew."""

AUTHORITIES = "authorities.pem"
ROTATED, ROTATED_AT = "rotated", "rotated-at"
PREVIOUS = "-previous"


@dataclass(frozen=True, slots=True)
class Keys:
    """The Secret that only the operator reads: a region's passwords and authorities."""

    data: Mapping[str, str] = field(repr=False)
    authorities: tuple[Certificate, ...] = ()
    """Oldest first."""

    def passwords(self, user: str) -> tuple[str, ...]:
        """Newest first: one, or two while the old one is still valid."""
        found = (self.data.get(user, ""), self.data.get(user + PREVIOUS, ""))
        return tuple(password for password in found if password)

    @property
    def overlapping(self) -> bool:
        return any(name.endswith(PREVIOUS) for name in self.data)

    @property
    def users(self) -> tuple[str, ...]:
        return definitions({user: self.passwords(user) for user in USERS})

    def trusted(self, now: float) -> tuple[Certificate, ...]:
        return tuple(authority for authority in self.authorities if now < authority.until)

    def bundle(self, now: float) -> str:
        """The authorities to trust, PEM."""
        return "".join(authority.pem for authority in self.trusted(now))

    def signer(self, now: float) -> Certificate:
        """The newest authority that everybody has had time to trust; the first one signs at once."""
        trusted = self.trusted(now)
        seasoned = [authority for authority in trusted if now - authority.since >= TRUSTED_FIRST_S]
        return seasoned[-1] if seasoned else trusted[0]


@dataclass(frozen=True, slots=True)
class KeysAction(Action):
    """Something that is made anew in the operator's Secret."""

    manifest: Manifest = field(repr=False)
    """The Secret without its data."""

    @property
    def secret(self) -> str:
        meta = self.manifest["metadata"]
        return f"Secret {meta['namespace']}/{meta['name']}"


@dataclass(frozen=True, slots=True)
class MakeKeys(KeysAction):
    """Create it, unless it is there, with a password for each user and an authority."""

    rotated: str = ""

    def describe(self) -> str:
        return f"make passwords and a certificate authority in {self.secret}"


@dataclass(frozen=True, slots=True)
class RotatePasswords(KeysAction):
    """New passwords; the old ones stay valid beside them."""

    rotated: str = ""
    """What the annotation says: what it was done for."""

    def describe(self) -> str:
        return f"make new passwords in {self.secret}"


@dataclass(frozen=True, slots=True)
class RetirePasswords(KeysAction):
    """Drop the old ones."""

    def describe(self) -> str:
        return f"drop the old passwords from {self.secret}"


@dataclass(frozen=True, slots=True)
class AddAuthority(KeysAction):
    """A successor, trusted from now on; one that has ended is dropped."""

    def describe(self) -> str:
        return f"add a certificate authority to {self.secret}"


@dataclass(frozen=True, slots=True)
class IssueCertificate(Action):
    """A new certificate for the servers, in the Secret that their pods mount."""

    manifest: Manifest = field(repr=False)
    """That Secret, without certificate and key."""
    keys: Keys = field(repr=False)
    hostnames: tuple[str, ...] = ()
    why: str = ""

    def describe(self) -> str:
        meta = self.manifest["metadata"]
        return f"issue a certificate in Secret {meta['namespace']}/{meta['name']} ({self.why})"


def keys_action(manifest: Manifest, keys: Keys | None, rotate: str, now: float) -> KeysAction | None:
    """What the operator's Secret needs."""
    if keys is None:
        return MakeKeys(manifest, rotate)
    if rotate and rotate != keys.data.get(ROTATED, "") and not keys.overlapping:
        return RotatePasswords(manifest, rotate)
    if keys.overlapping and now - float(keys.data.get(ROTATED_AT, "0")) >= PASSWORD_OVERLAP_S:
        return RetirePasswords(manifest)
    if not keys.trusted(now) or keys.authorities[-1].until - now < AUTHORITY_LEFT_DAYS * DAY_S:
        return AddAuthority(manifest)
    return None


def derived(keys: Keys, now: float) -> dict[str, str]:
    """What the pods' Secret has besides the certificate."""
    return {
        "ca.crt": keys.bundle(now),
        "users.acl": acl_file(keys.users),
        REPLICA: keys.passwords(REPLICA)[0],
    }


def stale(leaf: Certificate | None, live: Mapping[str, str], keys: Keys, hostnames: tuple[str, ...], now: float) -> str:
    """Why the servers need a new certificate; empty if they do not.

    A change of the trusted authorities is a reason too: with the certificate the servers load both.
    """
    if leaf is None:
        return "there is none"
    if leaf.until - now < LEAF_LEFT_DAYS * DAY_S:
        return "it ends soon"
    if set(leaf.hostnames) != set(hostnames):
        return "the names have changed"
    if leaf.issuer != keys.signer(now).subject:
        return "another authority signs now"
    return "" if live.get("ca.crt") == keys.bundle(now) else "the trusted authorities have changed"
