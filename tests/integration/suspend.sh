#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net debian criu
# where: native; precopy.sh shows CRIU at work in the test host, where all of this takes too long
# suspend and resume of containers: what goes on, what is refused, what a failure and a kill leave.
. "$(dirname "$0")/../lib.sh"
needs_criu
tiny_image

# A counter that does nothing else: its value can only come out of its memory.
# shellcheck disable=SC2016
counter='i=0; while true; do i=$((i+1)); echo $i >/tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.1; done'
count() { vps exec "$1" cat /tmp/n; }
counter_vps() { vps launch "$@" --image tiny -- sh -c "$counter" >/dev/null; wait_until 5 count "$1"; }
dir_of() { echo "$VPS_ROOT/instances/$(vps inspect "$1" | jq -r '.[0].id')"; }
state_of() { vps inspect "$1" | jq -r '.[0].status'; }
# goes_on NAME FROM - it counts, and further than FROM
goes_on() {
	local a b
	a=$(count "$1")
	[ "$a" -ge "$2" ] || fail "the count is $a, and was $2 before"
	sleep 0.4
	b=$(count "$1")
	[ "$b" -gt "$a" ] || fail "the count stays at $b"
}

test_a_counter_goes_on() {
	local n up
	counter_vps a --sysctl net.ipv4.tcp_fin_timeout=33
	sleep 1
	n=$(count a)
	up=$(vps exec a cut -d. -f1 /proc/uptime)
	vps suspend a
	expect "$(state_of a)" suspended
	expect "$(vps status a)" '*a suspended*'
	expect_exit 15 vps exec a true
	[ -z "$(find /sys/fs/cgroup -maxdepth 3 -path "*/$(vps_tag)/1*" -type d)" ] || fail "a cgroup is left"
	vps resume a
	expect "$(state_of a)" running
	goes_on a "$n"
	[ ! -e "$(dir_of a)/suspended" ] || fail "its memory is still on the disk"
	[ "$(vps exec a cut -d. -f1 /proc/uptime)" -ge "$up" ] || fail "uptime ran backwards"
	expect "$(vps exec a cat /proc/sys/net/ipv4/tcp_fin_timeout)" 33
	expect "$(vps exec a hostname)" a
	# and once more, and by start
	vps suspend a
	vps start a
	goes_on a "$n"
	vps delete -f a
}

test_it_keeps_its_walls() {
	local before after
	counter_vps w
	look() { vps exec w sh -c 'cut -d" " -f4-6 /proc/self/mountinfo | sort; cat /proc/self/uid_map; grep -E "Seccomp|Cap" /proc/1/status; ip -o addr show eth0; ip route; ls -ln /dev; cat /proc/self/cgroup'; }
	before=$(look)
	vps suspend w
	vps resume w
	after=$(look)
	[ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after"); fail "it is not the same inside"; }
	vps delete -f w
}

test_limits_hold_after_a_resume() {
	counter_vps l --memory 64M --pids 40
	vps suspend l
	vps set l --memory 48M
	vps resume l
	expect "$(vps stats l --json | jq -r '.[0].memory_limit')" $((48 << 20))
	expect_fail vps exec l sh -c 'for i in $(seq 60); do sleep 5 & done'
	vps delete -f l
}

test_limits_without_room_are_enough() {
	vps launch l2 --image tiny --memory 24M --pids 3 -- sh -c "$counter" >/dev/null
	sleep 1
	vps suspend l2
	vps resume l2
	expect "$(vps stats l2 --json | jq -r '.[0] | .memory_limit, .pids_limit' | paste -sd' ')" "$((24 << 20)) 3"
	vps delete -f l2
}

test_restart_policy_sleeps_too() {
	counter_vps r --restart always
	vps suspend r
	sleep 1.5
	expect "$(state_of r)" suspended
	vps resume r
	goes_on r 1
	vps delete -f r
}

test_a_criu_that_is_killed_loses_nothing() {
	local ip n word criu init dir end=$((SECONDS + 20))
	vps launch x --image tiny -- sh -c "nc -ll -p 7 -e cat & awk 'BEGIN { s = \"x\"; while (length(s) < 2e8) s = s s; system(\"touch /tmp/big; sleep 1000\") }' & $counter" >/dev/null
	wait_until 20 vps exec x test -e /tmp/big
	dir=$(dir_of x)
	init=$(vps inspect x | jq -r ".[0].pid")
	ip=$(vps inspect x | jq -r '.[0].addresses[0]' | cut -d/ -f1)
	exec 8<>"/dev/tcp/$ip/7"
	echo one >&8
	read -r -t 5 -u 8 word
	n=$(count x)
	vps suspend x >/dev/null 2>&1 &
	# written, being sealed
	until [ -e "$dir/suspended.tmp/container.json" ] || [ $SECONDS -gt $end ]; do :; done
	criu=$(awk '/^TracerPid:/ {print $2}' "/proc/$init/status")
	[ "$criu" -gt 1 ] || fail "nobody traces it"
	kill -9 "$criu"
	wait $! || true
	[ "$(state_of x)" = running ] || vps resume x
	goes_on x "$n"
	echo two >&8
	read -r -t 20 -u 8 word
	expect "$word" two
	exec 8>&-
	vps delete -f x
}

test_a_connection_stays() {
	local ip word
	vps launch c --image tiny -- nc -ll -p 7 -e cat >/dev/null
	ip=$(vps inspect c | jq -r '.[0].addresses[0]' | cut -d/ -f1)
	wait_until 5 bash -c ": </dev/tcp/$ip/7"
	exec 8<>"/dev/tcp/$ip/7"
	echo one >&8
	read -r -t 5 -u 8 word
	expect "$word" one
	vps suspend c
	echo two >&8 # nobody is there: it will be sent again
	vps resume c
	read -r -t 20 -u 8 word
	expect "$word" two
	echo three >&8
	read -r -t 5 -u 8 word
	expect "$word" three
	exec 8>&-
	vps delete -f c
}

test_the_console_is_attached_again() {
	local out
	vps launch t --image tiny -- sh -c 'while read -r l; do echo "got $l"; done' >/dev/null
	vps suspend t
	vps resume t
	out=$( (sleep 0.5; echo hello; sleep 0.5) | timeout 5 vps console t || true)
	expect "$out" '*got hello*'
	vps delete -f t
}

test_pipes_are_connected_again() {
	vps launch p --image tiny --console pipes -- sh -c "$counter" >/dev/null
	wait_until 5 count p
	vps suspend p
	vps resume p
	goes_on p 1
	vps delete -f p
}

test_dev_and_shm_come_back() {
	counter_vps f
	vps exec f sh -c 'echo shm >/dev/shm/x; ln -s /tmp/n /dev/mylink; echo dev >/dev/mine; echo tmp >/tmp/y'
	vps suspend f
	vps resume f
	expect "$(vps exec f sh -c 'cat /dev/shm/x /dev/mine /tmp/y; readlink /dev/mylink')" $'shm\ndev\ntmp\n/tmp/n'
	expect "$(vps exec f stat -c '%t:%T %a' /dev/null)" '1:3 666'
	vps delete -f f
}

test_mounts_come_back() {
	local before after
	mkdir -p "$work/shared" "$work/ro"
	echo host >"$work/shared/f"
	echo ro >"$work/ro/f"
	vps launch y --image tiny --mount "$work/shared:/srv/a" --mount "$work/ro:/srv/b:ro" -- sh -c "exec 5</srv/b/f; cd /srv/a; $counter" >/dev/null
	wait_until 5 count y
	# the tenant's own: in PID 1's mount namespace, and in another one
	vps exec y sh -c 'mkdir -p /mnt/t /mnt/b && mount -t tmpfs -o size=1m t /mnt/t && echo in >/mnt/t/f && mount --bind /etc /mnt/b'
	vps exec y sh -c '(unshare -m sh -c "mount -t tmpfs t /mnt/b; echo own >/mnt/b/f; echo \$\$ >/tmp/own; sleep 1000" >/dev/null 2>&1 </dev/null & ) ; sleep 0.5'
	before=$(vps exec y cut -d' ' -f4-6 /proc/self/mountinfo | sort)
	vps suspend y
	vps resume y
	goes_on y 1
	after=$(vps exec y cut -d' ' -f4-6 /proc/self/mountinfo | sort)
	[ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after"); fail "other mounts"; }
	expect "$(vps exec y sh -c 'cat /srv/a/f /srv/b/f /mnt/t/f; ls /mnt/b/passwd; cat /proc/$(cat /tmp/own)/root/mnt/b/f')" $'host\nro\nin\n/mnt/b/passwd\nown'
	expect_fail vps exec y sh -c 'echo x >/srv/b/f'
	expect_fail vps exec y mount -o remount,rw /srv/b
	vps exec y sh -c 'echo x >/srv/a/g'
	expect "$(cat "$work/shared/g")" x
	vps delete -f y
}

test_a_file_elsewhere() {
	local n
	counter_vps e
	n=$(count e)
	vps suspend e --to "$work/memory"
	expect "$(stat -c %a "$work/memory")" 600
	[ "$(du -s "$(dir_of e)/suspended" | cut -f1)" -le 16 ]
	mv "$work/memory" "$work/moved"
	expect_fail vps resume e
	expect "$(state_of e)" suspended
	vps resume e --from "$work/moved"
	goes_on e "$n"
	# an old one is not for a VPS that runs
	expect_exit 15 vps resume e --from "$work/moved"
	vps stop -t 1s e
	expect_exit 15 vps resume e --from "$work/moved"
	vps start e
	wait_until 5 count e
	# nor one that is suspended since
	vps suspend e
	expect_exit 6 vps resume e --from "$work/moved"
	vps resume e
	# a byte in it
	vps suspend e --to "$work/memory2"
	# the first block of a file's bytes, behind its header
	n=$(grep -abo 'pages-1.img' "$work/memory2" | awk -F: '{at = $1 - $1 % 512; if ($1 - at < 3) {print at; exit}}')
	printf X | dd of="$work/memory2" bs=1 seek=$((n + 512 + 100)) conv=notrunc status=none
	expect_fail vps resume e
	vps delete -f e
}

test_other_host_ids() {
	local n spec base
	counter_vps o
	vps exec o sh -c 'echo mine >/dev/shm/mine; chown 12:13 /dev/shm/mine /tmp/n; mkdir /tmp/d; chown 5:5 /tmp/d'
	n=$(count o)
	vps suspend o
	# as on a host with another uid-base: the disk has its own ids, the images those inside
	spec=$(dir_of o)/spec.json
	base=$(($(jq .id_base "$spec") + 65536 * 500))
	jq ".id_base = $base" "$spec" >"$work/spec" && cat "$work/spec" >"$spec"
	vps resume o
	expect "$(vps exec o awk '{print $1, $2, $3}' /proc/self/uid_map)" "0 $base 65536"
	goes_on o "$n"
	expect "$(vps exec o stat -c '%u:%g' /dev/shm/mine /tmp/d / | paste -sd' ')" '12:13 5:5 0:0'
	expect "$(vps exec o cat /dev/shm/mine)" mine
	# and again, from there
	vps suspend o
	vps resume o
	goes_on o "$n"
	vps delete -f o
}

test_a_dead_console_is_not_written_down() {
	vps launch q --image tiny -- sh -c "trap '' HUP; $counter" >/dev/null
	wait_until 5 count q
	# the monitor first: it would start another keeper, and give it the console
	kill -9 "$(vps inspect q | jq -r '.[0].monitor')" "$(pgrep -f "vps-keeper $VPS_RUN")"
	wait_until 5 vps exec q true
	expect_exit 5 vps suspend q
	expect "$(cat "$work/.err")" '*console is dead*'
	goes_on q 1
	vps restart --kill q
	wait_until 5 count q
	vps suspend q
	vps resume q
	goes_on q 1
	vps delete -f q
}

test_what_was_changed_is_refused_before_criu_runs() {
	local dir f n
	counter_vps b
	vps suspend b
	dir=$(dir_of b)/suspended
	printf '#!/bin/sh\ntouch %s/criu-ran\nexit 1\n' "$work" >"$work/criu"
	chmod 755 "$work/criu"
	for f in "$dir"/*; do
		[ -f "$f" ] && [ -s "$f" ] || continue
		cp -a "$f" "$work/saved"
		n=$(($(stat -c %s "$f") / 2))
		printf "\\x$(printf %02x $((0x$(xxd -p -s $n -l 1 "$f" 2>/dev/null || od -An -tx1 -j$n -N1 "$f" | tr -d ' ') ^ 1)))" |
			dd of="$f" bs=1 seek=$n conv=notrunc status=none
		VPS_CRIU=$work/criu expect_exit 6 vps resume b
		[ ! -e "$work/criu-ran" ] || fail "criu has seen a changed ${f##*/}"
		cp -a "$work/saved" "$f"
	done
	# one more, one less
	echo >"$dir/more.img"
	VPS_CRIU=$work/criu expect_exit 6 vps resume b
	rm "$dir/more.img"
	mv "$dir/stats.img" "$work/" 2>/dev/null || mv "$dir/pstree.img" "$work/"
	VPS_CRIU=$work/criu expect_exit 6 vps resume b
	mv "$work"/*.img "$dir/"
	# another VPS's
	counter_vps b2
	vps suspend b2
	rm -r "$(dir_of b2)/suspended"
	cp -a "$dir" "$(dir_of b2)/suspended"
	VPS_CRIU=$work/criu expect_fail vps resume b2
	[ ! -e "$work/criu-ran" ] || fail "criu has seen another VPS's memory"
	# the key is nobody's else
	expect "$(stat -c %a "$VPS_ROOT/checkpoint.key")" 600
	vps resume b
	vps delete -f b b2
}

test_a_failed_suspend_leaves_it_running() {
	local n
	vps launch g --image tiny --migratable off -- sh -c "unshare -U sleep 1000 & $counter" >/dev/null
	wait_until 5 count g
	n=$(count g)
	expect_exit 5 vps suspend g
	expect "$(cat "$work/.err")" '*process sleep has a user namespace of its own*'
	expect_exit 5 vps check g --migrate
	expect "$(cat "$work/.out")" '*sleep? has a user namespace of its own*'
	expect "$(vps check g --migrate --json | jq -r '.[0].process')" sleep
	expect "$(state_of g)" running
	goes_on g "$n"
	[ ! -e "$(dir_of g)/suspended" ] && [ ! -e "$(dir_of g)/suspended.tmp" ] || fail "something is left"
	vps delete -f g
	counter_vps g
	vps check g --migrate
	# a command from outside
	vps exec g sleep 1000 &
	wait_until 5 sh -c 'vps check g --migrate | grep -q "(sleep) was started from outside"'
	kill $!
	wait_until 5 vps check g --migrate
	# no criu at all
	VPS_CRIU=/nonexistent expect_exit 5 vps suspend g
	expect "$(cat "$work/.err")" '*no CRIU*'
	goes_on g "$n"
	vps delete -f g
}

test_the_other_verbs_on_a_suspended_one() {
	counter_vps v
	vps suspend v
	expect_exit 15 vps suspend v
	expect_exit 15 vps stop v
	expect_exit 15 vps delete v
	expect_exit 15 vps rebuild v
	expect_exit 15 vps set v --hostname other
	expect_exit 15 vps pause v
	vps wait v -t 2s
	vps rename v v2
	expect "$(state_of v2)" suspended
	expect "$(vps list -aq)" '*v2*'
	vps stop --kill v2
	expect "$(state_of v2)" stopped
	expect_exit 15 vps resume v2
	vps start v2
	vps pause v2
	expect_exit 15 vps suspend v2
	vps unpause v2
	vps suspend v2
	vps delete -f v2
	expect_exit 14 vps status v2
}

test_migratable_refuses_what_cannot_be_held() {
	counter_vps m
	expect_fail vps exec m unshare -U true
	expect_fail vps exec m unshare -u true
	vps exec m unshare -m true
	vps set m --migratable off 2>/dev/null && fail "not live"
	vps stop m
	vps set m --migratable off
	vps start m
	vps exec m unshare -U true
	vps delete -f m
}

# killed_after MS COMMAND... - SIGKILL for the command alone, after so many milliseconds
killed_after() {
	local ms=$1 pid
	shift
	"$@" >/dev/null 2>&1 &
	pid=$!
	sleep "$(printf '0.%03d' "$ms")"
	kill -9 $pid 2>/dev/null || true
	wait $pid 2>/dev/null || true
}

settled() { case $(state_of "$1") in running | suspended) ;; *) return 1 ;; esac; }

test_a_killed_suspend_leaves_it_running_or_suspended() {
	local ms n seen=
	counter_vps k
	for ms in 2 5 10 15 20 30 40 50 60 70 80 90 100 120 140 160 180 200 240 280; do
		n=$(count k)
		killed_after $ms vps suspend k
		vps kill -s CONT k 2>/dev/null || true
		vps rename k k 2>/dev/null || true # whatever takes the lock
		wait_until 10 settled k # its monitor may still be at the end
		case $(state_of k) in
		running) seen+=r ;;
		suspended) seen+=s; vps resume k >/dev/null ;;
		*) fail "$ms ms: $(vps status k)" ;;
		esac
		goes_on k "$n"
		[ -z "$(find "$(dir_of k)" -maxdepth 1 -name 'suspended*' -o -maxdepth 1 -name resuming)" ] ||
			fail "$ms ms: left: $(ls "$(dir_of k)")"
		vps suspend k >/dev/null && vps resume k >/dev/null || fail "$ms ms: not again"
	done
	echo "# $seen"
	vps delete -f k
}

test_a_killed_resume_leaves_it_running_or_suspended() {
	local ms n seen=
	counter_vps k
	for ms in 2 5 10 15 20 30 40 50 60 70 80 90 100 120 140 160 180 200 240 280; do
		n=$(count k)
		vps suspend k >/dev/null
		killed_after $ms vps resume k
		vps rename k k 2>/dev/null || true
		case $(state_of k) in
		running) seen+=r ;;
		suspended) seen+=s; vps resume k >/dev/null || fail "$ms ms: not again" ;;
		*) fail "$ms ms: $(vps status k)" ;;
		esac
		goes_on k "$n"
	done
	echo "# $seen"
	vps delete -f k
}

ssh_to() { ssh -q -i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=10 "root@$1" "${@:2}"; }

test_a_debian_with_systemd() {
	local ip n line
	debian_image
	ssh-keygen -q -t ed25519 -N '' -f "$work/key"
	vps launch deb --image debian:12 --ssh-key "$work/key.pub" >/dev/null
	vps wait deb --for ready -t 60s
	expect "$(vps exec deb systemctl is-system-running --wait)" running
	ip=$(vps inspect deb | jq -r '.[0].addresses[0]' | cut -d/ -f1)
	# a session that is open, a connection of nginx's that is open, and dirty memory whose sum is known
	# shellcheck disable=SC2016
	ssh_to "$ip" 'i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done' >"$work/session" 2>&1 &
	local session=$!
	# shellcheck disable=SC2016
	vps exec deb systemd-run -q --unit=memory perl -e 'srand(7); my $x = join "", map { pack "N", rand(2**32) } 1..4000000; my $was = unpack("%32C*", $x); $SIG{USR1} = sub { open(my $f, ">", "/root/sum"); print $f ($was == unpack("%32C*", $x) ? "same\n" : "other\n"); close $f; }; sleep 1 while 1'
	exec 8<>"/dev/tcp/$ip/80"
	printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' >&8
	read -r -t 5 -u 8 line
	expect "$line" 'HTTP/1.1 200*'
	wait_until 10 grep -q '^3$' "$work/session"
	sleep 2
	vps suspend deb
	expect "$(state_of deb)" suspended
	vps resume deb
	n=$(tail -1 "$work/session")
	wait_until 20 grep -q "^$((n + 10))$" "$work/session"
	kill $session 2>/dev/null
	while read -r -t 0.2 -u 8 line; do :; done
	printf 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&8
	expect "$(timeout 5 cat <&8)" '*200 OK*'
	exec 8>&-
	vps exec deb systemctl kill -s USR1 memory
	wait_until 5 vps exec deb test -s /root/sum
	expect "$(vps exec deb cat /root/sum)" same
	expect "$(vps exec deb systemctl is-system-running)" running
	vps exec deb systemctl restart cron nginx
	expect "$(vps exec deb systemctl is-active cron nginx ssh systemd-logind dbus)" $'active\nactive\nactive\nactive\nactive'
	expect "$(ssh_to "$ip" hostname)" deb
	# it ends as it always does
	vps stop deb
	expect "$(state_of deb)" stopped
	vps start deb -w
	expect "$(vps exec deb systemctl is-system-running --wait)" running
	vps delete -f deb
}

run_tests
