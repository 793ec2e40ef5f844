"""From what is wanted and what was seen to typed actions. Pure: no client library is imported here."""
