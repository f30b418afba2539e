#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root qemu; it starts test hosts of its own
# where: hosts
# The test host itself, and what holds all tests together: what goes in comes out, and nothing stays of it however it ends. Two on
# one wire: hosts_migrate.sh
. "$(dirname "$0")/../lib.sh"
needs testhost
export VPS_VM_CPUS=1 # in CI others emulate CPUs beside it: two that wait for each other waste what there is
host=$top/tests/vm/host
export VPS_TEST_MARK=$work # to find its processes by

marked() { grep -lazxF "VPS_TEST_MARK=$work" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
qemu_runs() {
	local p
	for p in $(marked); do
		case $(cat "/proc/$p/comm" 2>/dev/null) in qemu-*) return 0 ;; esac
	done
	return 1
}
no_qemu() { ! qemu_runs; }

test_a_command_its_output_and_its_exit_status() {
	expect_exit 42 "$host" run sh -c 'echo "out  $1"; echo err >&2; cat /sys/fs/cgroup/cgroup.controllers /proc/1/comm; ls /dev/kvm
		exit 42' sh 'a "b'
	expect "$(head -1 "$work/.out")" 'out  a "b'
	for word in memory systemd; do found -w $word "$work/.out"; done
	found -x err "$work/.err"
	no_qemu
}

test_files_limits_and_power() {
	visit() {
		set -e
		head -c 100000 /dev/urandom >"$work/a b"
		"$host" put "$work/a b" /var/tmp/
		"$host" get '/var/tmp/a b' "$work/back"
		cmp "$work/a b" "$work/back"
		# live: the second line is not there when the first is read
		"$host" exec 'echo one; while [ ! -e /run/go ]; do sleep 0.1; done; echo two' |
			{ read -r line && [ "$line" = one ] && "$host" exec touch /run/go && read -r line && [ "$line" = two ]; }
		s=0
		"$host" exec -t 2 sleep 60 2>"$work/hang" || s=$?
		[ $s = 124 ] && found 'did not end in 2 s' "$work/hang" && found "test host's console" "$work/hang"
		"$host" exec 'touch /run/here; touch /root/lost'
		"$host" reset
		"$host" exec '[ ! -e /run/here ]'
	}
	export -f visit found
	export work host
	"$host" with bash -c visit
	no_qemu
}

test_nothing_stays_when_it_is_killed() {
	local sig
	for sig in KILL TERM; do
		"$host" run sleep 100 >/dev/null 2>&1 &
		wait_until 20 qemu_runs
		kill -$sig $!
		wait_until 20 no_qemu
		wait $! || true
	done
}

test_nothing_stays_of_killed_tests() {
	local dir # they do not see our /var/tmp
	dir=$(mktemp -d /run/vps-testhost.XXXXXX)
	trap "rm -rf '$dir'" EXIT
	cat >"$dir/inner" <<-'END'
	#!/bin/bash
	mkdir -p "$1/x"
	sleep 1000 & echo $! >"$1/x/cgroup.procs"
	mount -t tmpfs t /mnt && touch /tmp/f /var/tmp/f "$2/going"
	sleep 1000
	END
	chmod +x "$dir/inner"
	local sig group before p unified=/sys/fs/cgroup
	[ -e $unified/cgroup.procs ] || unified=$unified/unified
	group=$unified/v$(printf %s "$work" | sha256sum | cut -c1-4)
	before=$(ls -A /tmp /var/tmp)
	for sig in KILL TERM INT; do
		rm -f "$dir/going"
		# what a shell starts with & does not hear SIGINT
		env --default-signal=INT "$top/tests/contained" "$dir/inner" "$group" "$dir" &
		p=$!
		wait_until 10 test -e "$dir/going"
		[ -d "$group/x" ]
		kill -$sig $p
		wait_until 20 sh -c "[ ! -d $group ]"
		wait_until 10 sh -c "[ \"\$(ls -A /tmp /var/tmp)\" = '$before' ]"
		wait $p || true
	done
	[ -z "$(mount | grep ' /mnt ')" ]
}

run_tests
