#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root, kvm in hardware (or nested in a test host), erofs-utils, the kernel of this host in /boot
# where: machines
# A tiny VPS behind a kernel of its own: every verb of a container's day, and what is only a machine's.
. "$(dirname "$0")/../lib.sh"
needs kvm mkfs.erofs python3
modprobe -qa kvm-amd kvm-intel tun loop sch_ingress cls_matchall act_mirred || true
[ -e /dev/kvm ] || skip "no /dev/kvm"
tiny_image

status_of() { vps list -a -o name,status -H | awk -v n="$1" '$1 == n {print $2}'; }
is() { [ "$(status_of "$1")" = "$2" ]; }
id_of() { vps list -a -o name,id -H | awk -v n="$1" '$1 == n {print $2}'; }
init_of() { grep -oE '"pid": ?[0-9]+' "$VPS_RUN/$(id_of "$1")/state.json" | grep -oE '[0-9]+'; }
inspected() { vps inspect "$1" | sed -n "s/.*\"$2\": \([0-9-]*\).*/\1/p" | head -1; }
# machine NAME [OPTION...] - one that waits for what is asked of it
machine() {
	local name=$1
	shift
	vps create "$name" --image tiny --isolation vm --memory 128M --cpus 1 --disk 64M "$@" -q -- \
		sh -c 'trap "echo stopping; exit 3" TERM; echo up; while :; do sleep 1000 & wait $!; done'
}
# there - m, as it is between tests
there() {
	vps inspect m >/dev/null 2>&1 || machine m --ip 10.123.0.60 --ip fd76:7073::60 --stop-timeout 30
	! is m running || vps stop m --kill -q
}
up() { timeout 200 vps start "$1" --wait -q || { vps logs "$1" | tail -20; false; }; }
heard() { vps logs "$1" | tr -d '\r' | found -E "$2"; }
fetch() { python3 -c "import urllib.request, sys; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())" "$1"; }

test_the_days_verbs() {
	machine m --ip 10.123.0.60 --ip fd76:7073::60 --publish 8081:80 --stop-timeout 30
	up m
	wait_until 20 heard m '^up$'
	expect "$(vps exec m sh -c 'echo $((6 * 7))')" 42
	script -qec 'stty cols 91 rows 33; vps exec -t m stty size' /dev/null </dev/null | tr -d '\r' | found '33 91$' # its end of input is echoed somewhere
	vps exec -d m httpd -h /var/www
	wait_until 20 fetch http://10.123.0.60/
	expect "$(fetch http://198.18.0.1:8081/)" '*hello*'
	expect "$(fetch 'http://[fd76:7073::60]/')" '*hello*'
	# all that runs in it, and nothing of its kernel's
	vps top --once m >"$work/top"
	found httpd <"$work/top"
	! found kthreadd <"$work/top"
	vps top --once m --json | found '"command": "httpd'
	[ "$(vps stats m --json | grep -o '"guest_memory": [0-9]*' | grep -o '[0-9]*$')" -gt 60000000 ]
	vps rename m mm -q
	expect "$(vps exec mm hostname)" m
	vps rename mm m -q
	vps kill -s USR1 m -q
	wait_until 20 is m stopped
	expect "$(inspected m exit_code)" 138
	up m
	(sleep 1; vps stop m -q) &
	expect "$(timeout 60 vps wait m)" 3
	wait
	heard m '^stopping$'
	vps events --no-follow 2>/dev/null | found '"event":"stop"' || grep -q '"event":"stop"' "$VPS_RUN/events"
}

test_set_live() {
	there
	up m
	vps set m --ip 10.123.0.61 -q
	wait_until 10 ping -c 1 -W 2 -q 10.123.0.61
	! ping -c 1 -W 1 -q 10.123.0.60 >/dev/null
	! vps exec m ip addr show eth0 | found -F '10.123.0.60'
	vps exec m ping -c 1 -W 5 198.18.0.1 >/dev/null
	vps set m --pids 100 -q
	expect "$(vps exec m cat /proc/sys/kernel/threads-max)" 100
	vps set m --stop-signal USR2 -q
	# what its kernel would end processes for
	vps exec m sh -c 'mount -o remount,size=90% /dev/shm; head -c 40000000 /dev/zero >/dev/shm/x'
	expect_fail vps set m --memory 96M
	found 'the guest needs it' <"$work/.err"
	vps exec m rm /dev/shm/x
	vps set m --rate 50M:50M --pps 10000 --cpus 0.5 -q
	# not that it would stop by that
	vps stop m -q
	expect "$(inspected m exit_code)" 140
	vps set m --stop-signal TERM --ip 10.123.0.60 --ip fd76:7073::60 -q
}

test_nothing_false_gets_out() {
	there
	up m
	vps exec m ip addr add 10.123.0.77/32 dev lo
	vps exec m ip -6 addr add fd76:7073::77/128 dev lo
	! vps exec m ping -c 1 -W 2 -I 10.123.0.77 198.18.0.1 >/dev/null
	! vps exec m ping -6 -c 1 -W 2 -I fd76:7073::77 2001:db8::1 >/dev/null
	vps exec m ping -c 1 -W 5 198.18.0.1 >/dev/null
	vps exec m ping -6 -c 1 -W 5 2001:db8::1 >/dev/null
	# nor another card
	vps exec m ip link set eth0 down
	vps exec m ip link set eth0 address 02:00:00:00:00:99
	vps exec m ip link set eth0 up
	! vps exec m ping -c 1 -W 2 198.18.0.1 >/dev/null
	vps stop m -q
}

test_files_of_a_stopped_one() {
	there
	mkdir -p "$work/tree/d"
	head -c 700000 /dev/urandom >"$work/tree/d/big"
	vps cp "$work/tree" m:/srv -q
	is m stopped
	vps cp m:/srv/d/big "$work/big" -q
	cmp "$work/big" "$work/tree/d/big"
	expect_fail vps cp m:/no/such "$work/x"
	found -i 'no such file' <"$work/.err"
	up m
	expect "$(vps exec m wc -c /srv/d/big)" '700000 *'
	vps stop m -q
}

test_a_console() {
	vps create c --image tiny --isolation vm --memory 128M --cpus 1 --disk 64M --net none --console pty -q -- sh
	up c
	(sleep 6; echo 'stty size; echo "ans"wer'; sleep 3; printf '\r\033.'; sleep 1) |
		timeout 60 script -qec 'stty cols 101 rows 41; vps console c' /dev/null | tr -d '\r' >"$work/console" || true
	found '^41 101$' <"$work/console" || { cat -v "$work/console"; false; }
	found '^answer$' <"$work/console"
	vps delete -f c -q
}

# Asleep in a file, and on as if nothing had been: its processes, memory, address; only the time is today's
test_suspend_and_resume() {
	there
	vps set m --memory 192M -q
	up m
	vps exec m sh -c 'head -c 20000000 /dev/urandom >/dev/shm/big; md5sum </dev/shm/big >/dev/shm/sum'
	vps exec -d m sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.5; done'
	vps set m --memory 176M -q # by the balloon: the machine itself has 192M still
	local n
	vps suspend m -q
	is m suspended
	expect_fail vps set m --isolation container
	expect_fail vps cp m:/etc/hostname "$work/x"
	sleep 3
	n=$(date +%s%N)
	timeout 60 vps resume m -q
	timeout 60 vps exec m true
	echo "# from resume to an answer: $((($(date +%s%N) - n) / 1000000)) ms"
	is m running
	vps exec m sh -c 'md5sum </dev/shm/big | cmp - /dev/shm/sum'
	n=$(vps exec m cat /tmp/n)
	sleep 1
	[ "$(vps exec m cat /tmp/n)" -gt "$n" ]
	expect_clock vps exec m
	ping -c 1 -W 5 -q 10.123.0.60 >/dev/null
	vps set m --memory 192M -q
	# once more, by way of a backup
	vps suspend m -q
	vps backup m --memory --no-image -q -o "$work/m.vps"
	vps stop --kill m -q
	vps delete m -q
	vps restore -q --trust "$work/m.vps" # it publishes a port
	is m suspended
	vps resume m -q
	vps exec m test -e /dev/shm/big
	vps stop m -q
	expect "$(inspected m exit_code)" 3
	vps set m --memory 128M -q
}

test_run() {
	expect "$(echo word | timeout 200 vps run --rm --image tiny --isolation vm --memory 128M --cpus 1 --disk 64M --net none -- \
		sh -c 'read a; echo "got $a"; echo err >&2; exit 5' 2>"$work/e" || echo $?)" $'got word*5'
	found '^err' <"$work/e"
	expect_exit 127 timeout 200 vps run --rm --image tiny --isolation vm --memory 128M --cpus 1 --disk 64M --net none -- /no/such
}

# What failed is told, with the guest's last words, and the policy holds
test_a_panic() {
	there
	vps set m --restart on-failure:1 -q
	up m
	local first
	first=$(init_of m)
	vps exec -d m sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'
	wait_until 100 eval 'is m running && [ "$(init_of m)" != "'"$first"'" ]'
	wait_until 100 vps exec m true
	found 'sysrq triggered crash' <"$VPS_RUN/events"
	kill -9 "$(init_of m)"
	wait_until 60 is m stopped
	vps set m --restart no -q
}

test_rebuild() {
	there
	mkdir -p "$work/tree"
	vps cp "$work/tree" m:/srv2 -q
	vps rebuild m -q
	up m
	expect_fail vps exec m test -e /srv2
	expect "$(vps exec m hostname)" m
}

test_modules_of_the_kernel() {
	is m running || { there; up m; }
	vps exec m test -f "/lib/modules/$(uname -r)/modules.dep"
	vps exec m modprobe dummy
	vps exec m ip link add d0 type dummy
	vps exec m sh -c '! echo x >/lib/modules/*/x'
	vps stop m -q
}

test_ten_at_once() {
	local i
	for i in 0 1 2 3 4 5 6 7 8 9; do
		machine "t$i" --memory 96M --ip "10.123.1.$((i + 10))"
		up "t$i"
	done
	for i in 0 1 2 3 4 5 6 7 8 9; do
		timeout 60 vps exec "t$i" true
		wait_until 20 ping -c 1 -W 2 -q "10.123.1.$((i + 10))"
	done
	expect "$(vps list -q | wc -l)" 10
	expect "$(vps exec t3 ping -c 1 -W 5 10.123.1.17 >/dev/null && echo reached)" reached
	vps stop --all --kill -q
	for i in 0 1 2 3 4 5 6 7 8 9; do vps delete "t$i" -q; done
}

# I2: a change of walls that is cut off anywhere leaves a stopped VPS with one whole disk
test_a_switch_that_is_killed() {
	there
	local t
	up m
	vps exec m sh -c 'echo kept >/root/kept; sync'
	vps stop m -q
	for t in 0.3 2 5 9 14; do
		timeout -s KILL "$t" vps set m --isolation container -q || true
		is m stopped
		expect "$(find "$VPS_ROOT/instances/$(id_of m)" -name disk.img -o -name upper -maxdepth 3 | wc -l)" 1
	done
	vps set m --isolation container -q
	vps start m -q
	expect "$(vps exec m cat /root/kept)" kept
	vps delete -f m -q
}

run_tests
