#!/bin/sh
# A container with a published port: a web server that the host, and whoever reaches the host, can ask.
#
# Run as root, with `fairlead` in PATH and an image `nginx` loaded (`scripts/build-images`, then
# `fairlead image load -i build/images/nginx.tar`).
set -eu

trap 'fairlead rm --force nginx_test1 >/dev/null 2>&1 || true' EXIT

# The container gets a namespace, an interface `eth0` in it, an address from the subnet of the network `bridge`, and a
# default route to the bridge.  `-p 8081:80` leads port 8081 of the host to port 80 of the container.
fairlead run --name nginx_test1 -d -p 8081:80 nginx

fairlead ps -a

# In the shape of `docker inspect`: address, gateway, MAC address and ports are under NetworkSettings.
fairlead inspect nginx_test1

# A server takes a moment to listen.  After that the same port answers on every address of the host.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    if curl -sf -o /dev/null http://localhost:8081; then break; fi
    [ "$attempt" != 10 ] || { echo "nginx does not answer on port 8081" >&2; exit 1; }
    sleep 0.3
done

# Over IPv4, over IPv6, and on an address that others see.  No program copies the bytes: the kernel rewrites each
# packet's destination to the container's address (destination NAT), and the answer's source back again.
curl -sS -o /dev/null -w '%{url} answered %{http_code}\n' http://localhost:8081
curl -sS -g -o /dev/null -w '%{url} answered %{http_code}\n' 'http://[::1]:8081'
for address in $(ip -4 -oneline address show scope global | awk '{ sub("/.*", "", $4); print $4 }'); do
    curl -sS -o /dev/null -w '%{url} answered %{http_code}\n' "http://$address:8081"
done

# The rules are few and do not grow in number; a published port is one element of a map.
nft list table inet fairlead

# The networks that are always there, and the one that the container is in.
fairlead network ls
fairlead network inspect bridge
