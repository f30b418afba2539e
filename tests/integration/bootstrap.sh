#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root mmdebstrap, and the host's Debian mirror for those that say so
# where: native; it wants a mirror
# Images made by mmdebstrap: what is in them, what is not, and what is said when it fails.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
tool=${VPS_BUILD:-$top/build/main}/tests/integration/pull_tool
command -v mmdebstrap >/dev/null || { echo "SKIP: mmdebstrap is missing"; exit 77; }
[ -x "$tool" ] || { echo "SKIP: $tool is not built"; exit 77; }
work=$(mktemp -d /var/tmp/vps-bootstrap-test.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM HUP
n=0 bad=0
tests=(unreachable odd_options unknown_suite unknown_package killed image)

boot() { "$tool" "$work/$1" "bootstrap:$2" "${@:3}"; }
fail() { echo "$*"; return 1; }
refused() { # CODE WORDS SUITE option...
	mkdir -p "$work/r"
	if boot r "${@:3}" >"$work/out" 2>&1; then fail "was not refused"; return 1; fi
	grep -q "^error $1: " "$work/out" && grep -q -- "$2" "$work/out" || { cat "$work/out"; return 1; }
	[ -z "$(find /var/tmp -maxdepth 1 -name 'vps-bootstrap.*')" ] || { fail "its folder stayed"; return 1; }
}
mirror_there() { [ -n "${mirror_ok:=$(timeout 30 mmdebstrap --simulate --quiet --variant=essential bookworm /dev/null >/dev/null 2>&1 && echo yes || echo no)}" ] && [ "$mirror_ok" = yes ]; }

t_unreachable() { refused 1010 "Could not connect" bookworm mirror http://127.0.0.1:9/debian; }
t_odd_options() {
	refused 1005 suite --help && refused 1005 include bookworm include 'a;id' &&
		refused 1005 include bookworm include '?essential' && refused 1005 variant bookworm variant custom &&
		refused 1005 mirror bookworm mirror --setup-hook=id && refused 1005 mirror bookworm mirror /etc/passwd
}
t_unknown_suite() { mirror_there || return 77; refused 1005 "Release file" nosuch; }
t_unknown_package() { mirror_there || return 77; refused 1005 "Unable to locate package nosuchpkg" bookworm include nosuchpkg bare 1; }
t_killed() {
	mirror_there || return 77
	mkdir -p "$work/k"
	"$tool" "$work/k" bootstrap:bookworm >/dev/null 2>&1 & # no function: the tool itself is to die
	sleep 4
	kill -KILL $!
	wait $! 2>/dev/null
	sleep 0.5
	if pgrep -f 'mmdebstrap.*[v]ps-bootstrap|chroot /var/tmp/[v]ps-bootstrap' >/dev/null; then fail "its helpers live on"; return 1; fi
	# the next one, though it fails early, clears away what the dead one left
	refused 1010 "Could not connect" bookworm mirror http://127.0.0.1:9/debian
}
t_image() {
	mirror_there || return 77
	local root f
	mkdir -p "$work/i"
	boot i bookworm include openssh-server as debian:12 || return 1
	root=$(echo "$work"/i/images/layers/*/fs)
	[ -L "$root/sbin/init" ] || fail "no init" || return 1
	for f in bin/login bin/ip usr/sbin/cron usr/sbin/sshd usr/bin/dbus-daemon bin/ps; do
		[ -x "$root/$f" ] || fail "no $f" || return 1
	done
	[ -f "$root/etc/machine-id" ] && [ ! -s "$root/etc/machine-id" ] || fail "a machine id" || return 1
	[ "$(cat "$root/etc/hostname")" = localhost ] && ! grep -rq "$(hostname)" "$root/etc/hosts" || fail "our host name" || return 1
	[ ! -s "$root/etc/resolv.conf" ] || fail "our resolver" || return 1
	if compgen -G "$root/etc/ssh/ssh_host_*_key" >/dev/null; then fail "host keys in the image"; return 1; fi
	grep -q 'ssh-keygen -A' "$root/etc/systemd/system/ssh.service.d/host-keys.conf" || fail "sshd would not start" || return 1
	grep -q '^root:[*!]' "$root/etc/shadow" || fail "root has a password" || return 1
	if compgen -G "$root/var/cache/apt/archives/*.deb" >/dev/null; then fail "packages in the cache"; return 1; fi
	grep -q '^deb ' "$root/etc/apt/sources.list" || fail "no sources"
}

echo "1..${#tests[@]}"
for t in "${tests[@]}"; do
	n=$((n + 1))
	status=0
	"t_$t" >"$work/log" 2>&1 </dev/null || status=$?
	case $status in
	0) echo "ok $n - bootstrap ${t//_/ }" ;;
	77) echo "ok $n - bootstrap ${t//_/ } # SKIP the mirror is out of reach" ;;
	*)
		bad=1
		echo "not ok $n - bootstrap ${t//_/ }"
		sed 's/^/# /' "$work/log" | tail -20
		;;
	esac
done
exit $bad
