"""What was said, kept for good: records in a hash chain, sealed for their data subject, carried from the outbox."""
