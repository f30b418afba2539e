#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, mkfs.erofs
# The wall around vps-vmm and the life cycle with it, with a stand-in that needs no KVM.
. "$(dirname "$0")/../lib.sh"
needs mkfs.erofs
[ -e /dev/kvm ] || skip "no /dev/kvm to be handed on"

# everything as installed, but vps-vmm
mkdir "$work/libexec"
for f in vps vps-monitor vps-init vps-image vps-guest; do ln -s "$builddir/$f" "$work/libexec/"; done
cp "$builddir/tests/integration/vmm_fake" "$work/libexec/vps-vmm"
export VPS_LIBEXEC=$work/libexec
head -c 100000 /dev/zero >"$work/vmlinuz-fake"
tiny_image

# console NAME WORD - say it on the console
say_on() { (echo "$2"; sleep 0.5) | timeout 10 vps console "$1" >/dev/null 2>&1 || true; }
seen() { vps logs m | tr -d '\r' | found -E "$1"; }
status_of() { vps list -a -o name,status -H | awk -v n="$1" '$1 == n {print $2}'; }
inspected() { vps inspect m | sed -n "s/.*\"$1\": \([0-9-]*\).*/\1/p" | head -1; }
id_of() { vps list -a -o name,id -H | awk -v n="$1" '$1 == n {print $2}'; }
init_of() { grep -oE '"pid": ?[0-9]+' "$VPS_RUN/$(id_of "$1")/state.json" | grep -oE "[0-9]+"; }
stopped() { [ "$(status_of m)" = stopped ]; }

test_the_wall() {
	vps create m --image tiny --isolation vm --memory 128M --cpus 2 --net none --kernel "$work/vmlinuz-fake" -q
	vps start m --wait -q
	wait_until 5 seen '^args '
	vps logs m | tr -d '\r' >"$work/log"
	grep -qx 'pid 1 uid 65534 65534 gid 65534 65534 host vps' "$work/log"
	# CAP_SYS_BOOT is bit 22, and all there is
	grep -qx 'caps 400000 0 400000 0 400000 0 ambient 1 nnp 1 dumpable 1' "$work/log"
	grep -qx 'root entries 0 write Read-only file system mount Operation not permitted' "$work/log"
	# 0 and 1 null, 2 console; kvm, console in and out; kernel, two initrds, image, disk; gate, ctl, notify
	local fds
	fds=$(grep '^fds' "$work/log")
	expect "$(tr ' ' '\n' <<<"$fds" | grep -c :char)" 6
	expect "$(tr ' ' '\n' <<<"$fds" | grep -c :file)" 5
	expect "$(tr ' ' '\n' <<<"$fds" | grep -c :sock)" 3
	! grep -E 'DIR|other|pipe' <<<"$fds"
	grep -E '^args memory=134217728 cpus=2 kvm=' "$work/log" >/dev/null
	# seen from the host: its own namespaces, its own ids, its group
	local pid base ns
	pid=$(init_of m)
	base=$(inspected id_base)
	expect "$(awk '/^Uid/ {print $2}' "/proc/$pid/status")" $((base + 65534))
	for ns in user mnt pid net ipc uts cgroup; do
		[ "$(readlink "/proc/$pid/ns/$ns")" != "$(readlink "/proc/self/ns/$ns")" ]
	done
	found "/$(vps_tag)/$(id_of m)" <"/proc/$pid/cgroup"
	[ -f "$VPS_ROOT/instances/$(id_of m)/disk/guest-written" ]
	expect "$(stat -c %a "$VPS_RUN/$(id_of m)/vmm.sock")" 600
}

test_its_ends() {
	set -x
	say_on m 'e 7'
	wait_until 10 stopped
	expect "$(inspected exit_code)" 7
	[ ! -e "$VPS_RUN/$(id_of m)/vmm.sock" ]
	vps start m -q
	say_on m x
	wait_until 10 stopped
	expect "$(inspected exit_code)" 255
	seen 'guest: Kernel panic'
	# a power-off inside is no failure, whatever the policy
	vps set m --restart always -q
	vps start m -q
	say_on m p
	wait_until 10 stopped
	# a reboot inside is a new run
	vps start m -q
	local first
	first=$(init_of m)
	say_on m r
	wait_until 10 eval "[ \"\$(status_of m)\" = running ] && ! kill -0 $first 2>/dev/null"
	# a killed one comes back, by the policy
	first=$(init_of m)
	kill -9 "$first"
	wait_until 20 eval "[ \"\$(status_of m)\" = running ] && ! kill -0 $first 2>/dev/null"
	vps set m --restart no -q
	vps stop m -q
	stopped
}

test_monitor_killed_and_adopted() {
	vps start m --wait -q
	kill -9 "$(inspected monitor)"
	vps set m --label a=b -q
	expect "$(status_of m)" running
	say_on m 'e 3'
	wait_until 10 stopped
}

test_pause() {
	vps start m --wait -q
	vps pause m -q
	expect "$(status_of m)" paused
	vps unpause m -q
	vps stop m -q
}

test_suspend_and_resume() {
	vps start m --wait -q
	local first dir
	first=$(init_of m)
	dir=$VPS_ROOT/instances/$(id_of m)/suspended
	vps suspend m -q
	expect "$(status_of m)" suspended
	! kill -0 "$first" 2>/dev/null
	expect "$(cat "$dir/machine.snapshot")" 'a snapshot of nothing'
	tr '\n' ' ' <"$dir/machine" | found 'memory=9:134217728 cpus=1:2'
	vps resume m -q
	expect "$(status_of m)" running
	wait_until 5 eval 'vps logs m | tr -d "\r" | grep "^args" | tail -1 | grep -q restore='
	vps logs m | tr -d '\r' | grep '^args' | tail -1 >"$work/args"
	! found -E 'kernel=|initrd=|cmdline=' <"$work/args"
	[ ! -e "$dir" ]
	vps stop m -q
	# one flipped byte, and it is not believed
	vps start m -q
	vps suspend m -q
	printf X | dd of="$dir/machine.snapshot" conv=notrunc status=none
	expect_fail vps resume m
	vps stop --kill m -q
	stopped
}

test_what_cannot_be() {
	expect_exit 5 vps create n --image tiny --isolation vm --mount /srv:/srv
	grep -q 'mount cannot go with isolation vm' "$work/.err"
	expect_fail vps create n --image tiny --isolation vm --kernel /nonexistent
	vps create n --image tiny --isolation vm --net none --kernel "$work/vmlinuz-fake" --cmdline fake.broken -q
	expect_fail vps start n
	grep -q 'this machine is broken' "$work/.err"
	expect "$(status_of n)" stopped
	vps delete n -q
	expect_fail vps top --once m # stopped
}

# I5: not even to be looked into, so its own kernel does that
test_cp_of_a_stopped_one() {
	stopped
	vps cp m:/srv/gift "$work/gift" -q
	expect "$(cat "$work/gift")" 'of the guest'
	head -c 300000 /dev/zero >"$work/big"
	vps cp "$work/big" m:/srv/ -q
	expect_fail vps cp m:/none "$work/x"
	found -F 'no!' <"$work/.err"
	stopped
	# what its machine says goes before what follows from it
	vps set m --cmdline fake.mute -q
	expect_fail vps cp m:/srv/gift "$work/x"
	found "there is no disk 'disk'" <"$work/.err"
	vps set m --cmdline fake.dies -q
	expect_fail vps cp "$work/big" m:/srv/
	found 'ended without a word' <"$work/.err"
	[ ! -e "$work/x" ]
	# Ctrl-C ends the machine, too
	vps set m --cmdline '' -q
	mkfifo "$work/slow"
	expect_exit 124 timeout -k 10 -s INT 1 vps cp - m:/srv/ <>"$work/slow"
	no_errand() { ! pgrep -f '^vps-vmm memory=134217728 .*port=2,'; }
	wait_until 5 no_errand
	vps start m -q
	vps stop m -q
}

# By blocks, and each copy is a guest's again (I5).
guests() { [ -f "$VPS_ROOT/instances/$(id_of "$1")/disk/guest-written" ]; }
image_of() { echo "$VPS_ROOT/instances/$(id_of "$1")/disk/disk.img"; }
test_copies_of_a_guests_disk() {
	vps create g --image tiny --isolation vm --memory 128M --disk 32M --net none --kernel "$work/vmlinuz-fake" -q
	vps start g -q
	vps stop g --kill -q
	guests g
	printf 'then' | dd of="$(image_of g)" bs=1 seek=5000000 conv=notrunc 2>/dev/null
	vps snapshot create -q g s
	printf 'now!' | dd of="$(image_of g)" bs=1 seek=5000000 conv=notrunc 2>/dev/null
	vps clone -q g c --snapshot s >/dev/null
	guests c
	expect "$(dd if="$(image_of c)" bs=1 skip=5000000 count=4 2>/dev/null)" then
	vps start c -q
	expect "$(status_of c)" running
	vps delete -f -q c
	vps backup -q g -o "$work/m.vps"
	[ "$(stat -c %s "$work/m.vps")" -lt 8000000 ] # not its holes
	vps snapshot restore g s
	guests g
	expect "$(dd if="$(image_of g)" bs=1 skip=5000000 count=4 2>/dev/null)" then
	vps backup -q g -o "$work/m2.vps" --base "$work/m.vps"
	[ "$(stat -c %s "$work/m2.vps")" -lt $(($(stat -c %s "$work/m.vps") / 2)) ]
	expect_exit 2 vps restore "$work/m.vps" --name r
	grep -q 'a kernel file' "$work/.err"
	vps restore -q "$work/m.vps" --name r --trust >/dev/null
	guests r
	cmp -n 4 -i 5000000:0 "$(image_of r)" <(printf 'now!')
	vps restore -q "$work/m2.vps" --name r2 --base "$work/m.vps" --trust >/dev/null
	cmp "$(image_of r2)" "$(image_of g)"
	vps start r -q
	expect "$(status_of r)" running
	vps delete -f -q r r2
	# files are for the guest itself to read
	expect_exit 5 vps image publish g x:1
	expect_exit 5 vps clone g c --linked
	# a container has no use for such a disk
	vps create n --image tiny --disk 32M --net none -q
	vps snapshot create -q n s
	vps set n --isolation vm --kernel "$work/vmlinuz-fake" -q
	vps start n -q
	vps stop n --kill -q
	vps snapshot create -q n t
	vps snapshot restore n s # no guest's yet
	! guests n
	vps set n --isolation container --kernel '' -q
	expect_exit 5 vps snapshot restore n t
	grep -q 'isolation vm' "$work/.err"
	vps delete -q n g
}

run_tests
