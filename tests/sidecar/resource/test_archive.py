from agentmemory_sidecar.resource.archive import LockMode
from tests.sidecar.resource.resources import resource


def test_an_archive_in_full() -> None:
    archive = resource("""
archive:
  s3:
    bucketPrefix: acme-support
    keyPrefix: memory/
    objectLock: {mode: Compliance, days: 30}
    replication: {roleArn: arn:aws:iam::1:role/replicate}
    tags: {team: support}
    kmsKeyArn: arn:aws:kms:us-east-1:1:key/k
    perRegion: [{region: local, bucket: my.bucket}]
  blobs: {threshold: 65536}
  retention: {records: 2555d, blobs: 365d}
  keys: {kms: {keyArn: arn:aws:kms:us-east-1:1:key/k}}
  timeout: 1m
""").spec.archive
    assert archive.s3 is not None
    assert archive.s3.object_lock is not None
    assert archive.s3.object_lock.mode is LockMode.COMPLIANCE
    assert archive.s3.per_region[0].bucket == "my.bucket"
    assert archive.blobs.threshold.bytes == 65536
    assert archive.retention.records is not None
    assert archive.retention.records.seconds == 2555 * 86400
    assert archive.keys.kms is not None


def test_a_bucket_s_name_has_room_for_the_region() -> None:
    longest = "a" * 37
    archive = resource(f"regions: [ap-southeast-1]\narchive: {{s3: {{bucketPrefix: {longest}}}}}").spec.archive
    assert archive.s3 is not None
    assert len(f"{archive.s3.bucket_prefix}-{'x' * 25}") <= 63
