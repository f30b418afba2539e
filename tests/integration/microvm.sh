#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, kvm in hardware (or nested in a test host), the kernel of this host in /boot
# where: machines
# A VPS behind a kernel of its own: Debian with systemd, spoken to, reached, limited, stopped; and the way there and back.
. "$(dirname "$0")/../lib.sh" # debian_image
needs kvm mkfs.erofs python3
modprobe -qa kvm-amd kvm-intel tun loop sch_ingress cls_matchall act_mirred || true
[ -e /dev/kvm ] || skip "no /dev/kvm"
debian_image
tiny_image

inspected() { vps inspect "$1" | sed -n "s/.*\"$2\": \([0-9-]*\).*/\1/p" | head -1; }
status_of() { vps list -a -o name,status -H | awk -v n="$1" '$1 == n {print $2}'; }
is() { [ "$(status_of "$1")" = "$2" ]; }
id_of() { vps list -a -o name,id -H | awk -v n="$1" '$1 == n {print $2}'; }
init_of() { grep -oE '"pid": ?[0-9]+' "$VPS_RUN/$(id_of "$1")/state.json" | grep -oE '[0-9]+'; }
addr_of() { vps list -a -o name,ip -H | awk -v n="$1" '$1 == n {print $2}'; }
# other FIRST NAME - it runs, and as another process
other() { is "$2" running && [ "$(init_of "$2")" != "$1" ]; }
fetch() { python3 -c "import urllib.request, sys; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())" "$1"; }

test_the_host_can() {
	vps host check | grep -q 'machines (isolation vm): yes'
}

test_debian_comes_up() {
	vps create deb --image debian:12 --isolation vm --memory 512M --cpus 2 --disk 1G --ip 10.123.0.50 --ip fd76:7073::50 \
		--publish 8080:80 --hostname deb.example.net --ssh-key "$(printf 'ssh-ed25519 AAAA key' >"$work/k"; echo "$work/k")" -q
	timeout 400 vps start deb --wait -q || { vps logs deb | tail -30; false; }
	# the second word of systemd, when every unit is up
	wait_until 200 vps exec deb systemctl is-system-running --wait
	expect "$(vps exec deb uname -r)" "$(uname -r)"
	expect "$(vps exec deb cat /proc/1/comm)" systemd
	expect "$(vps exec deb systemd-detect-virt)" kvm
	expect "$(vps exec deb hostname)" deb.example.net
	expect "$(vps exec deb nproc)" 2
	vps exec deb cat /root/.ssh/authorized_keys | grep -q 'AAAA key'
	expect "$(vps exec deb cat /etc/machine-id)" "$(vps inspect deb | sed -n 's/.*"uuid": "\(.*\)".*/\1/p' | tr -d -)"
}

test_exec() {
	expect_exit 7 vps exec deb sh -c 'exit 7'
	expect_exit 127 vps exec deb /no/such
	expect "$(echo in | vps exec deb cat)" in
	expect "$(vps exec deb sh -c 'echo out; echo err >&2' 2>/dev/null)" out
	expect "$(head -c 3000000 /dev/zero | vps exec deb wc -c)" 3000000
	expect "$(vps exec -u www-data deb id -un)" www-data
	expect "$(vps exec -C /etc -e A=b deb sh -c 'echo $PWD $A')" '/etc b'
	script -qec 'stty cols 91 rows 33; vps exec -t deb stty size' /dev/null </dev/null | tr -d '\r' | found '33 91$' # its end of input is echoed somewhere
}

test_cp_both_ways() {
	mkdir -p "$work/tree/d"
	head -c 500000 /dev/urandom >"$work/tree/d/big"
	echo hello >"$work/tree/f"
	vps cp "$work/tree" deb:/srv/ -q
	expect "$(vps exec deb cat /srv/tree/f)" hello
	vps cp deb:/srv/tree "$work/back" -q
	cmp "$work/tree/d/big" "$work/back/d/big"
}

test_network() {
	ping -c 1 -W 5 -q 10.123.0.50 >/dev/null
	ping -c 1 -W 5 -q fd76:7073::50 >/dev/null
	wait_until 60 fetch http://10.123.0.50/
	expect "$(fetch http://10.123.0.50/)" '*Welcome to nginx*'
	expect "$(fetch http://198.18.0.1:8080/)" '*Welcome to nginx*'
	# a false sender does not get out
	vps exec deb ip addr add 10.123.0.77/32 dev lo
	! vps exec deb ping -c 1 -W 2 -I 10.123.0.77 198.18.0.1 >/dev/null
	vps exec deb ping -c 1 -W 5 198.18.0.1 >/dev/null
}

test_numbers_and_limits() {
	local got
	got=$(vps stats deb --json)
	[ "$(grep -o '"guest_memory": [0-9]*' <<<"$got" | grep -o '[0-9]*$')" -gt 400000000 ]
	[ "$(grep -o '"disk_size": [0-9]*' <<<"$got" | grep -o '[0-9]*$')" -gt 900000000 ]
	# less, and again what it had; not more
	vps set deb --memory 384M -q
	[ "$(vps stats deb --json | grep -o '"balloon": [0-9]*' | grep -o '[0-9]*$')" -ge 134217728 ]
	vps set deb --memory 512M -q
	expect_fail vps set deb --memory 1G
	grep -q 'started with 512M' "$work/.err"
	vps set deb --cpus 1 -q
	vps set deb --cpus 2 -q
	expect_fail vps set deb --cpus 3
	expect_fail vps set deb --isolation container
	# a disk that grows
	vps set deb --disk 1500M -q
	wait_until 20 eval '[ "$(vps exec deb stat -fc "%b*%S" / | bc)" -gt 1300000000 ]'
}

test_pause_and_monitor() {
	vps pause deb -q
	is deb paused
	vps unpause deb -q
	expect "$(vps exec deb echo on)" on
	kill -9 "$(inspected deb monitor)"
	vps set deb --label a=b -q
	is deb running
	expect "$(vps exec deb echo adopted)" adopted
}

test_reboot_inside() {
	local first
	first=$(init_of deb)
	vps exec deb sh -c 'echo kept >/root/kept'
	vps exec -d deb systemctl reboot
	wait_until 200 other "$first" deb
	wait_until 200 vps exec deb test -f /root/kept
}

test_killed() {
	local first
	vps set deb --restart always -q
	first=$(init_of deb)
	kill -9 "$first"
	wait_until 100 other "$first" deb
	wait_until 200 vps exec deb true
	# its kernel dies
	first=$(init_of deb)
	vps exec -d deb sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'
	wait_until 100 other "$first" deb
	vps logs deb | found -a 'sysrq triggered crash'
	wait_until 200 vps exec deb true
	vps set deb --restart no -q
}

test_stop() {
	local t0=$SECONDS
	vps stop deb -q
	is deb stopped
	[ $((SECONDS - t0)) -lt 85 ] # it agreed
	vps logs deb | found -a -E 'Power down|Powering off|Power-Off'
}

test_the_way_back_and_forth() {
	vps cp deb:/etc/hostname "$work/x" -q
	expect "$(cat "$work/x")" 'deb*'
	vps set deb --isolation container -q
	[ ! -e "$VPS_ROOT/instances/$(id_of deb)/disk/guest-written" ]
	timeout 100 vps start deb --wait -q
	expect "$(vps exec deb systemd-detect-virt -c)" container-other # systemd does not know the word 'vps'
	expect "$(vps exec deb cat /root/kept)" kept
	vps exec deb cmp /srv/tree/f - <"$work/tree/f"
	expect "$(addr_of deb)" '10.123.0.50*'
	# nothing but what was changed was written
	[ "$(inspected deb disk)" = 1572864000 ]
	vps exec deb sh -c 'rm /root/kept; echo container >/root/other; rm -r /usr/share/doc'
	vps stop deb -q
	vps set deb --isolation vm -q
	timeout 400 vps start deb --wait -q
	expect "$(vps exec deb cat /root/other)" container
	expect_fail vps exec deb test -e /root/kept
	expect_fail vps exec deb test -e /usr/share/doc
	vps delete -f deb -q
}

test_a_command() {
	expect "$(timeout 200 vps run --rm --image tiny --isolation vm --memory 128M --cpus 1 --disk 64M --net none -- sh -c 'echo out; exit 5' 2>"$work/e" || echo $?)" $'out*5'
}

# The guest freezes its own file system for a copy of its disk.
test_copies_while_it_runs() {
	vps launch -q k --image tiny --isolation vm --memory 128M --disk 32M --net none -- sh -c 'while :; do date >/t; sync; sleep 0.5; done' >/dev/null
	wait_until 200 vps exec k test -s /t
	vps exec k sh -c 'echo then >/f; sync'
	vps snapshot create -q k s
	expect "$(vps snapshot show k s)" '*frozen by the guest*'
	vps exec k sh -c 'echo now >/f; sync'
	vps backup -q k -o "$work/k.vps"
	e2fsck -fn "$VPS_ROOT/instances/$(id_of k)/snapshots/s/disk/disk.img"
	vps snapshot restore k s -f
	wait_until 200 vps exec k true
	expect "$(vps exec k cat /f)" then
	vps delete -f -q k
	vps restore -q "$work/k.vps" >/dev/null
	vps start -q k
	wait_until 200 vps exec k true
	expect "$(vps exec k cat /f)" now
	vps clone -q k l >/dev/null
	expect "$(vps exec k cat /f)" now
	vps delete -f -q k l
}
test_snapshot_with_memory() {
	vps launch -q k --image tiny --isolation vm --memory 128M --disk 32M --net none -- sh -c 'i=0; while :; do i=$((i + 1)); echo $i >/n; sleep 0.2; done' >/dev/null
	wait_until 200 vps exec k test -s /n
	local n m
	vps snapshot create -q k s --memory
	n=$(vps exec k cat /n)
	vps exec k sh -c 'echo later >/later; sync'
	sleep 10
	vps snapshot restore k s
	wait_until 100 vps exec k true
	m=$(vps exec k cat /n)
	[ "$m" -ge $((n - 40)) ] || fail "it began anew: $m, was $n"
	expect_fail vps exec k ls /later
	sleep 2
	[ "$(vps exec k cat /n)" -gt "$m" ] || fail "it stands still"
	vps delete -f -q k
}
run_tests
