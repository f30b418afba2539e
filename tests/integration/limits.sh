#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root cgroups (v1 or v2 controllers)
# Limits hold, at create and live; what cannot be enforced is refused; the VPS sees its own numbers.
. "$(dirname "$0")/../lib.sh"
tiny_image
# has_cap N - is capability N in our effective set?
has_cap() { ((0x$(awk '/^CapEff/ {print $2}' /proc/self/status) >> $1 & 1)); }

test_memory_limit_kills_inside_only_and_is_told() {
	vps launch mem --image tiny --memory 64M --swap 0 -- sleep 1000
	# a shell variable that grows: only that process dies
	expect_exit 137 vps exec mem -- sh -c 'x=x; while :; do x=$x$x; done'
	wait_until 10 sh -c "vps events --json mem | jq -r .event | grep -q oom"
	expect "$(vps status mem)" '*running*oom=[1-9]*'
	vps exec mem true
	vps delete -f mem
}

test_a_vps_that_memory_ended_tells_so() {
	vps create oom --image tiny --memory 32M --swap 0 -- sh -c 'sleep 0.2; x=x; while :; do x=$x$x; done'
	expect_exit 137 vps start --attach oom
	wait_until 10 sh -c 'vps status oom | grep -q stopped'
	expect "$(vps status oom)" '*stopped*oom=1*exit=137*'
	expect "$(vps events --json oom | jq -r .event | tr '\n' ' ')" '*start*oom exit '
	# of the last run only
	vps set oom --command 'sleep 1000'
	vps start oom
	expect "$(vps status oom)" '*running*oom=0*'
	vps delete -f oom
}

test_memory_can_be_raised_and_lowered_live() {
	vps launch live --image tiny --memory 64M -- sleep 1000
	vps set live --memory 128M
	expect "$(vps stats --json live | jq '.[0].memory_limit')" $((128 << 20))
	vps set live --memory 32M
	expect "$(vps stats --json live | jq '.[0].memory_limit')" $((32 << 20))
	expect "$(vps inspect live | jq '.[0].spec.memory')" $((32 << 20))
	vps delete -f live
}

test_limits_set_while_stopped_hold_from_the_start() {
	vps create st --image tiny --disk 32M -- sleep 1000
	vps set st --memory 64M --swap 0 --pids 33 --cpus 0.5 --cpuset 0 --cpu-weight 300
	vps start st
	expect "$(vps stats --json st | jq -r '.[0] | "\(.memory_limit) \(.pids_limit)"')" "$((64 << 20)) 33"
	expect "$(vps exec st grep Cpus_allowed_list /proc/self/status | tr -d '\t')" Cpus_allowed_list:0
	vps stop --kill st
	vps set st --memory '' --swap '' --pids '' --cpus '' --cpuset ''
	vps start st
	expect "$(vps stats --json st | jq -r '.[0] | "\(.memory_limit) \(.pids_limit)"')" 'max 8192'
	vps delete -f st
}

test_stats_and_top_tell_pressure() {
	needs psi
	vps launch psi --image tiny --cpus 0.2 -- sh -c 'for i in 1 2 3; do (while :; do :; done) & done; wait'
	wait_until 20 sh -c "vps stats --json psi | jq -e '.[0].psi_cpu_some10 > 1'"
	expect "$(vps stats psi)" '*P-CPU%*P-MEM%*P-IO%*'
	expect "$(vps top -1)" '*P-CPU%*psi*'
	expect "$(vps stats -H psi | awk '{print ($(NF - 2) > 1)}')" 1
	vps delete -f psi
}

test_pids_limit_stops_a_fork_bomb() {
	vps launch bomb --image tiny --pids 20 -- sleep 1000
	expect_fail vps exec bomb -- sh -c 'i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done'
	expect "$(cat "$work/.err")" "*can't fork*"
	[ "$(vps stats --json bomb | jq '.[0].pids_current')" -le 20 ]
	vps set bomb --pids 40
	expect "$(vps stats --json bomb | jq '.[0].pids_limit')" 40
	vps delete -f bomb
}

test_cpu_limit_holds() {
	vps launch cpu --image tiny --cpus 0.25 -- sh -c 'while :; do :; done'
	local a b
	a=$(vps stats --json cpu | jq '.[0].cpu_usage_us')
	sleep 2
	b=$(vps stats --json cpu | jq '.[0].cpu_usage_us')
	# a quarter of two seconds, with room for a busy machine's clock: never near a whole CPU
	[ $((b - a)) -lt 900000 ] || fail "used $((b - a)) us in 2 s"
	[ $((b - a)) -gt 50000 ]
	vps delete -f cpu
}

test_cpu_time_can_be_raised_live() {
	vps launch cpu2 --image tiny --cpus 0.1 -- sh -c 'while :; do :; done'
	vps set cpu2 --cpus 1
	local a b
	a=$(vps stats --json cpu2 | jq '.[0].cpu_usage_us')
	sleep 2
	b=$(vps stats --json cpu2 | jq '.[0].cpu_usage_us')
	[ $((b - a)) -gt 400000 ] || fail "used $((b - a)) us in 2 s"
	vps delete -f cpu2
}

test_nproc_tells_the_vps_its_cpus() {
	vps launch np --image tiny --cpus 0.5 -- sleep 1000
	expect "$(vps exec np nproc)" 1
	vps delete -f np
}

test_cpuset() {
	vps launch cs --image tiny --cpuset 0 -- sleep 1000
	expect "$(vps exec cs nproc)" 1
	expect "$(vps exec cs grep Cpus_allowed_list /proc/self/status | tr -d '\t')" Cpus_allowed_list:0
	vps delete -f cs
	expect_exit 2 vps launch cs --image tiny --cpuset 4096
	expect "$(vps list -aq)" ''
}

test_free_tells_the_limit() {
	[ -n "$(command -v lxcfs)" ] || skip "lxcfs is not installed"
	vps launch fr --image tiny --memory 100M -- sleep 1000
	expect "$(vps exec fr awk '/MemTotal/ {print $2}' /proc/meminfo)" 102400
	vps set fr --memory 200M
	expect "$(vps exec fr awk '/MemTotal/ {print $2}' /proc/meminfo)" 204800
	vps delete -f fr
}

test_uptime_starts_with_the_vps() {
	vps launch up --image tiny -- sleep 1000
	[ "$(vps exec up cut -d. -f1 /proc/uptime)" -lt 60 ]
	vps delete -f up
}

test_disk_size_is_enforced_and_told() {
	vps launch disk --image tiny --disk 64M -- sleep 1000
	expect_exit 1 vps exec disk -- dd if=/dev/zero of=/root/big bs=1M count=100
	expect "$(cat "$work/.err")" '*No space left*'
	local kb
	kb=$(vps exec disk df -k / | awk 'END {print $2}')
	[ "$kb" -le 65536 ] && [ "$kb" -gt 30000 ]
	vps exec disk rm /root/big
	# ext4 grows while mounted only for CAP_SYS_RESOURCE; without it the refusal says so, and stopped it grows
	if has_cap 24; then
		vps set disk --disk 128M
	else
		expect_exit 5 vps set disk --disk 128M
		vps stop --kill disk
		vps set disk --disk 128M
		vps start disk
	fi
	vps exec disk -- dd if=/dev/zero of=/root/big bs=1M count=80
	kb=$(vps exec disk df -k / | awk 'END {print $2}')
	[ "$kb" -gt 90000 ]
	# the next start still has it
	vps restart --kill disk
	vps exec disk test -s /root/big
	vps delete -f disk
}

test_a_stopped_disk_grows_and_shrinks() {
	local size kb
	vps launch gs --image tiny --disk 32M -- sleep 1000
	vps exec gs -- sh -c 'echo kept >/root/f'
	for size in 64 16 48; do
		vps stop --kill gs
		vps set gs --disk ${size}M
		vps start gs
		kb=$(vps exec gs df -k / | awk 'END {print $2}')
		[ "$kb" -le $((size * 1024)) ] && [ "$kb" -gt $((size * 512)) ] || fail "$kb KB of $size MB"
		expect "$(vps exec gs cat /root/f)" kept
	done
	expect_exit 15 vps set gs --disk 32M
	vps delete -f gs
}

# a file system of our own below another state tree: on_fs mkfs-command...
on_fs() {
	truncate -s 300M "$work/fs.img"
	"$@" "$work/fs.img" >/dev/null
	mkdir -p "$work/fs"
	mount -o loop "$work/fs.img" "$work/fs" || skip "this kernel does not mount $1's file system"
	trap 'vps delete --all -f -q; vps host gc -q; umount "$work/fs"' EXIT
	export VPS_ROOT=$work/fs/root VPS_RUN=$work/run2
	mkdir -p "$VPS_ROOT" "$VPS_RUN"
	tiny_image
}

test_a_btrfs_disk() {
	needs mkfs.btrfs btrfs
	on_fs mkfs.btrfs -q
	expect_exit 5 vps create bt --image tiny --disk 32M --disk-backend btrfs
	expect "$(cat "$work/.err")" '*btrfs quota enable*'
	btrfs quota enable "$work/fs"
	expect_exit 5 vps create bt --image tiny --disk 32M --disk-backend btrfs --inodes 500
	vps launch bt --image tiny --disk 32M --disk-backend btrfs -- sleep 1000
	expect_exit 1 vps exec bt -- dd if=/dev/zero of=/root/f bs=1M count=60
	expect "$(cat "$work/.err")" '*quota exceeded*'
	vps set bt --disk 64M
	vps exec bt -- dd if=/dev/zero of=/root/f bs=1M count=50
	vps restart --kill bt
	expect_exit 1 vps exec bt -- dd if=/dev/zero of=/root/g bs=1M count=30
	vps delete -f bt
	expect "$(btrfs subvolume list "$work/fs")" ''
}

test_a_quota_is_refused_where_the_file_system_has_none() {
	on_fs mkfs.ext4 -q -F
	expect_exit 5 vps create qu --image tiny --disk 32M --disk-backend quota
	expect "$(cat "$work/.err")" '*--disk-backend loop*'
	expect_exit 5 vps create qu --image tiny --disk 32M --disk-backend dir
	expect_exit 5 vps create qu --image tiny --disk 32M --disk-backend btrfs
	expect "$(vps list -aq)" ''
}

test_io_max_of_a_loop_device() {
	[ -e /dev/loop-control ] || skip "no loop devices"
	local t0 ms
	truncate -s 60M "$work/io.img"
	dev=$(losetup -f --show "$work/io.img")
	mkdir -p "$work/io"
	trap 'vps delete -f -q iom; umount "$work/io"; losetup -d "$dev"' EXIT
	mkfs.ext4 -q "$dev"
	mount "$dev" "$work/io"
	chmod 777 "$work/io"
	vps launch iom --image tiny --io-max "$dev:wbps=2M" --mount "$work/io:/io" -- sleep 1000
	t0=${EPOCHREALTIME/./}
	vps exec iom -- dd if=/dev/zero of=/io/f bs=1M count=5 oflag=direct
	ms=$(((${EPOCHREALTIME/./} - t0) / 1000))
	[ $ms -gt 1800 ] || fail "5 MB at 2 MB/s took $ms ms"
	vps set iom --io-max "-$dev"
	t0=${EPOCHREALTIME/./}
	vps exec iom -- dd if=/dev/zero of=/io/f bs=1M count=5 oflag=direct
	ms=$(((${EPOCHREALTIME/./} - t0) / 1000))
	[ $ms -lt 1800 ] || fail "5 MB without a limit took $ms ms"
}

test_inodes_are_enforced() {
	vps launch ino --image tiny --disk 64M --inodes 300 -- sleep 1000
	expect_exit 1 vps exec ino -- sh -c 'mkdir /root/m && cd /root/m && i=0; while [ $i -lt 400 ]; do : >f$i || exit 1; i=$((i+1)); done'
	vps exec ino true
	vps delete -f ino
}

test_a_full_vps_disturbs_nobody() {
	vps launch full --image tiny --disk 32M -- sleep 1000
	vps launch other --image tiny --disk 32M -- sleep 1000
	vps exec full -- sh -c 'cat /dev/zero >/root/fill' 2>/dev/null || true
	vps exec other -- sh -c 'echo fine >/root/f && sync'
	vps stop -t 1s full
	vps start full
	vps delete -f full other
}

test_what_cannot_be_enforced_is_refused() {
	local unified=0
	[ -f /sys/fs/cgroup/cgroup.controllers ] && unified=1
	[ $unified = 0 ] || skip "this host enforces all of it"
	expect_exit 5 vps launch r1 --image tiny --memory-high 32M -- sleep 10
	expect "$(cat "$work/.err")" '*memory.high*'
	expect "$(vps host check)" '*refused here: --memory-high, --memory-low and --memory-min: *'
	# v1 limits memory and swap only together
	expect_exit 5 vps create r2 --image tiny --swap 0
	expect "$(cat "$work/.err")" '*swap.max*'
	vps create r3 --image tiny --swap 0 --memory 32M
	expect_exit 5 vps set r3 --memory max
	expect "$(vps list -aq)" r3
	vps delete r3
}

test_what_holds_only_in_part_is_told() {
	[ -f /sys/fs/cgroup/blkio/blkio.throttle.write_bps_device ] || skip "io is not on cgroup v1 here"
	local dev
	dev=$(awk '$4 ~ /^(vd|sd|nvme)/ {print "/dev/" $4; exit}' /proc/partitions)
	[ -b "$dev" ] || skip "no block device"
	expect "$(vps create part --image tiny --io-max "$dev:wbps=20M" 2>&1)" '*direct and synchronous*part'
	expect "$(vps set part --io-max "$dev:rbps=20M" 2>&1)" ''
	expect "$(vps set part --io-max "$dev:wiops=500" 2>&1)" 'vps: note: *'
	expect "$(vps -q set part --io-max "$dev:wiops=501" 2>&1)" ''
	expect "$(vps host check)" '*direct and synchronous*'
	vps delete part
}

test_the_number_of_control_groups_is_bounded() {
	vps launch cg --image tiny -- sleep 1000
	local id
	id=$(vps list -H -o id cg | tr -d ' ')
	expect "$(cat $(find /sys/fs/cgroup -maxdepth 4 -path "*/$(vps_tag)/$id/cgroup.max.descendants"))" 4096
	vps delete -f cg
}

test_set_is_all_or_nothing() {
	vps launch aon --image tiny --memory 64M --pids 50 -- sleep 1000
	expect_exit 2 vps set aon --pids 60 --cpuset 4096
	expect "$(vps inspect aon | jq '.[0].spec.pids')" 50
	expect "$(vps stats --json aon | jq '.[0].pids_limit')" 50
	expect_exit 15 vps set aon --net none
	vps delete -f aon
}

run_tests
