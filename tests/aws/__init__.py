"""A strict AWS of several regions: DynamoDB global tables and S3 with replication, in front of one ministack a region."""
