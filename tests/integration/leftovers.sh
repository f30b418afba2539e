#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net
# where: native; nothing of systemd
# One leftover of each kind, made by hand, of a VPS that is not there and of one that does not run:
# host check tells it and changes nothing, one host gc removes it, and nothing else.
. "$(dirname "$0")/../lib.sh"
tiny_image
vps create -q idle --image tiny --disk 32M --ip auto -- sleep 1000
vps launch -q runs --image tiny --disk 32M --ip auto --publish 9000:80 -- httpd -f -p 80 -h /var/www
tag=$(vps_tag)
idle=$(vps inspect idle | jq '.[0].id')
nobody=7777

# told_and_removed WORDS... - what was made is found by check, which leaves it, and by gc, which does not
told_and_removed() {
	local words
	expect_exit 15 vps host check -q
	for words in "$@"; do expect "$(cat "$work/.out")" "*leftover*$words*"; done
	expect_exit 15 vps host check -q
	expect_exit 0 vps host gc -q
	for words in "$@"; do expect "$(cat "$work/.out")" "*fixed*$words*"; done
	expect_exit 0 vps host check -q
	expect "$(cat "$work/.out")" ''
	# nothing but that
	expect "$(vps list -aq | sort | tr '\n' ' ')" 'idle runs '
	expect "$(vps status runs)" '*running*'
	curl -sf --max-time 5 "http://198.18.0.1:9000/" | found hello
}
# old FILE... - of an hour ago
old() { touch -d '1 hour ago' "$@"; }

test_mounts() {
	mkdir -p "$VPS_ROOT/instances/$idle/m" "$VPS_RUN/$nobody/m" "$work/precious"
	: >"$work/precious/file"
	mount -t tmpfs none "$VPS_ROOT/instances/$idle/m"
	mount --bind "$work/precious" "$VPS_RUN/$nobody/m"
	told_and_removed "VPS $idle: a mount" "VPS $nobody: a mount" "VPS $nobody: a run directory"
	expect_fail grep -q "$VPS_ROOT/instances\|$VPS_RUN/$nobody" /proc/self/mountinfo
	[ -e "$work/precious/file" ]
	rmdir "$VPS_ROOT/instances/$idle/m"
}

test_a_mount_below_an_unfinished_delete() {
	mkdir -p "$VPS_ROOT/instances/$nobody/m" "$work/precious"
	: >"$work/precious/file"
	mount --bind "$work/precious" "$VPS_ROOT/instances/$nobody/m"
	told_and_removed "VPS $nobody: a mount" "VPS $nobody: an unfinished create or delete"
	[ ! -e "$VPS_ROOT/instances/$nobody" ]
	[ -e "$work/precious/file" ]
}

test_control_groups() {
	local id dir dirs=() tops pid
	mapfile -t tops < <(find /sys/fs/cgroup -maxdepth 4 -type d -name "$tag")
	sleep 1000 &
	pid=$!
	for dir in "${tops[@]/%//$nobody}" "${tops[@]/%//$idle}"; do
		mkdir "$dir"
		dirs+=("$dir")
		# one holds a process, and on v2, where tenants may, in a group below
		[ "${dir##*/}" = $nobody ] || continue
		[ ! -e "$dir/cgroup.kill" ] || { mkdir "$dir/below"; dir+=/below; }
		echo 0 2>/dev/null >"$dir/cpuset.mems" || true
		echo 0 2>/dev/null >"$dir/cpuset.cpus" || true
		echo $pid >"$dir/cgroup.procs"
	done
	told_and_removed "VPS $nobody: a control group" "VPS $idle: a control group"
	wait $pid && fail "the process lives"
	for dir in "${dirs[@]}"; do [ ! -e "$dir" ] || fail "$dir"; done
}

test_interfaces() {
	ip link add "$tag-$nobody" type veth peer name peer0
	ip link add "$tag-$idle" type veth peer name peer1
	ip route add 10.123.200.1/32 dev "$tag-$nobody" 2>/dev/null || true
	told_and_removed "VPS $nobody: a network link" "VPS $idle: a network link"
	expect_fail ip link show "$tag-$nobody"
	expect_fail ip link show "$tag-$idle"
}

test_firewall_elements() {
	local table="$tag-"
	nft add element inet "$table" src4 "{ \"$tag-$nobody\" . 203.0.113.9 }"
	nft add element inet "$table" src6 "{ \"$tag-$idle\" . 2001:db8::9 }"
	nft add element inet "$table" pub4 '{ tcp . 22 : 10.123.0.99 . 22 }'
	nft add element arp "$table" arp4 "{ \"$tag-$nobody\" . 02:00:00:00:00:01 . 02:00:00:00:00:01 . 203.0.113.9 }"
	told_and_removed "VPS $nobody: *set 'src4'" "VPS $idle: *set 'src6'" "set 'pub4'" "set 'arp4'"
	expect_fail sh -c "nft list ruleset | grep -E '203.0.113.9|2001:db8::9|10.123.0.99'"
}

test_a_network_namespace_and_its_processes() {
	# a monitor and init both killed: the namespaces live as long as anything of it does
	vps launch -q dies --image tiny --ip auto -- sh -c 'sleep 1000 & sleep 2000'
	local id pid monitor ns
	id=$(vps inspect dies | jq '.[0].id')
	pid=$(vps status --json dies | jq .pid) monitor=$(vps status --json dies | jq .monitor)
	ns=$(readlink "/proc/$pid/ns/net")
	kill -KILL "$monitor"
	kill -KILL "$pid"
	wait_until 10 sh -c 'vps status dies | grep -q stopped'
	expect_exit 15 vps host check -q
	expect "$(cat "$work/.out")" "*VPS $id: its end was not cleaned up*"
	expect_exit 0 vps host gc -q
	expect_exit 0 vps host check -q
	expect "$(find /proc -maxdepth 3 -path '/proc/[0-9]*/ns/net' -lname "$ns" 2>/dev/null)" ''
	vps delete dies
}

test_loop_devices() {
	[ -e /dev/loop-control ] || skip "no loop devices"
	local dev
	dev=$(losetup -f --show "$VPS_ROOT/instances/$idle/disk/disk.img")
	told_and_removed "a loop device nobody mounts: *$dev"
	expect "$(losetup -j "$VPS_ROOT/instances/$idle/disk/disk.img")" ''
}

test_id_ranges() {
	# the range of an id is taken while its directory is there
	mkdir "$VPS_ROOT/instances/$nobody"
	: >"$VPS_ROOT/instances/$nobody/lock"
	told_and_removed "VPS $nobody: an unfinished create or delete"
	expect "$(vps create --id $nobody --image tiny --disk 32M)" $nobody
	vps delete $nobody
}

test_temp_files() {
	old "$VPS_ROOT/.tmp.a" "$VPS_RUN/.tmp.b" "$VPS_ROOT/cache/seccomp/.tmp.x.c" \
		"$VPS_ROOT/instances/$idle/.tmp.spec.json.d" "$VPS_ROOT/images/refs/.tmp.tiny.e" \
		"$VPS_ROOT/images/pins/.tmp.$idle.f"
	mkdir -p "$VPS_ROOT/images/tmp/import.123"
	: >"$VPS_ROOT/images/tmp/import.123/layer"
	# somebody's work
	: >"$VPS_ROOT/.tmp.young"
	told_and_removed "3 unfinished files" "VPS $idle: 1 unfinished file" "unfinished work on 3 images"
	[ -e "$VPS_ROOT/.tmp.young" ]
	rm "$VPS_ROOT/.tmp.young"
	expect "$(find "$VPS_ROOT" "$VPS_RUN" -name '.tmp.*'; ls "$VPS_ROOT/images/tmp")" ''
}

test_names_leases_ports_and_pins() {
	ln -s $nobody "$VPS_ROOT/names/ghost"
	ln -s "$idle" "$VPS_ROOT/names/alias"
	ln -s $nobody "$VPS_ROOT/leases/10.123.50.50"
	cp "$VPS_ROOT/images/pins/$idle" "$VPS_ROOT/images/pins/$nobody"
	told_and_removed "the name 'ghost'" "the name 'alias'" "VPS $nobody: lease '10.123.50.50'" \
		"VPS $nobody: an image is pinned"
	# both can be had again
	vps create -q ghost --image tiny --disk 32M --ip 10.123.50.50
	vps delete ghost
}

test_a_run_of_before_the_boot() {
	vps launch -q old --image tiny -- sleep 1000
	local id state
	id=$(vps inspect old | jq '.[0].id')
	state=$(sed 's/"boot_id": *"[^"]*"/"boot_id":"00000000-0000-0000-0000-000000000000"/g' "$VPS_RUN/$id/state.json")
	vps stop --kill -q old
	mkdir -p "$VPS_RUN/$id"
	echo "$state" >"$VPS_RUN/$id/state.json"
	expect_exit 15 vps host check -q
	expect "$(cat "$work/.out")" "*VPS $id: run state of an earlier boot*"
	expect_exit 0 vps host gc -q
	expect_exit 0 vps host check -q
	vps start -q old
	vps delete -f old
}

run_tests
