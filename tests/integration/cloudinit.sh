#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, the Debian mirror
# where: native; it wants a mirror
# A Debian image with cloud-init of its own is told by NoCloud's seed what it is to be, once.
. "$(dirname "$0")/../lib.sh"
tar=$(debian_tar cloud-init) || skip "no Debian root with cloud-init"
vps image import -q "$tar" ci:12 >/dev/null

test_user_data_names_and_keys() {
	cat >"$work/user" <<-'END'
		#cloud-config
		write_files:
		- path: /root/written
		  content: by cloud-init
		runcmd:
		- [sh, -c, 'echo ran >>/root/ran']
		users:
		- name: ann
	END
	echo 'ssh-ed25519 AAAAkey ann' >"$work/key"
	vps create c --image ci:12 --hostname c.example.net --ip 10.123.0.9 --user-data "$work/user" --ssh-key "$work/key" -q
	timeout 100 vps start c --wait -q
	wait_until 100 vps exec c test -e /run/cloud-init/result.json
	expect "$(vps exec c cat /run/cloud-init/result.json)" '*DataSourceNoCloud*nocloud-net*'
	expect "$(vps exec c cat /root/written /root/ran)" 'by cloud-initran'
	vps exec c id ann
	expect "$(vps exec c hostname -f)" c.example.net
	# root's key lets root in
	expect "$(vps exec c cat /root/.ssh/authorized_keys)" 'ssh-ed25519 AAAAkey ann'
	# the network is as vps says, and nobody else
	expect "$(vps exec c ip -4 -o addr show dev eth0)" '*10.123.0.9/32*'
	vps exec c sh -c '! ls /etc/network/interfaces.d/*cloud*'
	expect "$(vps exec c cloud-init query instance_id)" "$(vps inspect c | jq -r '.[0].spec.uuid')"
}

test_once() {
	vps restart c -q
	wait_until 100 vps exec c test -e /run/cloud-init/result.json
	expect "$(vps exec c cat /root/ran)" ran
	# a clone is another one
	vps stop c -q
	vps clone -q c d >/dev/null
	timeout 100 vps start d --wait -q
	wait_until 100 vps exec d test -e /run/cloud-init/result.json
	expect "$(vps exec d cat /root/ran)" $'ran\nran'
	vps delete -f -q c d
}

run_tests
