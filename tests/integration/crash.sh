#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root ptrace
# where: native; thousands of starts; hostboot.sh has the power cut instead
# I2: a command killed at any mutating system call leaves each VPS exactly absent, stopped or running, nothing
# orphaned, and the same command run again succeeds. VPS_FAULT_STEP=1 tries every call, CI every 7th.
. "$(dirname "$0")/../lib.sh"
tiny_image
fp=$builddir/tests/fault/faultpoint
step=${VPS_FAULT_STEP:-7}
vps launch bystander --image tiny --ip auto -- sleep 100000 >/dev/null

# state NAME - absent, stopped, running; anything else is a failure
state() {
	local line i
	for i in {1..50}; do
		line=$(vps status "$1") || { [ $? = 14 ] && echo absent; return; }
		case $line in
		*' stopped'*) echo stopped && return ;;
		*' running'*) echo running && return ;;
		*' stopping'* | *' starting'*) sleep 0.1 ;; # the monitor is at it
		*) break ;;
		esac
	done
	echo "odd: $line"
}

# strays - pids of vps commands that outlived their test
strays() {
	local p
	for p in $(pgrep -x 'vps|vps-image'); do
		grep -qszF "VPS_ROOT=$VPS_ROOT" "/proc/$p/environ" && echo "$p"
	done | paste -sd,
}
nobody() { [ -z "$(strays)" ]; }

# kill_at_each PREPARE WANTED-STATES FINAL-STATE FLAGS COMMAND...
kill_at_each() {
	local prepare=$1 wanted=$2 final=$3 flags=$4 n out now rc points=0
	shift 4
	local base
	vps delete -f -q v
	base=$(footprint | grep -v lxcfs) # started when first needed, shared by all
	for ((n = 1; ; n += step)); do
		$prepare
		rc=0
		# shellcheck disable=SC2086
		timeout -k 5 60 "$fp" $flags "$n" "$@" >"$work/.fp" 2>&1 </dev/null || rc=$?
		out=$(tail -1 "$work/.fp")
		[[ $out == completed* ]] && break
		points=$((points + 1))
		[[ $out == killed* ]] || fail "point $n: the driver said '$out' ($rc)"
		# init itself: it is on record a moment later
		[[ $out != *vps-init* ]] || vps wait v -t 10s >/dev/null 2>&1 || true
		now=$(state v)
		[[ " $wanted " == *" $now "* ]] || fail "point $n ($out): state is '$now'"
		# the same again; done already is fine too
		if [ "$now" != "$final" ]; then
			"$@" >"$work/.again" 2>&1 || fail "point $n ($out): again: $(cat "$work/.again")"
		fi
		now=$(state v)
		[ "$now" = "$final" ] || fail "point $n ($out): after the second run: '$now'"
		vps delete -f -q v || fail "point $n ($out): delete"
		find "$VPS_ROOT" "$VPS_RUN" -xdev -name '.tmp.*' -exec touch -d '1 hour ago' {} + # nobody's work
		vps host gc -q >"$work/.chk" 2>&1 || fail "point $n ($out): gc: $(cat "$work/.chk")"
		vps host check -q >"$work/.chk" 2>&1 || fail "point $n ($out): $(cat "$work/.chk")"
		wait_until 10 nobody || fail "point $n ($out): still there: $(ps -o pid,stat,wchan:20,args -p "$(strays)")"
		now=$(find "$VPS_ROOT" "$VPS_RUN" -xdev -name '.tmp.*')
		[ -z "$now" ] || fail "point $n ($out): $now"
		now=$(footprint | grep -v lxcfs)
		[ "$now" = "$base" ] || fail "point $n ($out): $(diff <(echo "$base") <(echo "$now"))"
		vps exec bystander true || fail "point $n ($out): the bystander is hurt"
	done
	vps delete -f -q v
	echo "# $points points"
	[ $points -gt 0 ]
}

nothing() { :; }
created() { vps create -q v --image tiny --ip auto --publish 9000:80 --disk 16M -- sleep 100000 >/dev/null; }
started() { created && vps start -q v; }
fresh() { vps delete -f -q v; }

test_create_killed_before_each_call() {
	kill_at_each nothing 'absent stopped' stopped '' vps create v --image tiny --ip auto --publish 9000:80 --disk 16M -- sleep 100000
}
test_create_killed_after_each_call() {
	kill_at_each nothing 'absent stopped' stopped -a vps create v --image tiny --ip auto --publish 9000:80 --disk 16M -- sleep 100000
}
test_start_killed_before_each_call() { kill_at_each created 'stopped running' running '' vps start v; }
test_start_killed_after_each_call() { kill_at_each created 'stopped running' running -a vps start v; }
test_start_one_process_killed() { kill_at_each created 'stopped running' running -o vps start v; }
test_stop_killed_before_each_call() { kill_at_each started 'stopped running' stopped '' vps stop -t 1s v; }
test_delete_killed_before_each_call() { kill_at_each created 'stopped absent' absent '' vps delete v; }
test_delete_killed_after_each_call() { kill_at_each created 'stopped absent' absent -a vps delete v; }
test_forced_delete_killed() { kill_at_each started 'running stopped absent' absent '' vps delete -f v; }
test_set_killed_before_each_call() { kill_at_each started 'running' running '' vps set v --pids 77 --memory 64M; }

test_kill_of_the_monitor_keeps_the_vps() {
	fresh
	started
	local m
	m=$(vps inspect v | jq '.[0].monitor')
	kill -9 "$m"
	vps exec v true
	expect "$(vps status v)" '*running*'
	vps stop -t 1s v
	expect "$(vps status v)" '*stopped*'
	vps delete v
}

test_kill_of_init_from_the_host() {
	fresh
	started
	local p
	p=$(vps inspect v | jq '.[0].pid')
	kill -9 "$p"
	wait_until 10 sh -c 'vps status v | grep -q stopped'
	vps start v
	vps delete -f v
}

test_kill_of_monitor_and_init() {
	fresh
	started
	local p m
	p=$(vps inspect v | jq '.[0].pid')
	m=$(vps inspect v | jq '.[0].monitor')
	kill -9 "$m" "$p"
	wait_until 10 sh -c 'vps status v | grep -q stopped'
	vps host gc -q
	vps start v
	vps delete -f v
}

test_restart_policy() {
	fresh
	vps create v --image tiny --restart on-failure -- sh -c 'echo run >>/root/runs; exit 1'
	vps start v
	wait_until 20 sh -c "[ \$(vps inspect v | jq '.[0].restarts') -ge 2 ]"
	vps stop v
	expect "$(vps status v)" '*stopped*'
	vps delete v
}

test_state_of_another_boot_is_recognised() {
	fresh
	started
	local d=$VPS_RUN/$(vps inspect v | jq '.[0].id')
	cp -a "$d" "$work/old"
	vps stop --kill v
	# as after a power loss: nothing runs, the run tree says that it did, in another boot
	sed -i 's/[0-9a-f]\{8\}-[0-9a-f]\{4\}-[0-9a-f]\{4\}-[0-9a-f]\{4\}-[0-9a-f]\{12\}/00000000-0000-0000-0000-000000000000/g' "$work/old/state.json"
	rm -rf "$d" "$work/old/ctl"
	cp -a "$work/old" "$d"
	expect "$(state v)" stopped
	vps start v
	expect "$(state v)" running
	vps delete -f v
	rm -rf "$work/old"
}

test_start_all_obeys_boot_order() {
	vps create s1 --image tiny --autostart --boot-order 1 -- sleep 1000
	vps create s2 --image tiny --autostart --boot-order 9 -- sleep 1000
	vps create s3 --image tiny -- sleep 1000
	vps host start-all --parallel 1
	expect "$(vps events --json | jq -r 'select(.event == "start") | .name' | tail -2 | tr '\n' ' ')" 's2 s1 '
	expect "$(vps status s3)" '*stopped*'
	vps delete -f s1 s2 s3
}

run_tests
