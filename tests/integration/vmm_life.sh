#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, kvm in hardware (or nested in a test host), the kernel of this host in /boot
# where: machines
# vps-vmm with a stock kernel: panic, memory, snapshot.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../lib_vmm.sh"

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
