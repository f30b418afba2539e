#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root qemu; it starts a test host of its own
# where: hosts
# A host that boots: vps installed as README says, its systemd unit, reboots, and power cuts in the middle of each verb.
. "$(dirname "$0")/../lib.sh"
needs testhost
export VPS_VM_CPUS=1 # in CI others emulate CPUs beside it: two that wait for each other waste what there is

# h SHELL-LINE - in the test host
host=$top/tests/vm/host
h() { "$host" exec -t "${limit:-120}" "$1"; }
# function f here, run there
there() { h "$(declare -f "$1"); $*"; }
clean_up=$(trap -p EXIT | sed "s/^trap -- '//; s/' EXIT$//")
coproc vm { exec "$host" up; }
trap 'exec {vm[1]}>&-; $clean_up' EXIT
read -r VPS_VM <&"${vm[0]}" || { echo "Bail out! no test host"; exit 1; }
export VPS_VM

install() {
	set -e
	. tests/setup.sh
	# one at a time, so that the order can be told
	mkdir -p /etc/systemd/system/vps.service.d
	printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/vps host start-all --parallel 1\n' >/etc/systemd/system/vps.service.d/order.conf
	busybox_rootfs /var/tmp/tiny
	tar -C /var/tmp/tiny --numeric-owner --owner=0 --group=0 -cf /var/tmp/tiny.tar .
	vps image import -q /var/tmp/tiny.tar tiny
	job='trap "echo clean >>/root/ends; sync; exit 0" TERM; echo start >>/root/starts; sync; while :; do sleep 1 & wait; done'
	vps create first --image tiny --ip auto --memory 64M --autostart --boot-order 9 -- sh -c "$job"
	vps create second --image tiny --ip auto --autostart --boot-order 5 -- sh -c "$job"
	vps create third --image tiny --ip auto -- sh -c "$job"
	systemctl daemon-reload
	systemctl enable -q --now vps
	vps start third
	sync
}

# up_again [cut] - both autostart VPSes run, in order, the third does not, nothing is left over but of verbs that were cut
up_again() {
	set -e
	systemctl is-system-running --wait
	vps status first second third >/tmp/now || true
	grep -q 'first.*running' /tmp/now && grep -q 'second.*running' /tmp/now && grep -q 'third.*stopped' /tmp/now || { cat /tmp/now; systemctl status vps --no-pager; exit 1; }
	[ "$(vps events --json | jq -r 'select(.event == "start") | .name' | tr '\n' ' ')" = 'first second ' ] || { vps events; exit 1; }
	vps exec first -- ping -c 1 -W 5 "$(vps inspect second | jq -r '.[0].addresses[0]' | cut -d/ -f1)" >/dev/null
	[ "$(vps exec first -- awk '/MemTotal/ {print $2}' /proc/meminfo)" = 65536 ]
	[ "${1:-}" = cut ] || vps host check -q
}

test_install_as_the_readme_says() {
	make -s -C "$builddir" install DESTDIR="$work/inst" >/dev/null
	tar -C "$work/inst" -c . | h 'tar -C / --no-same-owner -x && test -f /usr/local/lib/systemd/system/vps.service'
	there install
}

test_reboot_stops_in_order_and_brings_back() {
	"$host" reboot
	there up_again
	expect "$(h 'vps exec first -- cat /root/starts /root/ends' | tr '\n' ' ')" 'start start clean '
	# the third was stopped by the shutdown, too, and is not started again
	h 'vps start third'
	expect "$(h 'vps exec third -- cat /root/ends')" clean
}

test_stop_of_the_unit_and_start() {
	h 'systemctl stop vps && vps list -q | wc -l' >"$work/n"
	expect "$(cat "$work/n")" 0
	h 'systemctl start vps; vps status first second'
	h 'vps status first second | grep -c running' >"$work/n"
	expect "$(cat "$work/n")" 2
}

# What each verb may leave, and what it must reach when it is run again: NAME VERB | ARGUMENTS | MAY | THEN
verbs='create|create v-create --image tiny --ip auto --publish 9001:80 --disk 16M -- sleep 1000|absent stopped|stopped
start|start v-start|stopped|running
stop|stop --kill v-stop|stopped|stopped
delete|delete v-delete|stopped absent|absent
deletef|delete -f v-deletef|stopped absent|absent
set|set v-set --memory 64M --pids 77|stopped|stopped
restart|restart --kill v-restart|stopped|running
rename|rename v-rename v-renamed|stopped absent|absent
rebuild|rebuild v-rebuild --image tiny|stopped|stopped
import|image import -q /var/tmp/tiny.tar other:1|-|-'

before_the_cut() {
	local what args may then_ n
	[ -x /vps/build/main/tests/fault/faultpoint ] || return
	sync
	while IFS='|' read -r what args may then_; do
		case $what in
		create | import) ;;
		*) vps create -q "v-$what" --image tiny --ip auto --disk 16M -- sleep 1000 >/dev/null ;;
		esac
		case $what in stop | deletef | set | restart) vps start -q "v-$what" >/dev/null ;; esac
	done <<<"$1"
	sync
	while IFS='|' read -r what args may then_; do
		n=$((1 + RANDOM % $2))
		# shellcheck disable=SC2086
		/vps/build/main/tests/fault/faultpoint -s $n vps $args </dev/null >"/run/fp.$what" 2>&1 &
	done <<<"$1"
	sleep 4 # some stand in each other's way; they are in the middle, too
	for what in /run/fp.*; do echo "${what#*.}: $(tail -1 "$what")"; done
}

after_the_cut() {
	local what args may then_ now bad=0
	systemctl is-system-running --wait
	now_is() {
		case $(vps status "$1" 2>&1) in
		*' stopped'*) echo stopped ;; *' running'*) echo running ;; *' absent') echo absent ;; *) vps status "$1" 2>&1 | head -1 ;;
		esac
	}
	wrong() { echo "# $*"; bad=1; }
	vps list -a >/dev/null || wrong "vps list fails"
	while IFS='|' read -r what args may then_; do
		[ "$may" = - ] && continue
		now=$(now_is "v-$what")
		[[ " $may " == *" $now "* ]] || wrong "$what: it is '$now'"
	done <<<"$1"
	vps host gc -q || wrong "gc"
	vps host check -q || wrong "check after gc"
	while IFS='|' read -r what args may then_; do
		[ "$what" != set ] && [ "$what" != import ] && [ "$(now_is "v-$what")" = "$then_" ] && continue
		# shellcheck disable=SC2086
		vps $args </dev/null >/dev/null 2>/tmp/err || wrong "$what again: $(cat /tmp/err)"
		[ "$then_" = - ] || [ "$(now_is "v-$what")" = "$then_" ] || wrong "$what again: it is '$(now_is "v-$what")'"
	done <<<"$1"
	[ "$(vps inspect v-set | jq '.[0].spec.pids')" = 77 ] || wrong "what was set is not"
	[ "$(vps list -aq | grep -c '^v-rename')" = 1 ] || wrong "renamed: $(vps list -aq | tr '\n' ' ')"
	for what in $(vps list -aq | grep '^v-'); do vps delete -f -q "$what" || wrong "delete $what"; done
	vps image list -q | grep '^other' | xargs -r vps image remove || wrong "images"
	vps host gc -q || wrong "gc at the end"
	[ "$(find /var/lib/vps/instances -mindepth 1 -maxdepth 1 | wc -l)" = 3 ] || wrong "$(ls /var/lib/vps/instances)"
	[ "$(find /var/lib/vps/leases /var/lib/vps/names -type f -o -type l | wc -l)" -le 9 ] || wrong "$(find /var/lib/vps/leases /var/lib/vps/names)"
	return $bad
}

power_cut() { # LAST-CALL
	h 'vps exec first -- sh -c "echo kept >/root/kept; sync"'
	h "$(declare -f before_the_cut); before_the_cut ${verbs@Q} $1"
	"$host" reset
	there up_again cut
	expect "$(h 'vps exec first -- cat /root/kept')" kept
	h "$(declare -f after_the_cut); after_the_cut ${verbs@Q}"
}
test_power_cut_early_in_every_verb() { power_cut 30; }
test_power_cut_late_or_behind_every_verb() { power_cut 150; }

run_tests
