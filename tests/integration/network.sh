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
	curl -sf --max-time 5 "http://$(ip4 n1)/" | found hello
	curl -sf --max-time 5 "http://[$(ip6 n1)]/" | found hello
	ping -c 1 -W 3 "$(ip4 n1)"
	ping -c 1 -W 3 "$(ip6 n1)"
}

test_one_vps_reaches_another_by_routing() {
	vps exec n1 -- timeout 5 wget -qO- "http://$(ip4 n2)/" | found hello
	vps exec n1 -- timeout 5 wget -qO- "http://[$(ip6 n2)]/" | found hello
}

test_spoofed_sources_are_dropped() {
	local victim
	victim=$(ip4 n2)
	vps exec n1 -- ip addr add "$victim/32" dev eth0
	expect_fail vps exec n1 -- ping -c 2 -W 1 -I "$victim" "$(ip4 n1 | sed 's/[0-9]*$/1/')"
	# n2 still has its own address
	curl -sf --max-time 5 "http://$victim/" | found hello
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
	ip netns exec "peer$$" curl -sf --max-time 5 http://198.51.100.1:18080/ | found hello
	# and out: masqueraded, since the peer knows no route back
	ip netns exec "peer$$" busybox httpd -p 198.51.100.2:81 -h /
	vps exec pub -- timeout 5 wget -qO- http://198.51.100.2:81/etc/hostname >/dev/null
	expect_exit 12 vps launch pub2 --image tiny --ip auto --publish 18080:80 -- sleep 10
	vps delete -f pub
}

# guest NAME - its init, for host programs in its network namespace
guest() { vps status --json "$1" | jq .pid; }

test_published_udp_and_v6() {
	needs python3
	vps launch pub6 --image tiny --ip auto --ip auto6 --publish 18053:53/udp --publish '[2001:db8::1]:18081:80' \
		-- httpd -f -p 80 -h /var/www
	curl -sf --max-time 5 'http://[2001:db8::1]:18081/' | found hello
	expect_exit 7 curl -sf --max-time 5 http://198.18.0.1:18081/
	nsenter -t "$(guest pub6)" -n timeout 20 python3 -c '
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 53))
while True:
    text, who = s.recvfrom(99)
    s.sendto(text.upper(), who)' &
	trap "kill $!" EXIT
	local ask='
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.sendto(b"echo", (sys.argv[1], 18053))
print(s.recv(99).decode())' addr
	for addr in 198.18.0.1 2001:db8::1; do
		wait_until 10 python3 -c "$ask" $addr
		expect "$(python3 -c "$ask" $addr)" ECHO
	done
	vps delete -f pub6
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

test_several_addresses_at_create() {
	vps launch many --image tiny --ip auto --ip 10.123.99.8,10.123.99.9 --ip auto6 --ip fd76:7073::99:8 -- sleep 1000
	local a
	for a in 10.123.99.8 10.123.99.9 fd76:7073::99:8 "$(ip4 many)" "$(ip6 many)"; do
		ping -c 1 -W 3 "$a"
		vps exec n1 -- ping -c 1 -W 3 "$a"
	done
	vps delete -f many
}

# mbit COMMAND... - of something that moves 4 MB: its Mbit/s
mbit() {
	local t0=${EPOCHREALTIME/./}
	"$@" >/dev/null
	echo $((4 * 8 * 1048576 / (${EPOCHREALTIME/./} - t0)))
}
test_rates_hold_at_create_and_live() {
	vps launch ra --image tiny --ip auto --disk 64M --rate 20M:10M -- httpd -f -p 80 -h /root
	vps exec ra -- dd if=/dev/zero of=/root/f bs=1M count=4
	dd if=/dev/zero of="$work/f" bs=1M count=4
	busybox httpd -f -p 198.18.0.1:8099 -h "$work" &
	trap "kill $!" EXIT
	wait_until 5 curl -sf -o /dev/null "http://198.18.0.1:8099/f"
	local in="vps exec ra -- wget -q -O /dev/null http://198.18.0.1:8099/f" out got
	out="curl -sf -o /dev/null http://$(ip4 ra)/f"
	# outwards one second's worth passes at once after a pause
	got="$(mbit $in) $(mbit $out)"
	expect "$got" '1[0-9] [789]' || expect "$got" '1[0-9] 1[0-7]'
	vps set ra --rate 8M:16M
	got=$(mbit $in)
	[ "$got" -ge 5 ] && [ "$got" -le 8 ] || fail "in: $got Mbit/s at 8"
	vps set ra --rate ''
	got="$(mbit $in) $(mbit $out)"
	[ "${got% *}" -gt 100 ] && [ "${got#* }" -gt 100 ] || fail "without a rate: $got Mbit/s"
	# stopped, for the next start
	vps stop --kill ra
	vps set ra --rate 8M
	vps start ra
	got=$(mbit $in)
	[ "$got" -ge 5 ] && [ "$got" -le 8 ] || fail "in: $got Mbit/s at 8, after a start"
	vps delete -f ra
}

test_packets_a_second() {
	vps launch pp --image tiny --ip auto -- sleep 1000
	local cmd="vps exec pp -- ping -q -i 0.01 -c 100 198.18.0.1"
	expect "$($cmd)" '*, 100 packets received*'
	vps set pp --pps 20
	local got
	got=$($cmd | awk '/received/ {print $4}')
	[ "$got" -ge 20 ] && [ "$got" -le 60 ] || fail "$got of 100 in 1 s at 20 a second"
	vps set pp --pps ''
	expect "$($cmd)" '*, 100 packets received*'
	vps delete -f pp
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

test_macvlan_is_refused_unless_allowed() {
	ip link add mv0 type veth peer name mv1
	ip link set mv0 up
	ip link set mv1 up
	ip addr add 192.0.2.65/28 dev mv1
	trap ': >"$VPS_CONF"; ip link del mv0' EXIT
	expect_exit 5 vps create mv --image tiny --net macvlan=mv0 --ip 192.0.2.66/28
	expect "$(cat "$work/.err")" '*forging*'
	echo 'macvlan-unfiltered = yes' >"$VPS_CONF"
	expect_exit 5 vps create mv --image tiny --net macvlan=mv0 --ip 192.0.2.66/28 --rate 1M
	vps launch mv --image tiny --net macvlan=mv0 --ip 192.0.2.66/28 -- sleep 1000
	ping -c 1 -W 3 192.0.2.66
	vps delete -f mv
}

test_tenants_of_a_bridge_do_not_see_others_traffic() {
	needs tcpdump
	ip link add br1 type bridge
	ip addr add 192.0.2.33/27 dev br1
	ip link set br1 up
	trap 'vps delete -f -q s1 s2 s3; ip link del br1' EXIT
	local i
	for i in 4 5 6; do
		vps launch s$((i - 3)) --image tiny --net bridge=br1 --ip 192.0.2.3$i/27 -- sleep 1000
	done
	# s3 takes every frame that its port gives
	nsenter -t "$(guest s3)" -n timeout 4 tcpdump -lnpi eth0 icmp >"$work/seen" 2>"$work/tcpdump" &
	local dump=$!
	nsenter -t "$(guest s3)" -n ip link set eth0 promisc on
	wait_until 5 grep -q 'listening' "$work/tcpdump"
	vps exec s1 -- ping -c 2 192.0.2.35
	vps exec s2 -- ping -c 2 192.0.2.34
	vps exec s1 -- ping -c 1 192.0.2.36 # its own, it does see
	wait $dump || true
	expect "$(grep -c 'echo request' "$work/seen")" 1
	expect "$(grep -c '192.0.2.35' "$work/seen" || true)" 0
}

test_a_dropping_forward_policy_is_told_with_its_remedy() {
	needs iptables
	iptables -P FORWARD DROP
	trap 'iptables -P FORWARD ACCEPT; iptables -F FORWARD' EXIT
	expect_fail vps exec n1 -- ping -c 1 -W 1 "$(ip4 n2)"
	# the host's own: neither a leftover nor anything for gc
	expect_exit 0 vps host check
	expect "$(cat "$work/.out")" "*chain 'ip filter FORWARD' drops*"
	expect_exit 0 vps host gc
	bash -c "$(vps host check | sed -n 's/.*-> unless it lets them pass: //p')"
	vps exec n1 -- ping -c 1 -W 3 "$(ip4 n2)"
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
	curl -sf --max-time 5 "http://$(ip4 n1)/" | found hello
}

test_the_hosts_own_rules_stay() {
	nft add table inet mine
	nft add chain inet mine c '{ type filter hook input priority 0; }'
	nft add rule inet mine c tcp dport 9999 counter
	vps launch own --image tiny --ip auto -- sleep 1000
	vps delete -f own
	vps host gc -q
	# no grep -q: it may end first, and nft by SIGPIPE
	expect "$(nft list table inet mine)" '*9999*'
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
