#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root
# The life of a VPS: create, launch, run, start, stop, kill, pause, restart, rename, rebuild, delete, wait.
. "$(dirname "$0")/../lib.sh"
tiny_image

test_create_makes_a_stopped_vps_and_delete_removes_it() {
	expect "$(vps create web1 --image tiny)" web1
	expect "$(vps status web1)" 'VPS 1* web1 stopped*'
	[ -d "$VPS_ROOT/instances" ]
	vps delete web1
	expect_exit 14 vps status web1
}

test_start_stop_and_states() {
	vps create a --image tiny -- sleep 1000
	vps start a
	expect "$(vps status a)" 'VPS * a running *'
	expect_exit 15 vps start a
	vps stop -t 5s a
	expect "$(vps status a)" 'VPS * a stopped*'
	expect_exit 15 vps stop a
	vps start a
	vps kill a
	vps wait a -t 10s
	expect "$(vps status a)" '*stopped*exit=137*'
	vps delete a
}

test_a_number_addresses_a_vps() {
	local id
	id=$(vps create num --image tiny --id)
	expect "$(vps status "$id")" "VPS $id num stopped*"
	vps delete "$id"
	expect_exit 14 vps status num
	# as vzctl's CTID: a number in the place of the name asks for that id
	expect "$(vps create 1234 --image tiny)" vps1234
	expect "$(vps status 1234)" 'VPS 1234 vps1234 stopped*'
	expect_exit 12 vps create 1234 --image tiny
	vps delete 1234
}

test_start_attach_returns_the_exit_code_of_init() {
	vps create code --image tiny -- sh -c 'echo out; exit 42'
	expect_exit 42 vps start --attach code
	expect "$(cat "$work/.out")" '*out*'
	vps delete code
}

test_run_gives_output_input_and_exit_code() {
	expect "$(echo hello | vps run --rm --image tiny -- cat)" hello
	expect_exit 7 vps run --rm --image tiny -- sh -c 'echo err >&2; exit 7'
	expect "$(cat "$work/.err")" err
	expect_exit 127 vps run --rm --image tiny -- /no/such/program
	expect_exit 126 vps run --rm --image tiny -- /etc/passwd
	expect_exit 137 vps run --rm --image tiny -- sh -c 'kill -9 $$'
	expect "$(vps list -aq)" ''
}

test_it_is_over_when_run_and_attach_return() {
	local i
	for i in 1 2 3; do
		expect_exit 3 vps run --image tiny over -- sh -c 'exit 3'
		expect "$(vps status over)" 'VPS * over stopped *exit=3'
		expect_exit 3 vps start --attach over
		vps delete over
	done
}

test_what_run_deleted_is_gone_at_once() {
	local i
	for i in 1 2 3 4 5; do
		vps run --rm --image tiny 4711 -- true
		expect "$(cd "$VPS_ROOT" && ls instances leases images/pins)" $'images/pins:\n\ninstances:\n\nleases:'
		expect "$(vps events --json | tail -1 | jq -r '.event')" delete
	done
}

test_run_detached_from_its_terminal_runs_on() {
	local t="tmux -L vpr$$"
	$t -f /dev/null new-session -d -x 80 -y 24 "PATH=$PATH VPS_ROOT=$VPS_ROOT VPS_RUN=$VPS_RUN \
		VPS_CONF=$VPS_CONF vps run --rm -t --image tiny det -- sh; echo left with \$?; sleep 30"
	wait_until 10 sh -c "$t capture-pane -p | grep -q '/ #'"
	$t send-keys Enter Escape .
	# and does not wait for its end, either
	wait_until 4 sh -c "$t capture-pane -p | grep -q 'left with 0'"
	$t capture-pane -p | found "detached; 'det' runs on"
	$t kill-server
	expect "$(vps status det)" '*running*'
	vps stop --kill det
	vps wait --for deleted -t 10s det
}

test_run_passes_megabytes_unchanged() {
	head -c 20000000 /dev/urandom >"$work/blob"
	local sum
	sum=$(sha256sum <"$work/blob")
	expect "$(vps run --rm --image tiny -- cat <"$work/blob" | sha256sum)" "$sum"
	rm "$work/blob"
}

test_pause_and_unpause() {
	vps launch p --image tiny -- sh -c 'while :; do date +%s%N >/tmp/now; done'
	vps pause p
	expect "$(vps status p)" '*paused*'
	local a b
	a=$(cat "$VPS_ROOT"/instances/*/disk/upper/tmp/now 2>/dev/null || echo none)
	expect_exit 15 vps pause p
	vps unpause p
	expect "$(vps status p)" '*running*'
	b=$(vps exec p cat /tmp/now)
	[ "$a" != "$b" ]
	vps pause p
	vps stop --kill p
	vps delete p
}

test_restart_gives_a_new_init() {
	vps launch r --image tiny -- sleep 1000
	local a b
	a=$(vps inspect r | jq '.[0].pid')
	vps restart -t 2s r
	b=$(vps inspect r | jq '.[0].pid')
	[ "$a" != "$b" ]
	vps delete -f r
}

test_restart_waits_until_it_is_ready() {
	vps create rw --image tiny
	printf '#!/bin/sh\nsleep 1\nexit 3\n' >"$work/init"
	chmod 755 "$work/init"
	vps cp "$work/init" rw:/sbin/init
	# an init that could say READY and ends instead: only who waits sees that
	vps restart rw
	expect_exit 15 vps restart --kill --wait rw
	expect "$(cat "$work/.err")" '*its init ended (3)*'
	vps delete rw
}

test_stop_signal_is_set_live() {
	local script='end() { echo $1 >>/root/said; rm /root/up; exit; }
		trap "end usr1" USR1; trap "end term" TERM
		touch /root/up; while :; do sleep 0.05; done'
	vps launch sig --image tiny -- sh -c "$script"
	wait_until 10 vps exec sig test -e /root/up
	vps set sig --stop-signal USR1
	vps stop -t 10s sig
	expect "$(vps cp sig:/root/said - | tar -xOf -)" usr1
	vps start sig
	wait_until 10 vps exec sig test -e /root/up
	vps set sig --stop-signal ''
	vps stop -t 10s sig
	expect "$(vps cp sig:/root/said - | tar -xOf -)" $'usr1\nterm'
	vps delete sig
}

test_gc_leaves_alone_what_others_work_on() {
	vps create g1 --image tiny -- sleep 1000
	vps start -q g1 # the firewall stands after it
	vps stop --kill -q g1
	(while :; do vps host gc -q || echo "exit $?"; done) >"$work/gc.log" 2>&1 &
	local gc=$! i a bad=0
	for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
		vps start -q g1
		vps create -q "new$i" --image tiny >/dev/null
		sleep 0.05
		expect "$(vps status g1)" '*running*' || bad=1
		vps exec g1 -- ip addr show eth0 >"$work/.eth" || bad=1
		a=$(vps inspect "new$i" | jq -r '.[0].addresses[0]')
		[ -L "$VPS_ROOT/leases/${a%/*}" ] || { echo "# no lease of new$i: $a"; bad=1; }
		vps stop --kill -q g1
	done
	kill $gc
	wait $gc || true
	expect "$(cat "$work/gc.log")" ''
	[ $bad = 0 ]
	vps delete --all -q
}

test_gc_ends_what_all_shared() {
	vps launch sh1 --image tiny -- sleep 1000
	pgrep -f "^vps-keeper $VPS_RUN" >/dev/null
	vps host gc -q
	vps exec sh1 true
	pgrep -f "^vps-keeper $VPS_RUN" >/dev/null
	vps delete -f sh1
	vps host gc -q
	expect "$(pgrep -af "(vps-keeper|lxcfs).*$VPS_RUN" || true)" ''
	expect "$(ls "$VPS_RUN")" 'events*'
	[ ! -e "$VPS_RUN/keeper" ] && [ ! -e "$VPS_RUN/lxcfs" ]
}

test_the_sysv_script_brings_autostart_back() {
	local script=$builddir/etc/init.d/vps
	export VPS=$builddir/vps
	vps create au --image tiny --autostart -- sleep 1000
	vps create no --image tiny -- sleep 1000
	expect_exit 3 "$script" status
	"$script" start
	"$script" status
	expect "$(vps list -q)" au
	expect "$("$script" restart >/dev/null && vps list -q)" au
	vps start no
	"$script" stop
	expect "$(vps list -q)" ''
	expect_exit 3 "$script" status
	vps delete au no
}

test_profiles_hold_defaults() {
	printf '# a plan\nmemory = 64M\ncpus = 0.5\nlabel = plan=small\nlabel = a=b\n' >"$work/small.conf"
	mkdir -p "$work/profiles"
	printf 'memory = 256M\n' >"$work/profiles/big.conf"
	printf '[defaults]\nimage = tiny\npids = 100\nmemory = 32M\n' >"$VPS_CONF"
	vps create p0
	vps create p1 --profile "$work/small.conf"
	vps create p2 -p "$work/small.conf" -p big --cpus 2 --label plan=own
	expect "$(vps list -a -H -o name,memory,cpus,labels p0 p1 p2 | tr -s ' ')" \
		$'p0 32M - -\np1 64M 0.5 plan=small,a=b\np2 256M 2 a=b,plan=own'
	expect "$(vps inspect p2 | jq '.[0].spec.pids')" 100
	: >"$VPS_CONF"
	vps delete p0 p1 p2
	echo 'memory = banana' >"$work/small.conf"
	expect_exit 11 vps create p3 --image tiny -p "$work/small.conf"
	expect "$(cat "$work/.err")" '*small.conf:1: memory:*'
	expect_exit 11 vps create p3 --image tiny -p nowhere
	expect "$(vps list -aq)" ''
}

test_restart_policies() {
	vps create no --image tiny -- false
	vps create twice --image tiny --restart on-failure:1 -- sh -c 'echo try; exit 3'
	vps create good --image tiny --restart on-failure -- true
	vps create ever --image tiny --restart always -- sh -c 'sleep 0.1'
	vps start no twice good ever
	vps wait -t 10s no
	vps wait -t 10s good
	wait_until 10 sh -c '[ $(vps logs twice | wc -l) = 2 ]'
	vps wait -t 10s twice
	expect "$(vps logs twice)" $'try\ntry'
	expect "$(vps status twice)" '*stopped*exit=3'
	expect "$(vps events --json --event restart | jq -r '.name' | sort -u | tr '\n' ' ')" 'ever twice '
	wait_until 10 sh -c 'vps status ever | grep -q restarting'
	vps stop ever
	expect "$(vps status ever)" '*stopped*'
	sleep 1.2
	expect "$(vps list -q)" ''
	vps delete no twice good ever
}

test_several_names_in_parallel() {
	local i
	mkdir -m 777 "$work/met"
	for i in 1 2 3 4; do
		# asked to stop, each waits for the other three: one after the other they would be killed
		vps launch "n$i" --image tiny --mount "$work/met:/met" -- \
			sh -c 'trap "touch /met/$(hostname); until [ \$(ls /met | wc -l) = 4 ]; do sleep 0.02; done; exit 0" TERM
				touch /tmp/up; while :; do sleep 0.02; done'
		wait_until 10 vps exec "n$i" test -e /tmp/up
	done
	# the others are stopped, the one that is not there gives the exit status
	expect_exit 14 vps stop n1 nobody n2 n3 n4
	expect "$(vps inspect n1 n2 n3 n4 | jq -c '[.[].exit_code]')" '\[0,0,0,0\]'
	expect "$(sort "$work/.out" | tr '\n' ' ')" 'n1 n2 n3 n4 '
	expect "$(cat "$work/.err")" "*'nobody'*"
	expect_exit 2 vps start n1 --all
	expect "$(vps start -q --all; vps list -q | wc -l)" 4
	vps pause --all
	expect "$(vps list -H -o status | sort -u)" paused
	vps unpause --all
	vps kill --all
	for i in 1 2 3 4; do vps wait -t 10s "n$i"; done
	vps delete --all
}

test_run_in_the_background() {
	expect "$(vps run -d --image tiny bg -- sleep 1000)" bg
	expect "$(vps status bg)" '*running*'
	vps delete -f bg
	vps run -d --rm --image tiny gone -- sleep 0.2
	vps wait --for deleted -t 10s gone
	expect_exit 2 vps run --rm --restart always --image tiny -- true
}

test_signals_reach_the_command_of_run() {
	vps run --rm --image tiny -- sh -c 'trap "echo got; exit 9" TERM; echo up; while :; do sleep 0.05; done' >"$work/o" &
	local run=$! r=0
	wait_until 10 grep -q up "$work/o"
	kill -TERM $run
	wait $run || r=$?
	expect "$r $(tail -1 "$work/o")" '9 got'
	expect "$(vps list -aq)" ''
}

test_rename_keeps_everything() {
	local id
	id=$(vps create old --image tiny --id)
	vps rename old new
	expect "$(vps status new)" "VPS $id new *"
	expect_exit 14 vps status old
	vps create old --image tiny
	expect_exit 12 vps rename old new
	vps delete old new
}

test_rebuild_gives_a_fresh_disk_and_keeps_the_address() {
	vps launch rb --image tiny --ip auto -- sleep 1000
	local ip
	ip=$(vps list -H -o ip rb)
	vps exec rb -- sh -c 'echo mine >/root/file'
	expect_exit 15 vps rebuild rb
	vps stop -t 1s rb
	vps rebuild rb
	vps start rb
	expect_exit 1 vps exec rb -- test -e /root/file
	expect "$(vps list -H -o ip rb)" "$ip"
	vps delete -f rb
}

test_data_survives_a_stop() {
	vps launch keep --image tiny -- sleep 1000
	vps exec keep -- sh -c 'echo kept >/root/file'
	vps restart --kill keep
	expect "$(vps exec keep cat /root/file)" kept
	vps delete -f keep
}

test_wait_does_not_miss_the_end() {
	vps launch w --image tiny -- sh -c 'sleep 1; exit 3'
	expect "$(vps wait w -t 20s)" 3
	expect_exit 10 vps wait w --for running -t 300ms
	expect "$(cat "$work/.err")" "*'w' is not running in time*"
	expect_exit 10 vps wait "$(vps list -a -H -o id w | tr -d ' ')" --for running -t 100ms
	expect "$(cat "$work/.err")" "*'w' is not running in time*"
	vps delete w
}

test_many_at_once() {
	for i in 1 2 3 4 5 6 7 8; do vps create "m$i" --image tiny -- sleep 1000 & done
	wait
	vps start --all
	expect "$(vps list -q | wc -l)" 8
	vps stop --all --kill
	vps delete --all
	expect "$(vps list -aq)" ''
}

test_the_words_of_other_tools_are_understood() {
	expect "$(vps run -i --rm --name dock -e A=b -m 64M -v /etc:/host:ro --network none --image tiny -- \
		sh -c 'echo $A; ls /host/passwd; hostname' </dev/null)" $'b\n/host/passwd\ndock'
	# vzctl's
	vps create 2001 --ostemplate tiny --ram 64M --diskspace 100M --cpuunits 200 --onboot --nameserver 192.0.2.1
	expect "$(vps inspect 2001 | jq -c '.[0].spec | [.memory, .disk, .cpu_weight, .autostart]')" \
		'\[67108864,104857600,200,true]'
	vps destroy 2001
	expect "$(vps ps -a -q)" ''
}

test_bad_input_is_refused_in_words() {
	expect_exit 13 vps create x --image no/such:image
	expect_exit 2 vps create 'Bad Name' --image tiny
	expect_exit 2 vps create ../x --image tiny
	expect_exit 2 vps create x --image tiny --memory banana
	expect_exit 2 vps create x --image tiny --memory 0
	expect_exit 2 vps create x --image tiny --cpus -1
	expect_exit 2 vps create x --image tiny --frobnicate
	expect_exit 2 vps create x --image tiny --memroy 1G
	expect "$(cat "$work/.err")" '*did you mean*--memory*'
	expect_exit 2 vps create x
	expect_exit 2 vps strat x
	expect "$(cat "$work/.err")" '*did you mean*start*'
	expect "$(vps list -aq)" ''
	vps create x --image tiny
	expect_exit 12 vps create x --image tiny
	expect_exit 14 vps start nobody
	vps delete x
}

test_options_reach_the_definition() {
	vps create full --image tiny --hostname h.example --memory 64M --cpus 1.5 --pids 50 --env A=b \
		--label team=x --restart on-failure --autostart --boot-order 5 --dns 192.0.2.1
	local j
	j=$(vps inspect full)
	expect "$(jq -r '.[0].spec.hostname' <<<"$j")" h.example
	expect "$(jq -r '.[0].spec.memory' <<<"$j")" 67108864
	expect "$(vps list -a -H -o cpus,bootorder,autostart,labels full | tr -s ' ')" '1.5 5 yes team=x'
	vps delete full
}

run_tests
