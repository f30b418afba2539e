#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net
# where: native; precopy.sh shows CRIU at work in the test host, where all of this takes too long
# Schedules of a migration: at each step of either side, one thing goes wrong - a kill before or after it, the connection
# cut, a write that fails without or with effect, a message that comes twice, a host that loses power. Never two
# running, never none recoverable (I4); and then one more command ends it. Each schedule begins where the one before left
# the VPS. VPS_FAULT_MIGRATE: runtime/migrate/fault.h. (tests/unit/runtime_handover.c has every interleaving of more faults.)
. "$(dirname "$0")/../lib.sh"
two_hosts
ways
tiny_image host_a
host_a vps launch h1 --image tiny --disk 16M --ip auto -- sh -c 'echo start >>/root/starts; exec sleep 100000' >/dev/null
where=a other=b
how=--restart
dark= # hosts that lose power after the fault
declare -A ends=()
total=0

side() { on_host "$1" timeout -k 5 60 vps "${@:2}"; }
runs() { [ "$(side "$1" list -q 2>/dev/null)" = h1 ]; }
there() { side "$1" status h1 >/dev/null 2>&1; }
swap() { local x=$where; where=$other; other=$x; }

# What a host loses with its power: all that ran; also what is only about to
power_off() {
	local i
	for i in {1..100}; do
		side "$1" kill -s KILL h1 >/dev/null 2>&1 || true
		[ -z "$(side "$1" list -q)" ] && return
		sleep 0.1
	done
	fail "host $1 does not lose what runs"
}

# schedule ROLE:WHAT:N [ARG...] - how it ends, in $ends; fails when a property does not hold
schedule() {
	local fault=$1 status=0 from=$where
	shift
	on_host "$where" env VPS_FAULT_MIGRATE="$fault" timeout -k 5 60 vps migrate -q $how --rsh "$work/to-$other" "$@" h1 "host$other" \
		>"$work/.out" 2>"$work/.err" || status=$?
	[ $status != 124 ] || fail "$fault: hangs"
	total=$((total + 1))
	! { runs a && runs b; } || fail "$fault: two run"
	for host in $dark; do power_off "$host"; done
	there a || there b || fail "$fault: none is there"
	# whoever is asked next finds it in order, or ends it
	side "$where" migrate -q --continue --rsh "$work/to-$other" h1 >"$work/.out" 2>"$work/.continued" ||
		grep -qE 'not on its way|there is no VPS|has moved to' "$work/.continued" || fail "$fault: $(cat "$work/.err" "$work/.continued")"
	side "$where" status h1 >/dev/null 2>&1 || true
	side "$other" status h1 >/dev/null 2>&1 || true
	settle "$fault"
	local word=moved
	[ "$where" != "$from" ] || word=stayed
	ends[$word]=$((${ends[$word]:-0} + 1))
}
# exactly one has it, and it runs there; that is where the next one begins
settle() {
	local a=no b=no
	side a start h1 >/dev/null 2>&1 || true
	side b start h1 >/dev/null 2>&1 || true
	runs a && a=yes
	runs b && b=yes
	[ $a != $b ] || { cat "$work/.err"; fail "$1: in the end A runs it: $a, B: $b"; }
	if [ $a = yes ]; then where=a other=b; else where=b other=a; fi
	# what the other one may have is prepared, and no more: the next migration there takes its place
	side $where exec h1 -- grep -q start /root/starts || fail "$1: its files are gone"
}

# faults ROLE WHAT - at every step, until one too far finds nothing to disturb
faults() {
	local n=1 last=$3
	settle "before"
	while [ $n -le $last ]; do

		schedule "$1:$2:$n"
		n=$((n + 1))
	done
	[ "${ends[moved]:-0}" -gt 0 ] || fail "nothing moved at all"
	echo "$1 $2: $last schedules, moved ${ends[moved]:-0}, stayed ${ends[stayed]:-0}" >>"$work/count"
}

test_kill_at_each_step_of_the_source() { faults source kill ${source_steps}; }

test_kill_after_at_each_step_of_the_source() { faults source kill-after ${source_steps}; }

test_cut_at_each_step_of_the_source() { faults source cut ${source_steps}; }

test_full_at_each_step_of_the_source() { faults source full ${source_steps}; }

test_half_at_each_step_of_the_source() { faults source half ${source_steps}; }

test_twice_at_each_step_of_the_source() { faults source twice ${source_steps}; }

test_kill_at_each_step_of_the_destination() { faults destination kill ${destination_steps}; }

test_kill_after_at_each_step_of_the_destination() { faults destination kill-after ${destination_steps}; }

test_cut_at_each_step_of_the_destination() { faults destination cut ${destination_steps}; }

test_full_at_each_step_of_the_destination() { faults destination full ${destination_steps}; }

test_half_at_each_step_of_the_destination() { faults destination half ${destination_steps}; }

test_twice_at_each_step_of_the_destination() { faults destination twice ${destination_steps}; }


test_power_cuts_after_each_step() {
	for dark in a b 'a b'; do
		faults source kill-after $source_steps
	done
}

test_live_with_a_fault_at_each_step() {
	needs_criu
	how=--require-live
	local what starts
	settle "before"
	starts=$(side $where exec h1 -- cat /root/starts)
	for what in kill kill-after cut; do
		faults source $what $source_steps
		faults destination $what $destination_steps
	done
	# in all of that its memory was never lost
	expect "$(side $where exec h1 -- cat /root/starts)" "$starts"
}
source_steps=18 destination_steps=32
run_tests
