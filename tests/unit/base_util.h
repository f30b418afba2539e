/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What unit tests share: cmocka with its headers in order, and a directory of their own. */
#ifndef VPS_TESTS_UNIT_BASE_UTIL_H
#define VPS_TESTS_UNIT_BASE_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

struct test_dir {
	char path[64];
	int fd;
};

/* cmocka setup and teardown: *state is a struct test_dir of a fresh directory. */
static inline int test_dir_make(void **state)
{
	struct test_dir *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	strcpy(t->path, "/tmp/vps-unit-XXXXXX");
	if (!mkdtemp(t->path))
		return -1;
	t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = t;
	return t->fd < 0 ? -1 : 0;
}

static inline int test_dir_remove(void **state)
{
	struct test_dir *t = *state;
	int r = fs_remove_tree(AT_FDCWD, t->path);

	close(t->fd);
	free(t);
	return r;
}

#define dir_test(f) cmocka_unit_test_setup_teardown(f, test_dir_make, test_dir_remove)

/* How many fds this process has open: leaks show by a difference. */
static inline unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline void put_file(int dirfd, const char *path, const char *text)
{
	autoclose int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
}

static inline void assert_file(int dirfd, const char *path, const char *text)
{
	autofree char *got = NULL;
	size_t len = 0;

	assert_int_equal(fs_read(dirfd, path, 1 << 20, &got, &len), 0);
	assert_int_equal(len, strlen(text));
	assert_string_equal(got, text);
}

#endif
