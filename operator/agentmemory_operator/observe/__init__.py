"""What is there: in the cluster, in Redis, at AWS, in a database. Reads only."""
