#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net
# Addresses, ports, rates, isolation between tenants. The "host" is this test's own network namespace.
. "$(dirname "$0")/../lib.sh"
tiny_image
vps launch n1 --image tiny --ip auto --ip auto6 -- httpd -f -p 80 -h /var/www >/dev/null
vps launch n2 --image tiny --ip auto --ip auto6 -- httpd -f -p 80 -h /var/www >/dev/null
ip4() { vps inspect "$1" | jq -r '.[0].addresses[] | select(contains(":") | not)' | head -1 | cut -d/ -f1; }
ip6() { vps inspect "$1" | jq -r '.[0].addresses[] | select(contains(":"))' | head -1 | cut -d/ -f1; }

test_reached_from_the_host_v4_and_v6() {
	curl -sf --max-time 5 "http://$(ip4 n1)/" | grep -q hello
	curl -sf --max-time 5 "http://[$(ip6 n1)]/" | grep -q hello
	ping -c 1 -W 3 "$(ip4 n1)"
	ping -c 1 -W 3 "$(ip6 n1)"
}

test_one_vps_reaches_another_by_routing() {
	vps exec n1 -- timeout 5 wget -qO- "http://$(ip4 n2)/" | grep -q hello
	vps exec n1 -- timeout 5 wget -qO- "http://[$(ip6 n2)]/" | grep -q hello
}

test_spoofed_sources_are_dropped() {
	local victim
	victim=$(ip4 n2)
	vps exec n1 -- ip addr add "$victim/32" dev eth0
	expect_fail vps exec n1 -- ping -c 2 -W 1 -I "$victim" "$(ip4 n1 | sed 's/[0-9]*$/1/')"
	# n2 still has its own address
	curl -sf --max-time 5 "http://$victim/" | grep -q hello
	vps exec n1 -- ip addr del "$victim/32" dev eth0
	vps exec n1 -- ip addr add 203.0.113.9/32 dev eth0
	expect_fail vps exec n1 -- ping -c 2 -W 1 -I 203.0.113.9 "$victim"
	vps exec n1 -- ip addr del 203.0.113.9/32 dev eth0
}

test_another_mac_is_dropped() {
	vps launch mac --image tiny --ip auto -- sleep 1000
	ping -c 1 -W 3 "$(ip4 mac)"
	vps exec mac -- ip link set eth0 address 02:de:ad:be:ef:01
	expect_fail ping -c 2 -W 1 "$(ip4 mac)"
	vps delete -f mac
}

test_published_port() {
	vps launch pub --image tiny --ip auto --publish 18080:80 -- httpd -f -p 80 -h /var/www
	# from outside: a peer namespace behind the host
	ip netns add "peer$$"
	trap 'ip netns pids "peer$$" | xargs -r kill; ip link del up0; ip netns del "peer$$"' EXIT
	ip link add up0 type veth peer name eth0 netns "peer$$"
	ip addr add 198.51.100.1/24 dev up0
	ip link set up0 up
	ip -n "peer$$" addr add 198.51.100.2/24 dev eth0
	ip -n "peer$$" link set eth0 up
	ip netns exec "peer$$" curl -sf --max-time 5 http://198.51.100.1:18080/ | grep -q hello
	# and out: masqueraded, since the peer knows no route back
	ip netns exec "peer$$" busybox httpd -p 198.51.100.2:81 -h /
	vps exec pub -- timeout 5 wget -qO- http://198.51.100.2:81/etc/hostname >/dev/null
	expect_exit 12 vps launch pub2 --image tiny --ip auto --publish 18080:80 -- sleep 10
	vps delete -f pub
}

test_addresses_are_leased_once() {
	local ip
	ip=$(ip4 n1)
	expect_exit 12 vps create dup --image tiny --ip "$ip"
	expect "$(vps list -aq | sort | tr '\n' ' ')" 'n1 n2 '
}

test_an_address_can_be_added_and_removed_live() {
	vps set n1 --ip auto --ip auto6 --ip 10.123.99.7
	ping -c 1 -W 3 10.123.99.7
	vps set n1 --ip '' --ip auto --ip auto6
	expect_fail ping -c 1 -W 1 10.123.99.7
	ping -c 1 -W 3 "$(ip4 n1)"
}

test_net_none_has_only_loopback() {
	expect "$(vps run --rm --image tiny --net none -- sh -c 'ls /sys/class/net')" lo
	vps run --rm --image tiny --net none -- ping -c 1 -W 1 127.0.0.1
}

test_a_bridge() {
	ip link add br0 type bridge
	ip addr add 192.0.2.1/24 dev br0
	ip link set br0 up
	vps launch b1 --image tiny --net bridge=br0 --ip 192.0.2.10/24 -- sleep 1000
	vps launch b2 --image tiny --net bridge=br0 --ip 192.0.2.11/24 -- sleep 1000
	ping -c 1 -W 3 192.0.2.10
	vps exec b1 -- ping -c 1 -W 3 192.0.2.11
	vps exec b1 -- ip addr add 192.0.2.99/24 dev eth0
	expect_fail vps exec b1 -- ping -c 2 -W 1 -I 192.0.2.99 192.0.2.1
	vps delete -f b1 b2
	ip link del br0
	expect_exit 5 vps launch b3 --image tiny --net bridge=nobr --ip 192.0.2.10/24 || expect_exit 2 vps launch b3 --image tiny --net bridge=nobr --ip 192.0.2.10/24
}

test_a_flushed_firewall_is_told_and_healed() {
	# what is on the heap is no part of what the tables should be
	MALLOC_PERTURB_=85 expect_exit 0 vps host check -q
	nft flush ruleset
	expect_exit 15 vps host check -q
	expect_exit 0 vps host gc -q
	expect_exit 0 vps host check -q
	local victim
	victim=$(ip4 n2)
	vps exec n1 -- ip addr add "$victim/32" dev eth0
	expect_fail vps exec n1 -- ping -c 2 -W 1 -I "$victim" "$(ip4 n1 | sed 's/[0-9]*$/1/')"
	vps exec n1 -- ip addr del "$victim/32" dev eth0
	curl -sf --max-time 5 "http://$(ip4 n1)/" | grep -q hello
}

test_the_hosts_own_rules_stay() {
	nft add table inet mine
	nft add chain inet mine c '{ type filter hook input priority 0; }'
	nft add rule inet mine c tcp dport 9999 counter
	vps launch own --image tiny --ip auto -- sleep 1000
	vps delete -f own
	vps host gc -q
	nft list table inet mine | grep -q 9999
	nft delete table inet mine
}

test_resolv_conf_and_hostname() {
	vps launch rc --image tiny --dns 192.0.2.53 --hostname name.example -- sleep 1000
	expect "$(vps exec rc cat /etc/resolv.conf)" '*nameserver 192.0.2.53*'
	expect "$(vps exec rc hostname)" name.example
	expect "$(vps exec rc cat /etc/hosts)" '*name.example*'
	vps delete -f rc
}

run_tests
