"""Claude's protocol as pure functions over bytes: who asks, what the prefix is, where to splice, what a stream says."""
