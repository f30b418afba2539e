#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root
# where: native; nothing of cgroups
# exec, enter, console, logs, cp, list and the other ways to look in.
. "$(dirname "$0")/../lib.sh"
tiny_image
vps launch box --image tiny --env FROM=spec -- sleep 100000 >/dev/null

test_exec_returns_the_exit_status() {
	vps exec box true
	expect_exit 1 vps exec box false
	expect_exit 42 vps exec box -- sh -c 'exit 42'
	expect_exit 137 vps exec box -- sh -c 'kill -9 $$'
	expect_exit 127 vps exec box /no/such
	expect_exit 127 vps exec box no-such-program
	expect_exit 126 vps exec box /etc/passwd
}

test_exec_streams() {
	expect "$(echo in | vps exec box cat)" in
	expect "$(vps exec box -- sh -c 'echo err >&2' 2>&1 >/dev/null)" err
	head -c 8000000 /dev/urandom >"$work/b"
	cmp "$work/b" <(vps exec box cat <"$work/b")
	# what the command left in the pipes waits for a slow reader
	expect "$(vps exec box -- head -c 100000 /dev/zero | { sleep 0.5; wc -c; })" 100000
}

test_exec_environment_user_and_directory() {
	expect "$(vps exec box -- sh -c 'echo $FROM')" spec
	expect "$(vps exec -e X=$'a\nb' box -- sh -c 'echo "$X"')" $'a\nb'
	expect "$(vps exec -u nobody box id -u)" 65534
	expect "$(vps exec -u 1000:1001 box -- sh -c 'echo $(id -u):$(id -g)')" 1000:1001
	expect "$(vps exec -C /etc box pwd)" /etc
	expect_exit 127 vps exec -C /no/such box pwd
	expect "$(vps exec box -- sh -c 'echo $HOME')" /root
}

test_exec_has_exactly_three_fds() {
	expect "$(vps exec box -- sh -c 'ls /proc/self/fd | wc -l')" 4 # ls itself opens one
	exec 9</etc/shadow
	expect "$(vps exec box -- sh -c 'ls /proc/self/fd | wc -l')" 4
}

test_exec_gives_a_terminal() {
	expect "$(script -qec 'vps exec -t box tty' /dev/null)" '*/dev/pts/*'
	expect "$(vps exec -t box -- sh -c 'stty size' </dev/null | tr -d '\r')" '* *'
	expect_exit 1 vps exec -T box tty
}

test_capabilities_all_and_none() {
	vps launch none --image tiny --cap-drop all -- sleep 1000
	expect "$(vps exec none -- awk '/^Cap(Prm|Eff|Bnd)/ {print $2}' /proc/self/status | sort -u)" \
		0000000000000000
	expect_fail vps exec none -- chown 1:1 /tmp
	vps delete -f none
	vps launch one --image tiny --cap-drop all --cap-add chown -- sleep 1000
	expect "$(vps exec one -- awk '/^CapEff/ {print $2}' /proc/self/status)" 0000000000000001
	vps exec one -- chown 1:1 /tmp
	vps delete -f one
	vps launch every --image tiny --cap-add all --cap-drop net_raw -- sleep 1000
	expect "$(vps exec every -- awk '/^CapEff/ {print $2}' /proc/self/status)" '*ffffdfff'
	vps delete -f every
	expect_exit 2 vps create x --image tiny --cap-add all --cap-drop all
}

test_exec_detached() {
	vps exec -d box -- sh -c 'sleep 0.3; echo done >/tmp/detached'
	wait_until 10 vps exec box test -s /tmp/detached
}

test_exec_of_a_stopped_vps() {
	vps create off --image tiny
	expect_exit 15 vps exec off true
	vps delete off
}

test_enter_is_a_login_shell_in_tmux() {
	tmux -L "vps$$" new-session -d -x 100 -y 30 "PATH=$PATH VPS_ROOT=$VPS_ROOT VPS_RUN=$VPS_RUN VPS_CONF=$VPS_CONF vps enter box; sleep 1"
	wait_until 10 sh -c "tmux -L vps$$ capture-pane -p | grep -q '#'"
	tmux -L "vps$$" send-keys 'stty size; hostname; exit' Enter
	wait_until 10 sh -c "tmux -L vps$$ capture-pane -p | grep -q '30 100'"
	wait_until 10 sh -c "! tmux -L vps$$ list-sessions 2>/dev/null | grep -q ."
}

test_console_shows_output_takes_input_and_detaches() {
	vps launch con --image tiny --init /bin/sh
	tmux -L "vpc$$" new-session -d -x 80 -y 24 "PATH=$PATH VPS_ROOT=$VPS_ROOT VPS_RUN=$VPS_RUN VPS_CONF=$VPS_CONF vps console con; sleep 30"
	wait_until 10 sh -c "tmux -L vpc$$ capture-pane -p | grep -q Detach"
	tmux -L "vpc$$" send-keys 'echo on-$((40+2))-console' Enter
	wait_until 10 sh -c "tmux -L vpc$$ capture-pane -p | grep -q on-42-console"
	tmux -L "vpc$$" send-keys Enter Escape .
	wait_until 10 sh -c "tmux -L vpc$$ capture-pane -p | grep -q detached"
	tmux -L "vpc$$" kill-server
	expect "$(vps status con)" '*running*'
	expect "$(vps logs con)" '*on-42-console*'
	vps delete -f con
}

test_console_asks_a_new_monitor_when_the_old_one_dies() {
	local m
	vps launch con --image tiny --init /bin/sh
	m=$(vps inspect con | jq '.[0].monitor')
	kill -STOP "$m" # it takes the connection and does not answer
	tmux -L "vpc$$" new-session -d -x 80 -y 24 "PATH=$PATH VPS_ROOT=$VPS_ROOT VPS_RUN=$VPS_RUN VPS_CONF=$VPS_CONF vps console con; sleep 30"
	wait_until 10 sh -c 'ls -l /proc/$(pgrep -f "^vps console con")/fd | grep -q socket'
	sleep 0.5
	kill -9 "$m"
	wait_until 10 sh -c "tmux -L vpc$$ capture-pane -p | grep -q Detach" || { tmux -L "vpc$$" capture-pane -p; false; }
	tmux -L "vpc$$" kill-server
	vps delete -f con
}

test_logs_keep_and_escape_what_the_console_said() {
	vps run --image tiny log -- sh -c 'printf "\033[31mred\007\n"; echo second; echo third' >/dev/null
	expect "$(vps logs log)" '*\\x1b\[31mred\\x07*second*third*'
	expect "$(vps logs -n 1 log)" third
	vps delete log
}

test_logs_and_events_are_followed() {
	vps logs -f -n 0 box >"$work/l" &
	local l=$! e
	vps events -f box >"$work/e" &
	e=$!
	wait_until 5 grep -q start "$work/e"
	vps exec box -- sh -c 'echo later >/dev/console'
	vps pause box
	vps unpause box
	wait_until 5 grep -q later "$work/l"
	wait_until 5 grep -q unpause "$work/e"
	kill $l $e
	wait $l $e || true
	expect "$(vps events --json --event pause box | jq -r '.event' | sort -u)" pause
	expect "$(vps events --since 0s box)" ''
}

test_top_and_stats_on_a_terminal() {
	local t="tmux -L vpt$$"
	$t -f /dev/null new-session -d -x 120 -y 24 "export PATH=$PATH VPS_ROOT=$VPS_ROOT VPS_RUN=$VPS_RUN \
		VPS_CONF=$VPS_CONF; vps top -i 200ms; vps top -i 200ms box; vps stats -f -i 200ms box; sleep 30"
	wait_until 10 sh -c "$t capture-pane -p | grep -q 'P-MEM%'"
	$t send-keys q
	wait_until 10 sh -c "$t capture-pane -p | grep -q 'sleep 100000'"
	# a long line is cut, many are fewer
	vps exec -d box -- sh -c 'sleep 0; sleep 500; : a command line that is longer than the screen is wide' "$(printf 'x%.0s' {1..200})"
	wait_until 10 sh -c "$t capture-pane -p | grep -q 'a command line'"
	[ "$($t capture-pane -p | grep -c x)" = 1 ]
	$t resize-window -x 120 -y 4
	sleep 0.5
	$t capture-pane -p | found HOSTPID
	$t resize-window -x 120 -y 24
	$t send-keys q
	wait_until 10 sh -c "[ \$($t capture-pane -p | grep -c ' box ') -ge 3 ]"
	$t kill-server
}

test_cp_files_both_ways() {
	echo payload >"$work/f"
	vps cp "$work/f" box:/root/
	expect "$(vps exec box cat /root/f)" payload
	expect "$(vps exec box stat -c %u:%g /root/f)" 0:0
	vps cp "$work/f" box:/root/renamed
	expect "$(vps exec box cat /root/renamed)" payload
	vps cp box:/root/renamed "$work/back"
	cmp "$work/f" "$work/back"
	mkdir -p "$work/d/sub"
	echo deep >"$work/d/sub/x"
	vps cp "$work/d" box:/tmp
	expect "$(vps exec box cat /tmp/d/sub/x)" deep
	mkdir "$work/into"
	vps cp box:/tmp/d "$work/into"
	expect "$(cat "$work/into/d/sub/x")" deep
	expect_exit 3 vps cp box:/no/such "$work/x" || true
	[ ! -e "$work/x" ]
}

test_cp_tar_streams() {
	vps cp box:/etc/passwd - | tar -tf - | found -x passwd
	echo payload >"$work/f"
	tar -C "$work" -cf - f | vps cp - box:/tmp
	vps exec box test -f /tmp/f
	# one entry takes the target's name; of two the second would overwrite the first
	echo other >"$work/g"
	tar -C "$work" -cf - f | vps cp - box:/tmp/one
	expect "$(vps exec box cat /tmp/one)" payload
	expect_exit 3 vps cp - box:/tmp/two < <(tar -C "$work" -cf - f g)
	expect "$(cat "$work/.err")" '*several entries*'
	expect "$(vps exec box cat /tmp/two)" payload
}

test_cp_of_the_whole_root_leaves_out_the_kernels_views() {
	vps cp box:/ "$work/whole"
	expect "$(cat "$work/whole/etc/passwd")" 'root:*'
	[ -d "$work/whole/proc" ] && [ -d "$work/whole/sys" ]
	expect "$(ls -A "$work/whole/proc" "$work/whole/sys" | tr -d '\n')" '*proc:*sys:'
	rm -rf "$work/whole"
	# asked for by name it comes
	vps cp box:/proc/meminfo "$work/meminfo"
	grep -q MemTotal "$work/meminfo"
}

test_cp_never_follows_the_tenants_links() {
	echo canary >"$work/canary"
	echo payload >"$work/f"
	vps exec box -- sh -c "mkdir -p /tmp/evil && ln -sfn $work /tmp/evil/link && ln -sf $work/canary /tmp/evil/file"
	vps cp "$work/f" box:/tmp/evil/file || true
	expect "$(cat "$work/canary")" canary
	vps cp "$work/f" box:/tmp/evil/link/new 2>/dev/null || true
	[ ! -e "$work/new" ]
	# a link itself comes out, not what it points to on the host; "file" is the file by now
	vps exec box -- ln -s "$work/canary" /tmp/evil/other
	vps cp box:/tmp/evil "$work/out"
	expect "$(readlink "$work/out/link")" "$work"
	expect "$(readlink "$work/out/other")" "$work/canary"
	[ ! -L "$work/out/file" ]
	expect "$(cat "$work/out/file")" payload
	# and is replaced, never written through, by the next copy
	vps exec box -- sh -c 'rm /tmp/evil/other && echo theirs >/tmp/evil/other'
	vps exec box -- sh -c 'rm /tmp/evil/link && mkdir /tmp/evil/link && echo theirs >/tmp/evil/link/new'
	expect_fail vps cp box:/tmp/evil/. "$work/out"
	vps cp box:/tmp/evil/other "$work/out/other"
	expect "$(cat "$work/out/other")" theirs
	expect "$(cat "$work/canary")" canary
	[ ! -e "$work/new" ]
}

test_cp_of_a_stopped_vps() {
	vps create st --image tiny
	vps cp "$work/f" st:/root/f
	expect "$(vps cp st:/root/f - | tar -xOf -)" payload
	vps start st
	expect "$(vps exec st cat /root/f)" payload
	vps delete -f st
}

test_list_formats() {
	vps create aa --image tiny --label k=v
	expect "$(vps list -q)" box
	expect "$(vps list -aq --sort -name)" $'box\naa'
	expect "$(vps list -a -H -o name,status -f status=stopped | tr -s ' ')" 'aa stopped'
	expect "$(vps list -a -q -f label=k=v)" aa
	expect "$(vps list --json | jq -r '.[].name')" box
	expect_exit 2 vps list -o nonsense
	expect_exit 3 sh -c 'vps list >/dev/full'
	vps delete aa
}

test_a_beginning_of_the_uuid_addresses_a_vps() {
	local u
	u=$(vps inspect box | jq -r '.[0].spec.uuid')
	u=${u%%-*}
	expect "$(vps status "$u")" 'VPS * box running*'
	expect "$(vps list -q "$u")" box
	expect "$(vps stats --json "$u" | jq -r '.[0].name')" box
	expect "$(vps top --json "$u" | jq 'length >= 1')" true
	expect "$(vps events --json "$u" | jq -r .name | sort -u)" box
	expect "$(vps list -q 0bad0bad)" ''
	expect_exit 14 vps stats 0bad0bad
	# a name goes before a uuid; digits alone would be an id
	[[ $u == *[a-f]* ]] || return 0
	vps create "$u" --image tiny
	expect "$(vps list -q "$u")" "$u"
	vps delete "$u"
}

test_stats_and_top() {
	expect "$(vps stats --json box | jq '.[0].pids_current >= 1')" true
	expect "$(vps stats --json box | jq '.[0].memory_current > 0')" true
	expect "$(vps top --json box | jq -r '.[] | select(.pid == 1) | .host_pid > 1')" true
	vps top box | found sleep
}

test_events_tell_the_story() {
	vps run --rm --image tiny story -- true
	wait_until 10 sh -c "vps events --json story | jq -r .event | tr '\n' ' ' | grep -q 'create start exit delete'"
}

test_completion_completes() {
	expect "$(vps _complete -- st)" '*start*'
	expect "$(vps _complete -- exec b)" box
	expect "$(vps _complete -- list -o '')" $'id\nname\n*labels'
	expect "$(vps _complete -- set box --restart '')" $'no\non-failure\nalways'
	expect "$(vps _complete -- wait box --for r)" '*ready*'
	expect "$(vps _complete -- rebuild -i '' | grep tiny)" tiny:latest
	expect "$(vps _complete -- help '')" '*launch*'
	# as the shell calls it
	completed() {
		bash --norc -c 'eval "$(vps completion bash)"
			COMP_WORDS=(vps "$@") COMP_CWORD=$#; _vps; echo "${COMPREPLY[*]}"' - "$@"
	}
	expect "$(completed enter b)" box
	expect "$(completed cp b)" box:
	expect "$(completed rebuild box -i tiny : l)" latest
	expect "$(completed rebuild box -i tiny :)" latest
	expect "$(completed set box --restart = on)" on-failure
	expect "$(completed set box --restart =)" 'no on-failure always'
	expect "$(completed set box --net = br)" bridge=
	bash -n <(vps completion bash)
}

run_tests
