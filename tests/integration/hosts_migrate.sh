#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root qemu; it starts two test hosts of its own
# where: hosts
# A stock Debian with systemd moves live between two hosts, each with a kernel of its own, over sshd, behind either wall: an open
# ssh session and a counting TCP client do not notice.
. "$(dirname "$0")/../lib.sh"
needs testhost jq
export VPS_VM_CPUS=1 # in CI others emulate CPUs beside it: two that wait for each other waste what there is

# h1, h2 SHELL-LINE - on one of the hosts
host=$top/tests/vm/host
h1() { VPS_VM=$vm1 "$host" exec -t "${limit:-120}" "$1"; }
h2() { VPS_VM=$vm2 "$host" exec -t "${limit:-120}" "$1"; }
both() { h1 "$1" && h2 "$1"; }
clean_up=$(trap -p EXIT | sed "s/^trap -- '//; s/' EXIT$//")
coproc pair { exec "$host" pair -t 3000 sh -c 'echo $VPS_VM $VPS_VM2; exec cat'; }
trap 'exec {pair[1]}>&-; $clean_up' EXIT
read -r vm1 vm2 <&"${pair[0]}" || { echo "Bail out! no test hosts"; exit 1; }
exec 3>&1 # figures are told, whatever becomes of the test

# installed NUMBER - vps as README says; the other host's addresses by way of the other host, and the operator's hook
installed() {
	set -e
	mkdir -p /usr/local/etc/vps/hooks
	printf '%s\n' "pool4 = 10.123.$1.0/24" 'nat = no' 'criu = /vps/build/criu/criu' >/usr/local/etc/vps/vps.conf
	[ -x /vps/build/criu/criu ] || sed -i /^criu/d /usr/local/etc/vps/vps.conf
	cat >/usr/local/etc/vps/hooks/migrate <<-'END'
		#!/bin/sh -e
		peer=10.99.0.1
		! ip -4 -o addr show dev eth1 | grep -q '10\.99\.0\.1/' || peer=10.99.0.2
		case "$VPS_ROLE $*" in
		'source after handover') for a in $VPS_ADDRESSES; do ip route replace "$a" via $peer; done ;;
		'destination before prepare') for a in $VPS_ADDRESSES; do ip route del "$a" via $peer 2>/dev/null || :; done ;;
		esac
	END
	chmod 755 /usr/local/etc/vps/hooks/migrate
	modprobe -qa kvm-amd kvm-intel tun loop sch_ingress cls_matchall act_mirred || true
	ip route del default # to QEMU, which would reset a connection whose way it is for a moment
	vps image import -q /var/cache/vps-tests/debian-*.tar debian:12 >/dev/null
}

# connected NAME ADDRESS - on the host that stays where it is, from its address on the wire: an ssh session that echoes, and a client that checks what it is sent
connected() {
	set -e
	local i
	for ((i = 0; i < 300; i++)); do
		ssh "root@$2" true 2>/dev/null && break
		sleep 0.5
	done
	rm -f /run/in /run/out /run/client /run/enough
	mkfifo /run/in
	(exec 9<>/run/in; exec setsid ssh -b 10.99.0.1 "root@$2" cat <&9 >/run/out 2>&1) &
	echo before >/run/in
	vps exec "$1" systemd-run -q --unit counter perl -MIO::Socket -e '
		$l = IO::Socket::INET->new(LocalPort => 99, Listen => 1) or die; $c = $l->accept; $c->autoflush(1);
		for ($i = 0; print $c "$i\n"; $i++) { select(undef, undef, undef, 0.05) }'
	cat >/run/client.pl <<-'END'
		use IO::Socket; use Time::HiRes "time";
		for (1 .. 50) { last if $s = IO::Socket::INET->new(LocalAddr => "10.99.0.1", PeerAddr => $ARGV[0], PeerPort => 99, Timeout => 5); sleep 1 }
		$s or die "no connection: $!\n";
		$| = 1; ($want, $gap, $last) = (0, 0, time);
		while (<$s>) {
			$_ == $want or die "$_ in the place of $want";
			$want++; $now = time; $gap = $now - $last if $now - $last > $gap; $last = $now;
			open N, ">/run/n"; print N "$want\n"; close N;
			if (-e "/run/enough") { printf "numbers %d, longest wait %.0f ms\n", $want, $gap * 1000; exit 0 }
		}
		die "closed at $want\n";
	END
	setsid perl /run/client.pl "$2" >/run/client 2>&1 </dev/null &
	for ((i = 0; i < 100; i++)); do
		grep -q before /run/out 2>/dev/null && [ -s /run/n ] && exit
		sleep 0.3
	done
	head /run/out /run/client
	exit 1
}
# goes_on WORD - the session and the client do
goes_on() {
	local i n
	echo "$1" >/run/in
	n=$(cat /run/n)
	for ((i = 0; i < 200; i++)); do
		grep -qx "$1" /run/out && [ "$(cat /run/n)" -gt $((n + 20)) ] && exit
		sleep 0.3
	done
	tail -n 3 /run/out /run/client /run/n
	exit 1
}
closed() {
	touch /run/enough
	sleep 2
	cat /run/client
	grep -q '^numbers' /run/client
}

test_two_hosts_on_one_wire() {
	h1 'ping -c 1 -W 20 host2 >/dev/null'
	# the real sshd of the other one
	expect "$(h1 'ssh host2 hostname')" host2
	expect "$(h2 'ssh host1 hostname')" host1
}

test_vps_on_both() {
	local n
	make -s -C "$builddir" install DESTDIR="$work/inst" >/dev/null
	for n in 1 2; do
		tar -C "$work/inst" -c . | "h$n" 'tar -C / --no-same-owner -x'
		limit=300 "h$n" "$(declare -f installed); installed $n"
	done
}

# there_and_back NAME ADDRESS CREATE-OPTION... - $out: what the way back cost
there_and_back() {
	local name=$1 addr=$2 up
	shift 2
	h1 "vps create $name --image debian:12 --memory 512M --disk 1G --ip $addr --ssh-key /root/.ssh/id_ed25519.pub $* -q"
	limit=400 h1 "timeout 380 vps start $name --wait -q"
	limit=300 h1 "$(declare -f connected); connected $name $addr"
	up=$(h1 "vps exec $name cut -d. -f1 /proc/uptime")
	limit=400 h1 "vps check $name --migrate" || true
	out=$(limit=500 h1 "vps migrate -q --live --require-live --json $name host2") || fail "$out"
	figures <<<"$out" >&3
	expect "$(jq -r '.[0] | .ok, .mode, .started' <<<"$out" | tr '\n' ' ')" 'true live true '
	expect_fail h1 "vps inspect $name"
	h1 "$(declare -f goes_on); goes_on there"
	expect "$(h2 "vps list -H -o name,status")" "$name*running"
	[ "$(h2 "vps exec $name cut -d. -f1 /proc/uptime")" -ge "$up" ]
	expect "$(h2 "vps exec $name systemctl is-active ssh counter" | tr '\n' ' ')" 'active active '
	h2 "$(declare -f expect_clock fail); expect_clock vps exec $name" # by that host's own
	out=$(limit=500 h2 "vps migrate -q --live --require-live --json $name host1") || fail "$out"
	figures <<<"$out" >&3
	expect_fail h2 "vps inspect $name"
	h1 "$(declare -f goes_on); goes_on back"
	h1 "$(declare -f closed); closed" >&3
	expect "$(h1 'cat /run/out' | tr '\n' ' ')" 'before there back '
	h1 "vps delete -f $name -q"
}
test_a_container() {
	local out
	h1 'test -x /vps/build/criu/criu' || skip "no CRIU for the test host"
	there_and_back web1 10.123.1.50
}
test_a_machine() {
	local out
	there_and_back web2 10.123.1.51 --isolation vm --cpus 1
	# once, and what changed meanwhile; the modules of its kernel are on both hosts
	jq -e '.[0] | .memory_sent <= (.memory_rounds | add) * 1.1 + 3000000' <<<"$out" || fail "$(figures <<<"$out")"
}

run_tests
