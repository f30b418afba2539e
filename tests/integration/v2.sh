#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root cgroup2; a disk, two CPUs, debian as said beside each test
# What only cgroup v2 can show: each limit is seen to hold, and a tenant's systemd cannot get round it.
. "$(dirname "$0")/../lib.sh"
needs cgroup2
tiny_image

# group NAME - its cgroup: the host's, the tenant's is ns/ below
parent=/sys/fs/cgroup/$(vps_tag)
group() { echo "$parent/$(vps inspect "$1" | jq '.[0].id')"; }
# value NAME FILE [KEY] - of its cgroup
value() {
	if [ $# = 2 ]; then cat "$(group "$1")/$2"; else awk -v k="$3" '$1 == k {print $2}' "$(group "$1")/$2"; fi
}
# stat NAME FIELD - as `vps stats` tells it
stats() { vps stats --json "$1" | jq ".[0].$2"; }
# near GOT LOW HIGH WHAT
near() { [ "$1" -ge "$2" ] && [ "$1" -le "$3" ] || fail "$4: $1 is not in $2..$3"; }
M=$((1 << 20))
# begin WORD... - of a test: what it needs; its VPSes go when it ends
begin() {
	needs "$@"
	trap 'vps delete --all --force -q' EXIT
}

# on_disk mkfs-command... - a file system on the disk that is the tests', with a state tree of its own and tiny.
# $size and mount's $options may be set before it, and $disk.
on_disk() {
	disk=$(readlink -f "${disk:-${VPS_TEST_DISK:-/dev/disk/by-id/virtio-blank}}")
	mnt=$work/mnt
	mkdir -p "$mnt"
	"$@" "$disk" ${size:-} >/dev/null
	mount ${options:+-o "$options"} "$disk" "$mnt"
	export VPS_ROOT=$mnt/root VPS_RUN=$work/run2
	parent=/sys/fs/cgroup/$(vps_tag)
	mkdir -p "$VPS_ROOT" "$VPS_RUN"
	trap off_disk EXIT
	tiny_image
}
off_disk() {
	vps delete --all --force -q
	vps host gc -q
	umount "$mnt"
	echo none >"/sys/block/${disk##*/}/queue/scheduler"
}
major_minor() { cat "/sys/block/${disk##*/}/dev"; }

# seconds COMMAND... - in tenths
tenths() {
	local t0=${EPOCHREALTIME/./}
	"$@" >/dev/null 2>&1
	echo $(((${EPOCHREALTIME/./} - t0) / 100000))
}

test_memory_high_slows_and_reclaims_but_kills_nobody() {
	begin cgroup2-memory
	vps launch hi --image tiny --memory 256M --memory-high 32M --disk 200M -- sleep 1000
	vps exec hi -- dd if=/dev/zero of=/root/f bs=1M count=50
	near "$(stats hi memory_peak)" 0 $((48 * M)) "peak with cached pages"
	near "$(value hi memory.events high)" 1 1000000000 "memory.events high"
	# what cannot be reclaimed may pass it
	vps exec hi -- sh -c 'mount | grep -q " /dev/shm " && dd if=/dev/zero of=/dev/shm/f bs=1M count=36'
	near "$(stats hi memory_current)" $((33 * M)) $((64 * M)) "with pages of tmpfs"
	expect "$(value hi memory.events oom_kill) $(stats hi oom_kills)" '0 0'
	vps set hi --memory-high ""
	expect "$(value hi memory.high)" max
}

# Two guests have read 40 MB each; a third wants all of the host's memory, which is $parent's here.
protected() {
	local how=$1
	vps launch kept --image tiny --memory 100M "$how" 40M --disk 100M -- sleep 1000
	vps launch prey --image tiny --memory 100M --disk 100M -- sleep 1000
	vps launch hog --image tiny --disk 600M -- sleep 1000
	local name
	for name in kept prey; do
		vps exec $name -- dd if=/dev/zero of=/root/f bs=1M count=40
		vps exec $name -- sync
	done
	near "$(stats prey memory_file)" $((35 * M)) $((45 * M)) "prey's cache before"
	echo $((110 * M)) >"$parent/memory.max"
	vps exec hog -- dd if=/dev/zero of=/root/f bs=1M count=200
	echo max >"$parent/memory.max"
	near "$(stats kept memory_file)" $((34 * M)) $((45 * M)) "what $how kept"
	near "$(stats prey memory_file)" 0 $((25 * M)) "what the unprotected one kept"
}
test_memory_min_is_kept_from_reclaim() { begin cgroup2-memory; protected --memory-min; }
test_memory_low_is_kept_from_reclaim() { begin cgroup2-memory; protected --memory-low; }

test_the_whole_host_keeps_what_guests_were_promised() {
	begin cgroup2-memory
	vps launch p1 --image tiny --memory-min 30M --memory-low 50M -- sleep 1000
	vps launch p2 --image tiny --memory-min 20M -- sleep 1000
	# a group is protected only within what its parent is
	expect "$(cat "$parent/memory.min") $(cat "$parent/memory.low")" "$((50 * M)) $((50 * M))"
	vps set p2 --memory-min 40M
	expect "$(cat "$parent/memory.min")" $((70 * M))
	vps stop --kill p2
	expect "$(cat "$parent/memory.min")" $((30 * M))
	vps set p1 --memory-min 0 --memory-low 0
	expect "$(cat "$parent/memory.min") $(cat "$parent/memory.low")" '0 0'
}

test_the_hosts_cgroup_options_stay() {
	begin cgroup2
	local before_start
	before_start=$(awk '$3 == "cgroup2" && $2 == "/sys/fs/cgroup" {print $4}' /proc/mounts)
	expect "$before_start" '*nsdelegate*'
	vps launch opt --image tiny --memory 64M -- sleep 1000
	# lxcfs, too, mounts cgroup2
	vps exec opt -- grep MemTotal /proc/meminfo
	expect "$(awk '$3 == "cgroup2" && $2 == "/sys/fs/cgroup" {print $4}' /proc/mounts)" "$before_start"
}

test_what_serves_all_is_in_no_starters_cgroup() {
	begin cgroup2 systemd
	vps delete --all -f -q
	vps host gc -q
	vps create svc --image tiny --memory 64M -- sleep 1000
	# a service takes with it what is in its cgroup when it ends
	systemd-run -q --wait --pipe -p TimeoutStopSec=5 -E PATH -E VPS_LIBEXEC -E VPS_ROOT -E VPS_RUN -E VPS_CONF \
		-p "NetworkNamespacePath=/proc/$$/ns/net" vps start svc
	expect "$(vps exec svc -- awk '/MemTotal/ {print $2}' /proc/meminfo)" 65536
	expect "$(vps status svc)" '*running*'
	vps exec svc true
}

test_cpu_weight_under_contention() {
	begin cgroup2-cpu
	vps launch w1 --image tiny --cpuset 0 --cpu-weight 100 -- sh -c 'while :; do :; done'
	vps launch w3 --image tiny --cpuset 0 --cpu-weight 300 -- sh -c 'while :; do :; done'
	local a1 a3 b1 b3
	a1=$(stats w1 cpu_usage_us) a3=$(stats w3 cpu_usage_us)
	sleep 4
	b1=$(stats w1 cpu_usage_us) b3=$(stats w3 cpu_usage_us)
	near $((100 * (b3 - a3) / (b1 - a1))) 200 450 "hundredths of w3's time by w1's"
	# live: the other way round
	vps set w1 --cpu-weight 900
	a1=$(stats w1 cpu_usage_us) a3=$(stats w3 cpu_usage_us)
	sleep 4
	b1=$(stats w1 cpu_usage_us) b3=$(stats w3 cpu_usage_us)
	near $((100 * (b1 - a1) / (b3 - a3))) 200 450 "hundredths of w1's time by w3's"
}

test_cpu_max_throttles_and_tells() {
	begin cgroup2-cpu psi
	vps launch cm --image tiny --cpus 0.2 -- sh -c 'while :; do :; done'
	local a b
	a=$(value cm cpu.stat usage_usec)
	sleep 3
	b=$(value cm cpu.stat usage_usec)
	near $((b - a)) 300000 900000 "time used in 3 s at a fifth of a CPU"
	near "$(stats cm cpu_throttled_us)" 1000000 100000000 "time throttled"
	# who is throttled waits for a CPU: pressure
	wait_until 20 sh -c "vps stats --json cm | jq -e '.[0].psi_cpu_some10 > 1'"
}

test_cpuset_moves_a_running_vps() {
	begin cgroup2-cpuset 2cpus
	vps launch cs --image tiny --cpuset 0 -- sleep 1000
	expect "$(value cs cpuset.cpus.effective)" 0
	vps set cs --cpuset 1
	expect "$(vps exec cs grep Cpus_allowed_list /proc/self/status | tr -d '\t')" Cpus_allowed_list:1
	expect "$(vps exec cs nproc)" 1
}

test_io_max_holds_on_a_real_disk() {
	begin cgroup2-io disk
	on_disk mkfs.ext4 -q -F
	vps launch io --image tiny --disk 200M --io-max "$disk:wbps=4M,rbps=4M" -- sleep 1000
	# cached pages are written in the VPS's own name
	near "$(tenths vps exec io -- sh -c 'dd if=/dev/zero of=/root/f bs=1M count=12 && sync')" 20 200 "tenths for 12 MB at 4 MB/s"
	near "$(tenths vps exec io -- dd if=/dev/zero of=/root/d bs=1M count=8 oflag=direct)" 12 200 "tenths for 8 MB, direct"
	near "$(stats io io_wbytes)" $((18 * M)) $((60 * M)) "bytes written"
	sync
	echo 3 >/proc/sys/vm/drop_caches
	near "$(tenths vps exec io -- cat /root/f)" 20 200 "tenths to read 12 MB at 4 MB/s"
	vps set io --io-max "$disk:wbps=max,rbps=max"
	near "$(tenths vps exec io -- dd if=/dev/zero of=/root/d bs=1M count=12 oflag=direct)" 0 19 "tenths for 12 MB without a limit"
	expect_exit 2 vps set io --io-max /dev/null:wbps=1M
}

test_io_max_of_operations() {
	begin cgroup2-io disk
	on_disk mkfs.ext4 -q -F
	vps launch ops --image tiny --disk 200M --io-max "$disk:wiops=20" -- sleep 1000
	near "$(tenths vps exec ops -- dd if=/dev/zero of=/root/d bs=4k count=60 oflag=direct)" 15 200 "tenths for 60 writes at 20 a second"
	vps set ops --io-max "$disk:wiops=max"
}

test_io_weight_is_refused_where_nobody_reads_it_else_holds() {
	begin cgroup2-io slow-disk
	disk=/dev/disk/by-id/virtio-slow size=400M options=prjquota
	on_disk mkfs.ext4 -q -F -O ^has_journal,quota,project # a loop device between would write when it likes
	expect_exit 5 vps create no --image tiny --io-weight 200
	expect "$(cat "$work/.err")" '*bfq*'
	modprobe bfq
	echo bfq >"/sys/block/${disk##*/}/queue/scheduler"
	echo 1 >"/sys/block/${disk##*/}/queue/iosched/strict_guarantees" # QEMU queues, too
	local name writer='i=0; while :; do dd if=/dev/zero of=/root/f bs=64k count=800 oflag=direct conv=notrunc 2>/dev/null; done'
	vps launch i1 --image tiny --disk 100M --io-weight 100 -- sh -c "$writer"
	vps launch i9 --image tiny --disk 100M --io-weight 10000 -- sh -c "$writer"
	for name in i1 i9; do expect "$(value $name io.bfq.weight)" "default *"; done
	local a1 a9 b1 b9
	sleep 1
	a1=$(stats i1 io_wbytes) a9=$(stats i9 io_wbytes)
	sleep 8
	b1=$(stats i1 io_wbytes) b9=$(stats i9 io_wbytes)
	echo "# $((b1 - a1)) $((b9 - a9))"
	[ $((b9 - a9)) -gt $(((b1 - a1) * 2)) ] || fail "weights 100 and 10000 wrote $((b1 - a1)) and $((b9 - a9))"
}

quota() {
	vps launch q --image tiny --disk 40M --inodes 300 --disk-backend quota -- sleep 1000
	expect_exit 1 vps exec q -- dd if=/dev/zero of=/root/f bs=1M count=60
	near "$(vps exec q -- df -k / | awk 'END {print $2}')" 30000 41000 "df's kilobytes"
	vps exec q -- rm /root/f
	expect_exit 1 vps exec q -- sh -c 'i=0; while [ $i -lt 350 ]; do : >/root/$i || exit 1; i=$((i+1)); done'
	vps set q --inodes 1000 --disk 80M
	vps exec q -- dd if=/dev/zero of=/root/f bs=1M count=60
	vps restart --kill q
	vps exec q -- test -s /root/f
	vps delete -f q
}
test_project_quota_on_ext4() { begin disk; options=prjquota on_disk mkfs.ext4 -q -F -O quota,project; quota; }
test_project_quota_on_xfs() { begin disk mkfs.xfs; modprobe xfs; options=prjquota on_disk mkfs.xfs -q -f; quota; }

test_device_rules_are_a_bpf_program() {
	begin disk
	disk=$(readlink -f /dev/disk/by-id/virtio-blank)
	vps launch dv --image tiny --device "$disk:r" -- sleep 1000
	vps exec dv -- dd if="$disk" of=/dev/null bs=4k count=1
	expect_exit 1 vps exec dv -- dd if=/dev/zero of="$disk" bs=4k count=1 conv=notrunc
	expect "$(cat "$work/.err")" '*not permitted*'
	vps delete -f dv
	# without the rule, the same node gives nothing
	vps launch dv --image tiny --mount "$disk:/blk" -- sleep 1000 || return 0
	expect_fail vps exec dv -- dd if=/blk of=/dev/null bs=4k count=1
}

test_a_frozen_vps_uses_nothing_and_dies_when_killed() {
	begin cgroup2
	vps launch fz --image tiny -- sh -c 'while :; do :; done'
	vps pause fz
	local a
	a=$(value fz cpu.stat usage_usec)
	sleep 1
	expect "$(value fz cpu.stat usage_usec)" "$a"
	vps stop --kill fz
	expect "$(vps status fz)" '*stopped*'
}

test_systemd_inside_has_the_controllers_and_cannot_raise_its_limits() {
	begin cgroup2-memory
	debian_image
	vps launch sd --image debian:12 --memory 256M --swap 0 --pids 300 --cpus 1 --wait
	expect "$(vps exec sd -- cat /sys/fs/cgroup/cgroup.controllers)" '*cpu*io*memory*pids*'
	expect "$(vps exec sd -- cat /sys/fs/cgroup/system.slice/cgroup.controllers)" '*memory*pids*'
	# limits that the tenant gives its own units hold
	expect "$(vps exec sd -- systemd-run --wait -q -p MemoryMax=20M -p MemorySwapMax=0 -- sh -c 'head -c 40M /dev/zero | tail' || echo failed)" failed
	expect "$(vps exec sd -- systemd-run --wait -q -p TasksMax=3 -- sh -c 'sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait' || echo failed)" failed
	# memory.oom.group, as a unit asks for it: the one that did nothing goes, too
	expect "$(value sd memory.events oom_group_kill)" 0
	vps exec sd -- systemd-run --wait -q -u og -p MemoryMax=20M -p MemorySwapMax=0 -p OOMPolicy=kill -- \
		sh -c 'sleep 500 & head -c 40M /dev/zero | tail; wait' || true
	expect "$(vps exec sd -- systemctl show -P Result og)" oom-kill
	near "$(value sd memory.events oom_group_kill)" 1 5 "kills of a whole group"
	vps exec sd -- systemctl reset-failed
	# those of the operator do not move
	local file
	for file in memory.max pids.max cpu.max memory.high cgroup.max.descendants; do
		expect_fail vps exec sd -- sh -c "echo max >/sys/fs/cgroup/$file"
	done
	vps exec sd -- systemctl set-property --runtime -- -.slice MemoryMax=infinity TasksMax=infinity || true
	expect "$(value sd memory.max) $(value sd pids.max)" "$((256 * M)) 300"
	expect_exit 137 vps exec sd -- sh -c 'head -c 300M /dev/zero | tail >/dev/null; exit ${PIPESTATUS:-137}'
	vps exec sd -- systemctl reset-failed # exec stands in init.scope
	# nobody leaves: what is above is not in sight, and a cgroup2 mounted anew shows the same root
	vps exec sd -- sh -c 'mkdir -p /mnt/c && mount -t cgroup2 none /mnt/c && test ! -e /mnt/c/../cgroup.procs && umount /mnt/c' ||
		vps exec sd -- test ! -e /mnt/c/cgroup.procs
	expect "$(vps exec sd -- cat /proc/self/cgroup)" '0::/*'
	expect "$(vps exec sd -- sh -c 'cat /proc/1/cgroup')" '0::/init.scope'
	[ -z "$(find "$parent" -path '*/ns/*' -name memory.max -newermt 2100-01-01)" ]
	expect "$(vps exec sd -- systemctl is-system-running || vps exec sd -- systemctl --failed --no-legend)" running
}

test_many_groups_of_a_tenant_go_with_it() {
	begin cgroup2
	vps launch mg --image tiny -- sleep 1000
	vps exec mg -- sh -c 'cd /sys/fs/cgroup; i=0; while [ $i -lt 40 ]; do mkdir -p g$i/a/b; (echo 0 >g$i/a/b/cgroup.procs; exec sleep 900) & i=$((i+1)); done; sleep 1' || true
	local dir
	dir=$(group mg)
	near "$(find "$dir" -type d | wc -l)" 100 200 "groups"
	vps delete -f mg
	[ ! -e "$dir" ]
}

run_tests
