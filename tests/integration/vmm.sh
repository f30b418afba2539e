#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, kvm in hardware (or nested in a test host), the kernel of this host in /boot
# vps-vmm boots a stock kernel: disk, network, sockets, CPUs, stops, reboot.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../lib_vmm.sh"

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

run_tests
