#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net, kvm in hardware (or nested in a test host), erofs-utils, the kernel of this host in /boot
# where: machines
# Machines that move between two hosts while they run: two network namespaces with a --root and --run each.
. "$(dirname "$0")/../lib.sh"
needs kvm mkfs.erofs python3 jq
modprobe -qa kvm-amd kvm-intel tun loop sch_ingress cls_matchall act_mirred || true
[ -e /dev/kvm ] || skip "no /dev/kvm"
exec 3>&1 # figures are told, whatever becomes of the test
two_hosts
tiny_image host_a
ways
a_to_b() { host_a timeout 400 vps migrate -q --rsh "$work/to-b" "$@"; }
b_to_a() { host_b timeout 400 vps migrate -q --rsh "$work/to-a" "$@"; }
gone() { expect_fail "$1" vps inspect "$2"; }
is() { expect "$("$1" vps list -a -H -o status "$2")" "$3"; }
# machine NAME - up, on host A
machine() {
	host_a vps inspect "$1" >/dev/null 2>&1 ||
		host_a vps create "$1" --image tiny --isolation vm --memory 128M --cpus 1 --disk 64M --ip auto -q -- \
			sh -c 'echo start >>/root/starts; sync; exec sleep 100000'
	[ "$(host_a vps list -a -H -o status "$1")" = running ] || host_a timeout 200 vps start "$1" --wait -q
}

test_live_with_an_open_connection() {
	route_hooks
	machine l1
	local addr out pid n up
	addr=$(host_a vps inspect l1 | jq -r '.[0].addresses[0]' | cut -d/ -f1)
	host_a vps exec l1 sh -c 'head -c 20000000 /dev/urandom >/dev/shm/big; md5sum </dev/shm/big >/dev/shm/sum'
	host_a vps exec -d l1 sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.5; done'
	host_a vps exec -d l1 nc -l -p 99 -e sh -c 'i=0; while echo $i; do i=$((i+1)); sleep 0.2; done'
	wait_until 20 host_a vps exec l1 sh -c 'netstat -ltn | grep -q :99'
	# on host A, and it stays there: every number in turn, and how long it had to wait at most
	host_a timeout 700 python3 -c '
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], 99), 20)
s.settimeout(200)
want, gap, last, text = 0, 0, time.time(), b""
try:
    while True:
        data = s.recv(4096)
        if not data: sys.exit("closed at %d" % want)
        if os.path.exists(sys.argv[2] + ".enough"): break
        now = time.time(); gap = max(gap, now - last); last = now
        text += data
        *lines, text = text.split(b"\n")
        for l in lines:
            if int(l) != want: sys.exit("%r in the place of %d" % (l, want))
            want += 1
        open(sys.argv[2], "w").write("%d\n" % want)
except OSError as e: sys.exit("%s at %d" % (e, want))
print("numbers %d, longest wait %.0f ms" % (want, gap * 1000))' "$addr" "$work/numbers" >"$work/client" 2>&1 &
	pid=$!
	wait_until 20 grep -q '[0-9]' "$work/numbers"
	n=$(host_a vps exec l1 cat /tmp/n)
	up=$(host_a vps exec l1 cut -d. -f1 /proc/uptime)
	out=$(a_to_b --require-live --json l1 hostb)
	figures <<<"$out" >&3
	expect "$(jq -r '.[0] | .ok, .mode, .started' <<<"$out" | tr '\n' ' ')" 'true live true '
	gone host_a l1
	is host_b l1 running
	# all goes on: its processes, memory, clocks, address, agent, connection
	host_b vps exec l1 sh -c 'md5sum </dev/shm/big | cmp - /dev/shm/sum'
	[ "$(host_b vps exec l1 cat /tmp/n)" -gt "$n" ]
	[ "$(host_b vps exec l1 cut -d. -f1 /proc/uptime)" -ge "$up" ]
	expect_clock host_b vps exec l1
	host_b ping -c 1 -W 5 -q "$addr"
	host_b vps exec l1 modprobe dummy # of the kernel that came along
	n=$(cat "$work/numbers")
	wait_until 30 eval '[ $(cat "$work/numbers") -gt '$((n + 8))' ]'
	expect "$(host_b vps exec l1 cat /root/starts)" start
	# and back
	out=$(b_to_a --require-live --json l1 hosta)
	figures <<<"$out" >&3
	gone host_b l1
	host_a vps exec l1 sh -c 'md5sum </dev/shm/big | cmp - /dev/shm/sum'
	n=$(cat "$work/numbers")
	wait_until 30 eval '[ $(cat "$work/numbers") -gt '$((n + 8))' ]'
	expect "$(host_a vps exec l1 cat /root/starts)" start
	touch "$work/numbers.enough"
	wait $pid || fail "$(cat "$work/client")"
	sed 's/^/# /' "$work/client" >&3
	# asleep and awake where it came to, with the other host's modules
	host_a vps suspend l1 -q
	host_a timeout 60 vps resume l1 -q
	host_a vps exec l1 sh -c 'md5sum </dev/shm/big | cmp - /dev/shm/sum'
	host_a vps delete -f l1
	rm -r "$work"/[ab]/hooks
}

test_what_cannot_go_on_there_stays_here() {
	machine r1
	host_a timeout 200 vps migrate -q --rsh "$work/to-b" --require-live --keep r1 hostb
	host_b vps delete -f r1
	host_a vps migrate --force-here --yes r1
	machine r1
	# as if another mkfs.erofs had been at work there
	setfattr -n trusted.vps.sha256 -v "sha256:$(printf '%064d' 1)" "$work/b/root/images/erofs/"*
	expect_fail a_to_b --require-live r1 hostb
	grep 'byte for byte' "$work/.err"
	is host_a r1 running
	host_a vps exec r1 true
	gone host_b r1
	setfattr -x trusted.vps.sha256 "$work/b/root/images/erofs/"*
	host_a vps delete -f r1
}

# after_copy COMMAND - on host A, between the rounds and the freeze
after_copy() {
	mkdir -p "$work/a/hooks"
	printf '#!/bin/sh\n[ "$*" != "after copy" ] || %s\n' "$1" >"$work/a/hooks/migrate"
	chmod 755 "$work/a/hooks/migrate"
}
test_killed_after_a_round() {
	machine k1
	local vmm
	host_a vps exec k1 sh -c 'head -c 20000000 /dev/urandom >/dev/shm/big'
	# the command: it goes on here, and can be moved the next time
	after_copy 'kill -9 $PPID'
	expect_exit 137 a_to_b --require-live k1 hostb
	[ -e "$work"/a/root/instances/*/moving/memory.1 ]
	rm -r "$work/a/hooks"
	is host_a k1 running
	expect "$(host_a vps exec k1 cat /root/starts)" start
	wait_until 60 eval '[ -z "$(host_b vps list -aq)" ]'
	a_to_b --require-live --keep k1 hostb
	expect "$(host_b vps exec k1 cat /root/starts)" start
	host_b vps delete -f k1
	host_a vps migrate --force-here --yes k1
	# the machine: nothing runs twice, and nothing is lost but its memory
	machine k1
	vmm=$(grep -ohE '"pid": ?[0-9]+' "$work"/a/run/*/state.json | head -1 | grep -oE '[0-9]+')
	after_copy "kill -9 $vmm"
	expect_fail a_to_b --require-live k1 hostb
	cat "$work/.err"
	rm -r "$work/a/hooks"
	expect "$({ host_a vps list -q; host_b vps list -q; } | wc -l)" 0
	expect "$({ host_a vps list -aq; host_b vps list -aq; } | tr '\n' ' ')" 'k1 '
	host_a vps delete -f k1
}

run_tests
