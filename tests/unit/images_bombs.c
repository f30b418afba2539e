/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Archives that are small outside and huge inside: refused, in little memory, and nothing stays. */
#include "images_tar.h"

#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

struct lab {
	struct test_dir *t;
	struct img_store *s;
};

static void zeros(struct tar *t, uint64_t size)
{
	autofree char *mib = calloc(1, 1 << 20);
	tar_head(t, "zeros", '0', size, NULL);
	for (uint64_t n = 0; n < size; n += 1 << 20)
		sb_addn(&t->b, mib, 1 << 20);
	tar_end(t);
}

static long children_kib(void)
{
	struct rusage u;
	getrusage(RUSAGE_CHILDREN, &u);
	return u.ru_maxrss;
}

/* In a small process of its own: a child starts with its parent's memory. */
static void refused_packed(struct lab *l, const char *path, const char *words)
{
	autofree char *store = tree_text(l->t->fd, "root", false);
	pid_t pid = fork();
	if (pid == 0) {
		struct vps_err err = { 0 };
		int r = img_import(l->s, path, IMG_AUTO, "hostile:1", NULL, NULL, &err);
		if (r != -VPS_EBADIMAGE || !strstr(err.msg, words)) {
			fprintf(stderr, "%s: %d %s\n", path, r, err.msg);
			_exit(1);
		}
		if (!SANITIZED && children_kib() > 48 * 1024) {
			fprintf(stderr, "%s: %ld KiB\n", path, children_kib());
			_exit(2);
		}
		_exit(0);
	}
	int st;
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
	autofree char *store2 = tree_text(l->t->fd, "root", false);
	assert_string_equal(store, store2);
}

static void save(struct lab *l, int fd, const char *name, char *path, size_t size)
{
	struct stat st;
	snprintf(path, size, "%s/%s", l->t->path, name);
	autoclose int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(fs_copy_data(fd, out, (uint64_t)st.st_size), 0);
	close(fd);
}

static void test_bombs(void **state)
{
	struct lab l;
	char path[128];
	l.t = *state;
	l.s = test_store(l.t->fd, "root");
	assert_int_equal(img_gc(l.s, false, NULL, NULL), 0);
	{
		auto_tar t = { 0 };
		zeros(&t, 300 << 20);
		save(&l, packed_fd(t.b.s, t.b.len, "gzip", NULL), "bomb.gz", path, sizeof(path));
	}
	refused_packed(&l, path, "bomb");
	{ /* a gzip in a gzip would square the ratio */
		struct stat st;
		autoclose int fd = open(path, O_RDONLY);
		fstat(fd, &st);
		autofree char *p = malloc((size_t)st.st_size);
		assert_int_equal(read(fd, p, (size_t)st.st_size), st.st_size);
		save(&l, packed_fd(p, (size_t)st.st_size, "gzip", NULL), "bomb.gz.gz", path,
		     sizeof(path));
	}
	refused_packed(&l, path, "tar"); /* unpacked once, it is no tar */
	{
		auto_tar t = { 0 };
		zeros(&t, 80 << 20);
		save(&l, packed_fd(t.b.s, t.b.len, "xz", "9"), "window.xz", path, sizeof(path));
	}
	if (!SANITIZED)
		refused_packed(&l, path, "memory");
	{ /* cut off in the middle */
		auto_tar t = { 0 };
		tar_file(&t, "f", "some text to be packed, and more, and more");
		tar_end(&t);
		autoclose int fd = packed_fd(t.b.s, t.b.len, "gzip", NULL);
		struct stat st;
		fstat(fd, &st);
		char buf[4096];
		assert_int_equal(read(fd, buf, sizeof(buf)), st.st_size);
		save(&l, mem_fd(buf, (size_t)st.st_size / 2), "cut.gz", path, sizeof(path));
	}
	refused_packed(&l, path, "");
	img_store_close(l.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_bombs),
	};
	if (geteuid() != 0) {
		printf("skipped: unpacking needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
