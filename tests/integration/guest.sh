#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, kvm in hardware (or nested in a test host), erofs-utils, the kernel of this host in /boot
# where: machines
# vps-guest in vps-vmm: a Debian root from EROFS and ext4, its agent; a command; an export.
. "$(dirname "$0")/../lib.sh" # debian_image
needs kvm mkfs.erofs
modprobe -qa kvm-amd kvm-intel tun loop || true
[ -e /dev/kvm ] || skip "no /dev/kvm"
[ -r "/boot/vmlinuz-$(uname -r)" ] || skip "no /boot/vmlinuz-$(uname -r)"

tool=$builddir/tests/integration/guest_tool

# machine NAME IMAGE RECORD... - a directory with what it boots
machine() {
	local dir=$work/$1 image=$2
	shift 2
	mkdir -p "$dir/skel/upper" "$dir/skel/work" "$work/cache"
	ln -sf "$("$tool" initrd "/lib/modules/$(uname -r)" "$builddir/vps-guest" "$work/cache")" "$dir/initrd"
	[ -f "$work/$image.erofs" ] || "$tool" erofs "$VPS_ROOT" "$image" "$work/$image.erofs"
	ln -sf "$work/$image.erofs" "$dir/image"
	mke2fs -q -t ext4 -d "$dir/skel" "$dir/disk" 256M
	"$tool" config "$dir/config" "$@"
}
# booted DIR [ARG...] - boots it beside us, its words in DIR/log; $pid is its
booted() {
	"$tool" boot "$work/$1" 2 "${@:2}" >"$work/$1/log" 2>&1 </dev/null &
	pid=$!
}
seen() { wait_until "${2:-60}" grep -qE "$1" "$dir/log" || { cat "$dir/log"; fail "not seen: $1"; }; }
# ended STATUS - the machine that was booted last
ended() {
	local got=0
	wait "$pid" || got=$?
	[ "$got" = "$1" ] || { cat "$dir/log"; fail "the machine ended with $got instead of $1"; }
}

test_debian_comes_up_and_is_spoken_to() {
	dir=$work/deb
	debian_image
	machine deb debian:12 role=0 arg=/sbin/init env=PATH=/usr/sbin:/usr/bin:/sbin:/bin env=container=no stop=37 \
		hostname=web1 nic=1 addr=10.88.0.2/32 gw4=10.88.0.1 mtu=1400 sysctl=net.ipv4.ip_local_port_range='2000 3000' \
		file=/etc/hostname mode=420 flags=0 data=web1 file=/etc/machine-id mode=292 flags=0 data=0123456789abcdef0123456789abcdef
	booted deb
	seen 'notify: READY=1' 240
	expect "$("$tool" "$dir" exec systemctl is-system-running --wait)" running
	expect "$("$tool" "$dir" exec hostname)" web1
	expect "$("$tool" "$dir" exec cat /etc/machine-id)" 0123456789abcdef0123456789abcdef
	expect "$("$tool" "$dir" exec stat -f -c %T /)" overlayfs
	expect "$("$tool" "$dir" exec cat /proc/sys/net/ipv4/ip_local_port_range)" '2000*3000'
	expect "$("$tool" "$dir" exec cat /sys/class/net/eth0/mtu)" 1400
	expect "$("$tool" "$dir" exec sh -c 'echo -n a; cat' <<<b)" ab
	expect_exit 7 "$tool" "$dir" exec sh -c 'exit 7'
	expect_exit 127 "$tool" "$dir" exec no-such-program
	ping -qc1 -W5 10.88.0.2 >/dev/null
	expect "$("$tool" "$dir" stat)" 'memory * of 3[0-9][0-9] MiB, disk * of 2* MiB, * processes, up * s'
	"$tool" "$dir" exec systemctl is-active console-getty >/dev/null
	"$tool" "$dir" reseed
	"$tool" "$dir" clock
	expect "$("$tool" "$dir" exec date -u +%Y)" 2001
	tar -C "$work" -cf - deb/config | "$tool" "$dir" unpack /root
	"$tool" "$dir" pack /root/deb/config | tar -xOf - | cmp - "$dir/config"
	truncate -s 512M "$dir/disk"
	"$tool" "$dir" freeze 8 &
	local freezer=$!
	sleep 3
	expect_exit 124 "$tool" "$dir" exec timeout 1 sh -c 'echo x >/root/frozen; sync'
	wait $freezer
	"$tool" "$dir" exec sh -c 'echo thawed >/root/thawed; sync'
	"$tool" "$dir" reboot
	ended 254
	# upper/ and work/ are as a container has them
	e2fsck -fn "$dir/disk" >/dev/null || e2fsck -fp "$dir/disk" >/dev/null
	expect "$(debugfs -R 'cat upper/root/thawed' "$dir/disk" 2>/dev/null)" thawed
}

test_a_command_and_its_stdio() {
	dir=$work/cmd
	tiny_image
	machine cmd tiny role=1 arg=sh arg=-c arg='echo out; echo err >&2; read a; echo "got $a"; id -u; sleep 1000 & exit 5' env=PATH=/bin \
		user=65534 cwd=/srv/new
	echo word | "$tool" boot "$dir" 1 >"$dir/log" 2>&1 || expect $? 5
	local line
	for line in 'stdout: out' 'stderr: err' 'stdout: got word' 'stdout: 65534'; do
		grep -qx "$line" "$dir/log" || { cat "$dir/log"; fail "not seen: $line"; }
	done
	"$tool" config "$dir/config" role=1 arg=sh arg=-c arg='trap "echo bye; exit 3" TERM; echo up; while :; do sleep 1000 & wait $!; done' env=PATH=/bin
	truncate -s 512M "$dir/disk" # it grew while nobody had it
	booted cmd
	seen 'stdout: up'
	expect "$("$tool" "$dir" stat)" '* of 4* MiB, * processes*'
	"$tool" "$dir" stop
	ended 3
	grep -qx 'stdout: bye' "$dir/log"
	"$tool" config "$dir/config" role=1 arg=/no/such env=PATH=/bin
	booted cmd
	ended 127
}

test_a_snapshot() {
	dir=$work/snap
	tiny_image
	machine snap tiny role=1 arg=sh arg=-c arg='echo up; read a; echo "got $a"; read a; echo "then $a"; sleep 1000' env=PATH=/bin
	mkfifo "$dir/in"
	exec 7<>"$dir/in"
	"$tool" boot "$dir" 1 >"$dir/log" 2>&1 <&7 &
	pid=$!
	echo first >&7
	seen 'stdout: got first'
	"$tool" "$dir" snapshot
	kill -9 "$pid"
	wait "$pid" || true
	sleep 5
	"$tool" boot "$dir" 1 restored >"$dir/log" 2>&1 <&7 &
	pid=$!
	# it is told anew, its pipes are there, its clock is right
	seen 'notify: READY=1'
	echo second >&7
	seen 'stdout: then second'
	expect_clock "$tool" "$dir" exec
	"$tool" "$dir" stop
	ended 143
	# not with another size
	expect_exit 255 "$tool" boot "$dir" 2 restored
	found 'snapshot is of 1 CPUs' "$work/.err"
}

test_an_export_and_failures() {
	dir=$work/exp
	tiny_image
	machine exp tiny role=2
	booted exp exports
	ended 0
	tar -tf "$dir/export" | found -x ./bin/busybox
	"$tool" config "$dir/config" role=0 arg=/sbin/init sysctl=no.such=1
	booted exp
	ended 255
	seen "sysctl 'no.such=1'"
	rm "$dir/disk"
	truncate -s 16M "$dir/disk"
	booted exp
	ended 255
	seen "mount disk 'disk'"
}

run_tests
