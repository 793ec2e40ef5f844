#!/bin/sh
# What a pod asks of its own server: node.sh alive | ready | stop
set -eu
secrets=${SECRETS:-/etc/agentmemory/redis-secrets}
cli=$(command -v valkey-cli || command -v redis-cli)

ask() { # HOST COMMAND...
    host=$1
    shift
    REDISCLI_AUTH=$(cat "$secrets/replica") timeout 8 "$cli" -h "$host" -p 6379 --tls --cacert "$secrets/ca.crt" \
        --user replica --no-auth-warning "$@" | tr -d '\r'
}
field() { sed -n "s/^$1://p"; }
durable() { # HOST: a replica has on disk what it was sent. Killed before, it would come back with less, or nothing.
    answer=$(ask "$1" info persistence)
    echo "$answer" | grep -q '^aof_enabled:1' && ! echo "$answer" | grep -q -E '^aof_rewrite_(in_progress|scheduled):1'
}

case $1 in
alive)
    # Any answer is a sign of life, a refusal too: it may be loading its data, or have new passwords.
    timeout 25 "$cli" -h "$POD_IP" -p 6379 --tls --cacert "$secrets/ca.crt" ping | grep -q .
    ;;
ready)
    # A primary, or a replica that is in step: a drain must not take a shard's primary while its replica is not.
    info=$(ask "$POD_IP" info replication)
    [ "$(echo "$info" | field role)" = master ] && exit 0
    [ "$(echo "$info" | field master_link_status)" = up ] && durable "$POD_IP"
    ;;
stop)
    # Before the server is stopped: hand over to the replica that has most. Never in the way of stopping.
    info=$(ask "$POD_IP" info replication) || exit 0
    [ "$(echo "$info" | field role)" = master ] || exit 0
    for replica in $(echo "$info" | awk -F'[,=]' '/^slave[0-9]+:/ && /state=online/ {
            for (i = 1; i < NF; i++) { if ($i ~ /:ip$/) ip = $(i + 1); if ($i == "offset") offset = $(i + 1) }
            print offset, ip }' | sort -rn | awk '{ print $2 }'); do
        tries=0
        until durable "$replica"; do
            tries=$((tries + 1))
            [ $tries -lt 20 ] || continue 2
            sleep 0.5
        done
        ask "$replica" cluster failover | grep -q OK || continue
        tries=0
        while [ $tries -lt 50 ]; do
            [ "$(ask "$POD_IP" info replication | field role)" = slave ] && exit 0
            tries=$((tries + 1))
            sleep 0.2
        done
    done
    ;;
esac
