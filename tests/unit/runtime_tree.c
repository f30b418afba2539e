/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tree that moves while it changes (migrate/scan.c, apply.c): each round makes the copy equal, and sends only what changed. */
#include "tests/unit/base_util.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/migrate/apply.h"
#include "runtime/migrate/scan.h"

struct pair {
	int from, to; /* tops */
	int fd, in;   /* the stream's two ends */
	struct wire_out w;
	struct stream_in *r;
	struct scan *scan;
	struct apply apply;
	struct scan_round last;
};

static void pair_begin(struct pair *p, struct test_dir *t)
{
	char path[64];

	*p = (struct pair){.apply = APPLY_INIT};
	assert_int_equal(mkdirat(t->fd, "from", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "to", 0700), 0);
	p->from = fs_open_dir(t->fd, "from");
	p->to = fs_open_dir(t->fd, "to");
	p->fd = sys_memfd("stream", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	p->in = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(stream_out_begin(p->fd, WIRE_KIND, wire_types, wire_n_types, NULL, &p->w.s, NULL), 0);
	assert_int_equal(stream_in_begin(p->in, WIRE_KIND, wire_types, wire_n_types, NULL, &p->r, NULL), 0);
	assert_int_equal(scan_new(p->from, TREE_DISK, &p->scan, NULL), 0);
	p->apply.tops[TREE_DISK] = p->to;
}

static void pair_end(struct pair *p)
{
	apply_done(&p->apply);
	scan_free(p->scan);
	stream_out_free(p->w.s);
	stream_in_free(p->r);
	close(p->from);
	close(p->to);
	close(p->fd);
	close(p->in);
}

static void send_round_told(struct pair *p, const struct progress *told)
{
	struct stream_rec rec;
	struct vps_err err = {0};
	uint8_t n[8] = {0};

	if (scan_send(p->scan, &p->w, false, told, "disk", 0, &p->last, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(wire_put(&p->w, WIRE_ROUND, n, sizeof(n), NULL), 0);
	for (;;) {
		assert_int_equal(stream_next(p->r, &rec, &err), 1);
		if (rec.type == WIRE_ROUND)
			break;
		if (apply_record(&p->apply, &rec, &err) < 0)
			fail_msg("%s", err.msg);
	}
	assert_int_equal(apply_round(&p->apply, &err), 0);
}

static void send_round(struct pair *p)
{
	send_round_told(p, NULL);
}

/* What is sent within a clock tick of its making may be sent once more. */
static void let_age(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL);
}

/* By tools that know nothing of us. */
static void same(struct test_dir *t)
{
	char cmd[1024];

	snprintf(cmd, sizeof(cmd),
		 "list() { cd \"$1\" && find . ! -type d -printf '%%P %%y %%m %%U %%G %%s %%l %%n %%T@\\n' -o -printf '%%P d %%m %%U %%G %%T@\\n' | sort; "
		 "find . -type f -exec md5sum {} + | sort -k2; find . -exec getfattr -h -m - -d {} + 2>/dev/null; }; "
		 "(list %s/from) >%s/a; (list %s/to) >%s/b; diff %s/a %s/b >&2",
		 t->path, t->path, t->path, t->path, t->path, t->path);
	assert_int_equal(system(cmd), 0);
}

static void fill(int dir, const char *path, size_t size, unsigned seed)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	unsigned char buf[4096];

	assert_true(fd >= 0);
	for (size_t at = 0; at < size; at += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i++) {
			seed = seed * 1103515245 + 12345;
			buf[i] = (unsigned char)(seed >> 16);
		}
		assert_int_equal(fs_write_all(fd, buf, size - at < sizeof(buf) ? size - at : sizeof(buf)), 0);
	}
	close(fd);
}

static void make_tree(int d)
{
	int fd;

	fill(d, "small", 100, 1);
	fill(d, "big", 8 << 20, 2);
	assert_int_equal(mkdirat(d, "dir", 0750), 0);
	fill(d, "dir/a", 5000, 3);
	assert_int_equal(fchownat(d, "dir/a", 7, 8, 0), 0);
	assert_int_equal(fchmodat(d, "dir/a", 04711, 0), 0);
	assert_int_equal(linkat(d, "dir/a", d, "hard", 0), 0);
	assert_int_equal(symlinkat("../../etc/passwd", d, "dir/link"), 0);
	assert_int_equal(mknodat(d, "gone", S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(mknodat(d, "fifo", S_IFIFO | 0600, 0), 0);
	assert_int_equal(mkdirat(d, "opaque", 0700), 0);
	fd = fs_open_dir(d, "opaque");
	assert_int_equal(fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0), 0);
	assert_int_equal(fsetxattr(fd, "trusted.overlay.origin", "host's own", 10, 0), 0);
	close(fd);
	fd = openat(d, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 64 << 20), 0);
	assert_int_equal(pwrite(fd, "x", 1, 40 << 20), 1);
	close(fd);
}

static void test_rounds(void **state)
{
	struct test_dir *t = *state;
	struct pair p;
	struct stat st;
	int fd;

	if (geteuid() != 0)
		skip();
	pair_begin(&p, t);
	make_tree(p.from);
	let_age();
	send_round(&p);
	/* what is overlayfs' own of one file system stays behind */
	fd = fs_open_dir(p.from, "opaque");
	assert_int_equal(fremovexattr(fd, "trusted.overlay.origin"), 0);
	close(fd);
	same(t);
	assert_int_equal(fstatat(p.to, "sparse", &st, 0), 0);
	assert_true(st.st_blocks < 1024);
	assert_true(p.last.bytes < (9u << 20));

	/* nothing changed: nothing is sent but the directory whose attribute we took */
	let_age();
	send_round(&p);
	let_age();
	send_round(&p);
	assert_int_equal(p.last.bytes, 0);
	assert_int_equal(p.last.entries, 0);

	/* a byte of a large file is a block */
	fd = openat(p.from, "big", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "!", 1, 5 << 20), 1);
	close(fd);
	let_age();
	send_round(&p);
	assert_int_equal(p.last.bytes, 65536);
	same(t);

	/* it grows, shrinks, and becomes holes */
	fd = openat(p.from, "big", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, (3 << 20) + 777), 0);
	assert_int_equal(ftruncate(fd, 9 << 20), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20), 0);
	close(fd);
	let_age();
	send_round(&p);
	same(t);
	assert_true(p.last.bytes <= 2 * 65536);
	pair_end(&p);
}

static void test_changes_of_kind(void **state)
{
	struct test_dir *t = *state;
	struct pair p;
	int fd;

	if (geteuid() != 0)
		skip();
	pair_begin(&p, t);
	make_tree(p.from);
	send_round(&p);
	/* names that sort around '/', a directory for a file and the other way, links that lead elsewhere */
	assert_int_equal(fs_remove_tree(p.from, "dir"), 0);
	fill(p.from, "dir", 10, 9);
	assert_int_equal(mkdirat(p.from, "dir.d", 0700), 0);
	fill(p.from, "dir.d/x", 10, 9);
	assert_int_equal(mkdirat(p.from, "dir-", 0700), 0);
	assert_int_equal(unlinkat(p.from, "small", 0), 0);
	assert_int_equal(mkdirat(p.from, "small", 0711), 0);
	fill(p.from, "small/x", 10, 9);
	assert_int_equal(unlinkat(p.from, "gone", 0), 0);
	assert_int_equal(symlinkat("small", p.from, "gone"), 0);
	assert_int_equal(unlinkat(p.from, "fifo", 0), 0);
	assert_int_equal(linkat(p.from, "big", p.from, "fifo", 0), 0);
	assert_int_equal(renameat(p.from, "sparse", p.from, "small/moved"), 0);
	fd = openat(p.from, "hard", O_WRONLY | O_CLOEXEC);
	assert_int_equal(fsetxattr(fd, "user.k", "v", 1, 0), 0);
	close(fd);
	send_round(&p);
	fd = fs_open_dir(p.from, "opaque");
	fremovexattr(fd, "trusted.overlay.origin");
	close(fd);
	send_round(&p);
	same(t);
	/* and again with nothing of it left */
	for (const char *const *n = (const char *const[]){"dir", "dir.d", "dir-", "small", "gone", "fifo", "big", "hard", "opaque", NULL}; *n; n++)
		assert_int_equal(fs_remove_tree(p.from, *n), 0);
	send_round(&p);
	same(t);
	pair_end(&p);
}

/* A connection broke off, the source's memory of it is gone, and both trees have changed since. */
static void test_index(void **state)
{
	struct test_dir *t = *state;
	struct stream_rec rec;
	struct pair p;
	int r;

	if (geteuid() != 0)
		skip();
	pair_begin(&p, t);
	make_tree(p.from);
	send_round(&p);
	p.scan = scan_free(p.scan);
	/* half of a file came; one has too much; one is what it never was; the source went on, too */
	r = openat(p.to, "big", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(r, 3 << 20), 0);
	close(r);
	put_file(p.to, "surplus", "x");
	assert_int_equal(mkdirat(p.to, "surplus.d", 0700), 0);
	fill(p.to, "surplus.d/x", 3 << 20, 5);
	assert_int_equal(fs_remove_tree(p.to, "dir"), 0);
	put_file(p.to, "dir", "x");
	assert_int_equal(unlinkat(p.from, "small", 0), 0);
	assert_int_equal(mkdirat(p.from, "small", 0700), 0);

	assert_int_equal(scan_new(p.from, TREE_DISK, &p.scan, NULL), 0);
	assert_int_equal(scan_index_send(p.to, TREE_DISK, &p.w, NULL), 0);
	do {
		assert_int_equal(stream_next(p.r, &rec, NULL), 1);
		assert_int_equal(rec.type, WIRE_INDEX);
		r = scan_index_take(p.scan, &rec, NULL);
	} while (r == 0);
	assert_int_equal(r, 1);
	send_round(&p);
	assert_true(p.last.bytes <= (5u << 20) + (64u << 10));
	r = fs_open_dir(p.from, "opaque");
	fremovexattr(r, "trusted.overlay.origin");
	close(r);
	send_round(&p);
	same(t);
	pair_end(&p);
}

/* A checkpoint with rounds: new files go whole, what stays is not looked at, and links are nobody's. */
static void test_memory(void **state)
{
	struct test_dir *t = *state;
	struct pair p;
	struct stat st;
	int fd;

	if (geteuid() != 0)
		skip();
	pair_begin(&p, t);
	p.scan = scan_free(p.scan);
	assert_int_equal(scan_new(p.from, TREE_MEMORY, &p.scan, NULL), 0);
	p.apply.tops[TREE_MEMORY] = p.to;
	assert_int_equal(mkdirat(p.from, "1", 0700), 0);
	fill(p.from, "1/pages", 4 << 20, 1);
	let_age();
	send_round(&p);
	assert_int_equal(p.last.bytes, 4 << 20);
	same(t);
	assert_int_equal(mkdirat(p.from, "2", 0700), 0);
	fill(p.from, "2/pages", 2 << 20, 2);
	assert_int_equal(symlinkat("../1", p.from, "2/parent"), 0);
	let_age();
	send_round(&p);
	assert_int_equal(p.last.bytes, 2 << 20);
	assert_int_equal(fstatat(p.to, "2/parent", &st, AT_SYMLINK_NOFOLLOW), -1);
	/* in place */
	fd = openat(p.from, "1/pages", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "!", 1, 5 << 17), 1);
	close(fd);
	assert_int_equal(unlinkat(p.from, "2/parent", 0), 0);
	let_age();
	send_round(&p);
	assert_int_equal(p.last.bytes, 65536);
	/* rounds that are given up go there, too */
	assert_int_equal(fs_remove_tree(p.from, "1"), 0);
	assert_int_equal(fs_remove_tree(p.from, "2"), 0);
	fill(p.from, "pages", 3 << 20, 3);
	send_round(&p);
	assert_int_equal(p.last.bytes, 3 << 20);
	same(t);
	pair_end(&p);
}

static void change_block(int dir, unsigned block)
{
	autoclose int fd = openat(dir, WIRE_BLOCKS_FILE, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, "!", 1, (off_t)block << 16), 1);
}

/* By a guest's kernel, of which its machine tells where: nothing else is looked at. */
static void test_written_blocks(void **state)
{
	struct test_dir *t = *state;
	struct pair p;
	autofree char *a = NULL, *b = NULL;
	uint8_t bits[8] = {0};
	size_t len;
	int fd = sys_memfd("written", 0);

	pair_begin(&p, t);
	p.scan = scan_free(p.scan);
	assert_int_equal(scan_new(p.from, TREE_BLOCKS, &p.scan, NULL), 0);
	p.apply.tops[TREE_BLOCKS] = p.to;
	p.apply.blocks_size = 4 << 20;
	fill(p.from, WIRE_BLOCKS_FILE, 4 << 20, 1);
	put_file(p.to, WIRE_BLOCKS_FILE, "");
	memset(bits, 0xff, sizeof(bits));
	assert_int_equal(pwrite(fd, bits, sizeof(bits), 0), sizeof(bits));
	assert_int_equal(scan_written(p.scan, fd), 0);
	send_round(&p);
	assert_int_equal(p.last.bytes, 4 << 20);
	change_block(p.from, 2);
	change_block(p.from, 9);
	memset(bits, 0, sizeof(bits));
	bits[0] = 1 << 2 | 1 << 3; /* 3: written, with what was there */
	assert_int_equal(pwrite(fd, bits, sizeof(bits), 0), sizeof(bits));
	assert_int_equal(scan_written(p.scan, fd), 0);
	send_round(&p);
	assert_int_equal(p.last.bytes, 65536);
	bits[0] = 0;
	assert_int_equal(pwrite(fd, bits, sizeof(bits), 0), sizeof(bits));
	assert_int_equal(scan_written(p.scan, fd), 0);
	send_round(&p);
	assert_int_equal(p.last.bytes, 0);
	/* of one round it tells, not of the next */
	send_round(&p);
	assert_int_equal(p.last.bytes, 65536);
	/* the last one's block is shorter, and it tells less than there is */
	change_block(p.from, 63);
	bits[1] = 1;
	assert_int_equal(ftruncate(fd, 2), 0);
	assert_int_equal(pwrite(fd, bits, 2, 0), 2);
	assert_int_equal(scan_written(p.scan, fd), 0);
	send_round(&p);
	assert_int_equal(p.last.bytes, 65536);
	assert_int_equal(fs_read(p.from, WIRE_BLOCKS_FILE, 8 << 20, &a, &len), 0);
	assert_int_equal(fs_read(p.to, WIRE_BLOCKS_FILE, 8 << 20, &b, NULL), 0);
	assert_int_equal(len, 4 << 20);
	assert_memory_equal(a, b, len);
	close(fd);
	pair_end(&p);
}

static bool write_mapped(void *arg, unsigned key, const char *what, uint64_t done, uint64_t total)
{
	volatile char *map = arg;

	(void)key, (void)what, (void)done, (void)total;
	map[0]++;
	return false;
}

/* A page that is dirty already is written without a trace: no fault, no new ctime. It became dirty within the round that
 * sent it, though. */
static void test_mapped_pages(void **state)
{
	struct progress told = {.fn = write_mapped};
	struct test_dir *t = *state;
	struct pair p;
	char *map;
	int fd;

	if (geteuid() != 0)
		skip();
	pair_begin(&p, t);
	fill(p.from, "0 before", 3 << 20, 1);
	fill(p.from, "1 mapped", 8192, 2);
	fill(p.from, "2 after", 3 << 20, 3);
	fd = openat(p.from, "1 mapped", O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	map[0] = 1;
	told.arg = map;
	send_round_told(&p, &told);
	send_round(&p);
	assert_true(map[0] > 2);
	same(t);
	munmap(map, 8192);
	close(fd);
	pair_end(&p);
}

/* Whatever is done to a tree between and during rounds, the last one, with nobody at it, makes the copy true. */
static void test_random_changes(void **state)
{
	struct test_dir *t = *state;
	struct pair p;
	unsigned seed = 42;

	if (geteuid() != 0)
		skip();
	pair_begin(&p, t);
	for (int round = 0; round < 60; round++) {
		for (int i = 0; i < 15; i++) {
			char a[64], b[64];
			int fd;
			snprintf(a, sizeof(a), "%s%u", rand_r(&seed) % 3 ? "" : "d/", rand_r(&seed) % 6);
			snprintf(b, sizeof(b), "%s%u", rand_r(&seed) % 3 ? "" : "d/", rand_r(&seed) % 6);
			mkdirat(p.from, "d", 0700);
			switch (rand_r(&seed) % 9) {
			case 0: fs_remove_tree(p.from, a); break;
			case 1: fs_remove_tree(p.from, a), mkdirat(p.from, a, 0755); break;
			case 2: fs_remove_tree(p.from, a), (void)!symlinkat(b, p.from, a); break;
			case 3: (void)!linkat(p.from, a, p.from, b, 0); break;
			case 4: (void)!renameat(p.from, a, p.from, b); break;
			case 5: (void)!fchmodat(p.from, a, rand_r(&seed) & 0777, 0); break;
			default:
				fd = openat(p.from, a, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
				if (fd < 0)
					break;
				(void)!ftruncate(fd, rand_r(&seed) % 4 << 20);
				(void)!pwrite(fd, &seed, sizeof(seed), rand_r(&seed) % (4 << 20));
				close(fd);
			}
		}
		send_round(&p);
		same(t);
	}
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_rounds),
		dir_test(test_changes_of_kind),
		dir_test(test_index),
		dir_test(test_memory), dir_test(test_written_blocks), dir_test(test_mapped_pages),
		dir_test(test_random_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
