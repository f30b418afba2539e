#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net
# where: native; precopy.sh shows CRIU at work in the test host, where all of this takes too long
# VPSes that move between two hosts: two network namespaces with a --root and --run each.
. "$(dirname "$0")/../lib.sh"
two_hosts
tiny_image host_a
ways
a_to_b() { host_a vps migrate -q --rsh "$work/to-b" "$@"; }
b_to_a() { host_b vps migrate -q --rsh "$work/to-a" "$@"; }
gone() { expect_fail "$1" vps inspect "$2"; }

test_a_stopped_vps_moves_with_all_that_it_has() {
	host_a vps launch m1 --image tiny --disk 64M --memory 64M --label who=me --ip auto -- sh -c '
		cd /root; [ -e ready ] && exec sleep 1000; mkdir d; echo data >d/f; ln d/f hard; ln -s d/f soft; mkfifo p; chmod 4711 d/f
		dd if=/dev/urandom of=big bs=1M count=3; truncate -s 20M sparse; rm /var/www/index.html; rm -r /usr/sbin
		touch -d 2001-02-03 old; chown 7:8 old; echo done >ready; exec sleep 1000'
	wait_until 10 host_a vps exec m1 -- test -e /root/ready
	host_a vps exec m1 -- sh -c 'cd /root; md5sum big; ls -l --full-time d old hard sparse | sed "s/ [^ ]*$//"' >"$work/was" || true
	host_a vps stop --kill m1
	local addr
	addr=$(host_a vps inspect m1 | jq -r '.[0].addresses[0]')
	expect "$(a_to_b --json m1 hostb | jq '.[0] | .image_sent')" true
	gone host_a m1
	expect "$(host_b vps inspect m1 | jq -r '.[0] | .addresses[0], (.. | .labels? // empty | .[0])' | tr '\n' ' ')" "$addr who=me "
	expect "$(host_b vps list -a -H -o status m1)" stopped
	host_b vps start m1
	host_b vps exec m1 -- sh -c 'cd /root; cat soft; test "$(stat -c %i d/f)" = "$(stat -c %i hard)"; test -p p'
	expect "$(host_b vps exec m1 -- stat -c '%h %a' /root/d/f)" '2 4711'
	host_b vps exec m1 -- sh -c '! test -e /var/www/index.html; ! test -e /usr/sbin; test $(stat -c %s /root/sparse) = 20971520'
	expect "$(host_b vps exec m1 -- stat -c '%u:%g %y' /root/old)" '7:8 2001-02-03 *'
	host_b vps exec m1 -- md5sum /root/big | found "$(head -1 "$work/was" | cut -d' ' -f1)"
	host_b vps delete -f m1
}

test_a_running_vps_is_copied_then_restarted() {
	host_a vps launch n1 --image tiny --disk 64M --ip auto -- sh -c '
		echo start >>/root/starts; i=0; while :; do i=$((i+1)); echo $i >/root/count; sleep 0.02; done'
	wait_until 10 host_a vps exec n1 -- test -s /root/count
	# nobody to ask: it is not restarted behind anybody's back
	export VPS_CRIU=/nowhere/criu
	expect_exit 15 a_to_b n1 hostb
	expect_exit 5 a_to_b --require-live n1 hostb
	grep -i criu "$work/.err"
	expect "$(host_a vps list -a -H -o status n1)" running
	gone host_b n1
	local was now out
	was=$(host_a vps exec n1 -- cat /root/count)
	out=$(a_to_b --restart --json n1 hostb:n2)
	expect "$(jq -r '.[0] | .ok, .mode, .started, .image_sent, .pause_us > 0' <<<"$out" | tr '\n' ' ')" 'true restart true false true '
	gone host_a n1
	expect "$(host_b vps list -a -H -o status n2)" running
	wait_until 10 host_b vps exec n2 -- test "$(host_b vps exec n2 -- wc -l </root/starts)" != 0
	now=$(host_b vps exec n2 -- cat /root/count)
	expect "$(host_b vps exec n2 -- cat /root/starts | tr '\n' ' ')" 'start start '
	# the same card and address
	host_b ping -c 1 -W 3 "$(host_b vps inspect n2 | jq -r '.[0].addresses[0]' | cut -d/ -f1)"
	# and back again, without its image this time: it is another one there, but this host knows that it made it
	out=$(b_to_a --restart --json n2 hosta:n1)
	expect "$(jq -r '.[0] | .ok, .image_sent' <<<"$out" | tr '\n' ' ')" 'true false '
	expect "$(host_a vps inspect n1 | jq -r '.[0].spec.image_digest')" "$(host_a vps image inspect tiny | jq -r '.[0].digest')"
	expect "$(host_a vps exec n1 -- cat /root/starts | tr '\n' ' ')" 'start start start '
	host_a vps delete -f n1
}

test_an_image_moves_by_layers_and_once() {
	local out
	host_a vps image export -q tiny "$work/base.tar"
	host_a vps image import -q "$work/base.tar" base:1 >/dev/null
	host_b vps image import -q "$work/base.tar" base:1 >/dev/null
	host_a vps create g1 --image base:1 --disk 64M
	host_a vps start g1
	host_a vps exec g1 -- sh -c 'head -c 300000 /dev/urandom >/root/news'
	host_a vps stop --kill g1
	host_a vps image publish -q g1 upper:1 >/dev/null
	host_a vps create g2 --image upper:1 --disk 64M
	host_a vps create g3 --image upper:1 --disk 64M
	expect "$(host_a vps migrate --rsh "$work/to-b" --dry-run g2 hostb)" 'g2: can move to*image is not there*estimate:*'
	out=$(a_to_b --json g2 hostb)
	expect "$(jq -r '.[0] | .ok, .image_sent, .image_bytes > 300000, .image_bytes < 400000' <<<"$out" | tr '\n' ' ')" 'true true true true '
	out=$(a_to_b --json g3 hostb)
	expect "$(jq -r '.[0] | .ok, .image_sent, .image_bytes' <<<"$out" | tr '\n' ' ')" 'true false 0 '
	host_b vps start g2
	expect "$(host_b vps exec g2 -- sh -c 'wc -c </root/news; ls /var/www')" $'300000\nindex.html'
	# what has gone is not known any more
	host_a vps delete -f g1
	host_b vps delete -f g2 g3
	host_a vps image remove upper:1 base:1
	host_a vps image gc
	expect "$(ls "$work/a/root/images/exports" | wc -l)" 1
	host_b vps image remove base:1
	rm "$work/base.tar"
}

test_dry_run_and_refusals() {
	host_a vps create d1 --image tiny --disk 64M --ip auto -- sleep 1000
	expect "$(host_a vps migrate --rsh "$work/to-b" --dry-run d1 hostb)" 'd1: can move to*estimate:*'
	gone host_b d1
	expect "$(ls "$work/b/root/instances" "$work/b/root/incoming" | tr '\n' ' ')" "*"
	host_b vps create d1 --image tiny --disk 64M 2>/dev/null || tiny_image host_b
	host_b vps inspect d1 >/dev/null 2>&1 || host_b vps create d1 --image tiny --disk 64M --ip none
	expect_exit 15 host_a vps migrate --rsh "$work/to-b" --dry-run d1 hostb
	grep "the name 'd1' is taken" "$work/.out"
	expect_exit 15 a_to_b d1 hostb
	grep "the name 'd1' is taken" "$work/.err"
	a_to_b d1 hostb:d2
	expect_exit 14 host_a vps status d1
	# an address that somebody has there
	host_a vps create d3 --image tiny --disk 64M --ip 10.123.7.7
	host_b vps create d4 --image tiny --disk 64M --ip 10.123.7.7
	expect_exit 15 a_to_b d3 hostb
	grep '10.123.7.7' "$work/.err"
	expect_exit 2 a_to_b d3
	expect_exit 5 host_a vps migrate --rsh /nowhere/ssh d3 hostb
	expect_fail host_a vps migrate --rsh false d3 hostb
	expect "$(ls "$work/b/root/incoming" 2>/dev/null)" ''
	host_a vps start d3
	host_a vps delete -f d3
	host_b vps delete -f d1 d2 d4
}

test_a_kept_copy_is_fenced() {
	host_a vps launch k1 --image tiny --disk 64M --ip auto -- sh -c 'echo start >>/root/starts; sleep 1000'
	a_to_b --restart --keep k1 hostb
	expect "$(host_b vps list -a -H -o status k1)" running
	expect "$(host_a vps list -a -H -o status k1)" moved
	expect_exit 15 host_a vps start k1
	grep 'it runs on hostb' "$work/.err"
	expect_exit 15 a_to_b k1 hostb
	host_a vps list -a >/dev/null
	# it comes back: not beside the old copy
	expect_exit 15 b_to_a --restart k1 hosta
	host_a vps delete k1
	b_to_a --restart k1 hosta
	expect "$(host_a vps exec k1 -- cat /root/starts | tr '\n' ' ')" 'start start start '
	host_a vps delete -f k1
}

test_live_with_an_open_connection() {
	needs python3
	needs_criu
	route_hooks
	host_a vps launch l1 --image tiny --disk 64M --ip auto -- sh -c '
		echo start >>/root/starts
		exec nc -l -p 99 -e sh -c "i=0; while echo \$i; do i=\$((i+1)); sleep 0.02; done"'
	local addr out pid
	addr=$(host_a vps inspect l1 | jq -r '.[0].addresses[0]' | cut -d/ -f1)
	wait_until 10 host_a vps exec l1 -- sh -c 'netstat -ltn | grep -q :99'
	# on host A, and it stays there: every number in turn, and how long it had to wait at most
	host_a timeout 60 python3 -c '
import socket, sys, time
s = socket.create_connection((sys.argv[1], 99), 5)
s.settimeout(20)
want, gap, last, text = 0, 0, time.time(), b""
while want < 600:
    data = s.recv(4096)
    if not data: sys.exit("closed at %d" % want)
    now = time.time(); gap = max(gap, now - last); last = now
    text += data
    *lines, text = text.split(b"\n")
    for l in lines:
        if int(l) != want: sys.exit("%r in the place of %d" % (l, want))
        want += 1
print("longest wait %.0f ms" % (gap * 1000))' "$addr" >"$work/client" 2>&1 &
	pid=$!
	sleep 1
	out=$(a_to_b --require-live --json l1 hostb)
	expect "$(jq -r '.[0] | .ok, .mode, .started' <<<"$out" | tr '\n' ' ')" 'true live true '
	gone host_a l1
	sleep 1
	out=$(b_to_a --require-live --json l1 hosta)
	sleep 1
	out=$(a_to_b --require-live --json l1 hostb)
	wait $pid || fail "$(cat "$work/client")"
	cat "$work/client"
	grep 'longest wait' "$work/client"
	# never started again
	wait_until 10 bash -c "$(declare -f on_host host_b); $(declare -p host_pids work); ! host_b vps list -q | grep -q l1"
	expect "$(host_b vps cp l1:/root/starts - | tar -xO)" start
	host_b vps delete -f l1
	host_a ip route del "$addr"
	rm -r "$work"/[ab]/hooks
}

test_live_to_another_number_and_other_ids() {
	needs_criu
	tiny_image host_b
	host_b vps create taken --image tiny --disk 32M --ip none
	host_a vps launch o1 --image tiny --disk 32M --ip auto -- sh -c 'echo start >>/root/starts; i=0; while :; do i=$((i+1)); echo $i >/root/n; sleep 0.05; done'
	[ "$(host_b vps inspect taken | jq '.[0].id')" = "$(host_a vps inspect o1 | jq '.[0].id')" ] ||
		host_b vps create "$(host_a vps inspect o1 | jq '.[0].id')" --image tiny --disk 32M --ip none || true
	wait_until 5 host_a vps exec o1 -- test -s /root/n
	cp "$work/b/vps.conf" "$work/b.conf"
	echo 'uid-base = 0x30000000' >>"$work/b/vps.conf"
	a_to_b --require-live o1 hostb
	mv "$work/b.conf" "$work/b/vps.conf"
	expect "$(host_b vps exec o1 -- cat /root/starts)" start
	local n
	n=$(host_b vps exec o1 -- cat /root/n)
	sleep 0.5
	[ "$(host_b vps exec o1 -- cat /root/n)" -gt "$n" ] || fail "it does not go on"
	host_b vps delete -f --all -q
}

test_debian_with_an_ssh_session() {
	needs ssh ssh-keygen
	needs_criu
	route_hooks
	debian_image host_a
	ssh-keygen -q -t ed25519 -N '' -f "$work/key"
	host_a vps launch deb --image debian:12 --memory 512M --disk 1G --migratable on --ip auto --ssh-key "$work/key.pub"
	wait_until 90 host_a vps exec deb -- systemctl is-system-running
	local addr pid out
	addr=$(host_a vps inspect deb | jq -r '.[0].addresses[0]' | cut -d/ -f1)
	# shellcheck disable=SC2016
	host_a timeout 120 ssh -n -i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "root@$addr" \
		'i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); sleep 0.05; done; echo "session of $(cat /proc/sys/kernel/hostname)"' >"$work/session" 2>&1 &
	pid=$!
	wait_until 20 grep -qx 5 "$work/session"
	out=$(a_to_b --require-live --json deb hostb)
	expect "$(jq -r '.[0] | .ok, .mode, .started' <<<"$out" | tr '\n' ' ')" 'true live true '
	echo "pause $(jq '.[0].pause_us / 1000 | floor' <<<"$out") ms"
	wait $pid || fail "$(tail -3 "$work/session")"
	expect "$(grep -c . "$work/session")" 201
	grep -x 'session of deb' "$work/session"
	expect "$(host_b vps exec deb -- systemctl is-system-running)" running
	host_b vps exec deb -- systemctl restart cron
	expect "$(host_b vps exec deb -- systemctl list-units --failed -q)" ''
	host_b vps delete -f deb
	host_a ip route del "$addr"
	rm -r "$work"/[ab]/hooks
}

# A machine without KVM: vps-vmm is the stand-in of jail.sh, and what its guest writes is written by us
test_a_machine_moves_by_blocks() {
	needs mkfs.erofs
	[ -e /dev/kvm ] || skip "no /dev/kvm to be handed on"
	mkdir -p "$work/libexec"
	local f a b
	for f in vps vps-monitor vps-init vps-image vps-guest; do ln -sf "$builddir/$f" "$work/libexec/"; done
	cp "$builddir/tests/integration/vmm_fake" "$work/libexec/vps-vmm"
	export VPS_LIBEXEC=$work/libexec
	head -c 100000 /dev/zero >"$work/vmlinuz-fake"
	host_a vps create v1 --image tiny --isolation vm --memory 128M --disk 64M --net none --kernel "$work/vmlinuz-fake" -q
	host_a vps start v1 --wait -q
	a=$work/a/root/instances/$(host_a vps inspect v1 | jq '.[0].id')/disk
	dd if=/dev/urandom of="$a/disk.img" bs=64K count=30 seek=300 conv=notrunc
	dd if=/dev/zero of="$a/disk.img" bs=64K count=20 conv=notrunc
	a_to_b --restart --keep v1 hostb
	expect "$(host_b vps list -a -H -o status v1)" running
	b=$work/b/root/instances/$(host_b vps inspect v1 | jq '.[0].id')/disk
	[ -e "$b/guest-written" ] || fail "the host would mount it"
	cmp "$a/disk.img" "$b/disk.img"
	[ "$(stat -c %b "$b/disk.img")" -lt 8192 ] || fail "its holes are filled"
	host_a vps delete v1
	host_b vps stop --kill v1
	b_to_a v1 hosta
	host_a vps start v1 --wait -q
	host_a vps delete -f v1
}

test_neighbours_are_told() {
	needs python3
	host_b sysctl -q -w net.ipv4.conf.wire.proxy_arp=1 net.ipv6.conf.wire.proxy_ndp=1
	host_a vps create g1 --image tiny --disk 32M --ip 198.51.100.77,2001:db8:aa::77 -- sleep 1000
	host_a vps start g1
	host_a timeout 30 python3 -c '
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("wire", 0))
s.settimeout(20)
print("listening", flush=True)
left = {"arp", "nd"}
while left:
    f = s.recv(2000)
    if f[12:14] == b"\x08\x06" and f[28:32] == f[38:42] == bytes([198, 51, 100, 77]): left.discard("arp")
    if f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 136 and f[62:78] == socket.inet_pton(socket.AF_INET6, "2001:db8:aa::77"):
        sum = 32 + 58
        for part in f[22:54], f[54:86]:
            for i in range(0, len(part), 2): sum += part[i] << 8 | part[i + 1]
        while sum >> 16: sum = (sum & 0xffff) + (sum >> 16)
        assert sum == 0xffff, "checksum"
        left.discard("nd")
print("heard", flush=True)' >"$work/heard" 2>&1 &
	local pid=$!
	wait_until 10 grep -q listening "$work/heard"
	a_to_b --restart g1 hostb
	wait $pid || fail "$(cat "$work/heard")"
	# and where it is now, it is found: host A has no route but the wire's own
	host_a ping -c 1 -W 5 198.51.100.77
	host_b sysctl -q -w net.ipv4.conf.wire.proxy_arp=0 net.ipv6.conf.wire.proxy_ndp=0
	host_b vps delete -f g1
}

test_undone_it_goes_on_here() {
	host_a vps launch u1 --image tiny --disk 64M --ip auto -- sh -c 'echo start >>/root/starts; exec sleep 100000'
	host_a vps exec u1 -- dd if=/dev/urandom of=/root/f bs=1M count=8
	still() {
		expect "$(host_a vps exec u1 -- cat /root/starts)" start
		gone host_b u1
		expect "$(ls "$work/a/root/instances"/*/handover.json 2>/dev/null)" ''
	}
	# a deadline, Ctrl-C, an operator's program that objects, a definition that changes meanwhile
	expect_exit 10 a_to_b --restart --limit 1M --timeout 2 u1 hostb
	still
	host_a vps migrate -q --restart --limit 1M --rsh "$work/to-b" u1 hostb >"$work/.out" 2>"$work/.err" &
	sleep 2
	# it can be used and asked while it is copied, and not be taken away
	host_a vps exec u1 -- true
	expect_exit 9 host_a vps delete -f u1
	kill -INT "$(pgrep -P $!)"
	local status=0
	wait $! || status=$?
	[ $status = 130 ] || fail "exit $status after Ctrl-C: $(cat "$work/.err")"
	still
	mkdir -p "$work/a/hooks"
	printf '#!/bin/sh\n[ "$*" != "before freeze" ] || { echo "not on a Sunday" >&2; exit 1; }\n' >"$work/a/hooks/migrate"
	chmod 755 "$work/a/hooks/migrate"
	expect_fail a_to_b --restart u1 hostb
	grep 'not on a Sunday' "$work/.err"
	still
	chmod 777 "$work/a/hooks/migrate"
	expect_exit 11 a_to_b --restart u1 hostb
	rm -r "$work/a/hooks"
	still
	host_a vps migrate -q --restart --limit 4M --rsh "$work/to-b" u1 hostb >"$work/.out" 2>"$work/.err" &
	sleep 1
	host_a vps set u1 --label changed=yes
	status=0
	wait $! || status=$?
	[ $status = 15 ] || fail "exit $status after a change: $(cat "$work/.err")"
	still
	host_a vps delete -f u1
}

test_a_copy_that_broke_off_goes_on() {
	host_a vps launch r1 --image tiny --disk 128M --ip auto -- sleep 100000
	host_a vps exec r1 -- sh -c 'dd if=/dev/urandom of=/root/a bs=1M count=12; dd if=/dev/urandom of=/root/b bs=1M count=12; ln /root/a /root/c'
	tiny_image host_b
	expect_exit 10 a_to_b --restart --limit 8M --timeout 2500ms r1 hostb
	[ -n "$(find "$work/b/root/incoming" -mindepth 2 -maxdepth 2 -name disk)" ] || fail "nothing is kept"
	expect "$(host_b vps list -aq)" ''
	# meanwhile a file of those changes a little, and one goes
	host_a vps exec r1 -- sh -c 'echo x | dd of=/root/a conv=notrunc; touch /root/new; rm -f /root/c'
	local sum sent
	sum=$(host_a vps exec r1 -- sh -c 'cd /root; md5sum a b')
	sent=$(a_to_b --restart --json r1 hostb | jq '.[0].sent')
	[ "$sent" -lt $((16 << 20)) ] || fail "$sent bytes were sent again"
	expect "$(host_b vps exec r1 -- sh -c 'cd /root; md5sum a b')" "$sum"
	expect "$(host_b vps exec r1 -- ls /root | tr '\n' ' ')" 'a b new '
	expect "$(ls "$work/b/root/incoming")" ''
	host_b vps delete -f r1
}

test_a_clone_is_sent() {
	host_a vps launch c1 --image tiny --disk 32M --ip auto -- sh -c 'echo start >>/root/starts; exec sleep 100000'
	a_to_b --clone c1 hostb
	expect "$(host_a vps list -aq)" c1
	expect "$(host_a vps exec c1 -- cat /root/starts)" start
	expect "$(host_b vps list -a -H -o name,status | tr -s ' ')" 'c1 stopped*'
	[ "$(host_a vps inspect c1 | jq -r '.[0].spec.uuid')" != "$(host_b vps inspect c1 | jq -r '.[0].spec.uuid')" ]
	# the name is taken now: nothing stays of the second one
	expect_exit 15 a_to_b --clone c1 hostb
	expect "$(host_a vps list -aq)" c1
	host_b vps start c1
	host_b vps delete -f c1
	host_a vps delete -f c1
}

test_several_and_all() {
	local i
	for i in 1 2 3; do host_a vps create s$i --image tiny --disk 32M --ip auto -- sleep 1000; done
	host_a vps start s2
	a_to_b --restart s1 s2 hostb
	expect "$(host_b vps list -a -H -o name,status | tr -s ' \n' ' ')" 's1 stopped s2 running *'
	a_to_b --restart --all hostb
	expect "$(host_a vps list -aq)" ''
	expect "$(host_b vps list -aq | tr '\n' ' ')" 's1 s2 s3 '
	host_b vps delete -f s1 s2 s3
}

test_several_at_once() {
	local i out status
	for i in 1 2 3 4; do host_a vps launch q$i --image tiny --disk 32M --ip auto -q -- sh -c 'echo start >>/root/starts; exec sleep 1000'; done
	tiny_image host_b
	host_b vps create q2 --image tiny --disk 32M --ip none -q
	expect_exit 2 a_to_b --restart --parallel 0 q1 hostb
	# one that cannot move keeps none of the others
	status=0
	out=$(a_to_b --restart --parallel 3 --json q1 q2 q3 hostb) || status=$?
	[ $status = 15 ] || fail "exit $status"
	expect "$(jq -r '.[] | "\(.name) \(.ok)"' <<<"$out" | tr '\n' ' ')" 'q1 true q2 false q3 true '
	expect "$(host_a vps list -aq | tr '\n' ' ')" 'q2 q4 '
	host_b vps delete q2
	# in words, a line each
	out=$(host_a vps migrate --restart --parallel 2 --rsh "$work/to-b" q2 q4 hostb)
	expect "$(sort <<<"$out" | sed 's/:.*//' | tr '\n' ' ')" 'q2 q4 '
	# an interruption reaches all of them
	for i in 1 2 3; do host_b vps exec q$i -- dd if=/dev/urandom of=/root/f bs=1M count=8; done
	host_b vps migrate -q --restart --parallel 3 --limit 1M --rsh "$work/to-a" q1 q2 q3 hosta >"$work/.out" 2>"$work/.err" &
	sleep 2
	kill -INT "$(pgrep -P $!)"
	status=0
	wait $! || status=$?
	[ $status = 130 ] || fail "exit $status after an interruption: $(cat "$work/.err")"
	expect "$(grep -c interrupted "$work/.err")" 3
	for i in 1 2 3; do expect "$(host_b vps exec q$i -- cat /root/starts | tr '\n' ' ')" 'start start '; done
	expect "$(host_a vps list -aq)" ''
	host_b vps delete -f --all -q
}

run_tests
