/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gc beside everybody else: nothing pinned or named ever disappears, nothing unused remains. */
#include "images_tar.h"

#include <time.h>

#define IMAGES	4
#define SECONDS 4

static void make_tar(struct tar *t, int k)
{
	for (int i = 0; i < 20; i++) {
		autofree char *n = str_fmt("d/f%d", i);
		autofree char *text = str_fmt("image %d", k);
		tar_file(t, n, text);
	}
	tar_end(t);
}

static bool stop_time(time_t end) { return time(NULL) >= end; }

/* Import, look, remove, over and over. */
static int importer(struct img_store *s, int k, time_t end)
{
	while (!stop_time(end)) {
		auto_tar t = { 0 };
		struct vps_err err = { 0 };
		auto_done(img_info_done) struct img_info i = { 0 };
		char ref[32];
		make_tar(&t, k);
		snprintf(ref, sizeof(ref), "image:%d-%d", k, (int)getpid());
		autoclose int fd = mem_fd(t.b.s, t.b.len);
		int r = img_import_rootfs_fd(s, fd, ref, NULL, &i, &err);
		if (r == 0)
			r = img_inspect(s, ref, &i, &err);
		autoclose int fs = r == 0 ? img_layer_open(s, i.layers[0], &err) : -1;
		if (r < 0 || fs < 0 || !fs_exists(fs, "d/f19")) {
			fprintf(stderr, "importer: %d %s\n", r, err.msg);
			return 1;
		}
		img_info_done(&i);
		if (img_remove(s, ref, true, &err) < 0) {
			fprintf(stderr, "importer: remove: %s\n", err.msg);
			return 1;
		}
	}
	return 0;
}

/* Pins whatever is there; what is pinned must be whole until unpinned. */
static int pinner(struct img_store *s, int k, time_t end)
{
	char owner[32];
	unsigned pinned = 0;
	snprintf(owner, sizeof(owner), "%d", 100 + k);
	while (!stop_time(end)) {
		struct vps_err err = { 0 };
		struct img_info *list = NULL;
		size_t n = 0;
		if (img_list(s, &list, &n, &err) < 0) {
			fprintf(stderr, "pinner: list: %s\n", err.msg);
			return 1;
		}
		for (size_t i = 0; i < n; i++) {
			int r = img_pin(s, owner, list[i].digest, &err);
			if (r == -VPS_ENOIMAGE) {
				vps_err_clear(&err);
				continue; /* gc was first, and says so */
			}
			autoclose int fs = r == 0 && list[i].n_layers ?
						   img_layer_open(s, list[i].layers[0], &err) :
						   r;
			if (r < 0 || (list[i].n_layers && (fs < 0 || !fs_exists(fs, "d/f0")))) {
				fprintf(stderr, "pinner: %d %d %s\n", r, fs, err.msg);
				return 1;
			}
			usleep(3000);
			if (list[i].n_layers && !fs_exists(fs, "d/f19")) {
				fprintf(stderr, "pinner: a pinned layer disappeared\n");
				return 1;
			}
			pinned++;
			if (img_unpin(s, owner) < 0)
				return 1;
		}
		img_list_free(list, n);
	}
	return pinned ? 0 : 2;
}

static int collector(struct img_store *s, int k, time_t end)
{
	while (!stop_time(end)) {
		struct vps_err err = { 0 };
		if (img_gc(s, false, NULL, &err) < 0) {
			fprintf(stderr, "gc: %s\n", err.msg);
			return 1;
		}
	}
	return 0;
}

static void test_races(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	int (*const roles[])(struct img_store *, int, time_t) = {
		importer, importer, importer, pinner, pinner, collector, collector,
	};
	pid_t pids[ARRAY_LEN(roles)];
	struct vps_err err = { 0 };
	time_t end = time(NULL) + SECONDS;
	assert_int_equal(img_gc(s, false, NULL, NULL), 0);
	autofree char *before = tree_text(t->fd, "root", false);
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			struct img_store *own = test_store(t->fd, "root");
			_exit(roles[i](own, (int)i % IMAGES, end));
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		int st;
		assert_int_equal(waitpid(pids[i], &st, 0), pids[i]);
		if (st)
			fail_msg("process %zu: status %x", i, st);
	}
	assert_ok(img_gc(s, false, NULL, &err), &err);
	autofree char *after = tree_text(t->fd, "root", false);
	assert_string_equal(before, after);
	img_store_close(s);
}

/* Two at once want the same layers: unpacked once, both have it. */
static void test_same_layer(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = { 0 };
	auto_tar tar = { 0 };
	char diff[DIGEST_LEN];
	struct img_store *s = test_store(t->fd, "root");
	make_tar(&tar, 0);
	digest_of(tar.b.s, tar.b.len, diff);
	for (int i = 0; i < 4; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct img_store *own = test_store(t->fd, "root");
			struct img_work w = IMG_WORK_INIT;
			struct img_layer l = { 0 };
			if (img_work_begin(own, &w, &err) < 0 ||
			    test_layer(&w, &tar, NULL, NULL, &l, &err) < 0 ||
			    !str_eq(l.diff_id, diff)) {
				fprintf(stderr, "%s\n", err.msg);
				_exit(1);
			}
			usleep(100000);
			autoclose int fs = img_layer_open(own, l.chain, &err);
			bool ok = fs >= 0 && fs_exists(fs, "d/f19");
			img_work_end(&w);
			_exit(!ok);
		}
	}
	for (int i = 0; i < 4; i++) {
		int st;
		assert_true(waitpid(-1, &st, 0) > 0);
		assert_int_equal(st, 0);
	}
	/* nobody registered it: the one who made it took it away, or left it to gc as others had it */
	assert_ok(img_gc(s, false, NULL, &err), &err);
	assert_int_equal(img_layer_open(s, diff, NULL), -VPS_ENOIMAGE);
	img_store_close(s);
}

static void test_damaged(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	auto_tar tar = { 0 };
	auto_done(img_info_done) struct img_info i = { 0 };
	make_tar(&tar, 1);
	autoclose int fd = mem_fd(tar.b.s, tar.b.len);
	assert_ok(img_import_rootfs_fd(s, fd, "a:1", NULL, &i, &err), &err);
	autofree char *path = str_fmt("root/images/blobs/sha256/%s", img_hex(i.digest));
	put_file(t->fd, path, "{}");
	/* what it stands on cannot be known: nothing goes */
	assert_int_equal(img_gc(s, false, NULL, &err), -VPS_EDIGEST);
	autoclose int fs = img_layer_open(s, i.layers[0], NULL);
	assert_true(fs >= 0);
	/* importing it again heals it */
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	vps_err_clear(&err);
	assert_ok(img_import_rootfs_fd(s, fd, "a:1", NULL, NULL, &err), &err);
	assert_ok(img_gc(s, false, NULL, &err), &err);
	img_store_close(s);
}

static void test_dry(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	struct img_gc_result dry, wet;
	auto_tar tar = { 0 };
	make_tar(&tar, 1);
	autoclose int fd = mem_fd(tar.b.s, tar.b.len);
	assert_ok(img_import_rootfs_fd(s, fd, "a:1", NULL, NULL, &err), &err);
	assert_ok(img_remove(s, "a:1", false, &err), &err);
	autofree char *before = tree_text(t->fd, "root", true);
	assert_ok(img_gc(s, true, &dry, &err), &err);
	autofree char *after = tree_text(t->fd, "root", true);
	assert_string_equal(before, after);
	assert_ok(img_gc(s, false, &wet, &err), &err);
	assert_memory_equal(&dry, &wet, sizeof(dry));
	assert_int_equal(wet.images, 1);
	assert_int_equal(wet.layers, 1);
	assert_int_equal(wet.blobs, 2);
	assert_true(wet.bytes > 0);
	img_store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_races),
		dir_test(test_same_layer),
		dir_test(test_damaged),
		dir_test(test_dry),
	};
	if (geteuid() != 0) {
		printf("skipped: unpacking needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
