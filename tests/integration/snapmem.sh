#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root criu
# where: native; precopy.sh shows CRIU at work in the test host, where all of this takes too long
# Snapshots with memory: disk and memory of one instant, gone on from in place.
. "$(dirname "$0")/../lib.sh"
needs_criu
tiny_image

# A counter in memory alone; what it writes tells how far it is.
# shellcheck disable=SC2016
counter='i=0; while true; do i=$((i+1)); echo $i >/n.new; mv /n.new /n; sleep 0.1; done'
count() { vps exec "$1" cat /n; }
counter_vps() { vps launch -q "$1" --image tiny --disk 32M -- sh -c "$counter" >/dev/null; wait_until 5 count "$1"; }

test_it_goes_on_from_there() {
	local n m
	counter_vps a
	sleep 1
	expect "$(vps snapshot create a s --memory)" s
	expect "$(vps status a)" '*running*'
	n=$(vps snapshot show a s)
	expect "$n" '*memory *yes*'
	n=$(count a)
	vps exec a sh -c 'echo later >/later'
	wait_until 10 eval "[ \$(count a) -gt $((n + 30)) ]"
	m=$(count a)
	vps snapshot restore a s
	expect "$(vps status a)" '*running*'
	[ "$(count a)" -lt "$m" ] || fail "it did not go back: $(count a)"
	[ "$(count a)" -ge $((n - 10)) ] || fail "it began anew: $(count a), was $n"
	expect_fail vps exec a ls /later
	n=$(count a)
	sleep 0.5
	[ "$(count a)" -gt "$n" ] || fail "it stands still"
	# as often as one likes, and without memory
	vps snapshot restore a s
	[ "$(count a)" -ge 5 ]
	vps snapshot restore a s --no-memory -f
	wait_until 5 count a
	# into a stopped one: it is suspended then
	vps stop -t 1s a
	vps snapshot restore a s
	expect "$(vps status a)" '*suspended*'
	expect_exit 15 vps snapshot restore a s
	vps resume a
	n=$(count a)
	sleep 0.5
	[ "$(count a)" -gt "$n" ]
	vps stop -t 1s a
	expect_exit 15 vps snapshot create a x --memory
	vps delete a
}

test_what_was_changed_is_refused() {
	counter_vps a
	vps snapshot create -q a s --memory
	local d
	d=$(echo "$VPS_ROOT"/instances/*/snapshots/s/memory)
	printf X | dd of="$(find "$d" -name 'pages-*' | head -1)" bs=1 seek=100 conv=notrunc 2>/dev/null
	expect_exit 6 vps snapshot restore a s
	expect "$(vps status a)" '*running*'
	vps snapshot restore a s --no-memory -f
	wait_until 5 count a
	vps delete -f a
}

test_a_backup_has_it_too() {
	local first n b=$work/b
	counter_vps a
	vps exec a sh -c 'head -c 3000000 /dev/urandom >/kept'
	wait_until 10 eval '[ "$(count a)" -gt 10 ]'
	expect_exit 14 vps backup -q a --memory -s none -o "$b.none"
	vps snapshot create -q a s
	expect_exit 15 vps backup -q a --memory -s s -o "$b.none"
	[ ! -e "$b.none" ]
	first=$(count a)
	vps backup -q a --memory -o "$b.1"
	expect "$(vps status a)" '*running*'
	expect "$(find "$VPS_ROOT"/instances/*/snapshots -name '.use*')" ''
	n=$(count a)
	vps suspend a
	vps backup -q a --memory --no-image --base "$b.1" -o "$b.2"
	[ "$(stat -c %s "$b.2")" -lt $(($(stat -c %s "$b.1") / 2)) ]
	vps stop --kill a
	expect_exit 15 vps backup -q a --memory -o "$b.none"
	vps delete a
	# what the memory knows does not change under it
	expect_exit 2 vps restore -q "$b.1" --pids 5000 --hostname other
	expect_exit 2 vps restore -q "$b.1" --new-identity
	expect "$(vps list -aq)" ''
	expect "$(vps restore "$b.1")" a
	expect "$(vps status a)" '*suspended*'
	vps start a
	[ "$(count a)" -ge "$first" ] || fail "it began anew: $(count a), was $first"
	wait_until 5 eval "[ \$(count a) -gt $(count a) ]"
	expect "$(vps exec a sh -c 'wc -c </kept')" 3000000
	vps delete -f a
	# the later one, under another name
	vps restore -q "$b.2" --base "$b.1" --name c
	vps resume c
	[ "$(count c)" -ge "$n" ] || fail "it is the earlier one: $(count c), was $n"
	vps delete -f c
	vps restore -q "$b.1" --no-memory --pids 5000
	expect "$(vps status a)" '*stopped*'
	vps delete a
	# another host's is taken in on the operator's word only
	mv "$VPS_ROOT/checkpoint.key" "$work/key"
	expect_exit 6 vps restore -q "$b.1"
	grep -q -- --trust "$work/.err"
	expect "$(vps list -aq)" ''
	vps restore -q "$b.1" --trust
	vps resume a
	[ "$(count a)" -ge "$first" ]
	vps delete -f a
	# and verified to its last byte
	head -c -50 "$b.1" >"$b.cut"
	expect_fail vps restore -q "$b.cut" --trust
	expect "$(ls "$VPS_ROOT/instances")" ''
}

test_killed_anywhere() {
	local n out points=0 now
	for ((n = 1; ; n += ${VPS_FAULT_STEP:-60})); do
		vps delete -f -q a 2>/dev/null || true
		counter_vps a
		timeout -k 5 90 "$builddir/tests/fault/faultpoint" "$n" vps snapshot create a s --memory >"$work/.fp" 2>&1 </dev/null || true
		out=$(tail -1 "$work/.fp")
		[[ $out == completed* ]] && break
		[[ $out == killed* ]] || fail "point $n: the driver said '$out'"
		points=$((points + 1))
		vps host gc -q >"$work/.chk" 2>&1 || fail "point $n ($out): gc: $(cat "$work/.chk")"
		[[ $(vps status a) == *running* ]] || vps start a || fail "point $n ($out): start"
		now=$(timeout 20 vps exec a sh -c 'echo x >/g; sync; echo on') || fail "point $n ($out): it does not go on"
		vps host check -q >"$work/.chk" 2>&1 || fail "point $n ($out): $(cat "$work/.chk")"
		[ -z "$(find "$VPS_ROOT/instances" -maxdepth 3 -name '.new*')" ] || fail "point $n ($out): left over"
	done
	vps delete -f -q a
	echo "# $points points, $now"
	[ $points -gt 3 ]
}
run_tests
