#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root
# where: native; kills at many points; in the test host unit/images_disk_copy and microvm.sh see what is another there
# Clones, linked clones and golden images: the files of another, an identity of its own.
. "$(dirname "$0")/../lib.sh"
tiny_image

# original - a running VPS with what is one server's own
original() {
	vps delete -f -q a 2>/dev/null || true
	vps launch -q a --image tiny --disk 32M --ip 10.9.0.5 --publish 9001:80 --memory 64M --label tier=web --hostname orig -- sleep 100000 >/dev/null
	vps exec a sh -c 'mkdir -p /etc/ssh /var/lib/systemd /var/lib/dbus /root; echo secret >/etc/ssh/ssh_host_rsa_key; echo pub >/etc/ssh/ssh_host_rsa_key.pub
		echo seed >/var/lib/systemd/random-seed; echo 0123456789abcdef0123456789abcdef >/etc/machine-id; cp /etc/machine-id /var/lib/dbus/
		echo data >/data; rm /etc/passwd; rm -r /tmp; mkdir /tmp; echo t >/tmp/t'
}
spec() { vps inspect "$1" | jq -r ".[0].spec.$2 // .[0].$2"; }
# is_its_own NAME - nothing of the original's identity, all of its files
is_its_own() {
	expect "$(vps exec "$1" cat /data)" data
	expect "$(vps exec "$1" ls /tmp)" t
	expect_fail vps exec "$1" ls /etc/passwd
	expect_fail vps exec "$1" ls /etc/ssh/ssh_host_rsa_key
	expect_fail vps exec "$1" ls /etc/ssh/ssh_host_rsa_key.pub
	expect_fail vps exec "$1" ls /var/lib/systemd/random-seed
	expect_fail vps exec "$1" ls /var/lib/dbus/machine-id
	[ "$(spec "$1" uuid)" != "$(spec a uuid)" ]
	expect "$(vps exec "$1" hostname)" "$1"
	expect "$(vps exec "$1" cat /etc/hostname)" "$1"
	[[ $(vps exec "$1" ip addr show dev eth0) != *10.9.0.5/* ]]
	[ "$(vps exec "$1" cat /sys/class/net/eth0/address)" != "$(vps exec a cat /sys/class/net/eth0/address)" ]
}

test_clone_of_a_running_one() {
	original
	expect "$(vps clone a b)" b
	expect "$(vps status b)" '*stopped*'
	vps start b
	is_its_own b
	expect "$(vps exec b cat /etc/machine-id)" "$(spec b uuid | tr -d -)"
	expect "$(vps exec a cat /etc/machine-id)" 0123456789abcdef0123456789abcdef
	expect "$(spec b 'labels[0]')" tier=web
	expect "$(spec b memory)" 67108864
	expect "$(vps exec a sh -c 'cat /etc/ssh/ssh_host_rsa_key')" secret
	# each goes its own way
	vps exec b sh -c 'echo changed >/data'
	expect "$(vps exec a cat /data)" data
	expect_exit 12 vps clone a b
	expect_exit 14 vps clone nobody c
	expect_exit 2 vps clone a 'B!'
	vps delete -f b
	vps delete -f a
}

test_clone_of_a_snapshot_with_other_settings() {
	original
	vps snapshot create -q a s
	vps exec a sh -c 'echo later >/data'
	vps clone -q a b --snapshot s --memory 96M --disk 48M --ip auto >/dev/null
	vps start b
	is_its_own b
	expect "$(spec b memory)" 100663296
	expect "$(vps exec b df -k / | awk 'NR == 2 {print ($2 > 40000)}')" 1
	expect_exit 2 vps clone a c --isolation vm
	expect_exit 14 vps clone a c --snapshot none
	vps delete -f a
	expect "$(vps exec b cat /data)" data
	vps delete -f b
}

test_linked_clones_share_a_layer() {
	original
	vps snapshot create -q a s
	vps clone -q a b --snapshot s --linked >/dev/null
	vps clone -q a c --snapshot s --linked >/dev/null
	vps clone -q a d --linked >/dev/null
	expect "$(spec b image_digest)" "$(spec c image_digest)"
	expect "$(ls "$VPS_ROOT/images/layers" | wc -l)" '[23]'
	vps start b c
	is_its_own b
	is_its_own c
	vps exec b sh -c 'echo mine >/data'
	expect "$(vps exec c cat /data)" data
	# the original goes, and what nobody uses
	vps delete -f a
	vps image gc -q
	vps stop -t 1s c
	vps start c d
	expect "$(vps exec c cat /data)" data
	expect "$(vps exec d cat /data)" data
	vps delete -f b c d
	vps image gc -q
	expect "$(ls "$VPS_ROOT/images/layers" | wc -l)" 1
	expect "$(ls "$VPS_ROOT/images/pins")" ''
}

test_publish_a_golden_image() {
	original
	expect_exit 15 vps image publish a golden:1
	vps snapshot create -q a s
	expect "$(vps image publish a golden:1 --snapshot s)" 'golden:1*2 layers'
	vps stop -t 1s a
	expect "$(vps image publish -q a golden:2)" 'sha256:*'
	expect_exit 2 vps image publish a 'Bad Name'
	# the base layer is the same one
	expect "$(vps image inspect golden:1 | jq -r '.[0].layers[0].chain_id')" "$(vps image inspect tiny | jq -r '.[0].layers[0].chain_id')"
	local n
	for n in 1 2; do
		vps launch -q g$n --image golden:$n --ip auto -- sleep 100000 >/dev/null
		vps start -q a 2>/dev/null || true
		is_its_own g$n
		vps delete -f g$n
	done
	vps delete -f a
	# and on from there
	vps launch -q g --image golden:2 --net none -- sleep 100000 >/dev/null
	vps exec g sh -c 'echo more >/more; rm /data'
	vps stop -t 1s g
	vps image publish -q g golden:3 >/dev/null
	vps delete -f g
	vps launch -q g --image golden:3 --net none -- sleep 100000 >/dev/null
	expect "$(vps exec g cat /more)" more
	expect_fail vps exec g ls /data
	expect "$(vps image inspect golden:3 | jq '.[0].layers | length')" 3
	# out and in again
	vps image export golden:3 "$work/g.tar"
	vps delete -f g
	vps image remove golden:1 golden:2 golden:3
	vps image gc -q
	vps image import -q "$work/g.tar" >/dev/null
	vps launch -q g --image golden:3 --net none -- sleep 100000 >/dev/null
	expect "$(vps exec g cat /more)" more
	vps delete -f g
	vps image remove golden:3
	vps image gc -q
	rm "$work/g.tar"
}

test_a_guests_disk_is_no_files() {
	vps create -q m --image tiny --disk 16M --net none -- sleep 1 >/dev/null
	: >"$VPS_ROOT/instances/$(vps list -a --json m | jq '.[0].id')/disk/guest-written"
	expect_exit 5 vps image publish m x:1
	grep -q 'isolation container' "$work/.err"
	vps snapshot create -q m s
	expect_exit 5 vps snapshot restore m s
	expect_exit 5 vps clone m n --snapshot s --linked
	vps clone -q m n --snapshot s >/dev/null
	[ -e "$VPS_ROOT/instances/$(vps list -a --json n | jq '.[0].id')/disk/guest-written" ]
	vps delete m n
}

count() { vps list -a -q | wc -l; }
test_clone_killed_anywhere() {
	original
	vps snapshot create -q a s
	local n out points=0 flags
	for flags in '' --linked; do
		for ((n = 1; ; n += ${VPS_FAULT_STEP:-15})); do
			timeout -k 5 60 "$builddir/tests/fault/faultpoint" "$n" vps clone a b --snapshot s $flags >"$work/.fp" 2>&1 </dev/null || true
			out=$(tail -1 "$work/.fp")
			[[ $out == completed* ]] && break
			[[ $out == killed* ]] || fail "point $n: the driver said '$out'"
			points=$((points + 1))
			if vps status b >/dev/null 2>&1; then
				vps start b || fail "point $n ($out)"
				[ "$(vps exec b cat /data)" = data ] || fail "point $n ($out): data"
				vps delete -f b
			else
				vps clone -q a b --snapshot s $flags >/dev/null || fail "point $n ($out): again"
				vps delete b
			fi
			find "$VPS_ROOT" "$VPS_RUN" -xdev -name '.tmp.*' -exec touch -d '1 hour ago' {} +
			vps host gc -q >"$work/.chk" 2>&1 || fail "point $n ($out): gc: $(cat "$work/.chk")"
			vps host check -q >"$work/.chk" 2>&1 || fail "point $n ($out): $(cat "$work/.chk")"
			vps image gc -q
			[ "$(ls "$VPS_ROOT/images/layers" | wc -l)" = 1 ] || fail "point $n ($out): layers"
		done
		vps delete -f b
	done
	echo "# $points points"
	[ $points -gt 10 ]
	expect "$(vps exec a cat /data)" data
	vps delete -f a
}
run_tests
