#!/bin/sh
# Two namespaces and a veth pair: the smallest network there is.
#
# Run as root, with `fairlead` in PATH.  Add --explain to any of the fairlead commands and it prints the `ip` lines that
# would do the same, and changes nothing.
set -eu

# Whatever happens, leave nothing.  Removing a namespace removes the interfaces in it; and a veth pair dies with either
# of its ends, so the link needs no line of its own here.
trap 'for name in ns0 ns1; do fairlead netns rm "$name" >/dev/null 2>&1 || true; done' EXIT

# A network namespace is a second, empty copy of the kernel's network stack: its own interfaces, addresses, routes,
# neighbours, firewall and ports.  These two are kept by name in /run/netns, where `ip netns ls` looks as well.
fairlead netns add ns0
fairlead netns add ns1
ip netns ls

# In a new namespace there is only `lo`: nothing leads in or out.
fairlead netns exec ns0 ip -brief link

# A veth pair is a virtual cable: what goes in at one end comes out at the other.  Each end lies in one of the
# namespaces.  An address with its prefix length (/24) also makes a route: 172.0.0.0/24 is reached directly over this
# interface.
fairlead link add ns0/vth0 ns1/vth1 --ip 172.0.0.2/24 --peer-ip 172.0.0.3/24

fairlead netns exec ns0 ip -brief address
fairlead netns exec ns0 ip route
fairlead netns exec ns1 ip -brief address

# ns0 asks by ARP who has 172.0.0.3, ns1 answers with the MAC address of vth1, and the ping goes over the cable.
fairlead netns exec ns0 ping -c 1 -W 2 172.0.0.3
fairlead netns exec ns1 ping -c 1 -W 2 172.0.0.2

# What ns0 has learned: the neighbour's MAC address, which is the one that ns1 shows for vth1.
fairlead netns exec ns0 ip neighbour
fairlead netns exec ns1 ip -brief link show vth1
