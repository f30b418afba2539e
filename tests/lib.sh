# SPDX-License-Identifier: GPL-2.0-or-later
# The integration tests' frame. A test file is a bash script that
#
#   # needs: root net debian          requirements, beside the test
#   . "$(dirname "$0")/../lib.sh"
#   test_words_about_it() { ...; }    one function a test
#   run_tests
#
# A test fails at the first command that fails. `skip REASON` ends it as skipped. Every file runs in a
# network namespace of its own, with a state tree of its own, and must leave nothing: that is checked.
# shellcheck shell=bash
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
test_file=$(basename "$0")

in_test_host() { [ -e /dev/virtio-ports/ready ]; }

# A network namespace of our own: the machine's interfaces and firewall are not ours to touch.
if [ "${VPS_TEST_NETNS:-}" != "$test_file" ]; then
	# while the mirror can still be reached
	if grep -q 'debian_image' "$0"; then debian_tar >/dev/null || exit 1; fi
	if grep -q 'debian_tar cloud-init' "$0"; then debian_tar cloud-init >/dev/null || exit 1; fi
	if grep -q 'needs_criu' "$0"; then criu_program >/dev/null; fi
	if grep -q '^needs .*testhost' "$0" && ! in_test_host; then "$top/tests/vm/host" build || exit 1; fi
	VPS_TEST_NETNS=$test_file exec unshare --net -- "$0" "$@"
fi
ip link set lo up
# as every host, an address to speak from
ip addr add 198.18.0.1/32 dev lo
ip -6 addr add 2001:db8::1/128 dev lo nodad

builddir=${VPS_BUILD:-$top/build/main}
PATH=$builddir:$PATH
export VPS_LIBEXEC=$builddir
work=$(mktemp -d "/var/tmp/vps-test.XXXXXX")
export VPS_ROOT=$work/root VPS_RUN=$work/run VPS_CONF=$work/vps.conf
cache=${VPS_TEST_CACHE:-/var/cache/vps-tests}
mkdir -p "$VPS_ROOT" "$VPS_RUN" "$cache"
: >"$VPS_CONF"

# What must be the same before and after, as text.
footprint() {
	local root tag side
	awk -v w="$work" 'index($0, w) {print "mount", $5}' /proc/self/mountinfo
	for root in "$VPS_ROOT" "$work"/{a,b}/root; do
		tag=$(vps_tag "$root")
		find /sys/fs/cgroup -maxdepth 4 -path "*/$tag/*" -type d 2>/dev/null | sed 's/^/cgroup /'
	done
	ip -o link | awk -F': ' '{print "link", $2}'
	for side in "${!host_pids[@]}"; do
		on_host "$side" ip -o link | awk -F'[:@] *' '$2 != "lo" && $2 != "wire" {print "link", $2}'
	done
	losetup -a 2>/dev/null | grep -F "$work" | sed 's/^/loop /'
	pgrep -af "(vps-monitor|vps-keeper|lxcfs) .*$work" | sed 's/^/process /'
	stat -c 'device %n %t:%T %a %u %g' /dev/null /dev/zero /dev/tty
}
# vps_tag [ROOT] - what the interfaces and cgroups of that host begin with
vps_tag() { printf 'v%s' "$(printf '%s' "${1:-$VPS_ROOT}" | sha256sum | cut -c1-4)"; }

# Two "hosts" on one wire: each a network namespace with a --root, --run and vps.conf of its own.
#
#   two_hosts                    makes them; what they are goes with the test file, however that ends
#   host_a COMMAND...            runs it there (a program, not a shell function); host_b likewise
#   tiny_image host_a            the image there
#
# host A has 198.51.100.1 and 2001:db8:aa::1 on `wire`, gives its VPSes addresses of 10.123.1.0/24 and fd76:7073:0:1::/64
# and knows the way to host B's (2 in the place of 1). Nobody masquerades: an address is the same on both sides.
declare -A host_pids=() host_ends=()
on_host() {
	local side=$1
	shift
	nsenter --net="/proc/${host_pids[$side]}/ns/net" -- env VPS_ROOT="$work/$side/root" VPS_RUN="$work/$side/run" \
		VPS_CONF="$work/$side/vps.conf" "$@"
}
host_a() { on_host a "$@"; }
host_b() { on_host b "$@"; }

make_host() { # SIDE NUMBER - a namespace lives as long as somebody is in it: as long as our end of a pipe is open
	local side=$1 n=$2 holder
	coproc holder { exec unshare --net -- sh -c 'echo up; exec cat >/dev/null'; }
	host_pids[$side]=$holder_PID
	exec {host_ends[$side]}>&"${holder[1]}"
	read -r <&"${holder[0]}" || fail "no network namespace for host $side"
	exec {holder[0]}<&- {holder[1]}>&-
	mkdir -p "$work/$side"/{root,run}
	printf '%s\n' "pool4 = 10.123.$n.0/24" "pool6 = fd76:7073:0:$n::/64" 'nat = no' >"$work/$side/vps.conf"
}
wire_host() { # SIDE NUMBER PEER-NUMBER
	local side=$1 n=$2 peer=$3
	on_host "$side" ip link set lo up
	on_host "$side" ip addr add "198.51.100.$n/24" dev wire
	on_host "$side" ip addr add "2001:db8:aa::$n/64" dev wire nodad
	on_host "$side" ip link set wire up
	on_host "$side" ip route add "10.123.$peer.0/24" via "198.51.100.$peer"
	on_host "$side" ip route add "fd76:7073:0:$peer::/64" via "2001:db8:aa::$peer"
}
two_hosts() {
	[ ${#host_pids[@]} = 0 ] || return 0
	make_host a 1 && make_host b 2 &&
		ip link add wire netns "${host_pids[a]}" type veth peer name wire netns "${host_pids[b]}" &&
		wire_host a 1 2 && wire_host b 2 1 || { echo "Bail out! two_hosts"; exit 1; }
}
# ways - $work/to-a and $work/to-b, what leads to the other host in ssh's place (--rsh): a host's name, which means nothing
# here, then a command
ways() {
	local side
	for side in a b; do
		printf '#!/bin/sh\nshift\nexec nsenter --net=/proc/%s/ns/net env VPS_ROOT=%s VPS_RUN=%s VPS_CONF=%s "$@"\n' \
			"${host_pids[$side]}" "$work/$side"/{root,run,vps.conf} >"$work/to-$side"
		chmod +x "$work/to-$side"
	done
}
# route_hooks - the operator's own program: moves the way to the address, on the side that it leaves and on the other
route_hooks() {
	mkdir -p "$work/a/hooks" "$work/b/hooks"
	cat >"$work/a/hooks/migrate" <<-'END'
		#!/bin/sh -e
		peer=198.51.100.$(ip -4 -o addr show dev wire | grep -q 100.1/ && echo 2 || echo 1)
		case "$VPS_ROLE $*" in
		'source after handover') for a in $VPS_ADDRESSES; do case $a in *:*) ;; *) ip route replace "$a" via "$peer" ;; esac done ;;
		'destination before prepare') for a in $VPS_ADDRESSES; do case $a in *:*) ;; *) ip route del "$a" via "$peer" 2>/dev/null || : ;; esac done ;;
		esac
	END
	chmod 755 "$work/a/hooks/migrate"
	cp -p "$work/a/hooks/migrate" "$work/b/hooks/"
}
# figures - of what `vps migrate --json` printed, on our input: a line to read
figures() {
	jq -r '.[0] | def ms: (. // 0) / 1000 | floor; "# sent \(.sent) of memory \(.memory_sent), rounds \(.memory_rounds | tostring)," +
		" predicted \(.predicted_pause_us | ms) ms, pause \(.pause_us | ms) ms (there \(.pause_there_us | ms) ms), in all \(.total_us | ms) ms"'
}
# everywhere COMMAND... - here, and on both hosts where a test has them
everywhere() {
	local side status=0
	"$@" || status=1
	for side in "${!host_pids[@]}"; do
		on_host "$side" "$@" || status=1
	done
	return $status
}

before=$(footprint)

# skip REASON - ends a test, or outside of one the whole file
skip() {
	[ -n "${in_test:-}" ] || { echo "1..0 # SKIP $*"; exit 77; }
	echo "SKIP:$*" >"$work/.skip"
	exit 0
}
# needs WORD... - what a test, or outside of one the file, wants of the host; else it is skipped with the reason
needs() {
	local what why
	for what in "$@"; do
		why=
		case $what in
		cgroup2-*) grep -qsw "${what#cgroup2-}" /sys/fs/cgroup/cgroup.controllers ||
			why="the ${what#cgroup2-} controller is not on cgroup v2 here" ;;
		cgroup2) [ -f /sys/fs/cgroup/cgroup.controllers ] || why="not all of this host is cgroup v2" ;;
		# a disk that a test may format
		disk) [ -b "${VPS_TEST_DISK:-/dev/disk/by-id/virtio-blank}" ] || why="no whole disk to write on: \$VPS_TEST_DISK" ;;
		systemd) [ -d /run/systemd/system ] || why="systemd does not run this host" ;;
		kvm) grep -qwE 'svm|vmx' /proc/cpuinfo || why="no hardware virtualization" ;;
		psi) [ -r /proc/pressure/cpu ] || why="the kernel keeps no pressure (boot with psi=1)" ;;
		2cpus) [ "$(nproc)" -ge 2 ] || why="it takes two CPUs" ;;
		slow-disk) [ -b /dev/disk/by-id/virtio-slow ] || why="no disk that is slow enough to queue at" ;;
		# starts a test host of its own, so not inside one
		testhost) ! in_test_host || why="this is the test host itself" ;;
		*) command -v "$what" >/dev/null || why="$what is not installed" ;;
		esac
		[ -z "$why" ] || skip "$why"
	done
}
fail() { echo "# $*"; exit 1; }
# expect_exit CODE COMMAND... - the command must end with exactly this exit code
expect_exit() {
	local want=$1 got=0
	shift
	"$@" >"$work/.out" 2>"$work/.err" || got=$?
	[ "$got" = "$want" ] || {
		echo "# exit $got, expected $want: $*"
		sed 's/^/#   /' "$work/.out" "$work/.err"
		return 1
	}
}
# expect_fail COMMAND... - any exit code but 0
expect_fail() {
	! "$@" >"$work/.out" 2>"$work/.err" || { echo "# should have failed: $*"; return 1; }
}
# expect_clock COMMAND... - that runs date somewhere: its clock is right, however long that takes
expect_clock() {
	local before now
	before=$(date +%s)
	now=$("$@" date +%s) || return
	[ "$now" -ge $((before - 1)) ] && [ "$now" -le $(($(date +%s) + 1)) ] || fail "its clock: $now, ours: $before to $(date +%s)"
}
# expect TEXT PATTERN - glob match
expect() {
	# shellcheck disable=SC2053
	[[ $1 == $2 ]] || { echo "# got: ${1@Q}, expected: $2"; return 1; }
}
# found PATTERN - grep that reads to the end: with pipefail, -q would kill who still writes, and so fail
found() { grep "$@" >/dev/null; }
# wait_until SECONDS COMMAND... - poll a condition that has no event to wait for
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "# timed out: $*"; return 1; }
		sleep 0.1
	done
}

# tiny_image [host_a] - the image "tiny" in this test's store, or that host's
tiny_image() {
	"$@" vps image inspect tiny >/dev/null 2>&1 && return
	busybox_rootfs "$work/tiny"
	tar -C "$work/tiny" --numeric-owner --owner=0 --group=0 -cf "$work/tiny.tar" .
	"$@" vps image import -q "$work/tiny.tar" tiny >/dev/null
	rm -rf "$work/tiny" "$work/tiny.tar"
}

# debian_image [host_a]
debian_image() {
	"$@" vps image inspect debian:12 >/dev/null 2>&1 && return
	local tar
	tar=$(debian_tar) || fail "no Debian root"
	"$@" vps image import -q "$tar" debian:12 >/dev/null
}

# needs_criu - all of a file needs a CRIU that works here
needs_criu() {
	VPS_CRIU=$(criu_program) || skip "no CRIU that works on Linux $(uname -r): $VPS_CRIU"
	export VPS_CRIU
}

clean() {
	everywhere vps delete --all --force -q >/dev/null 2>&1
	everywhere vps host gc -q >/dev/null 2>&1
	# what even gc could not: by what is ours alone, never by name
	pkill -KILL -f "vps-monitor.*$work" 2>/dev/null
	local root d
	for root in "$VPS_ROOT" "$work"/{a,b}/root; do
		while read -r d; do
			rmdir "$d" 2>/dev/null
		done < <(find /sys/fs/cgroup -maxdepth 4 -name "$(vps_tag "$root")*" -type d 2>/dev/null | sort -r)
	done
	rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

# broke LINE COMMAND - says where a test broke off; not on its output, which may be somebody's to read
broke() {
	local i lines=("" "$1" "${BASH_LINENO[@]:1}")
	for ((i = 1; i < ${#BASH_SOURCE[@]} - 1; i++)); do
		[ "${BASH_SOURCE[i]}" != "$0" ] || break
	done
	echo "# $test_file, line ${lines[i]}: ${2%%$'\n'*}" >>"$work/.log"
}

# last_words - of every VPS there is, for who reads about a failed test
last_words() {
	local side vps run
	for side in '' "${!host_pids[@]}"; do
		run=(${side:+on_host "$side"} timeout 10)
		for vps in $("${run[@]}" vps list -aq); do
			echo "# $vps: $("${run[@]}" vps list -a -o name,status,pid -H | grep "^$vps "); its log ends:"
			"${run[@]}" vps logs "$vps" | tail -n 12 | tr -d '\r' | cut -c-200
		done
	done 2>&1
}
# overdue GROUP SECONDS - ends a test that hangs, and shows what it hangs at
overdue() {
	sleep "$2"
	{
		echo "# not done in $2 s:"
		ps -o pid,ppid,stat,wchan:20,time,args -e --forest | cut -c-150 | grep -v ' \['
	} >>"$work/.log" 2>&1
	kill -KILL -- "-$1"
}

# run_one N TEST - in a process group of its own, no longer than $VPS_TEST_LIMIT seconds
run_one() {
	local n=$1 name=$2 t0=$SECONDS status=0 group watch
	rm -f "$work/.skip"
	set -m
	(
		set -eE +m
		trap 'broke $LINENO "$BASH_COMMAND"' ERR
		in_test=1
		"$name"
	) >"$work/.log" 2>&1 </dev/null &
	group=$!
	overdue $group "${VPS_TEST_LIMIT:-900}" >/dev/null 2>&1 &
	watch=$!
	set +m
	wait $group 2>/dev/null
	status=$? # not behind ||: that would switch errexit off inside
	kill -KILL -- -$watch && wait $watch 2>/dev/null # SIGTERM is lost on a shell that is just beginning
	local words=${name#test_}
	words=${words//_/ }
	if [ -f "$work/.skip" ]; then
		echo "ok $n - $words # SKIP $(cut -d: -f2- "$work/.skip")"
	elif [ $status = 0 ]; then
		echo "ok $n - $words ($((SECONDS - t0)) s)"
	else
		echo "not ok $n - $words"
		{ tail -60 "$work/.log"; last_words; } | sed 's/^\(# \)\?/# /'
		remove_others # its left-overs would fail the next ones
	fi
}

# remove_others - every VPS that was not there before the first test
remove_others() {
	local side name run
	for side in '' "${!host_pids[@]}"; do
		run=(${side:+on_host "$side"})
		while read -r name; do
			[[ " $standing " == *" $side:$name "* ]] || "${run[@]}" vps delete -f -q "$name" >/dev/null 2>&1
		done < <("${run[@]}" vps list -aq)
	done
}

run_tests() {
	local names n=0 standing side
	standing=$(vps list -aq | sed 's/^/:/'
		for side in "${!host_pids[@]}"; do on_host "$side" vps list -aq | sed "s/^/$side:/"; done)
	standing=${standing//$'\n'/ }
	mapfile -t names < <(grep -oE '^test_[a-z0-9_]+' "$0")
	# only some of them: words in $VPS_TEST_ONLY
	echo "1..$((${#names[@]} + 1))"
	for name in "${names[@]}"; do
		n=$((n + 1))
		if [ -n "${VPS_TEST_ONLY:-}" ] && [[ ${name//_/ } != *"${VPS_TEST_ONLY//_/ }"* ]]; then
			echo "ok $n - ${name//_/ } # SKIP not asked for"
			continue
		fi
		run_one $n "$name"
	done
	everywhere vps delete --all --force -q >/dev/null 2>&1
	everywhere vps host gc -q >/dev/null 2>&1 # ends what all VPSes shared
	local after
	after=$(footprint)
	if [ "$before" = "$after" ] && everywhere vps host check -q >"$work/.check" 2>&1; then
		echo "ok $((n + 1)) - nothing is left behind"
	else
		echo "not ok $((n + 1)) - nothing is left behind"
		diff <(echo "$before") <(echo "$after") | sed 's/^/# /'
		sed 's/^/# /' "$work/.check" 2>/dev/null
	fi
}
