"""A real Valkey and a real Postgres from wheels, for laptops, first tries and tests. Not for production.

Started and stopped by us as an unprivileged user, data under a directory of the user's choice.
"""
