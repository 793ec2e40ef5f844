#!/bin/sh
# Starts the server. The image's entrypoint is not used: this needs a shell, awk, grep and the server.
set -eu
data=${DATA:-/data}
config=${CONFIG:-/etc/agentmemory/redis}
secrets=${SECRETS:-/etc/agentmemory/redis-secrets}
run=${RUN:-/run/agentmemory}

# The gate. Here a node keeps who it is (nodes.conf) and what it holds (the append-only file, which is there from the first
# start on). If it was a primary with slots and what it holds is gone, it must not come back under its old name: it would
# be an empty primary, and win over its replica that has everything. So it comes back as a new node; the others elect the
# replica, the operator makes this one its replica.
nodes=$data/nodes.conf
if [ -s "$nodes" ] && [ ! -d "$data/appendonlydir" ] && [ ! -s "$data/dump.rdb" ] \
    && awk '$3 ~ /myself/ && $3 ~ /master/ && NF > 8 { found = 1 } END { exit !found }' "$nodes"; then
    mv "$nodes" "$nodes.without-data"
    echo "nodes.conf says that this node owns slots, but its data is gone: it comes back as a new, empty node" >&2
fi

umask 077
{
    cat "$config/redis.conf"
    echo "dir $data"
    echo "cluster-announce-ip $POD_IP"
    echo "replica-announce-ip $POD_IP"
    echo "cluster-announce-hostname $POD_HOSTNAME"
    echo "masterauth $(cat "$secrets/replica")"
    echo "maxmemory ${MAXMEMORY:-0}"
} > "$run/redis.conf"
server=$(command -v valkey-server || command -v redis-server)
exec "$server" "$run/redis.conf"
