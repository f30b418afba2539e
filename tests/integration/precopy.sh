#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net criu
# Live migration with memory in rounds: where the kernel tells which pages change (natively it may not), and where it does not.
. "$(dirname "$0")/../lib.sh"
needs_criu
needs python3
two_hosts
tiny_image host_a
tiny_image host_b
ways
a_to_b() { host_a vps migrate --require-live --rsh "$work/to-b" "$@"; }
b_to_a() { host_b vps migrate --require-live --rsh "$work/to-a" "$@"; }
tracked() { grep -qs CONFIG_MEM_SOFT_DIRTY=y "/boot/config-$(uname -r)"; }

# 60 MiB, of which some are written all the time; a number each time, to whoever listens. The ticks come from a process
# of its own: one that big takes long to fork.
# shellcheck disable=SC2016
writer='BEGIN { for (i = 0; i < 500000; i++) a[i] = "some text that takes room " i }
	{ for (i = 0; i < 2000; i++) a[i] = n " other " i; print n++ + 0; fflush() }'
# shellcheck disable=SC2016
serve='export writer="$0"; echo start >>/root/starts; exec nc -l -p 99 -e sh -c "while :; do echo; sleep 0.1; done | awk \"\$writer\""'
writer_vps() { # NAME: it begins when somebody connects to port 99
	host_a vps launch "$1" --image tiny --disk 32M --memory 512M --ip auto -q -- sh -c "$serve" "$writer"
	wait_until 20 host_a vps exec "$1" -- sh -c 'netstat -ltn | grep -q :99'
}
# reader NAME - every number in turn, until `read_on` says that it was enough
reader() {
	rm -f "$work/enough"
	host_a timeout 200 python3 -c '
import os, socket, sys
s = socket.create_connection((sys.argv[1], 99), 20)
s.settimeout(60)
want, text = 0, b""
while not os.path.exists(sys.argv[2]):
    data = s.recv(4096)
    if not data: sys.exit("closed at %d" % want)
    text += data
    *lines, text = text.split(b"\n")
    for l in lines:
        if int(l) != want: sys.exit("%r in the place of %d" % (l, want))
        want += 1
    print(want, flush=True)' "$(host_a vps inspect "$1" | jq -r '.[0].addresses[0]' | cut -d/ -f1)" "$work/enough" >"$work/read" 2>&1
}
# read_on PID - the reader goes on, and nothing was missing
read_on() {
	wait_until 60 reads $(($(tail -1 "$work/read") + 5))
	touch "$work/enough"
	wait "$1" || fail "$(tail -1 "$work/read")"
}
# reads N - the reader has had so many
reads() { [ "$(tail -1 "$work/read" 2>/dev/null || echo 0)" -ge "$1" ]; }

test_rounds_make_the_pause_short() {
	tracked || skip "this kernel does not tell which pages change"
	route_hooks
	writer_vps w1
	reader w1 &
	local pid=$! out whole
	wait_until 60 reads 5
	# all in one piece, then in rounds
	out=$(a_to_b --json --downtime any w1 hostb)
	jq -e '(.[0] | [.ok, .memory_rounds, .predicted_pause_us]) == [true,[],0]' <<<"$out"
	whole=$(jq '.[0].pause_us' <<<"$out")
	sleep 2
	out=$(b_to_a --json --downtime 50ms w1 hosta)
	jq -c '.[0] | [.memory_rounds, .memory_sent, .predicted_pause_us, .pause_us, .pause_there_us]' <<<"$out"
	jq -e '(.[0] | [.ok, .mode, .started, .notes]) == [true,"live",true,[]]' <<<"$out" || fail "$out"
	jq -e '.[0].memory_rounds | length >= 2 and .[1] < .[0] / 4' <<<"$out" || fail "rounds do not shrink"
	# what differs: the rounds, and a rest that is like the last one
	jq -e '.[0] | .memory_sent < 1.2 * ((.memory_rounds | add) + .memory_rounds[-1])' <<<"$out" || fail "sent twice"
	jq -e '.[0] | .predicted_pause_us > 0 and .pause_there_us > 0 and .pause_there_us < .pause_us' <<<"$out"
	echo "pause: $((whole / 1000)) ms whole, $(jq '.[0].pause_us / 1000 | floor' <<<"$out") ms after rounds"
	jq -e ".[0].pause_us < $whole * 2 / 3" <<<"$out" || fail "it is no shorter than $whole us"
	# two more migrations, each with a chain of its own
	a_to_b -q w1 hostb
	b_to_a -q w1 hosta
	read_on $pid
	expect "$(host_a vps cp w1:/root/starts - | tar -xO)" start
	rm -r "$work"/[ab]/hooks
	host_a vps delete -f w1
}

test_a_target_that_is_met_ends_the_rounds() {
	tracked || skip "this kernel does not tell which pages change"
	writer_vps w2
	local out
	out=$(a_to_b --json --downtime 60s w2 hostb)
	jq -e '(.[0] | [.ok, (.memory_rounds | length)]) == [true,1]' <<<"$out"
	host_b vps delete -f w2
}

test_without_tracking_it_moves_in_one_piece() {
	host_a vps launch w3 --image tiny --disk 32M --ip none -q -- sleep 1000
	local out
	out=$(a_to_b --json w3 hostb)
	jq -e '(.[0] | [.ok, .mode, .started]) == [true,"live",true]' <<<"$out"
	tracked || expect "$(jq -r '.[0].notes[0]' <<<"$out")" '*not copied ahead*CONFIG_MEM_SOFT_DIRTY*'
	out=$(b_to_a --json --downtime any w3 hosta)
	jq -e '(.[0] | [.ok, .notes, .memory_rounds]) == [true,[],[]]' <<<"$out"
	expect_exit 2 a_to_b --downtime 0 w3 hostb
	expect_exit 2 a_to_b --downtime soon w3 hostb
	host_a vps delete -f w3
}

# undone: whoever ends it between rounds, the VPS goes on here, and nothing of its memory stays on the disk
test_undone_between_rounds() {
	tracked || skip "this kernel does not tell which pages change"
	writer_vps w4
	reader w4 &
	local pid=$! sig memory status
	memory=$work/a/root/instances/$(host_a vps inspect w4 | jq '.[0].id')/moving
	wait_until 60 reads 5
	for sig in INT KILL; do
		host_a vps migrate -q --require-live --limit 2M --rsh "$work/to-b" w4 hostb >"$work/.out" 2>"$work/.err" &
		wait_until 60 ls "$memory"/1/pages-1.img
		sleep 1
		# it can be asked meanwhile
		host_a vps exec w4 -- true
		kill -$sig "$(pgrep -P $!)"
		status=0
		wait $! || status=$?
		host_a vps exec w4 -- true
		[ $sig = KILL ] || [ $status = 130 ] || fail "exit $status: $(cat "$work/.err")"
		[ $sig = INT ] || host_a vps set w4 --label "after=kill"
		[ ! -e "$memory" ] || fail "after SIG$sig: $(ls -R "$memory")"
		expect "$(ls "$work/a/root/instances"/*/handover.json 2>/dev/null)" ''
		expect "$(host_a vps list -a -H -o status w4)" running
	done
	read_on $pid
	expect "$(host_a vps cp w4:/root/starts - | tar -xO)" start # its reader has gone, and so has it
	host_a vps delete -f w4
}

run_tests
