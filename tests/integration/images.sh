#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root
# where: native; no kernel feature of the test host
# Images in every form, out again, shared, collected; hostile ones leave the store as it was.
. "$(dirname "$0")/../lib.sh"
busybox_rootfs "$work/tiny"
(cd "$work/tiny" && tar --numeric-owner --owner=0 --group=0 -cf "$work/tiny.tar" .)
store_sum() { (cd "$VPS_ROOT/images" && find . -type f -o -type d -o -type l | grep -v '^./tmp' | sort | sha256sum); }

test_rootfs_tars_of_every_compression() {
	local c
	gzip -k "$work/tiny.tar"
	xz -k -0 "$work/tiny.tar"
	zstd -q -k "$work/tiny.tar"
	for c in '' .gz .xz .zst; do
		vps image import -q "$work/tiny.tar$c" "t$c" | found sha256
	done
	vps image import - piped:1 <"$work/tiny.tar.gz"
	# the same content is one layer
	expect "$(find "$VPS_ROOT/images/layers" -mindepth 1 -maxdepth 1 -type d | wc -l)" 1
	expect "$(vps image list -q | wc -l)" 5
}

test_an_image_runs() {
	vps image import -q "$work/tiny.tar" tiny
	expect "$(vps run --rm --image tiny -- echo runs)" runs
}

test_export_and_import_again() {
	vps image export tiny "$work/oci.tar"
	tar -tf "$work/oci.tar" | found index.json
	vps image import -q "$work/oci.tar" again:oci
	vps image export --format docker-archive tiny "$work/docker.tar"
	tar -tf "$work/docker.tar" | found manifest.json
	vps image import -q "$work/docker.tar" again:docker
	mkdir "$work/oci"
	tar -C "$work/oci" -xf "$work/oci.tar"
	vps image import -q "$work/oci" again:dir
	expect "$(vps run --rm --image again:docker -- echo docker)" docker
}


test_gc_keeps_what_is_used() {
	vps create user --image tiny
	expect_exit 15 vps image remove tiny || true
	vps image remove -f tiny t t.gz t.xz t.zst piped:1 again:oci again:docker again:dir
	vps image gc
	vps start user
	vps exec user true
	vps delete -f user
	vps image gc
	expect "$(find "$VPS_ROOT/images/layers" -mindepth 1 -maxdepth 1 | wc -l)" 0
	vps image import -q "$work/tiny.tar" tiny
}

test_broken_archives_leave_the_store_as_it_was() {
	local before
	before=$(store_sum)
	head -c 100000 "$work/tiny.tar.gz" >"$work/cut.gz"
	expect_exit 6 vps image import "$work/cut.gz" bad
	head -c 5000 /dev/urandom >"$work/junk"
	expect_exit 6 vps image import "$work/junk" bad
	: >"$work/empty"
	expect_exit 6 vps image import "$work/empty" bad
	expect_exit 3 vps image import "$work/nothing-here" bad
	expect "$(store_sum)" "$before"
	expect "$(find "$VPS_ROOT/images/tmp" -mindepth 1 | wc -l)" 0
}

test_a_changed_blob_is_refused() {
	rm -rf "$work/oci"
	mkdir "$work/oci"
	vps image export tiny - | tar -C "$work/oci" -xf -
	local before blob
	before=$(store_sum)
	blob=$(find "$work/oci/blobs" -type f -size +100k | head -1)
	printf 'X' | dd of="$blob" bs=1 seek=5000 conv=notrunc 2>/dev/null
	vps image remove tiny
	vps image gc -q
	before=$(store_sum)
	expect_exit 6 vps image import "$work/oci" bad
	expect "$(cat "$work/.err")" '*not the stated*'
	expect "$(store_sum)" "$before"
	vps image import -q "$work/tiny.tar" tiny
}

test_hostile_names_stay_inside() {
	echo canary >"$work/canary"
	python3 - "$work" <<-'E'
		import tarfile, io, sys
		w = sys.argv[1]
		def make(path, entries):
		    with tarfile.open(path, 'w') as t:
		        for kind, name, arg in entries:
		            i = tarfile.TarInfo(name)
		            if kind == 'f':
		                data = arg.encode(); i.size = len(data); t.addfile(i, io.BytesIO(data)); continue
		            i.type = {'l': tarfile.SYMTYPE, 'h': tarfile.LNKTYPE}[kind]; i.linkname = arg; t.addfile(i)
		make(w + '/h1.tar', [('f', '../../../../../../..' + w + '/canary', 'x')])
		make(w + '/h2.tar', [('l', 'd', w), ('f', 'd/canary', 'x')])
		make(w + '/h3.tar', [('h', 'hard', w + '/canary'), ('f', 'hard', 'x')])
		make(w + '/h4.tar', [('l', 'a', '../../../../../../../../..' + w), ('h', 'b', 'a/canary'), ('f', 'b', 'x')])
	E
	local i
	for i in 1 2 3 4; do
		vps image import -q "$work/h$i.tar" "hostile:$i" >/dev/null 2>&1 || true
		expect "$(cat "$work/canary")" canary
	done
}

test_what_a_layer_may_hold_is_there_inside() {
	local d=$work/rich long name
	long=$(printf 'n%.0s' {1..250})
	name=opt/$long/$long/$long/$long
	cp -a "$work/tiny" "$d"
	mkdir -p "$d/${name%/*}"
	echo deep >"$d/$name"
	head -c 3000000 /dev/urandom >"$d/opt/rnd"
	ln "$d/opt/rnd" "$d/opt/hard"
	truncate -s 3G "$d/opt/sparse"
	printf END | dd of="$d/opt/sparse" bs=1 seek=3000000000 conv=notrunc status=none
	cp "$d/bin/busybox" "$d/opt/suid"
	chown 1000:65535 "$d/opt/rnd"
	chmod 4755 "$d/opt/suid"
	setcap cap_net_raw+ep "$d/opt/suid"
	setfattr -n user.note -v kept "$d/opt/suid"
	mkfifo "$d/opt/fifo"
	tar -C "$d" --sparse --xattrs --xattrs-include='*' --numeric-owner -cf - . | vps image import -q - rich
	rm -rf "$d"
	vps launch -q rich --image rich -- sleep 1000
	expect "$(vps exec rich cat "/$name")" deep
	expect "$(vps exec rich stat -c '%u:%g %h %s' /opt/hard)" '1000:65535 2 3000000'
	expect "$(vps exec rich stat -c %a /opt/suid)" 4755
	expect "$(vps exec rich stat -c %F /opt/fifo)" fifo
	expect "$(vps exec rich -- sh -c 'dd if=/opt/sparse bs=1000000 skip=3000 count=1 2>/dev/null | head -c 3')" END
	[ "$(vps exec rich stat -c %b /opt/sparse)" -lt 1000 ]
	d=/proc/$(vps inspect rich | jq '.[0].pid')/root/opt/suid
	expect "$(getfattr --absolute-names --only-values -n user.note "$d")" kept
	expect "$(getcap "$d")" '*cap_net_raw=ep'
	vps delete -f rich
	vps image remove rich
}

# layout DIR - an OCI layout of two architectures; ours has a second layer that takes away and hides
layout() {
	python3 - "$1" "$work/tiny.tar" <<-'E'
		import gzip, hashlib, io, json, os, platform, sys, tarfile
		d, tiny = sys.argv[1:]
		ours = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine())
		os.makedirs(d + '/blobs/sha256')
		def blob(data, kind):
		    h = hashlib.sha256(data).hexdigest()
		    open(d + '/blobs/sha256/' + h, 'wb').write(data)
		    return {'mediaType': 'application/vnd.oci.image.' + kind, 'digest': 'sha256:' + h, 'size': len(data)}
		def tar(*entries):
		    f = io.BytesIO()
		    with tarfile.open(fileobj=f, mode='w') as t:
		        for name, data in entries:
		            i = tarfile.TarInfo(name)
		            if data is None: i.type = tarfile.DIRTYPE; i.mode = 0o755; t.addfile(i)
		            else: i.size = len(data); t.addfile(i, io.BytesIO(data))
		    return f.getvalue()
		def image(arch, *tars):
		    layers = [blob(gzip.compress(t, 1), 'layer.v1.tar+gzip') for t in tars]
		    config = {'architecture': arch, 'os': 'linux', 'config': {'Env': ['FROM=image'], 'Cmd': ['sh', '-c', 'echo cmd of ' + arch]},
		              'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + hashlib.sha256(t).hexdigest() for t in tars]}}
		    m = {'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json',
		         'config': blob(json.dumps(config).encode(), 'config.v1+json'), 'layers': layers}
		    return {**blob(json.dumps(m).encode(), 'manifest.v1+json'), 'platform': {'os': 'linux', 'architecture': arch}}
		base = tar(('gone', b'1'), ('kept', b'1'), ('dir', None), ('dir/gone', b'1'), ('all', None), ('all/a', b'1'), ('all/b', b'1'))
		top = tar(('.wh.gone', b''), ('dir/.wh.gone', b''), ('dir/new', b'2'), ('all', None), ('all/.wh..wh..opq', b''), ('all/c', b'2'))
		index = {'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.index.v1+json',
		         'manifests': [image('riscv64', base), image(ours, open(tiny, 'rb').read(), base, top)]}
		inner = blob(json.dumps(index).encode(), 'index.v1+json')
		inner['annotations'] = {'org.opencontainers.image.ref.name': 'lay:1'}
		json.dump({'schemaVersion': 2, 'manifests': [inner]}, open(d + '/index.json', 'w'))
		json.dump({'imageLayoutVersion': '1.0.0'}, open(d + '/oci-layout', 'w'))
	E
}

test_layers_whiteouts_and_architectures() {
	layout "$work/lay"
	vps image import -q "$work/lay"
	expect "$(vps run --rm --image lay:1)" "cmd of $(vps image inspect lay:1 | jq -r '.[0].architecture')"
	expect "$(vps run --rm --image lay:1 -- sh -c 'cd /; echo $FROM kept gon[e] dir/* all/*')" \
		'image kept gon\[e] dir/new all/c'
	tar -C "$work/lay" -cf - . | vps image import -q --arch riscv64 - lay:other
	expect "$(vps image inspect lay:other | jq -r '.[0].architecture')" riscv64
	expect_exit 6 vps image import --arch s390x "$work/lay" lay:none
	vps image remove lay:1 lay:other
}

test_bars_on_a_terminal_only() {
	local t="tmux -L vpi$$"
	expect "$(vps image import "$work/tiny.tar.gz" bars 2>&1 | wc -l)" 1
	head -c 100000000 /dev/urandom >"$work/tiny/big"
	tar -C "$work/tiny" -cf "$work/big.tar" .
	rm "$work/tiny/big"
	$t -f /dev/null new-session -d -x 100 -y 24 "export PATH=$PATH VPS_ROOT=$VPS_ROOT VPS_RUN=$VPS_RUN \
		VPS_CONF=$VPS_CONF; vps image import $work/big.tar big; sleep 30"
	wait_until 10 sh -c "$t capture-pane -p | grep -qE '^unpack +\[#*>? *\] +[0-9]+%'"
	wait_until 30 sh -c "$t capture-pane -p | grep -q '^big:latest'"
	# one line it is, drawn over and over
	expect "$($t capture-pane -p | grep -c unpack)" 1
	$t kill-server
	vps image remove bars big
	vps image gc -q
}

test_interrupted_or_killed_it_leaves_the_store_as_it_was() {
	local before sig
	before=$(store_sum)
	for sig in INT TERM KILL; do
		mkfifo "$work/slow"
		vps image import -q - cut <"$work/slow" 2>"$work/err" &
		local p=$! r=0
		exec 7>"$work/slow"
		head -c 700000 "$work/tiny.tar" >&7
		sleep 0.3
		kill -$sig $p
		[ $sig = KILL ] || { printf more >&7; exec 7>&-; }
		wait $p || r=$?
		exec 7>&-
		rm "$work/slow"
		expect "$r" "$([ $sig = KILL ] && echo 137 || echo 130)"
		[ $sig = KILL ] || expect "$(cat "$work/err")" '*interrupted*'
		expect "$(store_sum)" "$before"
	done
	vps image gc -q
	expect "$(find "$VPS_ROOT/images/tmp" -mindepth 1 | wc -l)" 0
}

test_a_full_disk_leaves_the_store_as_it_was() {
	local before
	mkdir "$work/small"
	mount -t tmpfs -o size=24M none "$work/small"
	export VPS_ROOT=$work/small/root
	head -c 40000000 /dev/urandom >"$work/tiny/big"
	vps image import -q "$work/tiny.tar" first
	before=$(store_sum)
	{ tar -C "$work/tiny" -cf - . || true; } | expect_exit 4 vps image import - second # who may stop reading
	expect "$(cat "$work/.err")" '*No space left*'
	rm "$work/tiny/big"
	expect "$(store_sum)" "$before"
	expect "$(find "$VPS_ROOT/images/tmp" -mindepth 1 | wc -l)" 0
	expect "$(vps image list -q)" first:latest
	vps create -q v --image first --disk max
	head -c 100000000 /dev/zero >"$work/small/fill" 2>/dev/null || true
	expect_exit 4 vps create w --image first --disk max
	expect "$(vps list -aq)" v
	rm "$work/small/fill"
	vps delete v
	vps host gc -q
	umount "$work/small"
}

test_device_nodes_are_not_made() {
	mkdir -p "$work/nodes/dev" "$work/nodes/srv"
	mknod "$work/nodes/srv/sda" b 8 0
	mknod "$work/nodes/dev/null" c 1 3
	tar -C "$work/nodes" -cf "$work/nodes.tar" .
	vps image import "$work/nodes.tar" nodes >/dev/null 2>"$work/.err"
	# a tree's own /dev, where every VPS has another, is no news
	expect "$(cat "$work/.err")" 'vps: note: not made from the image: srv/sda b 8:0'
	expect "$(find "$VPS_ROOT/images/layers" -type b -o -type c | wc -l)" 0
	expect "$(vps image inspect nodes | jq -r '.[0].refused | join(" ")')" '*dev/null*srv/sda*'
}

test_two_imports_and_a_gc_race() {
	local i
	for i in 1 2 3 4 5; do
		vps image import -q "$work/tiny.tar" "race:$i" >/dev/null &
		vps image gc -q >/dev/null &
	done
	wait
	for i in 1 2 3 4 5; do vps run --rm --image "race:$i" -- true; done
}

test_references() {
	vps image import -q "$work/tiny.tar" tiny
	vps image tag tiny other:name
	expect "$(vps image inspect other:name | jq -r '.[0].digest')" "$(vps image inspect tiny | jq -r '.[0].digest')"
	expect_exit 13 vps image inspect tinny
	expect "$(cat "$work/.err")" '*tiny*'
	expect_exit 2 vps image tag tiny 'UPPER CASE'
	# of one image's names only those that are asked for
	expect "$(vps image list -q 'other*')" other:name
	expect "$(vps image list -q other)" other:name
	expect "$(vps image list -H 'o*:n*' | wc -l)" 1
	expect "$(vps image list --json other | jq length)" 1
	# what is told is the name that was given, whichever others the content has
	expect "$(vps image import "$work/tiny.tar" zoo)" 'zoo:latest *1 layer'
	vps image remove other:name zoo
}

run_tests
