#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root
# vm: quota disks
# where: native; kills at many points; in the test host unit/images_disk_copy and microvm.sh see what is another there
# Snapshots: consistent while it runs, restored in place, nothing half-made after a kill, by schedule.
. "$(dirname "$0")/../lib.sh"
tiny_image

# fresh NAME [OPTION...] - a running VPS
fresh() {
	local name=$1
	shift
	vps delete -f -q "$name" 2>/dev/null || true
	vps launch -q "$name" --image tiny --disk 32M --net none "$@" -- sleep 100000 >/dev/null
}
put() { vps exec "$1" sh -c "echo '$3' >$2"; }
get() { vps exec "$1" cat "$2"; }
id_of() { vps list -a --json "$1" | jq '.[0].id'; }

test_create_list_show_delete() {
	fresh a
	expect "$(vps snapshot list -q a)" ''
	expect "$(vps snapshot create a one --description 'first "one"')" one
	vps snapshot create -q a two --expiry 7d
	expect "$(vps snapshot list -q a | tr '\n' ' ')" 'one two '
	expect "$(vps snapshot show a one)" '*frozen file system*first "one"*'
	expect "$(vps snapshot show --json a two | jq '.expires - .created')" 604800
	expect "$(vps snapshot create a)" 'snap-2*'
	expect_exit 12 vps snapshot create a one
	expect_exit 2 vps snapshot create a 'no such/name'
	expect_exit 2 vps snapshot create a .new.x
	expect_exit 14 vps snapshot show a three
	expect_exit 14 vps snapshot delete a three
	expect_exit 14 vps snapshot restore a three
	grep -q 'there is one' "$work/.err"
	vps snapshot delete a one two
	expect "$(vps snapshot list -q a | wc -l)" 1
	vps delete -f a
	[ -z "$(ls "$VPS_ROOT/images/pins")" ]
}

test_restore_of_a_running_one_in_place() {
	fresh a
	put a /f before
	vps exec a sh -c 'echo kept >/tmp/x; sync'
	vps snapshot create -q a s
	put a /f after
	put a /new x
	local pid
	pid=$(vps inspect a | jq '.[0].pid')
	vps snapshot restore a s -t 1s
	expect "$(vps status a)" '*running*'
	[ "$pid" != "$(vps inspect a | jq '.[0].pid')" ]
	expect "$(get a /f)" before
	expect_fail vps exec a cat /new
	# and again, and of a stopped one, which stays stopped
	put a /f later
	vps stop -t 1s a
	vps snapshot restore a s
	expect "$(vps status a)" '*stopped*'
	vps start a
	expect "$(get a /f)" before
	vps delete -f a
}

test_restore_brings_the_image_back_too() {
	busybox_rootfs "$work/other"
	echo other >"$work/other/which"
	tar -C "$work/other" --numeric-owner --owner=0 --group=0 -cf - . | vps image import -q - other >/dev/null
	rm -rf "$work/other"
	fresh a
	put a /f on-tiny
	vps snapshot create -q a s
	vps stop -t 1s a
	vps rebuild a --image other
	vps start a
	expect "$(get a /which)" other
	# the image of the snapshot has nobody else
	vps image remove -f tiny
	vps image gc -q
	vps snapshot restore a s -f
	expect "$(get a /f)" on-tiny
	expect_fail vps exec a cat /which
	vps snapshot delete a s
	vps image gc -q
	expect "$(get a /f)" on-tiny
	vps stop -t 1s a
	vps start a
	vps delete -f a
	tiny_image
}

test_the_size_of_now_stays() {
	fresh a
	put a /f x
	vps snapshot create -q a s
	vps stop -t 1s a # growing a mounted one takes CAP_SYS_RESOURCE, which not every test machine has
	vps set a --disk 64M
	vps start a
	vps snapshot restore a s -f
	expect "$(get a /f)" x
	expect "$(vps exec a df -k / | awk 'NR == 2 {print ($2 > 50000)}')" 1
	vps delete -f a
}

# A writer that is never asked to stop: each file holds its own name, twice, renamed into place.
test_consistent_under_load() {
	fresh a
	vps exec a sh -c 'mkdir /d; (i=0; while :; do i=$((i + 1)); f=$((i % 500)); { echo $f; echo $f; } >/d/.t; mv /d/.t /d/$f; done) >/dev/null 2>&1 </dev/null &'
	for n in 1 2 3 4; do
		vps snapshot create -q a "s$n"
		sleep 0.3
	done
	for n in 1 3; do
		local img
		img=$VPS_ROOT/instances/$(id_of a)/snapshots/s$n/disk/disk.img
		e2fsck -fn "$img" >"$work/fsck" 2>&1 || fail "$(cat "$work/fsck")"
		vps snapshot restore a "s$n" -f
		vps exec a sh -c 'cd /d && for f in [0-9]*; do [ "$(echo $(cat $f))" = "$f $f" ] || { [ ! -s $f ] || exit 1; }; done; ls | wc -l' >"$work/n"
		[ "$(cat "$work/n")" -gt 10 ]
	done
	vps delete -f a
}

test_dir_backend_is_frozen_by_its_group() {
	vps delete -f -q b || true
	vps launch -q b --image tiny --disk max --disk-backend dir --net none -- sleep 100000 >/dev/null
	vps exec b sh -c 'mkdir -p /d/e; echo 1 >/d/e/f; ln /d/e/f /d/g; ln -s x /d/l; rm /etc/passwd; rm -r /tmp; mkdir /tmp; echo t >/tmp/t'
	vps snapshot create -q b s
	expect "$(vps snapshot show b s)" '*frozen processes*'
	vps exec b sh -c 'echo 2 >/d/e/f; rm /d/l'
	vps snapshot restore b s -f
	expect "$(vps exec b sh -c 'cat /d/g; readlink /d/l; ls /tmp; ls /etc/passwd 2>&1')" $'1\nx\nt*No such file*'
	expect "$(vps exec b stat -c %h /d/g)" 2
	# paused already, and stays so
	vps pause b
	vps snapshot create -q b p
	expect "$(vps status b)" '*paused*'
	vps unpause b
	vps delete -f b
}

# state - what there is of VPS v: its state, the snapshots, the file
state() {
	vps start -q v 2>/dev/null || true
	timeout 20 vps exec v sh -c 'echo x >/g && sync' # not frozen
	echo "$(vps exec v cat /f) $(vps snapshot list -q v | paste -sd,)"
}

thawed() { ! ls "$VPS_RUN"/*/frozen >/dev/null 2>&1; }
# kill_at_each PREPARE WANTED-STATES STEP FLAGS COMMAND...
kill_at_each() {
	local prepare=$1 wanted=$2 step=$3 flags=$4 n out now points=0
	shift 4
	for ((n = 1; ; n += step)); do
		$prepare
		# shellcheck disable=SC2086
		timeout -k 5 60 "$builddir/tests/fault/faultpoint" $flags "$n" "$@" >"$work/.fp" 2>&1 </dev/null || true
		out=$(tail -1 "$work/.fp")
		[[ $out == completed* ]] && break
		[[ $out == killed* ]] || fail "point $n: the driver said '$out'"
		points=$((points + 1))
		# by the monitor, if the guard is dead as well
		wait_until 10 thawed || fail "point $n ($out): still frozen"
		now=$(timeout 30 bash -c "$(declare -f state); state") || fail "point $n ($out): state"
		[[ "|$wanted|" == *"|$now|"* ]] || fail "point $n ($out): '$now' is none of $wanted"
		vps host gc -q >"$work/.chk" 2>&1 || fail "point $n ($out): gc: $(cat "$work/.chk")"
		vps host check -q >"$work/.chk" 2>&1 || fail "point $n ($out): $(cat "$work/.chk")"
		[ -z "$(find "$VPS_ROOT/instances" -maxdepth 3 \( -name '.new*' -o -name '.old*' -o -name switch \))" ] ||
			fail "point $n ($out): left over"
	done
	vps delete -f -q v
	echo "# $points points"
	[ $points -gt 5 ]
}
step=${VPS_FAULT_STEP:-5}
with_s() {
	vps delete -f -q v 2>/dev/null || true
	vps launch -q v --image tiny --disk 16M --net none -- sleep 100000 >/dev/null
	put v /f then
	vps snapshot create -q v s
	put v /f now
}
test_create_killed_anywhere() { kill_at_each with_s 'now s|now s,t' "$step" '' vps snapshot create v t; }
# the one who copies, or the one who keeps all still
test_create_one_process_killed() { kill_at_each with_s 'now s|now s,t' "$step" -o vps snapshot create v t; }
test_delete_killed_anywhere() { kill_at_each with_s 'now s|now ' 2 '' vps snapshot delete v s; }
test_restore_killed_anywhere() { kill_at_each with_s 'now s|then s' $((step * 4)) '' vps snapshot restore -f v s; }

# Two disks of one VPS for a moment, and each counts for itself.
test_quota_disks() {
	mkdir -p "$work/xfs"
	truncate -s 600M "$work/xfs.img"
	mkfs.xfs -q -m reflink=1 "$work/xfs.img" || skip "no mkfs.xfs"
	mount -o loop,prjquota "$work/xfs.img" "$work/xfs" 2>/dev/null || skip "this kernel has no project quota on XFS"
	(
		export VPS_ROOT=$work/xfs/root VPS_RUN=$work/run3
		mkdir -p "$VPS_ROOT" "$VPS_RUN"
		tiny_image
		vps launch -q q --image tiny --disk 64M --disk-backend quota --net none -- sleep 100000 >/dev/null
		vps exec q sh -c 'echo then >/f; rm /etc/passwd; head -c 30000000 /dev/urandom >/big'
		vps snapshot create -q q s
		vps exec q sh -c 'echo now >/f'
		for n in 1 2 3; do
			vps snapshot restore q s -f
			expect "$(vps exec q cat /f)" then
			expect_fail vps exec q ls /etc/passwd
			expect "$(vps exec q df -k / | awk 'NR == 2 {print ($2 > 60000 && $2 < 70000 && $3 > 29000 && $3 < 40000)}')" 1
			expect_fail vps exec q sh -c 'head -c 60000000 /dev/zero >/more'
			vps exec q rm -f /more
		done
		vps clone -q q r --snapshot s --disk 96M >/dev/null
		vps start r
		expect "$(vps exec r df -k / | awk 'NR == 2 {print ($2 > 90000)}')" 1
		expect_exit 4 vps clone -q q t --snapshot s --disk 16M
		vps delete -f -q q r
		vps host check -q
		vps host gc -q
	) || { umount -l "$work/xfs"; return 1; }
	umount -l "$work/xfs"
}

test_no_space_left() {
	vps delete -f -q a 2>/dev/null || true
	mkdir -p "$work/small"
	truncate -s 64M "$work/small.img"
	mkfs.ext4 -q -F "$work/small.img"
	mount -o loop "$work/small.img" "$work/small"
	(
		export VPS_ROOT=$work/small/root VPS_RUN=$work/run2
		mkdir -p "$VPS_ROOT" "$VPS_RUN"
		tiny_image
		vps launch -q a --image tiny --disk 32M --net none -- sleep 100000 >/dev/null
		vps exec a sh -c 'head -c 24000000 /dev/urandom >/big; echo x >/f; sync'
		for n in 1 2 3; do
			vps snapshot create -q a s$n >"$work/out" 2>&1 || { e=$?; break; }
		done
		[ "${e:-0}" = 4 ] || fail "exit ${e:-0}: $(cat "$work/out")"
		expect "$(cat "$work/out")" '*No space left*'
		expect "$(vps exec a cat /f)" x
		timeout 10 vps exec a sh -c 'echo y >/f; sync'
		vps host check -q
		vps delete -f -q a
		vps host gc -q
	) || { umount -l "$work/small"; return 1; }
	umount -l "$work/small"
}

ran() { vps snapshot run >"$work/ran" 2>&1; cat "$work/ran"; }
test_schedule() {
	fresh a
	expect_exit 2 vps snapshot create a --schedule '61 * * * *'
	expect_exit 2 vps snapshot create a --schedule '* * * *'
	expect_exit 2 vps set a --snapshot-pattern 'UPPER'
	local cron
	cron=$(date -d '1 minute ago' '+%-M %-H * * *') # once a day, so not again while this runs
	vps snapshot create a --schedule "$cron" --expiry 1m --pattern 'min-%H%M%S'
	expect "$(vps inspect a | jq -r '.[0].spec.snapshot_schedule // .[0].snapshot_schedule')" "${cron//\*/\\*}"
	expect "$(ran)" '' # from now on
	local due
	due=$VPS_ROOT/instances/$(id_of a)/snapshot-due
	echo $(($(date +%s) - 120)) >"$due"
	expect "$(ran)" 'a: snapshot min-*'
	expect "$(ran)" ''
	expect "$(vps snapshot list -q a)" 'min-*'
	expect "$(vps snapshot list --json a | jq '.[0].expires - .[0].created')" 60
	# its time is over
	local f
	f=$(echo "$VPS_ROOT"/instances/*/snapshots/min-*/snapshot.json)
	sed -i 's/"expires": [0-9]*/"expires": 5/' "$f"
	expect "$(ran)" 'a: expired min-*'
	expect "$(vps snapshot list -q a)" ''
	vps snapshot create a --schedule ''
	echo $(($(date +%s) - 120)) >"$due"
	expect "$(ran)" ''
	vps delete -f a
}
run_tests
