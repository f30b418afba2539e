#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, kvm in hardware (or nested in a test host), the kernel of this host in /boot
# vps-vmm boots a stock kernel: disk, network, sockets, CPUs, stops, reboot, panic, memory, snapshot.
. "$(dirname "$0")/../lib.sh"
needs kvm python3
modprobe -qa kvm-amd kvm-intel tun || true
[ -e /dev/kvm ] || skip "no /dev/kvm"
[ -r "/boot/vmlinuz-$(uname -r)" ] || skip "no /boot/vmlinuz-$(uname -r)"

boot=$top/tests/integration/vmm_boot.py
"$boot" initrd "$work/initrd" "$builddir/tests/integration/vmm_init" virtio_ring virtio virtio_mmio virtio_blk failover \
	net_failover virtio_net vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport virtio_balloon
truncate -s 16M "$work/disk"
printf 'from the host' | dd of="$work/disk" conv=notrunc status=none

# seen LINE...: each was printed.
seen() {
	local line
	for line; do
		grep -qxF "$line" "$work/.out" || { cat "$work/.out"; fail "not seen: $line"; }
	done
}

test_one_cpu_all_devices_and_reboot() {
	expect_exit 255 timeout 120 "$boot" "$work" 1 disk,net,vsock,reboot
	seen "kernel: $(uname -r)" 'cpus: 1' 'clock: kvm-clock' 'disk: from the host' 'serial: vps-web1' \
		'mac: 02:00:00:00:88:02' 'host: packet of 1400' 'vsock echoed 1048576' 'host: vsock same' \
		'host: port 7 hello host' 'host: nobody there: -111' end 'host: ended by signal 1'
	expect "$(dd if="$work/disk" bs=1 skip=4096 count=14 status=none)" 'from the guest'
}

test_two_cpus_and_the_power_button() {
	expect_exit 0 timeout 120 "$boot" "$work" 2 button
	seen 'cpus: 2' 'button pressed'
}

test_the_agent_is_asked_first_and_the_exit_status() {
	expect_exit 7 timeout 120 "$boot" "$work" 1 notify,stdio,agent
	seen 'host: told READY=1' 'host: told STATUS=all well' 'stdin had 300000' 'host: stdout same' \
		'connect to 1: Connection reset by peer' 'agent asked 24: 23' end
}

test_a_gate_that_never_opens() {
	expect_exit 0 timeout 60 "$boot" "$work" 1 shut
	[ ! -s "$work/.out" ] || { cat "$work/.out"; fail 'it said something'; }
}

test_a_panic_is_a_failure() {
	expect_exit 255 timeout 120 "$boot" "$work" 1 panic
	grep -qxF 'vps-vmm: guest: Kernel panic - not syncing: sysrq triggered crash' "$work/.err" ||
		{ cat "$work/.err"; fail 'no reason'; }
}

test_memory_comes_back() {
	expect_exit 0 timeout 180 "$boot" "$work" 1 memory,button
	local before after
	read -r before after < <(sed -n 's/^host: resident \([0-9]*\) MiB, after reports \([0-9]*\)$/\1 \2/p' "$work/.out") ||
		{ cat "$work/.out" "$work/.err"; fail 'nothing was measured'; }
	echo "# resident $before MiB, $after after the guest had freed 96"
	[ "$((before - after))" -ge 64 ] || { cat "$work/.out"; fail 'reports gave nothing back'; }
	read -r before after < <(sed -n 's/^host: vps-vmm itself has \([0-9]*\) KiB, private and dirty \([0-9]*\)$/\1 \2/p' "$work/.out")
	echo "# vps-vmm beside the guest: $before KiB resident, $after private"
	[ "$before" -le 2048 ] && [ "$after" -le 512 ] || { cat "$work/.out"; fail 'more than 2 MiB, or 512 KiB of its own'; }
	seen 'host: balloon 0'
	grep -q '^host: balloon 64 of 64 MiB' "$work/.out" || { cat "$work/.out"; fail 'balloon'; }
	grep -q '^host: the guest tells total and free' "$work/.out" || { cat "$work/.out"; fail 'numbers'; }
}

test_a_snapshot_goes_on() {
	expect_exit 247 timeout 180 "$boot" "$work" 2 tick
	grep -q '^host: snapshot 0' "$work/.out" || { cat "$work/.out"; fail 'no snapshot'; }
	expect "$(grep -c '^tick' "$work/.out")" 20
	expect "$(sed -n 's/^tick \([0-9]*\) .*/\1/p' "$work/.out" | sort -nu | wc -l)" 20
	echo "# $(grep '^host: snapshot' "$work/.out")"
}

run_tests
