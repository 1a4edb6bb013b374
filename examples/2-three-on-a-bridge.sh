#!/bin/sh
# Three namespaces on a bridge: the switch in the middle, and the firewall that drops what it should not even see.
#
# Run as root, with `fairlead` in PATH.
set -eu

# Endpoints leave their network when their namespace is removed; the network can go once it has no endpoint.
clean_up() {
    for name in ns0 ns1 ns2; do fairlead netns rm "$name" >/dev/null 2>&1 || true; done
    fairlead network rm br0 >/dev/null 2>&1 || true
}
trap clean_up EXIT

# A bridge is a virtual switch: it learns which MAC address is behind which port and forwards frames.  With
# `--gateway none` the host gets no address on it: a switch and nothing else, so the host itself cannot reach the three.
# The option names the bridge; without it the name would be made from the network's id.
fairlead network create br0 --subnet 10.0.0.0/24 --gateway none -o com.docker.network.bridge.name=br0
ip -brief link show br0

# Each connect lays a cable: one end is `eth0` in the namespace, the other is a port of the bridge.
fairlead netns add ns0
fairlead netns add ns1
fairlead netns add ns2
fairlead network connect br0 ns0 --ip 10.0.0.1
fairlead network connect br0 ns1 --ip 10.0.0.2
fairlead network connect br0 ns2 --ip 10.0.0.3

# The ports of the switch as the host sees them: `@if…` is the number of the other end, in another namespace.
ip -brief link show master br0

# Every one of them reaches every other.
for from in ns0 ns1 ns2; do
    for to in 10.0.0.1 10.0.0.2 10.0.0.3; do
        fairlead netns exec "$from" ping -c 1 -W 2 "$to"
    done
done

# On many hosts the same, done by hand with `ip`, fails: where net.bridge.bridge-nf-call-iptables is 1, even a frame
# that only passes from one port of a bridge to another goes through iptables' FORWARD chain, and where Docker, ufw or
# firewalld set that chain's policy to DROP, it ends there.  By hand one would add
# `iptables -A FORWARD -i br0 -j ACCEPT`.  Fairlead sees such a chain and adds its own accept rule, and takes it away
# again when the network is removed.
if [ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null)" = 1 ]; then
    iptables -S FORWARD
fi

# What the bridge has learned: each namespace's MAC address and the port that leads to it.
bridge fdb show br br0 dynamic
