#!/bin/sh
# Two containers on the default bridge: they reach each other, and the world outside.
#
# Run as root, with `fairlead` in PATH and an image `alpine` loaded (`scripts/build-images`, then
# `fairlead image load -i build/images/alpine.tar`).  OUTSIDE is the address outside that is pinged.
set -eu

OUTSIDE=${OUTSIDE:-8.8.8.8}

trap 'fairlead rm --force a1 a2 >/dev/null 2>&1 || true' EXIT

# `-dit`: in the background, with a terminal and with its input kept open, so that the shell has something to wait for.
fairlead run -dit --name a1 alpine ash
fairlead run -dit --name a2 alpine ash

# On the host: one `veth…@if…` per container, each a port of the bridge.
ip -brief address

# The containers' namespaces have no name in /run/netns, so `ip netns ls` does not show them, as with Docker.  They are
# in Fairlead's own directory: this list has both kinds, with their paths and what is in them.
ip netns ls
fairlead netns ls --all

# From one to the other: over the bridge, without the host's routing.
a2=$(fairlead inspect a2 | sed -n 's/.*"IPAddress": *"\([0-9.]*\)".*/\1/p' | head -n 1)
fairlead exec a1 ping -c 1 -W 2 "$a2"

# To the outside: the default route leads to the bridge's address, the host forwards (net.ipv4.ip_forward), and on the
# way out replaces the container's address by its own (masquerade), because nobody outside knows a way back to
# 172.17.0.0/16.
fairlead exec a1 ip route
fairlead exec a1 ping -c 1 -W 2 "$OUTSIDE"
