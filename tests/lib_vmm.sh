# SPDX-License-Identifier: GPL-2.0-or-later
# For tests that boot the host's stock kernel in vps-vmm: what they need, an initial RAM disk, a disk.
# shellcheck shell=bash
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

