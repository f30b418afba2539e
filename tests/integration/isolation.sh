#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, the attack programs (make integration-tools)
# where: native; its races take very long under emulation
# The wall, attacked from inside by the VPS's root: docs/security.md, line by line. What an attack gets is compared with
# what it gets where the wall is lowered on purpose, when that can be had: else it could fail for no reason of ours.
. "$(dirname "$0")/../lib.sh"
attack=$builddir/tests/integration
for p in calls swap watch interp; do
	[ -x "$attack/attack_$p" ] || { echo "Bail out! no attack_$p: make integration-tools"; exit 1; }
done
host_devices() { stat -c '%n %t:%T %a %u %g %Z' /dev/null /dev/zero /dev/full /dev/random /dev/urandom; }
devices_before=$(host_devices)
tiny_image
# box: attacked from inside; peer: its neighbour; soft: the same with the wall's upper half taken off
vps launch box --image tiny --pids 300 --memory 256M --swap 0 -- sleep 100000 >/dev/null
vps launch peer --image tiny -- sleep 100000 >/dev/null
vps launch soft --image tiny --seccomp unconfined -- sleep 100000 >/dev/null
for v in box peer soft; do
	for p in calls swap watch; do vps cp "$attack/attack_$p" "$v:/root/$p"; done
done
# A directory of the host that only the wall protects: everybody may write there.
canary=$work/canary
mkdir "$canary"
echo secret >"$canary/secret"
printf '#!/bin/sh\necho HOST\n' >"$canary/prog"
chmod 777 "$canary" "$canary/prog"
chmod 666 "$canary/secret"
chmod 755 "$work"
canary_state() { find "$canary" -printf '%P %y %m %U %G %C@\n' | sort; cat "$canary/secret"; }
canary_before=$(canary_state)
canary_lives() {
	local now
	now=$(canary_state)
	[ "$now" = "$canary_before" ] || { diff <(echo "$canary_before") <(echo "$now") | sed 's/^/# /'; return 1; }
}

# in_box COMMAND - a line of shell, as root of the VPS "box"
in_box() { timeout 20 vps exec box -- sh -c "$1"; }
# refused COMMAND... - each line of shell must fail in the box
refused() {
	local c
	for c in "$@"; do
		if in_box "$c" >"$work/.out" 2>&1; then
			fail "not refused: $c: $(head -c 200 "$work/.out")"
		fi
	done
}
# without WORDS COMMAND... - whether it succeeds or not, its output must not hold these words. (errexit does not see a
# "! command".)
without() {
	local words=$1
	shift
	"$@" >"$work/.said" 2>/dev/null </dev/null || true
	if grep -qF -- "$words" "$work/.said"; then
		fail "says '$words': $*"
	fi
}
init_of() { vps inspect "$1" | jq '.[0].pid'; }
base_of() { awk '{print $2}' "/proc/$(init_of "$1")/uid_map"; }

# ---- system calls ---------------------------------------------------------------------

# Who asks makes no difference: the filter is the same for all.
test_forbidden_calls_give_the_errno_of_the_golden_file() {
	local golden=$top/tests/unit/runtime_seccomp.golden user
	[ "$(uname -m)" = x86_64 ] || skip "the golden file is of x86-64"
	vps exec box cp /root/calls /tmp/calls
	# uretprobe and uprobe pass every filter by (this_syscall_is_exempt() in kernel/seccomp.c): they answer the
	# caller's own probes only
	grep -v ' allow$' "$golden" | grep -vE '^33[56] ' | sort -n >"$work/want"
	[ "$(wc -l <"$work/want")" -gt 100 ]
	for user in root nobody; do
		vps exec -u "$user" box /tmp/calls calls <"$work/want" | sort -n >"$work/got"
		diff "$work/want" "$work/got"
	done
	# without the filter the kernel answers many of them otherwise
	vps exec soft /root/calls calls <"$work/want" | sort -n >"$work/got"
	[ "$(diff "$work/want" "$work/got" | grep -c '^>')" -gt 30 ]
}

test_dangerous_calls_are_among_the_forbidden() {
	local name
	for name in bpf perf_event_open open_by_handle_at quotactl keyctl add_key request_key io_uring_setup \
		userfaultfd kexec_load kexec_file_load init_module finit_module delete_module swapon swapoff \
		acct settimeofday clock_settime syslog iopl ioperm lookup_dcookie nfsservctl; do
		grep -qE "^[0-9]+ $name (EPERM|ENOSYS)$" "$top/tests/unit/runtime_seccomp.golden" ||
			fail "$name is allowed"
	done
}

test_socket_families() {
	# unspec, unix, inet, inet6, netlink, packet; AF_ALG (38), AF_VSOCK (40) and the rest are not for tenants
	expect "$(vps exec box /root/calls families | grep -v EPERM | cut -d' ' -f1 | xargs)" '0 1 2 10 16 17'
	vps exec soft /root/calls families | found '^38 EINVAL' || skip "this kernel has no AF_ALG to compare with"
}

test_the_other_tables_of_system_calls_are_off() {
	[ "$(uname -m)" = x86_64 ] || skip "x86-64 only"
	expect "$(vps exec box /root/calls int80)" REFUSED
	expect "$(vps exec box /root/calls x32)" REFUSED
	expect "$(vps exec -u nobody box /tmp/calls int80)" REFUSED
	vps launch i386 --image tiny --feature i386 -- sleep 1000
	vps cp "$attack/attack_calls" i386:/root/calls
	expect "$(vps exec i386 /root/calls x32)" REFUSED
	expect "$(vps exec i386 /root/calls int80)" REACHED
	vps delete -f i386
}

test_seccomp_profiles_are_checked_and_used() {
	echo '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"],
		"action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}' >"$work/profile"
	vps launch prof --image tiny --seccomp "$work/profile" -- sleep 1000
	expect_fail vps exec prof mkdir /tmp/x
	expect "$(cat "$work/.err")" '*No space*'
	vps exec prof touch /tmp/x
	vps delete -f prof
	expect_fail vps create prof --image tiny --seccomp /no/such/profile
	echo '{"defaultAction": "SCMP_ACT_SHRUG"}' >"$work/profile"
	expect_fail vps launch prof --image tiny --seccomp "$work/profile"
	expect "$(cat "$work/.err")" "*no action 'SCMP_ACT_SHRUG'*"
	echo '{"defaultAction": ' >"$work/profile"
	expect_fail vps launch prof --image tiny --seccomp "$work/profile"
	without prof vps list -aq
}

# ---- capabilities and ids --------------------------------------------------------------------

# Bits: capabilities(7). All but sys_module, sys_rawio, sys_time, wake_alarm, block_suspend, mac_*, perfmon, bpf.
full=00000124fdfcffff none=0000000000000000
caps_of() { awk '/^Cap(Inh|Prm|Eff|Bnd|Amb)/ {printf "%s ", $2}'; }
test_capabilities_are_the_golden_ones() {
	[ "$(cat /proc/sys/kernel/cap_last_cap)" = 40 ] || skip "this kernel's capabilities are others"
	expect "$(caps_of <"/proc/$(init_of box)/status")" "$none $full $full $full $none "
	expect "$(vps exec box cat /proc/self/status | caps_of)" "$none $full $full $full $none "
	expect "$(vps exec -u nobody box cat /proc/self/status | caps_of)" "$none $none $none $full $none "
	expect "$(vps exec -u nobody box grep -E '^(Groups|NoNewPrivs|Seccomp):' /proc/self/status | xargs)" \
		'Groups: 65534 NoNewPrivs: 0 Seccomp: 2'
	expect "$(vps exec box grep -E '^(Uid|Gid|Groups):' /proc/self/status | xargs)" 'Uid: 0 0 0 0 Gid: 0 0 0 0 Groups: 0'
}

test_cap_drop_and_cap_add() {
	vps launch less --image tiny --cap-drop net_admin --cap-drop CAP_SYS_ADMIN -- sleep 1000
	# net_admin is bit 12, sys_admin 21; not to be had again by a set-id program
	local bnd
	bnd=0x$(vps exec less grep CapBnd /proc/self/status | cut -f2)
	[ $((bnd >> 12 & 1)) = 0 ]
	[ $((bnd >> 21 & 1)) = 0 ]
	expect_fail vps exec less ip link set lo down
	expect_fail vps exec less mount -t tmpfs t /tmp
	vps exec box mount -t tmpfs t /mnt 2>/dev/null || in_box 'mkdir -p /mnt && mount -t tmpfs t /mnt && umount /mnt'
	vps delete -f less
	vps launch more --image tiny --cap-add sys_time --user nobody -- sleep 1000
	bnd=0x$(vps exec more grep CapBnd /proc/self/status | cut -f2)
	[ $((bnd >> 25 & 1)) = 1 ]
	# it holds in the VPS's namespace only: the clock is the host's
	vps exec -u root more date -s 2001-01-01 >"$work/.out" 2>&1 || true
	expect "$(cat "$work/.out")" "*can't set date*"
	[ "$(date +%Y)" -gt 2001 ]
	vps delete -f more
	expect_exit 2 vps create bad --image tiny --cap-add CAP_NONSENSE
	expect_exit 2 vps create bad --image tiny --cap-drop 'net_admin,,'
	expect_exit 2 vps create bad --image tiny --feature everything
}

test_each_vps_has_a_range_of_ids_of_its_own() {
	local a b c
	a=$(base_of box) b=$(base_of peer) c=$(base_of soft)
	expect "$(printf '%s\n' $((a / 65536)) $((b / 65536)) $((c / 65536)) 0 | sort -u | wc -l)" 4
	expect $((a % 65536 + b % 65536 + c % 65536)) 0
	expect "$(in_box 'cat /proc/self/uid_map /proc/self/gid_map' | xargs)" "0 $a 65536 0 $a 65536"
	# who escaped with a peer's ids could do nothing to others
	local pid
	pid=$(init_of box)
	cp "$attack/attack_calls" "$work/calls"
	expect "$(setpriv --reuid "$b" --regid "$b" --clear-groups "$work/calls" kill "$pid")" EPERM
	expect "$(setpriv --reuid "$b" --regid "$b" --clear-groups "$work/calls" ptrace "$pid")" EPERM
	expect "$(setpriv --reuid "$a" --regid "$a" --clear-groups "$work/calls" kill "$pid")" OK
}

test_the_root_file_system_is_mapped_and_its_owners_unshifted_on_disk() {
	in_box 'echo x >/root/own; chown 33:44 /root/own; chmod 4755 /root/own; touch /root/rootown'
	expect "$(in_box 'stat -c %u:%g:%a /root/own /bin/busybox' | xargs)" '33:44:4755 0:0:755'
	local id disk
	id=$(vps inspect box | jq '.[0].id')
	# on the host's side of the idmapped mount
	disk=/proc/$(init_of box)/root/root
	expect "$(stat -c %u:%g "$disk/own")" "$(($(base_of box) + 33)):$(($(base_of box) + 44))"
	# a set-id file of a tenant is no program for the host's users: they cannot reach it
	expect_fail setpriv --reuid 65534 --regid 65534 --clear-groups find "$VPS_ROOT" -name own
	expect_fail setpriv --reuid 65534 --regid 65534 --clear-groups ls "$VPS_ROOT/instances/$id"
	[ -z "$(find "$VPS_ROOT" -maxdepth 1 -type d -name 'instances' -perm /077)" ]
	# ids beyond the range cannot be had
	refused 'chown 65536 /root/own' 'chown 4294967295:70000 /root/own'
}

# ---- kernel files ----------------------------------------------------------------------------

masks='/proc/kcore /proc/keys /proc/timer_list /proc/acpi /proc/sched_debug /proc/scsi /proc/asound /sys/firmware'
test_masked_paths_hold_nothing_and_stay() {
	local m
	for m in $masks; do
		in_box "[ ! -e $m ] || { [ -f $m ] && [ ! -s $m ] && [ \$(head -c 1 $m | wc -c) = 0 ]; } || [ -z \"\$(ls -A $m)\" ]" ||
			fail "$m shows something"
		refused "[ -e $m ] && umount $m" "[ -e $m ] && umount -l $m" "[ -e $m ] && mount -o remount,rw,bind $m" \
			"[ -e $m ] && mount --move $m /tmp && [ ! -e /tmp/move ] && ! grep -q ' $m ' /proc/mounts"
	done
	# the whole of it moved or bound elsewhere brings its masks along
	in_box 'mkdir -p /tmp/b && mount --rbind /proc /tmp/b && [ ! -s /tmp/b/keys ] && [ "$(cat /tmp/b/keys | wc -c)" = 0 ] && umount -l /tmp/b'
	refused 'mkdir -p /tmp/b && mount --bind /proc /tmp/b' 'umount -l /proc' 'umount -l /sys' 'umount -l /dev' \
		'mkdir -p /tmp/p && mount -t proc p /tmp/p' 'mkdir -p /tmp/p && mount -t sysfs s /tmp/p' \
		'unshare -m sh -c "umount -l /proc/keys"' 'unshare -Urm umount -l /proc/keys' \
		'unshare -pf mount -t proc p /tmp/p'
}

test_readonly_paths_stay_so() {
	refused 'echo 1 >/sys/kernel/mm/ksm/run' 'mount -o remount,rw /sys' 'mount -o remount,rw,bind /sys' \
		'echo 1 >/proc/irq/default_smp_affinity' 'mount -o remount,rw,bind /proc/irq' \
		'mount -o remount,rw,bind /proc/bus' 'umount -l /proc/bus' 'mkdir /sys/x' \
		'mount -o remount,suid,dev,exec /proc' 'mount -o remount,dev,bind /' 'mount -o remount,bind,suid,dev,exec /dev/shm'
}

test_settings_of_the_host_cannot_be_written() {
	local f before
	before=$(sysctl -a 2>/dev/null | grep -E '^(kernel|vm|fs)\.(core_pattern|panic|printk|overcommit|file-max|pid_max|shmmax|msg_max)')
	for f in kernel/core_pattern kernel/panic kernel/panic_on_oops kernel/printk kernel/randomize_va_space \
		kernel/dmesg_restrict kernel/perf_event_paranoid kernel/threads-max kernel/sysrq kernel/modprobe \
		kernel/poweroff_cmd kernel/unprivileged_bpf_disabled vm/drop_caches vm/overcommit_memory vm/swappiness \
		fs/file-max fs/suid_dumpable fs/protected_symlinks dev/tty/legacy_tiocsti kernel/kptr_restrict; do
		refused "echo 1 >/proc/sys/$f" "chmod 666 /proc/sys/$f" "chown 0 /proc/sys/$f"
	done
	refused 'echo h >/proc/sysrq-trigger' 'dmesg' 'cat /proc/kmsg' 'dmesg -n 1' 'head -c 1 /proc/kcore | grep .' \
		'grep -v "^00000000" /proc/kallsyms | head -1 | grep .' 'echo -1 >/proc/self/oom_score_adj' \
		'hwclock -w' 'insmod /root/calls' 'swapon /root/calls'
	# what belongs to the VPS's namespaces is its own, and the host's stays
	in_box 'echo 4242 >/proc/sys/net/ipv4/ip_default_ttl; echo 17 >/proc/sys/fs/mqueue/msg_max' || true
	in_box 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 70000 >/proc/sys/kernel/shmmax; echo 4000 >/proc/sys/kernel/pid_max' || true
	expect "$(in_box 'cat /proc/sys/kernel/shmmax')" 70000
	expect "$(sysctl -a 2>/dev/null | grep -E '^(kernel|vm|fs)\.(core_pattern|panic|printk|overcommit|file-max|pid_max|shmmax|msg_max)')" "$before"
}

# No file of the kernel's that is not of the VPS's own namespaces can be written, not even below /dev/.vps.
test_no_file_of_proc_or_sys_opens_for_writing() {
	vps launch whole --image tiny --feature nesting -- sleep 1000
	local v f where
	for v in box whole; do
		where='/proc /sys'
		[ $v = box ] || where="$where /dev/.vps/proc /dev/.vps/sys"
		vps exec $v -- sh -c "find $where \\( -path '*proc/[0-9]*' -o -path '*/sys/net' -o -path '*/devices/virtual/net' -o -path '*/fs/cgroup' \
			-o -path '*proc/self' -o -path '*/thread-self' \\) -prune -o -type f -print 2>/dev/null |
			while read -r f; do true 2>/dev/null 3>>\"\$f\" && echo \"\$f\"; done; true" >"$work/open"
		# of the VPS's ipc, mqueue, pid and user namespaces; its network's are left out above
		sed -E -e 's,^/dev/.vps,,' "$work/open" | grep -vE -e '^/proc/(cpuinfo|diskstats|loadavg|meminfo|slabinfo|stat|swaps|uptime)$' \
			-e '^/(sys/devices/system/cpu/online|proc/pressure/(cpu|io|irq|memory))$' -e '^/proc/sys/(user/max_|fs/mqueue/|kernel/(msg|sem|shm|auto_msgmni|pid_max$|ns_last_pid$|cad_pid$))' \
			>"$work/bad" || true
		# lxcfs' files and those of pressure (a trigger is a question) open for all, and are not written
		for f in stat uptime meminfo; do
			expect_fail vps exec $v -- sh -c "echo 1 >>/proc/$f"
		done
		[ ! -s "$work/bad" ] || fail "$v can write: $(head -5 "$work/bad" | xargs)"
		grep -q shmmax "$work/open" # the loop does find what is open
	done
	vps delete -f whole
}

test_mounts_of_the_kernels_own_are_refused() {
	local fs
	for fs in proc sysfs devtmpfs debugfs tracefs securityfs pstore configfs hugetlbfs fusectl cgroup; do
		refused "mkdir -p /tmp/m && mount -t $fs none /tmp/m"
	done
	for fs in ext4 xfs btrfs squashfs erofs; do
		in_box 'dd if=/dev/zero of=/root/img bs=1k count=64 2>/dev/null'
		refused "mkdir -p /tmp/m && mount -t $fs /root/img /tmp/m" "mount -t $fs -o loop /root/img /tmp/m"
	done
	in_box 'mkdir -p /tmp/m && mount -t tmpfs t /tmp/m && umount /tmp/m'
	# what may be mounted gives no devices and, for the host, no set-id programs
	in_box 'mount -t tmpfs -o dev,suid t /tmp/m'
	refused 'mknod /tmp/m/null c 1 3' 'cat /tmp/m/null'
	in_box 'umount /tmp/m'
}

# ---- devices ----------------------------------------------------------------------------------

test_devices_can_neither_be_made_nor_reached() {
	local root_dev
	root_dev=$(stat -c '%Hd %Ld' / 2>/dev/null) || root_dev='254 0'
	refused 'mknod /root/n c 1 3' 'mknod /dev/n c 1 1' 'mknod /dev/shm/n c 1 11' "mknod /root/b b $root_dev" 'mknod /dev/b b 7 0'
	expect "$(in_box 'find /dev -type b; find /dev -type c | grep -v /dev/pts/ | sort | xargs')" \
		'/dev/console /dev/full /dev/null /dev/random /dev/tty /dev/urandom /dev/zero'
	# a node that somebody else has made: the kernel's list of devices (cgroup) says no
	local pid
	pid=$(init_of box)
	nsenter -t "$pid" -m -- /bin/busybox sh -c 'mknod /dev/loopc c 10 237; mknod /dev/kmsg c 1 11; mknod /dev/root0 b 7 0; chmod 666 /dev/loopc /dev/kmsg /dev/root0'
	refused ': <>/dev/loopc' ': </dev/loopc' ': >>/dev/kmsg' ': </dev/kmsg' ': </dev/root0'
	in_box ': <>/dev/loopc' 2>"$work/.err" || expect "$(cat "$work/.err")" '*Operation not permitted*'
	nsenter -t "$pid" -m -- /bin/busybox rm /dev/loopc /dev/kmsg /dev/root0
	[ -c /dev/loop-control ] || skip "no /dev/loop-control to compare with"
	vps launch dev --image tiny --device /dev/loop-control:rw -- sleep 1000
	vps exec dev -- sh -c ': <>/dev/loop-control'
	vps delete -f dev
}

# The host's nodes once were found with a VPS's owner: whatever the commands' own standard fds are, and whatever the
# tenant does to his, theirs stay as they are, to the time of their last change.
test_the_hosts_device_nodes_are_never_touched() {
	in_box 'chmod 600 /dev/null; chown 7:7 /dev/null; chmod 0 /dev/zero; rm /dev/full; chown 1 /dev/stdin; true' 2>/dev/null
	expect "$(in_box 'stat -c %u:%a /dev/null' )" 7:600
	in_box 'chmod 666 /dev/null; chown 0:0 /dev/null; chmod 666 /dev/zero'
	local touch='chown 5:5 /dev/stdin /dev/stdout /dev/stderr /proc/self/fd/*; chmod 700 /dev/stdin /dev/stdout /dev/stderr; true'
	vps exec box -- sh -c "$touch" </dev/null >/dev/null 2>&1
	vps exec -u nobody box -- sh -c "$touch" </dev/null >/dev/null 2>&1
	vps exec -d box -- sh -c "$touch" </dev/null >/dev/null 2>&1
	local kind
	for kind in pty pipes; do
		vps run --rm --image tiny --console $kind -- sh -c "$touch" </dev/null >/dev/null 2>&1
		vps run --rm --image tiny --console $kind --user nobody -- sh -c "$touch" </dev/null >/dev/null 2>&1
		vps launch con --image tiny --console $kind -- sh -c "$touch; sleep 1000" </dev/null >/dev/null 2>&1
		vps restart --kill con </dev/zero >/dev/null 2>&1
		vps delete -f con </dev/null >/dev/null 2>&1
	done
	vps launch dev --image tiny --device /dev/null --mount /dev/zero:/root/zero -- sleep 1000 </dev/null >/dev/null
	vps exec dev -- sh -c 'chown 5:5 /dev/null /root/zero; chmod 600 /dev/null /root/zero' >/dev/null 2>&1 || true
	vps delete -f dev
	expect "$(host_devices)" "$devices_before"
}

# A fd that the caller has closed is not taken by a file of ours, which would get the tenant's words.
test_commands_run_with_closed_standard_fds() {
	vps create closed --image tiny --console pipes <&- >&- 2>&-
	vps start closed <&- >&- 2>&-
	vps exec closed -- sh -c 'echo tenant; echo tenant >&2' <&- >&- 2>&-
	expect "$(vps exec closed -- sh -c 'echo tenant >&2; echo out' <&- 2>&-)" out
	expect_exit 14 vps exec nobody-there true <&- 2>&-
	without tenant cat "$VPS_ROOT"/instances/*/*.json "$VPS_ROOT"/names/* "$VPS_RUN"/*/state.json
	vps delete -f closed <&- >&- 2>&-
	expect "$(host_devices)" "$devices_before"
}

# ---- processes ----------------------------------------------------------------------------------

test_processes_of_others_are_not_seen_and_not_signalled() {
	sleep 1000 &
	local sentinel=$! n
	n=$(in_box 'ls -d /proc/[0-9]* | wc -l')
	[ "$n" -lt 12 ] || fail "$n processes in sight"
	expect "$(vps exec box /root/calls kill $sentinel)" ESRCH
	expect "$(vps exec box /root/calls kill "$(init_of peer)")" ESRCH
	expect "$(vps exec box /root/calls ptrace "$(init_of peer)")" ESRCH
	# all that can be signalled: his own
	vps launch suicidal --image tiny -- sh -c 'trap "" TERM; while :; do sleep 1; done'
	vps exec suicidal -- sh -c 'kill -9 -1' || true
	kill -0 $sentinel
	vps exec peer true
	vps exec box true
	kill $sentinel
	vps delete -f suicidal
}

test_the_root_of_init_is_the_vps_root() {
	expect "$(in_box 'ls -di / /.. /proc/1/root/. /proc/1/root/.. /proc/1/cwd/. /proc/self/root/../.. | cut -d/ -f1 | sort -u | wc -l')" 1
	without secret in_box "ls $canary /proc/1/root$canary /proc/*/root$canary /proc/*/cwd$canary"
	# nothing of the host's tree in sight, by no mount; and the classic way out of a chroot ends at the VPS's root
	without "$work" in_box 'cat /proc/self/mountinfo /proc/1/mountinfo'
	in_box 'mkdir -p /tmp/jail/bin && cp /bin/busybox /tmp/jail/bin/ && cd / && chroot /tmp/jail /bin/busybox true'
	expect "$(in_box 'mkdir -p /tmp/j2; cd /; chroot /tmp/j2 /proc/1/root/bin/busybox ls ../../../../.. 2>/dev/null; ls ../../../../../ | xargs')" \
		"$(in_box 'ls / | xargs')"
}

test_no_fd_leaks_inside() {
	exec 8<"$canary/secret" 9<"$canary" 7>>"$canary/secret"
	expect "$(vps exec box -- sh -c 'echo /proc/$$/fd/*')" '/proc/*/fd/0 /proc/*/fd/1 /proc/*/fd/2 /proc/*/fd/[0-9]*'
	expect "$(vps exec box ls /proc/self/fd | xargs)" '0 1 2 3' # ls has opened the directory
	expect "$(vps run --rm --image tiny -- ls /proc/self/fd | xargs)" '0 1 2 3'
	vps launch leak --image tiny -- sleep 1000
	expect "$(vps exec leak ls /proc/1/fd | xargs)" '0 1 2'
	local fd
	for fd in $(vps exec leak ls /proc/1/fd); do
		without "$work" vps exec leak readlink "/proc/1/fd/$fd"
	done
	# nor can a directory of the caller's be entered or a program be run by its number (CVE-2024-21626)
	for fd in 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		without secret vps exec -C "/proc/self/fd/$fd" box ls
		without canary vps exec -C "/proc/self/fd/$fd/.." box ls
		expect_fail vps exec box "/proc/self/fd/$fd/prog"
	done
	expect_fail vps run --rm --image tiny --workdir /proc/self/fd/9 -- cat secret
	expect_fail vps run --rm --image tiny --workdir /proc/self/fd/9 -- ./prog
	cd "$canary"
	expect "$(vps exec box pwd)" /root
	expect_fail vps exec -C /proc/self/cwd box cat secret
	vps delete -f leak
	exec 7>&- 8<&- 9<&-
	canary_lives
}

test_the_hosts_programs_cannot_be_written() {
	local before f
	before=$(sha256sum "$builddir"/vps "$builddir"/vps-init "$builddir"/vps-monitor)
	# init is a copy of its own, which nobody can write: for the host's root, too
	expect "$(in_box 'readlink /proc/1/exe')" /dev/.vps/init
	expect_fail sh -c ": >>/proc/$(init_of box)/exe"
	refused ': >/proc/1/exe' ': >>/proc/1/exe' 'chmod 777 /proc/1/exe'
	# the joining process executes itself once more, with the tenant's dynamic linker
	in_box 'mkdir -p /lib64 /lib; printf "#!/proc/self/exe\n" >/root/again; chmod 755 /root/again'
	for f in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1; do
		vps cp "$attack/attack_interp" "box:$f"
		in_box "chmod 755 $f"
	done
	vps exec box /root/again >/dev/null 2>&1 || true
	# it was there, and everything is forbidden: EACCES is 13, EPERM 1
	expect "$(in_box 'cat /interp.out' | xargs)" 'write 13 read-write 13 truncate 13 chmod 1 chown 1'
	# with a file of his own it is another matter: what is being executed is busy, ETXTBSY is 26
	vps cp "$builddir/vps" box:/root/own-program
	vps exec box /root/own-program >/dev/null 2>&1 || true
	expect "$(in_box 'cat /interp.out' | xargs)" 'write 26 read-write 26 truncate 26 chmod 0 chown 0'
	expect "$(sha256sum "$builddir"/vps "$builddir"/vps-init "$builddir"/vps-monitor)" "$before"
}

# CVE-2016-9962: root inside lies in wait for who joins. VPS_ATTACK_ROUNDS=10000 for the long run.
test_joining_processes_give_nothing_away() {
	local i rounds=${VPS_ATTACK_ROUNDS:-250}
	vps exec -d box /root/watch /tmp/watch
	wait_until 5 vps exec box test -e /tmp/watch
	exec 9<"$canary"
	for ((i = 0; i < rounds; i++)); do
		vps exec box /bin/true
		[ $((i % 5)) != 0 ] || vps cp "$top/COPYING" box:/tmp/
		[ $((i % 5)) != 1 ] || vps exec -u nobody box /bin/true
		[ $((i % 5)) != 2 ] || vps cp box:/etc/passwd - >/dev/null
	done
	exec 9<&-
	vps exec box touch /tmp/watch.stop # no shell: its redirection would show an fd above 2
	wait_until 10 vps exec box grep -q '^seen' /tmp/watch
	in_box 'cat /tmp/watch' | tail -3
	# it was awake: it saw most of them, some of them before they had become their command, and was refused
	in_box 'cat /tmp/watch' | awk -v n="$rounds" '/^seen/ {ok = $2 > n / 2 && $4 > 0 && $6 > 0 && $8 == 0} END {exit !ok}'
}

test_cp_and_exec_load_nothing_of_the_tenants() {
	# whatever a C library would open by itself (CVE-2019-14271): links that lead in circles, and FIFOs that nobody feeds
	in_box 'mkdir -p /lib/x86_64-linux-gnu /usr/lib/locale /usr/lib/x86_64-linux-gnu/gconv /etc/ssl
		for f in /etc/nsswitch.conf /etc/ld.so.preload /etc/ld.so.cache /etc/localtime /etc/ssl/openssl.cnf \
			/lib/x86_64-linux-gnu/libnss_files.so.2 /lib/x86_64-linux-gnu/libc.so.6 \
			/usr/lib/locale/locale-archive /usr/lib/x86_64-linux-gnu/gconv/gconv-modules; do
			rm -f $f; mkfifo -m 666 $f
		done'
	timeout 5 vps cp "$top/COPYING" box:/tmp/c1
	timeout 5 vps cp box:/tmp/c1 "$work/c1"
	cmp "$top/COPYING" "$work/c1"
	timeout 5 vps exec box true
	timeout 5 vps exec -u nobody box true
	in_box 'rm -f /etc/nsswitch.conf /etc/ld.so.* /etc/localtime; rm -rf /etc/ssl /lib/x86_64-linux-gnu /usr/lib/locale /usr/lib/x86_64-linux-gnu'
}

# ---- races -----------------------------------------------------------------------------------------

# A directory and a link out of it change places all the time, while the operator copies in and out, and joins.
# The links lead to what only the joining process has: its own fds, 9 is the host's canary.
test_swapped_paths_lead_nowhere() {
	local to i
	exec 9<"$canary"
	echo new >"$work/new"
	tar -C "$work" --transform 's,^,a/,' -cf "$work/new.tar" new
	for to in /proc/self/fd/9 "$canary" /proc/self/root/proc/self/fd/9; do
		in_box "rm -rf /race; mkdir -p /race/a; echo mine >/race/a/secret; ln -s $to /race/b"
		vps exec -d box /root/swap /race/a /race/b
		wait_until 5 vps exec box test -s /race/a.count
		for ((i = 0; i < 8; i++)); do
			timeout 10 vps cp "$work/new" box:/race/a/new 2>/dev/null || true
			timeout 10 vps cp "$work/new" box:/race/a/ 2>/dev/null || true
			timeout 10 vps cp - box:/race <"$work/new.tar" 2>/dev/null || true
			timeout 10 vps cp box:/race/a/secret - 2>/dev/null | tar -xOf - 2>/dev/null >>"$work/got" || true
			timeout 10 vps cp box:/race/a - 2>/dev/null | tar -xOf - 2>/dev/null >>"$work/got" || true
			timeout 10 vps cp box:/race - 2>/dev/null | tar -xOf - 2>/dev/null >>"$work/got" || true
			timeout 10 vps exec -C /race/a box cat secret 2>/dev/null >>"$work/got" || true
			timeout 10 vps exec box /race/a/prog 2>/dev/null >>"$work/got" || true
			timeout 10 vps exec box cat /race/a/secret 2>/dev/null >>"$work/got" || true
		done
		in_box 'killall swap'
		[ "$(in_box 'cat /race/*.count')" -gt 100 ]
	done
	exec 9<&-
	without secret cat "$work/got"
	without HOST cat "$work/got"
	grep -q mine "$work/got"
	canary_lives
	in_box 'rm -rf /race'
}

# CVE-2021-30465: a neighbour swaps the target of a mount in a directory that both share.
test_mount_targets_in_a_shared_directory_cannot_be_swapped_out() {
	mkdir "$work/shared" "$work/inner"
	echo inner >"$work/inner/file"
	chmod 777 "$work/shared"
	vps launch racer --image tiny --mount "$work/shared:/shared" -- sleep 1000
	vps cp "$attack/attack_swap" racer:/root/swap
	vps exec racer -- sh -c "mkdir /shared/a; ln -s ../../../../../../../../../..$canary /shared/b"
	vps create victim --image tiny --mount "$work/shared:/shared" --mount "$work/inner:/shared/a/sub" -- sleep 1000
	vps exec -d racer /root/swap /shared/a /shared/b
	local i mounts
	mounts=$(grep -F "$work" /proc/self/mountinfo)
	for ((i = 0; i < 12; i++)); do
		timeout 20 vps start victim 2>/dev/null || continue
		without secret vps exec victim cat "$canary/secret"
		vps stop --kill victim
	done
	vps delete -f racer victim
	[ "$(grep -F "$work" /proc/self/mountinfo)" = "$mounts" ]
	canary_lives
}

# ---- images that lie --------------------------------------------------------------------------------

hostile() { # NAME COMMANDS - the smallest image, with COMMANDS run in its root
	mkdir -p "$work"/hostile/{bin,etc,dev,proc,sys,tmp,run,root}
	cp /bin/busybox "$work/hostile/bin"
	(
		cd "$work/hostile"
		for name in sh sleep stat ls cat; do ln -s busybox bin/$name; done
		eval "$2"
	)
	tar -C "$work/hostile" --numeric-owner --owner=0 --group=0 -cf "$work/hostile.tar" .
	vps image import -q "$work/hostile.tar" "$1" >/dev/null
	rm -rf "$work/hostile" "$work/hostile.tar"
}

# What is in the way of a mount is told, or covered by it; it never leads a mount or a file elsewhere.
test_images_with_links_in_the_way() {
	local n=0 up what
	up=../../../../../../../../../..$canary
	for what in "rm -rf proc; ln -s $up proc" "rm -rf sys; ln -s /etc sys" "rm -rf dev; ln -s $up dev" \
		"rm -rf proc; touch proc" "rm -rf dev; touch dev" \
		"ln -s $up dev/pts; ln -s /etc/passwd dev/null; ln -s $up dev/shm; ln -s $up/secret dev/console" \
		"rm -rf run; ln -s $up run" "rm -rf etc; ln -s $up etc" "rm -f etc/hostname; ln -s $up/secret etc/hostname" \
		"rm -f etc/passwd; ln -s $up/secret etc/passwd; ln -s $up/secret etc/hosts; ln -s $up/secret etc/resolv.conf" \
		"rm -f etc/passwd; ln -s /proc/self/fd/9/secret etc/passwd; ln -s /proc/self/fd/9/x etc/resolv.conf" \
		"ln -s $up data; ln -s /proc/self/fd/9 data2" \
		"mkdir -p etc/vps etc/systemd/nspawn .dockerenv; echo '{\"mounts\": [{\"src\": \"/\", \"dst\": \"/host\"}]}' >etc/vps/spec.json; echo bind=/ >etc/systemd/nspawn/tiny.nspawn; cp etc/vps/spec.json spec.json"; do
		n=$((n + 1))
		hostile "h$n" "$what"
		exec 9<"$canary"
		if vps launch "h$n" --image "h$n" --mount "$work/canary/prog:/data/x" --mount "$work/canary/prog:/data2/y" \
			-- sleep 1000 >"$work/.out" 2>&1; then
			# then all is where it belongs
			expect "$(vps exec "h$n" -- sh -c 'stat -f -c %t /proc /sys /dev /dev/pts /dev/shm' | xargs)" \
				'9fa0 62656572 1021994 1cd1 1021994'
			expect "$(vps exec "h$n" stat -c %t:%T /dev/null)" 1:3
			expect "$(vps exec "h$n" ls / | grep -c host)" 0
			without secret vps exec "h$n" -- sh -c 'cat /etc/* /run/* /data/* /data2/*'
		else
			[ -s "$work/.out" ]
		fi
		exec 9<&-
		vps delete -f "h$n" 2>/dev/null || true
		canary_lives
	done
	expect "$(host_devices)" "$devices_before"
}

# ---- terminals, sockets -----------------------------------------------------------------------------

# The text is typed into whatever terminal the program finds. The shell around it would execute it.
test_no_text_can_be_pushed_into_the_callers_terminal() {
	local t n=0 env="PATH=$PATH VPS_ROOT=$VPS_ROOT VPS_RUN=$VPS_RUN VPS_CONF=$VPS_CONF"
	in_terminal() { # COMMAND - in an interactive shell; then wait for its prompt
		n=$((n + 1)) t="tmux -L vpi$$.$n"
		$t new-session -d -x 100 -y 30 "env $env PS1='ready> ' bash --norc -i"
		wait_until 5 sh -c "$t capture-pane -p | grep -q ready"
		$t send-keys "$1; echo do''ne" Enter
		wait_until 10 sh -c "$t capture-pane -p | grep -q done"
		sleep 0.3
		$t kill-server
	}
	in_terminal "$attack/attack_calls sti \$'touch $work/pushed\\n'"
	[ -e "$work/pushed" ] || skip "this kernel refuses TIOCSTI to all"
	rm "$work/pushed"
	in_terminal "vps exec -t box /root/calls sti \$'touch $work/pushed\\n'"
	in_terminal "vps exec -T box /root/calls sti \$'touch $work/pushed\\n'"
	in_terminal "vps exec -d box /root/calls sti \$'touch $work/pushed\\n'"
	in_terminal "vps run --rm --image tiny --console pty --mount $attack/attack_calls:/root/calls -- /root/calls sti \$'touch $work/pushed\\n'"
	[ ! -e "$work/pushed" ]
	expect "$(vps exec -T box /root/calls sti x)" 'terminals 0'
}

test_abstract_sockets_of_the_host_are_not_there() {
	"$attack/attack_calls" listen @vps-test >"$work/.listen" &
	local pid=$!
	wait_until 5 grep -q OK "$work/.listen"
	expect "$("$attack/attack_calls" connect @vps-test)" OK
	expect "$(vps exec box /root/calls connect @vps-test)" ECONNREFUSED
	kill $pid
	vps exec -d peer /root/calls listen @vps-peer
	wait_until 5 sh -c "vps exec peer /root/calls connect @vps-peer | grep -q OK"
	expect "$(vps exec box /root/calls connect @vps-peer)" ECONNREFUSED
}

# ---- shares ------------------------------------------------------------------------------------------

test_a_fork_bomb_ends_at_the_limit_and_disturbs_nobody() {
	vps launch bomb --image tiny --pids 100 --memory 64M --swap 0 -- sleep 1000
	# shells that multiply, until none can; then sleepers in the places that are left
	vps exec -d bomb -- sh -c 'b() { while :; do b & sleep 100 & done; }; b'
	sleep 0.3
	vps exec -d bomb -- sh -c 'while :; do sleep 100 & done'
	wait_until 10 sh -c "[ \$(vps stats --json bomb | jq '.[0].pids_current') -ge 90 ]"
	[ "$(vps stats --json bomb | jq '.[0].pids_current')" -le 100 ]
	timeout 10 vps exec peer true
	timeout 10 vps run --rm --image tiny -- true
	timeout 10 vps stop --kill bomb
	vps delete bomb
}

test_terminals_and_shared_memory_are_bounded() {
	local n
	n=$(vps exec box /root/calls ptys 400)
	expect "$n" '1[0-9][0-9] ENOSPC'
	# a new one of the devpts that is mounted inside has the same bound, and the host has some left
	timeout 5 script -qec 'true' /dev/null
	vps exec peer tty >/dev/null 2>&1 || true
	expect "$(script -qec 'vps exec -t peer tty' /dev/null)" '*/dev/pts/*'
	# half of the memory limit
	expect "$(in_box 'df -k /dev/shm | tail -1' | awk '{print $2}')" 131072
	expect_fail vps exec box dd if=/dev/zero of=/dev/shm/f bs=1M count=200
	in_box 'rm -f /dev/shm/f'
	# nodes of /dev are the host's memory
	refused 'dd if=/dev/zero of=/dev/f bs=1M count=4'
	in_box 'rm -f /dev/f'
	refused 'i=0; while [ $i -lt 5000 ]; do : >/dev/x$i || exit 1; i=$((i+1)); done'
	in_box 'rm -f /dev/x*'
}

# The kernel counts inotify instances, user namespaces and the like for the owner of a user namespace: one VPS would use
# up what all of the same owner share.
test_what_the_kernel_counts_for_an_owner_is_a_budget_for_each_vps() {
	local max
	max=$(cat /proc/sys/fs/inotify/max_user_instances)
	[ "$max" -le 2000 ] || skip "fs.inotify.max_user_instances is $max"
	vps exec -d box -- sh -c 'exec /root/calls inotify 3000 >/tmp/inotify'
	wait_until 10 in_box 'grep -q EMFILE /tmp/inotify'
	[ "$(in_box 'cut -d" " -f1 /tmp/inotify')" -le "$max" ]
	vps exec -d peer -- sh -c 'exec /root/calls inotify 20 >/tmp/inotify'
	wait_until 10 vps exec peer grep -q '^20 OK' /tmp/inotify
	in_box 'kill $(pidof calls)'
	vps exec peer -- sh -c 'kill $(pidof calls)'
}

test_clocks_since_boot_begin_with_the_vps() {
	local v init
	[ -e /proc/self/ns/time ] || skip "a kernel without time namespaces"
	v=$(date +%s)
	vps launch clock --image tiny -- sleep 1000
	vps cp "$attack/attack_calls" clock:/root/calls
	[ "$(vps exec clock /root/calls boottime)" -le $(($(date +%s) - v + 1)) ]
	[ "$(vps exec clock readlink /proc/self/ns/time)" = "$(vps exec clock readlink /proc/1/ns/time)" ]
	init=$(init_of clock)
	[ "$(readlink "/proc/$init/ns/time")" != "$(readlink /proc/self/ns/time)" ]
	# the time of day is the host's, and not the VPS's to set
	[ $(($(date +%s) - $(vps exec clock date +%s))) -le 1 ]
	expect "$(vps exec clock date -s '2001-01-01 00:00:00' 2>&1)" "*can't set date: Operation not permitted*"
	vps delete -f clock
}

test_its_own_limits_cannot_be_raised() {
	local before f
	before=$(vps stats --json box | jq -c '.[0] | [.pids_limit, .memory_limit]')
	expect "$(in_box 'cat /proc/self/cgroup' | cut -d: -f3 | sort -u)" /
	refused 'mkdir -p /tmp/cg && mount -t cgroup -o none,name=x none /tmp/cg' \
		'echo $$ >/sys/fs/cgroup/../cgroup.procs' 'echo 1 >/sys/fs/cgroup/cgroup.kill' 'echo 1 >/sys/fs/cgroup/cgroup.freeze' \
		'echo max >/sys/fs/cgroup/cgroup.max.descendants' 'chown 0 /sys/fs/cgroup/cgroup.freeze'
	for f in memory.max memory.high memory.swap.max pids.max cpu.max io.max cpuset.cpus; do
		refused "echo max >/sys/fs/cgroup/$f" "chmod 666 /sys/fs/cgroup/$f"
	done
	# a view of the hierarchy of one's own begins where one is
	in_box 'mkdir -p /tmp/cg && mount -t cgroup2 none /tmp/cg && [ ! -e /tmp/cg/cgroup.controllers.host ] && ls /tmp/cg | sort >/tmp/1; umount /tmp/cg; ls /sys/fs/cgroup | sort | cmp - /tmp/1'
	# a hybrid host's other hierarchies can be looked at, from the VPS's place on; nothing there can be written (release_agent:
	# CVE-2022-0492), made or joined
	for f in memory pids cpu cpuacct devices freezer blkio cpuset none,name=systemd; do
		in_box "mkdir -p /tmp/cg; mount -t cgroup -o $f none /tmp/cg" 2>/dev/null || continue
		refused 'mkdir /tmp/cg/x' 'echo $$ >/tmp/cg/tasks' 'find /tmp/cg -type d -name "[0-9]*" | grep .' \
			'for f in $(find /tmp/cg -type f); do true 2>/dev/null 3>>$f && exit 0; done; false'
		in_box 'umount /tmp/cg'
	done
	# its own subtree is its own
	in_box 'mkdir /sys/fs/cgroup/mine && sleep 5 & sleep 0.1; echo $! >/sys/fs/cgroup/mine/cgroup.procs; kill $!; wait; rmdir /sys/fs/cgroup/mine'
	# no rlimit above what it was given, no real time
	refused 'ulimit -H -l 1000000' 'chrt -f 10 true' 'ulimit -H -n 10000000'
	[ "$(vps stats --json box | jq -c '.[0] | [.pids_limit, .memory_limit]')" = "$before" ]
	expect "$(vps exec box -- sh -c 'x=x; while :; do x=$x$x; done' >/dev/null 2>&1; echo $?)" 137
}

# ---- nesting --------------------------------------------------------------------------------------------

test_nesting_runs_an_inner_container_and_is_off_otherwise() {
	local inner='mount -t proc p /proc && mount -t sysfs s /sys && mount -t tmpfs t /tmp && ls -d /proc/[0-9]* | wc -l'
	vps launch nest --image tiny --feature nesting -- sleep 1000
	[ "$(vps exec nest -- unshare -Urmnpf sh -c "$inner")" -le 4 ]
	[ "$(vps exec -u nobody nest -- unshare -Urmnpf sh -c "$inner")" -le 4 ] || true
	# the inner one is a tenant of a tenant: nothing more is open to it
	expect_fail vps exec nest -- unshare -Urmnpf sh -c "$inner; echo 1 >/proc/sys/kernel/panic"
	expect_fail vps exec nest -- unshare -Urmnpf sh -c "$inner; mknod /tmp/n c 1 3"
	expect_fail vps exec -u nobody nest ls /dev/.vps/proc
	vps delete -f nest
	# without it: no namespaces, told as EPERM
	expect_fail vps exec box -- unshare -Urmnpf true
	expect "$(cat "$work/.err")" '*Operation not permitted*'
	# or namespaces yes, a proc without masks no; told by the kernel as EPERM
	vps launch loose --image tiny --migratable off -- sleep 1000
	expect_fail vps exec loose -- unshare -Urmnpf mount -t proc p /proc
	expect "$(cat "$work/.err")" '*ermission denied*'
	expect "$(vps exec loose unshare -Ur id -u)" 0
	vps delete -f loose
	in_box '[ ! -e /dev/.vps/proc ]'
}

test_the_host_is_as_before() {
	canary_lives
	expect "$(host_devices)" "$devices_before"
}

run_tests
