/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checkpoints without a VPS: manifest and seal, CRIU's messages, what obstacles are. */
#include "tests/unit/base_util.h"

#include <sys/stat.h>

#include "base/digest.h"
#include "runtime/container/criu.h"
#include "runtime/container/restore.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/obstacles.h"

struct world {
	struct vps_host h;
	struct vps_spec s;
	int dir; /* of the checkpoint */
};

static void world_make(struct world *w, struct test_dir *t)
{
	*w = (struct world){.h = {.root_fd = t->fd, .conf = {.root = t->path}}};
	spec_init(&w->s);
	strcpy(w->s.uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
	assert_int_equal(mkdirat(t->fd, "c", 0700), 0);
	w->dir = fs_open_dir(t->fd, "c");
	assert_true(w->dir >= 0);
	assert_int_equal(fs_write_rename(w->dir, "core-1.img", "core", 4, 0600), 0);
	assert_int_equal(fs_write_rename(w->dir, "pages-1.img", "pages of it", 11, 0600), 0);
	assert_int_equal(mkdirat(w->dir, "work", 0700), 0);
	assert_int_equal(checkpoint_seal(&w->h, &w->s, 77, w->dir, NULL, NULL, NULL), 0);
}

static int verify(struct world *w, struct checkpoint_info *i, struct vps_err *err)
{
	vps_err_clear(err);
	return checkpoint_verify(&w->h, &w->s, w->dir, NULL, NULL, i, err);
}

static void test_seal(void **state)
{
	struct test_dir *t = *state;
	struct checkpoint_info i = {0};
	struct vps_err err = {0};
	struct world w;
	struct stat st;

	world_make(&w, t);
	assert_int_equal(verify(&w, &i, &err), 0);
	assert_true(i.n_files == 2 && i.bytes == 15 && i.ran == 77 && !i.machine);
	assert_int_equal(fstatat(t->fd, CHECKPOINT_KEY, &st, 0), 0);
	assert_true((st.st_mode & 07777) == 0600 && st.st_size == CHECKPOINT_KEY_LEN);
	/* what is written for people is no part of it */
	assert_int_equal(fs_write_rename(w.dir, "work/dump.log", "x", 1, 0600), 0);
	assert_int_equal(verify(&w, &i, &err), 0);
	/* the key stays */
	assert_int_equal(checkpoint_seal(&w.h, &w.s, 1, w.dir, NULL, NULL, NULL), 0);
	assert_int_equal(verify(&w, &i, &err), 0);
	close(w.dir);
}

static void flip(struct world *w, const char *name, size_t at)
{
	autofree char *b = NULL;
	size_t n;

	assert_int_equal(fs_read(w->dir, name, 1 << 20, &b, &n), 0);
	assert_true(at < n);
	b[at] ^= 1;
	assert_int_equal(fs_write_rename(w->dir, name, b, n, 0600), 0);
}

static void test_each_byte(void **state)
{
	static const char *const files[] = {"core-1.img", "pages-1.img", CHECKPOINT_MANIFEST, CHECKPOINT_MAC};
	struct vps_err err = {0};
	struct world w;

	world_make(&w, *state);
	for (size_t f = 0; f < ARRAY_LEN(files); f++) {
		autofree char *b = NULL;
		size_t n;

		assert_int_equal(fs_read(w.dir, files[f], 1 << 20, &b, &n), 0);
		for (size_t i = 0; i < n; i++) {
			flip(&w, files[f], i);
			assert_int_equal(verify(&w, NULL, &err), -VPS_EDIGEST);
			flip(&w, files[f], i);
		}
	}
	assert_int_equal(verify(&w, NULL, &err), 0);
	close(w.dir);
}

static void test_more_less_other(void **state)
{
	struct vps_err err = {0};
	struct world w;

	world_make(&w, *state);
	assert_int_equal(fs_write_rename(w.dir, "more.img", "x", 1, 0600), 0);
	assert_int_equal(verify(&w, NULL, &err), -VPS_EDIGEST);
	assert_int_equal(unlinkat(w.dir, "more.img", 0), 0);
	assert_int_equal(renameat(w.dir, "core-1.img", w.dir, "core-2.img"), 0);
	assert_int_equal(verify(&w, NULL, &err), -VPS_EDIGEST);
	assert_int_equal(symlinkat("core-2.img", w.dir, "core-1.img"), 0);
	assert_true(verify(&w, NULL, &err) < 0);
	assert_int_equal(unlinkat(w.dir, "core-1.img", 0), 0);
	assert_int_equal(renameat(w.dir, "core-2.img", w.dir, "core-1.img"), 0);
	assert_int_equal(verify(&w, NULL, &err), 0);
	/* another VPS, the other wall */
	w.s.uuid[0] = '7';
	assert_int_equal(verify(&w, NULL, &err), -VPS_EUSAGE);
	w.s.uuid[0] = '6';
	w.s.isolation = ISOLATION_VM;
	assert_int_equal(verify(&w, NULL, &err), -VPS_EUSAGE);
	w.s.isolation = ISOLATION_CONTAINER;
	/* another host's: the key is another; taken over, it is ours, and of the VPS it was taken over for */
	assert_int_equal(unlinkat(w.h.root_fd, CHECKPOINT_KEY, 0), 0);
	assert_int_equal(verify(&w, NULL, &err), -VPS_EDIGEST);
	w.s.uuid[0] = '8';
	assert_int_equal(checkpoint_adopt(&w.h, &w.s, w.dir, NULL, NULL, &err), 0);
	assert_int_equal(verify(&w, NULL, &err), 0);
	flip(&w, "core-1.img", 0);
	assert_int_equal(checkpoint_adopt(&w.h, &w.s, w.dir, NULL, NULL, &err), -VPS_EDIGEST);
	/* a key that others could read is none */
	assert_int_equal(fchmodat(w.h.root_fd, CHECKPOINT_KEY, 0644, 0), 0);
	vps_err_clear(&err);
	assert_int_equal(checkpoint_verify(&w.h, &w.s, w.dir, NULL, NULL, NULL, &err), -EPERM);
	close(w.dir);
}

/* What rounds of pre-copy wrote lies in directories; a digest that is known is not made again. */
static void test_rounds(void **state)
{
	struct checkpoint_sums sums = {0};
	struct checkpoint_info i = {0};
	struct vps_err err = {0};
	struct world w;

	assert_true(checkpoint_name_ok("1/pages-1.img") && checkpoint_name_ok("999/a") && checkpoint_name_ok("12"));
	assert_false(checkpoint_name_ok("0/a") || checkpoint_name_ok("01/a") || checkpoint_name_ok("1000/a") ||
		     checkpoint_name_ok("1/2/a") || checkpoint_name_ok("1/") || checkpoint_name_ok("/a") ||
		     checkpoint_name_ok("a/b") || checkpoint_name_ok("1/.a") || checkpoint_name_ok("1/work") ||
		     checkpoint_name_ok("1/parent") || checkpoint_name_ok("parent"));
	world_make(&w, *state);
	assert_int_equal(mkdirat(w.dir, "1", 0700), 0);
	assert_int_equal(mkdirat(w.dir, "2", 0700), 0);
	assert_int_equal(fs_write_rename(w.dir, "1/pages-1.img", "all", 3, 0600), 0);
	assert_int_equal(fs_write_rename(w.dir, "2/pages-1.img", "some", 4, 0600), 0);
	assert_int_equal(verify(&w, NULL, &err), -VPS_EDIGEST);
	assert_int_equal(checkpoint_sums_make(&sums, w.dir, NULL), 0);
	assert_int_equal(sums.n, 4);
	/* links to the round before are made by who reads it */
	assert_int_equal(symlinkat("2", w.dir, "parent"), 0);
	assert_int_equal(symlinkat("../1", w.dir, "2/parent"), 0);
	assert_int_equal(checkpoint_seal(&w.h, &w.s, 77, w.dir, &sums, NULL, NULL), 0);
	assert_int_equal(verify(&w, &i, &err), 0);
	assert_true(i.n_files == 4 && i.bytes == 22);
	assert_int_equal(checkpoint_verify(&w.h, &w.s, w.dir, &sums, NULL, NULL, NULL), 0);
	/* what is known of a file ends with it */
	flip(&w, "1/pages-1.img", 0);
	assert_int_equal(verify(&w, NULL, &err), -VPS_EDIGEST);
	assert_int_equal(checkpoint_verify(&w.h, &w.s, w.dir, &sums, NULL, NULL, NULL), -VPS_EDIGEST);
	flip(&w, "1/pages-1.img", 0);
	assert_int_equal(checkpoint_verify(&w.h, &w.s, w.dir, &sums, NULL, NULL, NULL), 0);
	/* no link leads elsewhere, in the place of a directory neither */
	assert_int_equal(renameat(w.dir, "1", w.h.root_fd, "elsewhere"), 0);
	assert_int_equal(symlinkat("../elsewhere", w.dir, "1"), 0);
	assert_true(verify(&w, NULL, &err) < 0);
	assert_true(checkpoint_verify(&w.h, &w.s, w.dir, &sums, NULL, NULL, NULL) < 0);
	checkpoint_sums_done(&sums);
	close(w.dir);
}

static int parse(const char *files, const char *version, struct vps_err *err)
{
	autofree char *text = str_fmt("{\"version\": %s, \"isolation\": \"container\", \"uuid\": \"u\", \"files\": %s}",
				      version, files);
	auto_strv list = NULL;
	struct checkpoint_info i;

	vps_err_clear(err);
	return checkpoint_parse(text, strlen(text), &i, &list, err);
}

static void test_manifest(void **state)
{
#define D "\"digest\": \"sha256:0000000000000000000000000000000000000000000000000000000000000000\""
	struct vps_err err = {0};

	assert_int_equal(parse("[]", "1", &err), 0);
	assert_int_equal(parse("[{\"name\": \"a\", \"size\": 1, " D "}]", "1", &err), 0);
	assert_int_equal(parse("[]", "2", &err), -VPS_EUNSUPPORTED);
	assert_int_equal(parse("{}", "1", &err), -EBADMSG);
	assert_int_equal(parse("[{\"name\": \"../a\", \"size\": 1, " D "}]", "1", &err), -EBADMSG);
	assert_int_equal(parse("[{\"name\": \".a\", \"size\": 1, " D "}]", "1", &err), -EBADMSG);
	assert_int_equal(parse("[{\"name\": \"a\\tb\", \"size\": 1, " D "}]", "1", &err), -EBADMSG);
	assert_int_equal(parse("[{\"name\": \"manifest.mac\", \"size\": 1, " D "}]", "1", &err), -EBADMSG);
	assert_int_equal(parse("[{\"name\": \"a\", \"size\": -1, " D "}]", "1", &err), -EBADMSG);
	assert_int_equal(parse("[{\"name\": \"a\", \"size\": 1, \"digest\": \"sha256:00\"}]", "1", &err), -EBADMSG);
	assert_int_equal(parse("[{\"name\": \"a\", \"size\": 1, " D "}, {\"name\": \"a\", \"size\": 1, " D "}]", "1", &err),
			 -EBADMSG);
	assert_int_equal(parse("[{\"name\": \"b\", \"size\": 1, " D "}, {\"name\": \"a\", \"size\": 1, " D "}]", "1", &err),
			 -EBADMSG);
#undef D
}

/* RFC 4231, test case 2. */
static void test_mac(void **state)
{
	char mac[DIGEST_MAC_LEN], other[DIGEST_MAC_LEN];

	assert_true(digest_mac("Jefe", 4, "what do ya want for nothing?", 28, mac));
	assert_string_equal(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	assert_true(digest_mac("Jefe", 4, "what do ya want for nothing!", 28, other));
	assert_true(digest_mac_equal(mac, mac));
	assert_false(digest_mac_equal(mac, other));
}

/* ---- CRIU ------------------------------------------------------------------------------- */

static bool has(const struct strbuf *sb, const void *bytes, size_t n)
{
	return memmem(sb->s, sb->len, bytes, n) != NULL;
}

static void test_request(void **state)
{
	char *external[] = {(char *)(uintptr_t)"mnt[/dev]:/dev", NULL};
	struct criu_request q = {.version = CRIU_VERSION(4, 2, 0), .dir = 5, .work = 6, .log = "l", .pid = 300, .external = external, .freeze = "/cg"};
	auto_strbuf sb = STRBUF_INIT;

	assert_int_equal(criu_encode(&q, &sb), 0);
	assert_memory_equal(sb.s, "\x08\x01\x12", 3); /* type 1: dump; then the options */
	assert_true(has(&sb, "\x08\x05\x10\xac\x02", 5)); /* images_dir_fd 5, pid 300 */
	assert_true(has(&sb, "\xaa\x02\x0e" "mnt[/dev]:/dev", 17)); /* 37: external */
	assert_true(has(&sb, "\xe2\x02\x03/cg", 6)); /* 44: freeze_cgroup */
	assert_true(has(&sb, "\x90\x02\x00", 3)); /* 34: cgroups are ignored */
	assert_true(has(&sb, "\x80\x04\x03", 3)); /* 64: no network lock */

	/* older than "skip" */
	q.version = CRIU_VERSION(3, 17, 1);
	sb_reset(&sb);
	assert_int_equal(criu_encode(&q, &sb), 0);
	assert_false(has(&sb, "\x80\x04\x03", 3));

	assert_false(has(&sb, "\x78\x01", 2)); /* 15: memory is not tracked */

	/* a round of pre-copy, and what follows on rounds */
	q.predump = true;
	q.parent = "../1";
	sb_reset(&sb);
	assert_int_equal(criu_encode(&q, &sb), 0);
	assert_memory_equal(sb.s, "\x08\x0d\x12", 3); /* 13: one pre-dump */
	assert_true(has(&sb, "\x72\x04../1\x78\x01", 8)); /* 14: parent_img, 15: track_mem */
	q.predump = false;
	q.parent = "2";
	sb_reset(&sb);
	assert_int_equal(criu_encode(&q, &sb), 0);
	assert_memory_equal(sb.s, "\x08\x01\x12", 3);
	assert_true(has(&sb, "\x72\x01" "2\x78\x01", 5));

	struct criu_fd fd = {.key = (char *)(uintptr_t)"tty[1:2]", .fd = 9};
	struct criu_request r = {.restore = true, .dir = 5, .log = "l", .root = "/r", .fds = &fd, .n_fds = 1};

	sb_reset(&sb);
	assert_int_equal(criu_encode(&r, &sb), 0);
	assert_memory_equal(sb.s, "\x08\x02\x12", 3);
	assert_true(has(&sb, "\x6a\x02/r", 4)); /* 13: root */
	assert_true(has(&sb, "\xda\x01\x0c\x0a\x08tty[1:2]\x10\x09", 15)); /* 27: inherit_fd */
}

static void test_answers(void **state)
{
	struct criu_event e;
	unsigned v = 0;

	assert_int_equal(criu_decode("\x08\x06\x10\x01\x2a\x0d\x0a\x09post-dump\x10\x07", 19, &e, NULL), 0);
	assert_true(!e.last && e.pid == 7 && str_eq(e.script, "post-dump"));
	assert_int_equal(criu_decode("\x08\x02\x10\x01\x22\x02\x08\x2a", 8, &e, NULL), 0);
	assert_true(e.last && e.success && e.pid == 42);
	assert_int_equal(criu_decode("\x08\x01\x10\x00\x38\x03\x4a\x02\x1b[", 10, &e, NULL), 0);
	assert_true(e.last && !e.success && e.cr_errno == 3 && str_eq(e.words, "\\x1b["));
	assert_int_equal(criu_decode("\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x02\x20\x01", 12, &e, &v), 0);
	assert_int_equal(v, CRIU_VERSION(4, 2, 1));
	assert_int_equal(criu_decode("\x08", 1, &e, NULL), -EBADMSG);
	assert_int_equal(criu_decode("", 0, &e, NULL), -EBADMSG);
}

static void test_stats(void **state)
{
	static const char text[] = "\x40\x59\x10\x55\x06\x33\x09\x57\x09\0\0\0\x0a\x07\x08\x05\x10\xdc\x0b\x38\x03";
	uint64_t us = 0, bytes = 0;

	assert_int_equal(criu_stats_decode(text, 21, &us, &bytes), 0);
	assert_true(us == 1500 && bytes == 3 * 4096);
	for (size_t n = 0; n < 21; n++)
		assert_int_equal(criu_stats_decode(text, n, &us, &bytes), -EBADMSG);
}

static void test_versions(void **state)
{
	char buf[CRIU_VERSION_STR];
	const char *why;

	assert_int_equal(criu_version_wanted("6.1.0-40-amd64", &why), CRIU_VERSION(3, 17, 0));
	assert_int_equal(criu_version_wanted("6.12.9", &why), CRIU_VERSION(3, 17, 0));
	assert_int_equal(criu_version_wanted("6.13.0", &why), CRIU_VERSION(4, 1, 0));
	assert_int_equal(criu_version_wanted("6.18.44-x", &why), CRIU_VERSION(4, 2, 0));
	assert_int_equal(criu_version_wanted("7.0", &why), CRIU_VERSION(4, 2, 0));
	assert_true(*why);
	assert_string_equal(criu_version_str(CRIU_VERSION(4, 2, 1), buf), "4.2.1");
	assert_string_equal(criu_version_str(CRIU_VERSION(3, 17, 0), buf), "3.17");
}

static void test_log(void **state)
{
	static const char log[] = "(00.01) all is well\n"
				  "(00.02) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self\n"
				  "(00.03)      1: Error (criu/n.c:460): Can't dump \x1b[31mnested\n"
				  "(00.04) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
	struct test_dir *t = *state;
	autofree char *words = NULL;

	assert_int_equal(fs_write_rename(t->fd, "l", log, sizeof(log) - 1, 0600), 0);
	words = criu_log_words(t->fd, "l");
	assert_string_equal(words, "Can't dump \\x1b[31mnested");
	assert_null(criu_log_words(t->fd, "none"));
}

static void test_ids(void **state)
{
	/* as CRIU 4.2 wrote it for 543555584 */
	static const unsigned char want[] = {
		0x19, 0x43, 0x56, 0x54, 0x06, 0x49, 0x47, 0x55, 0x1c, 0, 0, 0, 0x0a, 0x0c, 0x08, 0x00, 0x10, 0x80, 0x80, 0x98,
		0x83, 0x02, 0x18, 0x80, 0x80, 0x04, 0x12, 0x0c, 0x08, 0x00, 0x10, 0x80, 0x80, 0x98, 0x83, 0x02, 0x18, 0x80,
		0x80, 0x04};
	unsigned char buf[IDIMAGE_MAX];

	assert_int_equal(idimage_encode(543555584, buf), sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));
	assert_true(idimage_encode(UINT32_MAX, buf) <= sizeof(buf));
}

/* ---- obstacles ------------------------------------------------------------------------------ */

static void test_obstacles(void **state)
{
	assert_non_null(obstacle_of_link("anon_inode:[io_uring]"));
	assert_non_null(obstacle_of_link("anon_inode:bpf-map"));
	assert_non_null(obstacle_of_link("anon_inode:[userfaultfd]"));
	assert_null(obstacle_of_link("anon_inode:[eventpoll]"));
	assert_null(obstacle_of_link("anon_inode:inotify"));
	assert_null(obstacle_of_link("socket:[1234]"));
	assert_null(obstacle_of_link("/tmp/anon_inode:[io_uring]"));
	assert_true(obstacle_device_ok(1, 3) && obstacle_device_ok(5, 0) && obstacle_device_ok(136, 4));
	assert_true(obstacle_device_ok(10, 200)); /* tun */
	assert_false(obstacle_device_ok(10, 229)); /* fuse */
	assert_false(obstacle_device_ok(10, 232)); /* kvm */
	assert_false(obstacle_device_ok(1, 1)); /* mem */
	assert_true(obstacle_fs_ok("tmpfs") && obstacle_fs_ok("cgroup2"));
	assert_false(obstacle_fs_ok("fuse.sshfs"));
	assert_false(obstacle_fs_ok("nfs4"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_seal), dir_test(test_each_byte), dir_test(test_more_less_other),
		cmocka_unit_test(test_manifest), cmocka_unit_test(test_mac), cmocka_unit_test(test_request),
		cmocka_unit_test(test_answers), cmocka_unit_test(test_stats), cmocka_unit_test(test_versions), dir_test(test_rounds), dir_test(test_log),
		cmocka_unit_test(test_ids), cmocka_unit_test(test_obstacles),
	};

	return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
