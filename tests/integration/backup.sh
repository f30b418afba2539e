#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root python3
# where: native; kills at many points; in the test host unit/images_disk_copy and microvm.sh see what is another there
# Backups and restores: whole, incremental, while it runs, onto another host; damaged, hostile and interrupted ones.
. "$(dirname "$0")/../lib.sh"
needs python3 setfattr setcap
tiny_image

original() {
	vps delete -f -q a 2>/dev/null || true
	rm -f "$work"/*.vps
	tiny_image
	vps launch -q a --image tiny --disk 32M --memory 64M --label tier=web "$@" -- sleep 100000 >/dev/null
	vps exec a sh -c 'echo data >/data; ln /data /hard; ln -s nowhere /soft; mkdir -p /d/e; chown 1000:1001 /d/e; chmod 4711 /data
		rm /etc/passwd; rm -r /tmp; mkdir -m 1777 /tmp; echo t >/tmp/t; mkfifo /fifo; head -c 3000000 /dev/urandom >/big; truncate -s 5M /sparse; touch -d "2001-02-03 04:05" /d'
	sleep 0.05 # what was written in the tick before a backup may have changed after it, for all that its ctime tells
}
spec() { vps inspect "$1" | jq -r ".[0].spec.$2 // .[0].$2"; }
# look NAME - all of its root, as text
look() {
	vps exec "$1" sh -c 'cd /; find . -xdev ! -path "./dev*" ! -path "./proc*" ! -path "./sys*" ! -path "./run*" ! -path "./etc/resolv.conf" |
		sort | while read -r f; do stat -c "%n %a %u %g %s %h %F" "$f" | sed "s/ [0-9]* [0-9]* directory/ directory/"; [ -f "$f" ] && sha256sum "$f"; done; stat -c %y /d; readlink /soft; true'
}
images() { vps image list -q | wc -l; }
# nothing_came - of a restore that failed
nothing_came() {
	expect "$(vps list -aq | paste -sd' ')" "${1:-}"
	expect "$(ls "$VPS_ROOT/images/pins" | wc -l)" "${2:-0}"
	vps host check -q
}

test_back_as_it_was() {
	original --ip 10.9.0.7
	look a >"$work/before"
	local uuid
	uuid=$(spec a uuid)
	expect "$(vps backup a -o "$work/a.vps")" '*a.vps  sha256:*'
	expect "$(stat -c %a "$work/a.vps")" 600
	expect_exit 12 vps backup a -o "$work/a.vps"
	expect_exit 12 vps restore "$work/a.vps"
	expect_exit 12 vps restore "$work/a.vps" --name b # the address
	nothing_came a 1
	vps delete -f a
	vps image remove -f tiny
	vps image gc -q
	expect "$(vps restore "$work/a.vps")" a
	expect "$(vps status a)" '*stopped*'
	vps start a
	look a >"$work/after"
	diff "$work/before" "$work/after"
	expect "$(spec a uuid)" "$uuid"
	expect "$(spec a memory)" 67108864
	[[ $(vps exec a ip addr show dev eth0) == *10.9.0.7/* ]]
	# out of a pipe, beside it, and somebody else
	vps restore --name b --new-identity --memory 96M - <"$work/a.vps" >/dev/null
	vps start b
	expect "$(vps exec b cat /data)" data
	[ "$(spec b uuid)" != "$uuid" ]
	expect "$(vps exec b cat /etc/hostname)" b
	expect "$(spec b memory)" 100663296
	vps delete -f a b
	vps image gc -q
	tiny_image
}

test_of_stopped_ones_and_snapshots_and_without_image() {
	original --net none
	vps snapshot create -q a s
	vps exec a sh -c 'echo later >/data'
	vps backup a -q --snapshot s -o "$work/s.vps"
	vps stop -t 1s a
	vps backup a -q --no-image --compress none -o "$work/n.vps"
	vps restore -q "$work/s.vps" --name s >/dev/null
	vps restore -q "$work/n.vps" --name n >/dev/null
	vps start s n
	expect "$(vps exec s cat /data)" data
	expect "$(vps exec n cat /data)" later
	vps delete -f a s n
	# where the image is not
	vps image remove -f tiny
	vps image gc -q
	expect_exit 13 vps restore "$work/n.vps"
	nothing_came
	tiny_image
}

test_other_kinds_of_disks() {
	local d
	vps delete -f -q a 2>/dev/null || true
	vps launch -q a --image tiny --disk max --disk-backend dir --net none -- sleep 100000 >/dev/null
	vps exec a sh -c 'echo x >/f; rm /etc/passwd'
	vps backup a -q -o "$work/d.vps"
	vps restore -q "$work/d.vps" --name b --disk 32M --disk-backend loop >/dev/null
	vps start b
	expect "$(vps exec b cat /f)" x
	expect_fail vps exec b ls /etc/passwd
	vps delete -f a b
}

test_while_files_change() {
	original --net none
	vps exec a sh -c 'mkdir /w; (i=0; while :; do i=$((i + 1)); f=$((i % 300)); { echo $f; echo $f; } >/w/.t; mv /w/.t /w/$f; done) >/dev/null 2>&1 </dev/null &'
	local n
	for n in 1 2 3; do
		vps backup a -q -o "$work/$n.vps"
		vps restore -q "$work/$n.vps" --name b >/dev/null
		vps start b
		vps exec b sh -c 'cd /w && for f in [0-9]*; do [ "$(echo $(cat $f))" = "$f $f" ] || { [ ! -s $f ] || exit 1; }; done'
		vps delete -f b
	done
	vps delete -f a
}

test_incremental() {

	original --net none
	vps backup a -q -o "$work/0.vps"
	vps exec a sh -c 'echo 1 >/one; rm /soft'
	vps backup a -q -o "$work/1.vps" --base "$work/0.vps"
	vps exec a sh -c 'echo 2 >/two; head -c 100000 /dev/urandom >/more'
	vps backup a -q -o "$work/2.vps" --base "$work/1.vps"
	look a >"$work/before"
	[ "$(stat -c %s "$work/1.vps")" -lt "$(($(stat -c %s "$work/0.vps") / 3))" ]
	expect_exit 2 vps restore "$work/2.vps" --name b
	grep -q 'incremental to another' "$work/.err"
	expect_exit 2 vps restore "$work/2.vps" --name b --base "$work/1.vps"
	expect_exit 2 vps restore "$work/2.vps" --name b --base "$work/0.vps"
	expect_exit 3 vps restore "$work/2.vps" --name b --base "$work/none.vps"
	expect_exit 2 vps restore "$work/2.vps" --name b --base /dev/null
	nothing_came a 1
	vps restore -q "$work/2.vps" --name b --base "$work/0.vps" --base "$work/1.vps" >/dev/null
	vps start b
	look b >"$work/after"
	diff "$work/before" "$work/after"
	vps delete -f b
	vps restore -q "$work/1.vps" --name b --base "$work/0.vps" >/dev/null
	vps start b
	expect "$(vps exec b cat /one)" 1
	expect_fail vps exec b ls /two
	vps delete -f b
	# a base that was damaged meanwhile
	printf X | dd of="$work/0.vps" bs=1 seek=3000 conv=notrunc 2>/dev/null
	expect_exit 6 vps restore "$work/1.vps" --name b --base "$work/0.vps"
	expect_exit 6 vps backup a -o "$work/3.vps" --base "$work/0.vps"
	[ ! -e "$work/3.vps" ]
	vps delete -f a
}

test_cut_off_or_changed() {
	original --net none
	vps exec a rm /big
	vps backup a -q -o "$work/a.vps"
	vps delete -f a
	vps image remove -f tiny
	vps image gc -q
	local size n
	size=$(stat -c %s "$work/a.vps")
	for n in 0 1 23 24 100 $((size / 4)) $((size / 2)) $((size - 81)) $((size - 1)); do
		head -c "$n" "$work/a.vps" >"$work/cut.vps"
		expect_fail vps restore "$work/cut.vps" || fail "cut at $n"
		grep -qE 'cut off|no stream' "$work/.err" || fail "cut at $n: $(cat "$work/.err")"
		nothing_came
	done
	for n in $(seq 5 $((size / 11)) $((size - 1))); do
		cp "$work/a.vps" "$work/cut.vps"
		python3 -c "import sys; f = open(sys.argv[1], 'r+b'); n = int(sys.argv[2]); f.seek(n); b = f.read(1)[0] ^ 0x40; f.seek(n); f.write(bytes([b]))" "$work/cut.vps" "$n"
		expect_exit 6 vps restore "$work/cut.vps" || fail "flip at $n"
		nothing_came
	done
	expect_exit 6 vps restore /dev/null
	expect_exit 6 vps restore "$0"
	vps image gc -q
	expect "$(ls "$VPS_ROOT/images/layers" | wc -l)" 0
	vps restore -q "$work/a.vps" >/dev/null
	vps delete a
	vps image gc -q
	tiny_image
}

# forge FILE PYTHON - a stream with right sums; PYTHON changes recs, a list of [type, bytes]
forge() {
	python3 - "$work/a.vps" "$1" "$2" <<'PY'
import hashlib, json, struct, subprocess, sys
raw = open(sys.argv[1], 'rb').read()
recs, at = [], 24
while at < len(raw):
    t, fl, n, plain, z = struct.unpack_from('<HHIII', raw, at)
    b = raw[at + 16:at + 16 + n]
    if fl & 1:
        b = subprocess.run(['zstd', '-dcq'], input=b, capture_output=True, check=True).stdout
    recs.append([t, b])
    at += 16 + n + 32
recs.pop()
META, SPEC, SECCOMP, PART, CHUNK, REF, PARTEND = range(1, 8)
def first(t): return next(r for r in recs if r[0] == t)
def spec(**k):
    j = json.loads(first(SPEC)[1]); j.update(k); first(SPEC)[1] = json.dumps(j).encode()
def meta(**k):
    j = json.loads(first(META)[1]); j.update(k); first(META)[1] = json.dumps(j).encode()
exec(sys.argv[3])
out = raw[:24]
s = hashlib.sha256(out).digest()
recs.append([0, struct.pack('<QQ', len(recs), sum(len(b) for t, b in recs))])
for t, b in recs:
    h = struct.pack('<HHIII', t, 0, len(b), len(b), 0)
    s = hashlib.sha256(s + h + b).digest()
    out += h + b + s
open(sys.argv[2], 'wb').write(out)
PY
}

# refused PATTERN PYTHON
refused() {
	forge "$work/f.vps" "$2"
	expect_fail vps restore "$work/f.vps" --name b || fail "taken: $2"
	grep -qE "$1" "$work/.err" || fail "$2: $(cat "$work/.err")"
	nothing_came a 1
}
test_forged() {
	original --net none
	vps exec a rm /big
	vps backup a -q -o "$work/a.vps"
	forge "$work/f.vps" 'pass'
	vps restore -q "$work/f.vps" --name b >/dev/null
	vps delete b
	# what is the host's is not a backup's to give away
	refused 'trust.*|.*trust' 'spec(mounts=[{"src": "/etc", "dst": "/host", "ro": False}])'
	refused 'trust' 'spec(devices=["/dev/sda:rwm"])'
	refused 'trust' 'spec(cap_add=["CAP_SYS_ADMIN"])'
	refused 'trust' 'spec(seccomp="unconfined")'
	refused 'trust' 'spec(features=["nesting"])'
	refused 'trust' 'spec(net="routed", ips=["auto"], publish=["22:22"])'
	refused 'trust|kernel' 'spec(kernel="/etc/shadow")'
	refused 'seccomp' 'spec(seccomp="/etc/shadow")'
	forge "$work/f.vps" 'spec(features=["fuse"])'
	vps restore -q "$work/f.vps" --name b --trust >/dev/null
	expect "$(spec b 'features[0]')" fuse
	vps delete b
	vps restore -q "$work/f.vps" --name b --feature '' >/dev/null
	expect "$(spec b features)" null
	vps delete b
	forge "$work/f.vps" 'spec(snapshot_schedule="* * * * *")'
	vps restore -q "$work/f.vps" --name b >/dev/null
	expect "$(spec b snapshot_schedule)" null
	vps delete b
	# definitions that are none
	refused 'definition' 'first(SPEC)[1] = b"{}"'
	refused 'definition' 'first(SPEC)[1] = b"{" * 1000'
	refused 'definition' 'spec(no_such_key=1)'
	refused 'definition' 'spec(name="../../x")'
	refused 'definition' 'spec(image_digest="../../../etc/passwd")'
	refused 'definition' 'spec(hostname="a\nb")'
	refused 'version' 'meta(version=2)'
	refused 'digest' 'meta(base="../x")'
	# parts out of order, twice, never, unknown
	refused 'order|part' 'recs.reverse()'
	refused 'no disk|order' 'del recs[[i for i, r in enumerate(recs) if r[0] == PART][1]:]'
	refused 'too many|known' 'i = [k for k, r in enumerate(recs) if r[0] == PART][1]; recs += recs[i:]'
	refused 'too many|known' 'first(PART)[1] = b"{\"part\": \"kernel\"}"'
	refused 'where it can be' 'c = [r for r in recs if r[0] == CHUNK][-1]; c[1] = struct.pack("<Q", 1 << 62) + c[1][8:]'
	refused 'where it can be' 'c = [r for r in recs if r[0] == CHUNK][-1]; c[1] = struct.pack("<Q", 2**64 - 1) + c[1][8:]'
	refused 'another length' '[r for r in recs if r[0] == PARTEND][-1][1] = struct.pack("<Q", 5)'
	refused 'order' 'recs.insert(-1, [REF, struct.pack("<QI", 0, 4096) + b"x" * 32])'
	refused 'incremental' 'meta(base="sha256:" + "0" * 64); recs.insert(-1, [REF, struct.pack("<QI", 0, 4096) + b"x" * 32])'
	refused 'small' 'i = [k for k, r in enumerate(recs) if r[0] == CHUNK][-1]; o = struct.unpack("<Q", recs[i][1][:8])[0]; b = recs[i][1][8:]; recs[i:i+1] = [[CHUNK, struct.pack("<Q", o + k) + b[k:k+1]] for k in range(50)]'
	# a guest's disk for a container, which would be mounted here
	refused 'no machine' 'i = [k for k, r in enumerate(recs) if r[0] == PART][1]; recs[i][1] = b"{\"part\": \"disk\", \"as\": \"blocks\", \"size\": 33554432}"'
	# no tar, or one that leads outside
	refused 'unpack|archive|tar|restore' 'c = [r for r in recs if r[0] == CHUNK][-1]; c[1] = c[1][:8] + b"\xff" * (len(c[1]) - 8)'
	[ ! -e "$work/escape" ]
	vps delete -f a
}

# tar_disk PYTHON - a backup whose disk is the tar that PYTHON adds to t
tar_disk() {
	forge "$work/f.vps" "
import io, tarfile
buf = io.BytesIO()
t = tarfile.open(fileobj=buf, mode='w', format=tarfile.PAX_FORMAT)
def add(name, type=tarfile.REGTYPE, data=b'', **k):
    i = tarfile.TarInfo(name); i.type = type; i.size = len(data)
    for a, v in k.items(): setattr(i, a, v)
    t.addfile(i, io.BytesIO(data))
$1
t.close()
b = buf.getvalue()
i = [k for k, r in enumerate(recs) if r[0] == PART][1]
recs[i + 1:] = [[CHUNK, struct.pack('<Q', o) + b[o:o + (1 << 20)]] for o in range(0, len(b), 1 << 20)] + [[PARTEND, struct.pack('<Q', len(b))]]
"
}
test_hostile_trees() {
	original --net none
	vps exec a rm /big
	vps backup a -q -o "$work/a.vps"
	echo canary >"$work/canary"
	local p
	for p in "add('../../../../../../../../..$work/canary', data=b'x')" \
		"add('$work/canary', data=b'x')" \
		"add('l', tarfile.SYMTYPE, linkname='$work'); add('l/canary', data=b'x')" \
		"add('h', tarfile.LNKTYPE, linkname='../../../../../../../../..$work/canary'); add('h', data=b'x')"; do
		tar_disk "$p"
		vps restore "$work/f.vps" --name b >"$work/.out" 2>&1 || true
		expect "$(cat "$work/canary")" canary
		vps delete -q b 2>/dev/null || true
	done
	# more than fits
	tar_disk "add('bomb', data=bytes(60 << 20)); add('end')"
	expect_fail vps restore "$work/f.vps" --name b
	nothing_came a 1
	# devices are not made
	tar_disk "add('dev0', tarfile.BLKTYPE, devmajor=8, devminor=0); add('ok', data=b'fine')"
	vps restore -q "$work/f.vps" --name b >/dev/null
	vps start b
	expect "$(vps exec b cat /ok)" fine
	expect_fail vps exec b ls /dev0
	vps delete -f a b
}

test_no_space_left() {
	original --net none
	mkdir -p "$work/small"
	truncate -s 24M "$work/small.img"
	mkfs.ext4 -q -F -O ^has_journal "$work/small.img"
	mount -o loop "$work/small.img" "$work/small"
	(
		vps exec a sh -c 'head -c 25000000 /dev/urandom >/big'
		expect_exit 4 vps backup a -o "$work/small/a.vps"
		expect "$(ls "$work/small")" lost+found
		expect_fail vps backup a -o /dev/full
		nothing_came a 1
		# a reader that goes away
		vps backup a -o - 2>"$work/.err" | head -c 1000 >/dev/null || true
		nothing_came a 1
		expect "$(vps exec a cat /data)" data
		vps backup a -q -o "$work/a.vps"
		export VPS_ROOT=$work/small/root VPS_RUN=$work/run2
		mkdir -p "$VPS_ROOT" "$VPS_RUN"
		expect_exit 4 vps restore "$work/a.vps"
		nothing_came
	) || { umount -l "$work/small"; return 1; }
	umount -l "$work/small"
	vps delete -f a
}

# kill_at_each STEP CHECK COMMAND...
kill_at_each() {
	local step=$1 check=$2 n out points=0
	shift 2
	for ((n = 1; ; n += step)); do
		timeout -k 5 60 "$builddir/tests/fault/faultpoint" "$n" "$@" >"$work/.fp" 2>&1 </dev/null || true
		out=$(tail -1 "$work/.fp")
		[[ $out == completed* ]] && break
		[[ $out == killed* ]] || fail "point $n: the driver said '$out'"
		points=$((points + 1))
		$check || fail "point $n ($out)"
		find "$VPS_ROOT" "$VPS_RUN" -xdev -name '.tmp.*' -exec touch -d '1 hour ago' {} +
		vps host gc -q >"$work/.chk" 2>&1 || fail "point $n ($out): gc: $(cat "$work/.chk")"
		vps host check -q >"$work/.chk" 2>&1 || fail "point $n ($out): $(cat "$work/.chk")"
		[ -z "$(find "$VPS_ROOT/instances" -maxdepth 3 -name '.use*')" ] || fail "point $n ($out): left over"
	done
	echo "# $points points"
	[ $points -gt 5 ]
}
backed_up() {
	timeout 20 vps exec a sh -c 'echo x >/g && sync' && [ "$(vps list -aq)" = a ] || return
	if [ -e "$work/k.vps" ]; then # then it is whole
		vps restore -q "$work/k.vps" --name b >/dev/null && vps delete b && rm "$work/k.vps"
	fi
	! ls "$work"/.k* >/dev/null 2>&1
}
restored() {

	if vps status b >/dev/null 2>&1; then
		vps start b && [ "$(vps exec b cat /data)" = data ] || return
	else
		vps restore -q "$work/a.vps" --name b >/dev/null || return
	fi
	vps delete -f b && vps host gc -q >/dev/null && vps image gc -q && [ "$(images)" = 0 ]
}
step=${VPS_FAULT_STEP:-20}
test_backup_killed_anywhere() {
	original --net none
	kill_at_each "$step" backed_up vps backup a -o "$work/k.vps"
	vps delete -f a
}
test_restore_killed_anywhere() {
	original --net none
	vps exec a rm /big
	vps backup a -q -o "$work/a.vps"
	vps delete -f a
	vps image remove -f tiny
	vps image gc -q
	kill_at_each $((step * 3)) restored vps restore "$work/a.vps" --name b
	vps delete -f b
	vps image gc -q
	tiny_image
}
run_tests
