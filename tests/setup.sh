# SPDX-License-Identifier: GPL-2.0-or-later
# Shell functions for examples/quickstart and tests/run: install what is missing, build out of tree.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

need_root() {
	[ "$(id -u)" = 0 ] || die "this needs root: it makes namespaces, cgroups and interfaces; try: sudo $0"
}

# need_packages KIND... - install the packages of packages.list that are not there
need_packages() {
	local kinds=" $* " kind pkg missing=()
	local installed
	installed=$(dpkg-query -W -f '${Status} ${Package}\n' 2>/dev/null | sed -n 's/^install ok installed //p')
	while read -r kind pkg; do
		case $kind in '' | '#'*) continue ;; esac
		[[ $kinds == *" $kind "* ]] || continue
		grep -qxF "$pkg" <<<"$installed" || missing+=("$pkg")
	done <"$top/packages.list"
	[ ${#missing[@]} = 0 ] && return 0
	say "installing: ${missing[*]}"
	local log
	log=$(mktemp)
	if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
		-o Dpkg::Use-Pty=0 install "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
		tail -20 "$log" >&2
		rm -f "$log"
		die "apt-get could not install: ${missing[*]}"
	fi
	rm -f "$log"
}

# make_in DIR [TARGET...] - tells what it does on a terminal only, or when it fails
make_in() {
	if [ -t 1 ]; then
		make -s -j"$(nproc)" -C "$@"
	else
		make -s -j"$(nproc)" -C "$@" >"$1/make.log" 2>&1 || { tail -60 "$1/make.log" >&2; return 1; }
	fi
}

# build DIR [CONFIGURE-ARG...] - bootstrap when needed, configure once, make ($goals)
build() {
	local dir=$1
	shift
	if [ ! -x "$top/configure" ] || [ "$top/configure.ac" -nt "$top/configure" ]; then
		say "bootstrap"
		"$top/bootstrap" >/dev/null 2>&1 || "$top/bootstrap" || die "bootstrap failed"
	fi
	mkdir -p "$dir"
	(
		cd "$dir" || exit 1
		if [ ! -f Makefile ] || [ "$(cat .configured 2>/dev/null)" != "$*" ]; then
			say "configure $*"
			"$top/configure" -q "$@" || exit 1
			printf '%s' "$*" >.configured
		fi
		say "make${goals:+ $goals}"
		# shellcheck disable=SC2086
		make_in . ${goals:-}
	) || die "the build in $dir failed"
}

# busybox_rootfs DIR - the tiny image's tree: static busybox and its names
busybox_rootfs() {
	local dir=$1 bb
	bb=$(command -v busybox) || die "busybox is missing (package busybox-static)"
	mkdir -p "$dir"/{bin,sbin,etc,dev,proc,sys,tmp,run,root,var/www,usr/bin,usr/sbin}
	cp "$bb" "$dir/bin/busybox"
	"$bb" --list-full | while read -r name; do
		[ "${name##*/}" = busybox ] && continue
		mkdir -p "$dir/${name%/*}"
		[ "${name##*/}" = init ] || ln -sf /bin/busybox "$dir/$name"
	done
	chmod 1777 "$dir/tmp"
	chmod 700 "$dir/root"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$dir/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$dir/etc/group"
	printf 'tiny\n' >"$dir/etc/hostname"
	echo '<h1>hello from a tiny VPS</h1>' >"$dir/var/www/index.html"
}

# debian_tar [PACKAGES] - path of the cached root of a Debian 12 with systemd and the usual services, and those packages. Made once,
# keyed by what it is made from.
debian_packages=systemd,systemd-sysv,dbus,libpam-systemd,cron,openssh-server,nginx-light,iproute2,iputils-ping,procps,ifupdown,netbase,less
debian_key() { printf '%s' "bookworm 1 $debian_packages${1:+,$1}" | sha256sum | cut -c1-16; }
debian_tar() {
	local dir=${VPS_TEST_CACHE:-/var/cache/vps-tests} tar tmp
	tar=$dir/debian-$(debian_key "${1:-}").tar tmp=$dir/debian-$(debian_key "${1:-}").tmp.$$.tar
	if [ ! -f "$tar" ]; then
		mkdir -p "$dir"
		mmdebstrap --quiet --variant=minbase --include="$debian_packages${1:+,$1}" bookworm "$tmp" >"$tmp.log" 2>&1 </dev/null ||
			{ tail -5 "$tmp.log" >&2; rm -f "$tmp" "$tmp.log"; return 1; }
		rm -f "$tmp.log"
		mv "$tmp" "$tar"
	fi
	echo "$tar"
}

# unpacked NAME SUITE PACKAGE PROGRAM [ARGS] - path of a program of a later Debian, unpacked (not installed) into the cache and
# started by the dynamic loader that came with it. ARGS are text of a shell, where $r is its root.
unpacked() {
	local name=$1 suite=$2 package=$3 program=$4 args=${5:-} dir=${VPS_TEST_CACHE:-/var/cache/vps-tests}/$1-$2 tmp
	if [ ! -x "$dir/$name" ]; then
		mkdir -p "${dir%/*}"
		tmp=$(mktemp -d "$dir.XXXXXX") || return
		mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' --include="$package" "$suite" "$tmp/root" \
			"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$tmp.log" 2>&1 </dev/null ||
			{ tail -5 "$tmp.log" >&2; rm -rf "$tmp" "$tmp.log"; return 1; }
		rm -f "$tmp.log"
		cat >"$tmp/$name" <<-END
			#!/bin/sh
			r=\${0%/*}/root
			exec "\$r"/usr/lib/*-linux-gnu*/ld-linux-*.so.? --library-path \\
				"\$(echo "\$r"/usr/lib/*-linux-gnu*):\$(echo "\$r"/usr/lib/*-linux-gnu*/pulseaudio)" "\$r/$program" $args "\$@"
		END
		chmod 755 "$tmp" "$tmp/$name"
		mv -T "$tmp" "$dir" 2>/dev/null || rm -rf "$tmp" # somebody else was faster
	fi
	echo "$dir/$name"
}

# criu_unpacked - that of Debian testing
criu_suite=forky
criu_unpacked() { unpacked criu $criu_suite criu usr/sbin/criu; }

# criu_program - path of a CRIU that works on this kernel: the one that the test host has brought with it, the host's own, or
# Debian testing's
criu_program() {
	local criu
	for criu in "$top/build/criu/criu" "$(command -v criu)"; do
		[ ! -x "$criu" ] || ! "$criu" check >/dev/null 2>&1 || { echo "$criu"; return; }
	done
	criu=$(criu_unpacked) || return
	"$criu" check >/dev/null 2>&1 || { echo "$criu: $("$criu" check 2>&1 | tail -1)" >&2; return 1; }
	echo "$criu"
}

# qemu_program - QEMU of Debian 13. Under that of Debian 12 nested guests stood still for minutes: a page in which much has
# run is cleared in a tenth of a second a byte.
qemu_program() {
	unpacked qemu-system-x86_64 trixie qemu-system-x86 usr/bin/qemu-system-x86_64 '-L "$r/usr/share/qemu" -L "$r/usr/share/seabios"'
}
