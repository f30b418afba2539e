#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net
# where: native; hosts_migrate.sh has real ones
# Two hosts on one wire (two_hosts of lib.sh): each has its own VPSes, and these reach each other by routed addresses.
. "$(dirname "$0")/../lib.sh"
two_hosts
tiny_image host_a
tiny_image host_b
host_a vps launch here --image tiny --ip auto --ip auto6 -- sleep 1000 >/dev/null
host_b vps launch there --image tiny --ip auto --ip auto6 -- httpd -f -p 80 -h /var/www >/dev/null
address() { # HOST VPS 4|6
	"$1" vps inspect "$2" | jq -r '.[0].addresses[]' | cut -d/ -f1 | if [ "$3" = 4 ]; then grep -v :; else grep :; fi
}

test_a_vps_on_one_host_pings_one_on_the_other() {
	expect "$(address host_a here 4)" '10.123.1.*'
	expect "$(address host_b there 4)" '10.123.2.*'
	host_a vps exec here -- ping -c 1 -W 5 "$(address host_b there 4)"
	host_a vps exec here -- ping -c 1 -W 5 "$(address host_b there 6)"
	host_b vps exec there -- ping -c 1 -W 5 "$(address host_a here 4)"
	host_a vps exec here -- timeout 5 wget -qO- "http://$(address host_b there 4)/" | found hello
}

test_each_host_has_its_own() {
	expect "$(host_a vps list -aq)" here
	expect "$(host_b vps list -aq)" there
	expect "$(vps list -aq)" ''
	expect_fail host_a vps status there
	[ "$(vps_tag "$work/a/root")" != "$(vps_tag "$work/b/root")" ]
	host_a ip -o link | found "$(vps_tag "$work/a/root")-101"
	expect "$(host_b ip -o link | grep -c "$(vps_tag "$work/a/root")")" 0
}

test_a_cut_wire_is_a_cut_wire() {
	host_a ip link set wire down
	expect_fail host_a vps exec here -- ping -c 1 -W 1 "$(address host_b there 4)"
	host_a ip link set wire up
	host_a ip route replace 10.123.2.0/24 via 198.51.100.2
	wait_until 10 host_a vps exec here -- ping -c 1 -W 1 "$(address host_b there 4)"
}

run_tests
