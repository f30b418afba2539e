#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root docker-registry openssl python3
# where: native; its server and its faults are the same on every kernel
# Pulling from the distribution project's registry over TLS, with logins and with every fault that
# a server, a network or an attacker between may bring. Loopback only, in a network namespace of its own.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
if [ "${VPS_TEST_NETNS:-}" != registry ]; then
	VPS_TEST_NETNS=registry exec unshare --net --mount -- "$0" "$@"
fi
ip link set lo up
tool=${VPS_BUILD:-$top/build/main}/tests/integration/pull_tool
for need in docker-registry openssl python3; do
	command -v $need >/dev/null || { echo "SKIP: $need is missing"; exit 77; }
done
[ -x "$tool" ] || { echo "SKIP: $tool is not built"; exit 77; }

work=$(mktemp -d /var/tmp/vps-registry.XXXXXX)
if ! getent hosts localhost >/dev/null; then # a root that nobody gave an /etc/hosts
	cp -a /etc "$work/etc"
	echo '127.0.0.1 localhost' >>"$work/etc/hosts"
	mount --bind "$work/etc" /etc
fi
declare -A pids=()
stop() { [ -z "${pids[$1]:-}" ] || { kill -KILL "${pids[$1]}" 2>/dev/null || true; wait "${pids[$1]}" 2>/dev/null || true; unset "pids[$1]"; }; }
clean() { local p; for p in "${!pids[@]}"; do stop "$p"; done; rm -rf --one-file-system "$work"; }
trap clean EXIT
trap 'exit 130' INT TERM HUP

# ---- the cast ----------------------------------------------------------------
reg=5000 basic=5001 bearer=5002 tok=5003 px=5004 other=5005 plain=5006
ca=$work/ca.pem crt=$work/srv.pem key=$work/srv.key
helper=$here/registry_helper.py

certificates() {
	openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test-ca -days 2 -keyout "$work/ca.key" -out "$ca"
	openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$key" -out "$work/srv.csr"
	printf 'subjectAltName=DNS:localhost\n' >"$work/ext"
	openssl x509 -req -in "$work/srv.csr" -CA "$ca" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
		-extfile "$work/ext" -out "$crt"
} >/dev/null 2>&1
wait_port() { local i; for i in {1..100}; do (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done; echo "# port $1 stays closed"; return 1; }
registry() { # NAME PORT [auth lines]
	cat >"$work/$1.yml" <<-END
	version: 0.1
	log: {level: error, accesslog: {disabled: true}}
	storage: {filesystem: {rootdirectory: $work/data}, delete: {enabled: true}}
	http: {addr: "127.0.0.1:$2", tls: {certificate: $crt, key: $key}}
	${3:-}
	END
	docker-registry serve "$work/$1.yml" >"$work/$1.log" 2>&1 &
	pids[$1]=$!
	wait_port "$2"
}
proxy() { # NAME PORT [plain]
	mkdir -p "$work/$1"
	local c=$crt
	[ "${3:-}" != plain ] || c=-
	python3 "$helper" proxy "$2" "$c" "$key" "https://localhost:$reg" "$ca" "$work/$1" >"$work/$1.log" 2>&1 &
	pids[$1]=$!
	wait_port "$2"
}
cast() {
	certificates
	registry reg $reg
	# bcrypt of "open sesame", made once: no tool for it is in the base system
	printf 'ali:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n' >"$work/htpasswd"
	registry basic $basic "auth: {htpasswd: {realm: test, path: $work/htpasswd}}"
	registry bearer $bearer "auth: {token: {realm: \"https://localhost:$tok/token\", service: \"the test\", issuer: me, rootcertbundle: $ca}}"
	python3 "$helper" tokens $tok "$crt" "$key" me ali "open sesame" >"$work/tok.log" 2>&1 &
	pids[tok]=$!
	wait_port $tok
	proxy px $px
	proxy other $other
	proxy plain $plain plain
	python3 "$helper" push "https://localhost:$reg" "$ca" >"$work/digests" || { sed 's/^/# /' "$work"/*.log; return 1; }
	. "$work/digests"
}

# ---- helpers of the tests ----------------------------------------------------
store() { root=$(mktemp -d "$work/root.XXXXXX"); }
pull() { "$tool" "$root" "$1" ca "$ca" "${@:2}"; }
rules() { printf '%s\n' "$@" | grep . >"$work/px/rules" || true; : >"$work/px/log"; }
log() { cat "$work/${1:-px}/log" 2>/dev/null; }
# refused CODE WORDS command... - fails with exactly this code, says the words, and leaves nothing in the store
refused() {
	local code=$1 words=$2
	shift 2
	if "$@" >"$work/out" 2>&1; then echo "was not refused"; return 1; fi
	grep -q "^error $code: " "$work/out" && grep -qi -- "$words" "$work/out" || { cat "$work/out"; return 1; }
	if grep -q $'\x1b' "$work/out"; then echo "raw ESC on the terminal"; return 1; fi
	empty
}
empty() {
	local left
	[ -d "$root/images" ] || return 0
	left=$(cd "$root/images" && find tmp refs layers -mindepth 1 ! -path 'tmp/lock.*')
	[ -z "$left" ] || { echo "left: $left"; return 1; }
}
# absent PATTERN [who] - no request like that came; a plain "! grep" would not fail a test
absent() { if log "${2:-px}" | grep -- "$1"; then echo "must not be there: $1"; return 1; fi; }
has() { [ -n "$(find "$root/images/layers" -path "*/fs/$1" -type f)" ] || { echo "no $1 in the layers"; return 1; }; }
expect() { [ "$1" = "$2" ] || { echo "got '$1', expected '$2'"; return 1; }; }
at_least() { [ "$1" -ge "$2" ] || { echo "got $1, expected at least $2"; return 1; }; }

# ---- tests -------------------------------------------------------------------
t_pull_by_tag() { expect "$(pull localhost:$reg/test/img:v1)" "$v1"; has etc/hello; has big; }
t_pull_by_digest() { expect "$(pull "localhost:$reg/test/img@$v1")" "$v1"; }
t_docker_media_types() { expect "$(pull localhost:$reg/test/img:docker)" "$docker"; has etc/hello; }
t_same_layer_twice() { expect "$(pull localhost:$reg/test/img:twice)" "$twice"; has x; }
t_index_picks_our_architecture() {
	rules
	expect "$(pull localhost:$px/test/img:multi arch amd64)" "$amd"
	has amd
	absent "${arm#sha256:}"
	expect "$(pull localhost:$px/test/img:multi arch arm64)" "$arm"
}
t_no_such_architecture() { refused 1008 "no linux/riscv64" pull localhost:$reg/test/img:multi arch riscv64; }
t_absent_tag() { refused 1001 "not in the registry" pull localhost:$reg/test/img:nope; }
t_reference_without_host() { refused 1005 "names no registry" pull test/img:v1; }
t_unknown_ca_is_refused() { refused 1010 "certificate" "$tool" "$root" localhost:$reg/test/img:v1; }
t_wrong_host_name_is_refused() { refused 1010 "127.0.0.1" pull 127.0.0.1:$reg/test/img:v1; }
t_known_by_digest_needs_no_network() {
	pull "localhost:$px/test/img:v1"
	rules
	expect "$(pull "localhost:$px/test/img@$v1")" "$v1"
	expect "$(log)" ""
}
t_known_layers_are_not_fetched_again() {
	pull localhost:$px/test/img:v1
	rules
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
	expect "$(log | grep -c /manifests/)" 1
	expect "$(log | grep -c /blobs/)" 0
}
t_parallel_layers() {
	rules "slow 99 /blobs/ 2000000"
	expect "$(pull localhost:$px/test/img:many parallel 3)" "$many"
	expect "$(log | grep -o 'busy=.*' | sort -u | tail -1)" busy=3
	store
	rules "slow 99 /blobs/ 20000000"
	pull localhost:$px/test/img:many parallel 1
	expect "$(log | grep -o 'busy=.*' | sort -u | tail -1)" busy=1
}

t_basic_login() {
	refused 1011 "login" pull localhost:$basic/test/img:v1
	refused 1011 "refuses" pull localhost:$basic/test/img:v1 user ali password wrong
	expect "$(pull localhost:$basic/test/img:v1 user ali password 'open sesame')" "$v1"
}
t_auth_file() {
	printf '{"auths":{"example.org":{"auth":"eDp5"},"localhost:%s":{"auth":"%s"}}}' $basic \
		"$(printf 'ali:open sesame' | base64)" >"$work/auth.json"
	expect "$(pull localhost:$basic/test/img:v1 auth-file "$work/auth.json")" "$v1"
	store
	sed -i "s/localhost:$basic/localhost/" "$work/auth.json"
	refused 1011 "login" pull localhost:$basic/test/img:v1 auth-file "$work/auth.json"
}
t_token_login() {
	refused 1011 "anonymous" pull localhost:$bearer/test/img:v1
	refused 1011 "refuses user ali" pull localhost:$bearer/test/img:v1 user ali password wrong
	expect "$(pull localhost:$bearer/test/img:v1 user ali password 'open sesame')" "$v1"
}

t_cut_connection_resumes() {
	rules "cut 1 $big_layer 5000000"
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
	has big
	log | grep "$big_layer range=bytes=5000000-" >/dev/null
}
t_server_killed_and_restarted() {
	rules "slow 1 $big_layer 4000000"
	pull localhost:$px/test/img:v1 >"$work/digest" 2>"$work/err" &
	local p=$!
	sleep 1.5
	stop px
	sleep 1
	proxy px $px
	wait $p || { cat "$work/err"; return 1; }
	expect "$(cat "$work/digest")" "$v1"
	log | grep "$big_layer range=bytes=[0-9]" >/dev/null
}
t_server_gone_for_good() {
	rules "slow 1 $big_layer 4000000"
	(sleep 1.5; kill -KILL "${pids[px]}") &
	refused 1010 "gave up" pull localhost:$px/test/img:v1 retries 2
	wait $!
	stop px
	proxy px $px
}
t_body_too_short_once() {
	rules "short 1 $big_layer 7000000"
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
	log | grep "$big_layer range=bytes=7000000-" >/dev/null
}
t_body_always_too_short() {
	rules "short 99 $big_layer 0"
	refused 1010 "too early" pull localhost:$px/test/img:v1 retries 2
}
t_corrupted_blob() {
	rules "flip 9 $big_layer"
	refused 1009 "content is" pull localhost:$px/test/img:v1
}
t_corrupted_after_resume_gets_one_more_chance() {
	rules "cut 1 $big_layer 5000000" "flip 1 $big_layer"
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
	store
	rules "cut 1 $big_layer 5000000" "flip 9 $big_layer"
	refused 1009 "content is" pull localhost:$px/test/img:v1
}
t_corrupted_manifest_by_digest() {
	rules "flip 9 /manifests/"
	refused 1009 "content is" pull "localhost:$px/test/img@$v1"
}
t_server_misnames_its_manifest() {
	rules "name 9 /manifests/"
	refused 1009 "the server calls it" pull localhost:$px/test/img:v1
}
t_swapped_media_type() {
	rules "type 9 /manifests/v1 application/vnd.oci.image.index.v1+json"
	refused 1008 "" pull localhost:$px/test/img:v1
	rules "type 9 /manifests/v1 text/html"
	refused 1008 "" pull localhost:$px/test/img:v1
	# the index says manifest, the server says index
	rules "type 9 $amd application/vnd.oci.image.index.v1+json"
	refused 1008 "" pull localhost:$px/test/img:multi arch amd64
}
t_index_and_server_disagree() { refused 1008 "to the index and" pull localhost:$reg/test/img:confused arch amd64; }
t_ambiguous_document() {
	printf '{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}' >"$work/px/body"
	rules "body 9 /manifests/ application/vnd.oci.image.manifest.v1+json"
	refused 1008 "" pull localhost:$px/test/img:v1
}
t_huge_manifest() {
	head -c 6000000 /dev/zero | tr '\0' ' ' >"$work/px/body"
	rules "body 9 /manifests/ application/vnd.oci.image.manifest.v1+json"
	refused 1008 "larger than a manifest" pull localhost:$px/test/img:v1
}
t_huge_headers() {
	rules "headers 9 /manifests/"
	refused 1010 "header" pull localhost:$px/test/img:v1
}
t_redirect_to_another_host_carries_no_login() {
	: >"$work/other/log"
	rules "status 1 /nowhere/ 500" "redirect 9 /blobs/ https://localhost:$other"
	# the registry behind the proxy takes any login; what counts is who sees it
	printf '{"auths":{"localhost:%s":{"auth":"%s"}}}' $px "$(printf 'a:b' | base64)" >"$work/a.json"
	expect "$(pull localhost:$px/test/img:v1 auth-file "$work/a.json")" "$v1"
	at_least "$(log other | grep -c /blobs/)" 2
	absent 'auth=[^N]' other
}
t_login_stays_home_when_redirected() {
	# as above, with a registry that really asked: its answer goes to it, not to where it sends us
	: >"$work/other/log"
	mkdir -p "$work/home"
	python3 "$helper" proxy 5007 "$crt" "$key" "https://localhost:$basic" "$ca" "$work/home" >"$work/home.log" 2>&1 &
	pids[home]=$!
	wait_port 5007
	printf 'redirect 9 /blobs/ https://localhost:%s\n' $other >"$work/home/rules"
	expect "$(pull localhost:5007/test/img:v1 user ali password 'open sesame')" "$v1"
	log home | grep 'auth=Basic' >/dev/null
	at_least "$(log other | grep -c /blobs/)" 2
	absent 'auth=[^N]' other
}
t_redirect_with_other_content() {
	rules "redirect 9 $big_layer https://localhost:$other"
	printf 'flip 9 %s\n' "$big_layer" >"$work/other/rules"
	refused 1009 "content is" pull localhost:$px/test/img:v1
	rm "$work/other/rules"
}
t_redirect_to_plain_http_is_refused() {
	rules "redirect 9 $big_layer http://localhost:$plain"
	refused 1010 "plain http" pull localhost:$px/test/img:v1
}
t_redirect_loop() {
	rules "redirect 99 $big_layer https://localhost:$px"
	refused 1010 "redirects" pull localhost:$px/test/img:v1
}
t_too_many_requests() {
	rules "status 1 /manifests/ 429,3"
	local t0=$EPOCHREALTIME
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
	at_least "$(((${EPOCHREALTIME/./} - ${t0/./}) / 1000))" 3000
	store
	rules "status 9 /manifests/ 429,7200"
	refused 1010 "7200 s" pull localhost:$px/test/img:v1
	expect "$(log | wc -l)" 1
}
t_server_errors_pass() {
	rules "status 1 /manifests/ 500" "status 1 $big_layer 503" "status 1 $big_layer 502"
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
}
t_server_errors_stay() {
	rules "status 99 $big_layer 500"
	refused 1010 "gave up" pull localhost:$px/test/img:v1 retries 2
	expect "$(log | grep -c "$big_layer")" 3
}
t_server_says_no() {
	rules "status 9 /blobs/ 403"
	refused 1011 "says no" pull localhost:$px/test/img:v1
}
t_server_without_range() {
	rules "cut 1 $big_layer 5000000" "norange 1 $big_layer"
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
}
t_server_with_another_range() {
	rules "cut 1 $big_layer 5000000" "badrange 9 $big_layer"
	refused 1010 "another part" pull localhost:$px/test/img:v1
}
t_plain_http() {
	expect "$(pull localhost:$plain/test/img:v1 plain 1)" "$v1"
	store
	refused 1010 "loopback" pull registry.example:80/test/img:v1 plain 1
	refused 1010 "loopback" pull 127.0.0.1.example:80/test/img:v1 plain 1
}
t_killed_pull_leaves_nothing_to_the_next() {
	local i
	for i in 0.05 0.15 0.3 0.5 0.8; do
		rules "slow 9 $big_layer 20000000"
		"$tool" "$root" localhost:$px/test/img:v1 ca "$ca" >/dev/null 2>&1 & # not a subshell's pid
		local p=$!
		sleep $i
		kill -KILL $p 2>/dev/null || true
		wait $p 2>/dev/null || true
	done
	rules
	expect "$(pull localhost:$px/test/img:v1)" "$v1"
	expect "$(find "$root/images/tmp" -mindepth 1 ! -name 'lock.*' | wc -l)" 0
}

# The same by the command: its options, the configuration, what it prints and its exit codes.
t_the_command_pulls() {
	local bin=${VPS_BUILD:-$top/build/main}
	local vps=(env "VPS_LIBEXEC=$bin" "VPS_CONF=$work/vps.conf" "$bin/vps" --root "$root" --run "$work/run")
	local image="localhost:$basic/test/img"
	echo "default-registry = localhost:$basic" >"$work/vps.conf"
	rm -f "$work/err"
	expect "$("${vps[@]}" image pull -q --ca-file "$ca" --user 'ali:open sesame' "$image:v1" 2>"$work/err")" "$v1"
	expect "$(cat "$work/err")" '' # nobody watches: no bars
	expect "$("${vps[@]}" image list -q)" "$image:v1"
	# without a host the configured registry; another name; the password from the environment
	expect "$(VPS_REGISTRY_PASSWORD='open sesame' "${vps[@]}" image pull --ca-file "$ca" --user ali \
		test/img:many mine --parallel 2 | cut -d' ' -f1,3)" "mine:latest $many"
	printf '{"auths":{"localhost:%s":{"auth":"%s"}}}' $basic "$(printf 'ali:open sesame' | base64)" >"$work/a.json"
	expect "$("${vps[@]}" image pull -q --ca-file "$ca" --auth-file "$work/a.json" --arch arm64 "$image:multi" arm)" "$arm"
	# no certificate, no login, a wrong one, no server, a bad option, no such tag
	local got=() r i
	for i in "$image:v1" "--ca-file $ca $image:v1" "--ca-file $ca --user ali:no $image:v1" localhost:1/test/img:v1 \
		"--parallel 0 $image:v1" "--ca-file $ca --auth-file $work/a.json $image:nope"; do
		r=0
		# shellcheck disable=SC2086
		"${vps[@]}" image pull $i bad >/dev/null 2>&1 || r=$?
		got+=("$r")
	done
	expect "${got[*]}" "7 7 7 7 2 13"
	expect "$("${vps[@]}" image list -q | tr '\n' ' ')" "arm:latest $image:v1 mine:latest "
}

# ---- run ---------------------------------------------------------------------
cast || { echo "not ok 1 - the registries start"; exit 1; }
mapfile -t names < <(grep -oE '^t_[a-z0-9_]+' "$0")
echo "1..${#names[@]}"
n=0 bad=0
for name in "${names[@]}"; do
	n=$((n + 1))
	[ -z "${VPS_TEST_ONLY:-}" ] || [[ ${name//_/ } == *"${VPS_TEST_ONLY//_/ }"* ]] || { echo "ok $n - ${name#t_} # SKIP not asked for"; continue; }
	store
	rules
	# not in a subshell: tests restart servers
	set -E
	trap 'failed_at=${failed_at:-$LINENO}' ERR
	failed_at=
	$name >"$work/.log" 2>&1 </dev/null
	trap - ERR
	words=${name#t_}
	if [ -z "$failed_at" ]; then
		echo "ok $n - ${words//_/ }"
	else
		bad=1
		echo "not ok $n - ${words//_/ } (line $failed_at)"
		sed 's/^/# /' "$work/.log" | tail -20
	fi
done
exit $bad
