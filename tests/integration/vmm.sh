#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, kvm in hardware (or nested in a test host), the kernel of this host in /boot
# vps-vmm boots a stock kernel: disk, network, sockets, CPUs, power button, reboot.
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

test_one_cpu_all_devices_and_reboot() {
	expect_exit 254 timeout 120 "$boot" "$work" 1 disk,net,vsock,reboot
	local line
	for line in "kernel: $(uname -r)" 'cpus: 1' 'clock: kvm-clock' 'disk: from the host' 'serial: vps-web1' \
		'mac: 02:00:00:00:88:02' 'host: packet of 1400' 'vsock echoed 1048576' 'host: vsock same' \
		'host: port 7 hello host' end; do
		grep -qxF "$line" "$work/.out" || { cat "$work/.out"; fail "not seen: $line"; }
	done
	expect "$(dd if="$work/disk" bs=1 skip=4096 count=14 status=none)" 'from the guest'
}

test_two_cpus_and_the_power_button() {
	expect_exit 0 timeout 120 "$boot" "$work" 2 button
	grep -qxF 'cpus: 2' "$work/.out"
	grep -qxF 'button pressed' "$work/.out"
}

run_tests
