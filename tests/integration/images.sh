#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root
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
		vps image import -q "$work/tiny.tar$c" "t$c" | grep -q sha256
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
	tar -tf "$work/oci.tar" | grep -q index.json
	vps image import -q "$work/oci.tar" again:oci
	vps image export --format docker-archive tiny "$work/docker.tar"
	tar -tf "$work/docker.tar" | grep -q manifest.json
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
