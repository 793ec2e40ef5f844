"""What was found, for people: conditions in the status, and events."""
