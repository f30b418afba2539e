#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, mkfs.erofs
# where: native; it wants nothing that only a test host has
# Machines move live between two hosts, with a stand-in for vps-vmm that needs no KVM: what goes where, and what is asked first.
. "$(dirname "$0")/../lib.sh"
needs mkfs.erofs jq setfattr
[ -e /dev/kvm ] || skip "no /dev/kvm to be handed on"
two_hosts

# everything as installed, but vps-vmm; on the other host it finds another CPU
for dir in libexec old-cpu; do
	mkdir "$work/$dir"
	for f in vps vps-monitor vps-init vps-image vps-guest; do ln -s "$builddir/$f" "$work/$dir/"; done
	cp "$builddir/tests/integration/vmm_fake" "$work/$dir/vps-vmm"
done
export VPS_LIBEXEC=$work/libexec
head -c 100000 /dev/zero >"$work/vmlinuz-fake"
tiny_image host_a
ways
sed 's,exec nsenter .* env ,&VPS_LIBEXEC='"$work"'/old-cpu ,' "$work/to-b" >"$work/to-old-b"
chmod +x "$work/to-old-b"
a_to_b() { host_a vps migrate -q --rsh "$work/to-b" "$@"; }
machine() {
	host_a vps create "$@" --image tiny --isolation vm --memory 128M --cpus 2 --disk 32M --net none --kernel "$work/vmlinuz-fake" -q
	host_a vps start "$1" --wait -q
}
# undone NAME - it runs on here, nothing of it is there, and nobody watches its memory any more
undone() {
	expect "$(host_a vps list -a -H -o status "$1")" running
	expect_fail host_b vps inspect "$1"
	expect "$(ls "$work"/a/root/instances/*/moving 2>/dev/null)" ''
}

test_its_memory_goes_ahead() {
	machine m
	local out id
	host_a vps migrate --rsh "$work/to-b" --dry-run --require-live m hostb
	out=$(a_to_b --require-live --json m hostb)
	expect "$(jq -r '.[0] | .ok, .mode, .started' <<<"$out" | tr '\n' ' ')" 'true live true '
	[ "$(jq '.[0].memory_rounds | length' <<<"$out")" -ge 1 ]
	expect "$(jq '.[0].memory_rounds[0]' <<<"$out")" 1048576
	# nothing twice: the memory, a change, the state, a disk of 32M with nothing on it, an image
	[ "$(jq '.[0].memory_sent' <<<"$out")" -lt $((1048576 + 400000)) ] || fail "$out"
	expect_fail host_a vps inspect m
	expect "$(host_b vps list -a -H -o status m)" running
	wait_until 5 eval 'host_b vps logs m | tr -d "\r" | found "^args.* restore=.* round=.* round="'
	host_b vps logs m | tr -d '\r' | grep '^args' | tail -1 >"$work/args"
	! found -E 'kernel=|initrd=|cmdline=' <"$work/args"
	id=$(host_b vps inspect m | jq '.[0].id')
	[ ! -e "$work/b/root/instances/$id/suspended" ]
	host_b vps delete -f m
}

test_another_cpu_is_refused_before_anything_is_sent() {
	machine c
	expect_exit 15 host_a vps migrate --rsh "$work/to-old-b" --dry-run --require-live c hostb
	found 'lacks what the guest has seen (avx2)' <"$work/.out"
	expect_exit 15 host_a vps migrate -q --require-live --rsh "$work/to-old-b" c hostb
	found 'lacks what the guest has seen (avx2)' <"$work/.err"
	undone c
	# which is nothing to one that starts there
	host_a vps migrate -q --restart --rsh "$work/to-old-b" c hostb
	host_b vps delete -f c
}

test_another_disk_of_its_image_is_refused_while_it_runs() {
	machine e
	# as if another mkfs.erofs had been at work there
	a_to_b --require-live --keep e hostb
	host_b vps delete -f e
	host_a vps migrate --force-here --yes e
	host_a vps start e -q
	setfattr -n trusted.vps.sha256 -v "sha256:$(printf %064d 1)" "$work/b/root/images/erofs/"*
	expect_fail host_a vps migrate -q --require-live --rsh "$work/to-b" e hostb
	found 'byte for byte' <"$work/.err" || fail "$(cat "$work/.err")"
	undone e
	setfattr -x trusted.vps.sha256 "$work/b/root/images/erofs/"*
	a_to_b --require-live e hostb
	host_b vps delete -f e
}

# what another host needs comes with the first round
test_no_machine_moves_without_a_round() {
	machine a
	jq -e '(.[0] | [.ok, (.memory_rounds | length)]) == [true,1]' <<<"$(a_to_b --require-live --json --downtime any a hostb)"
	host_b vps delete -f a
	machine o --cmdline fake.old
	expect_fail host_a vps migrate -q --require-live --rsh "$work/to-b" o hostb
	found 'its memory cannot be copied ahead: its vps-vmm is an older one' <"$work/.err" || fail "$(cat "$work/.err")"
	undone o
	host_a vps delete -f o
}

# who is killed between two rounds leaves nobody watching what changes, and nothing on the other host
test_killed_after_a_round() {
	machine k
	mkdir "$work/a/hooks"
	printf '#!/bin/sh\n[ "$*" != "after copy" ] || kill -9 $PPID\n' >"$work/a/hooks/migrate"
	chmod 755 "$work/a/hooks/migrate"
	expect_exit 137 a_to_b --require-live k hostb
	rm -r "$work/a/hooks"
	[ -e "$work"/a/root/instances/*/moving/memory.1 ]
	wait_until 20 eval 'host_a vps logs k | tr -d "\r" | found -x "pre-copy is over"'
	expect "$(host_a vps list -a -H -o status k)" running
	wait_until 20 eval '! host_b vps inspect k'
	host_a vps set k --label next=one -q # whoever comes next clears up
	undone k
	a_to_b --require-live k hostb
	host_b vps delete -f k
}

run_tests
