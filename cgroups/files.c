/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One file of one group: by path below the hierarchy's <tag> fd, so that no fd a group stays. */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"

/* v1 memory tells "no limit" as LONG_MAX rounded down to a page; no real limit comes near. */
#define V1_NO_LIMIT 0x7fffffffff000000ull

static int path_of(const struct cg *cg, const struct cg_hier *hi, const char *file,
		   char buf[CG_PATH_MAX])
{
	if (hi->tag_fd < 0)
		return -ENOENT;
	int n = snprintf(buf, CG_PATH_MAX, "%s/%s", cg->name, file);
	return n < CG_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int cg_file_open(const struct cg *cg, const struct cg_hier *hi, const char *file, int flags)
{
	char path[CG_PATH_MAX];
	int r = path_of(cg, hi, file, path);
	if (r < 0)
		return r;
	int fd = openat(hi->tag_fd, path, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

ssize_t cg_file_read(const struct cg *cg, const struct cg_hier *hi, const char *file, char *buf,
		     size_t size)
{
	char path[CG_PATH_MAX];
	int r = path_of(cg, hi, file, path);
	if (r < 0)
		return r;
	return fs_read_buf(hi->tag_fd, path, buf, size);
}

int cg_file_write(const struct cg *cg, const struct cg_hier *hi, const char *file,
		  const char *value)
{
	char path[CG_PATH_MAX];
	int r = path_of(cg, hi, file, path);
	if (r < 0)
		return r;
	return fs_write(hi->tag_fd, path, value);
}

uint64_t cg_parse_u64(const char *s)
{
	if (strncmp(s, "max", 3) == 0 || strncmp(s, "-1", 2) == 0)
		return CG_MAX;
	if (*s < '0' || *s > '9')
		return CG_UNSET;
	uint64_t v = strtoull(s, NULL, 10);
	return v >= V1_NO_LIMIT ? CG_MAX : v;
}

int cg_file_u64(const struct cg *cg, const struct cg_hier *hi, const char *file, uint64_t *ret)
{
	char buf[128];
	ssize_t len = cg_file_read(cg, hi, file, buf, sizeof(buf));
	if (len < 0)
		return (int)len;
	uint64_t v = cg_parse_u64(buf);
	if (v == CG_UNSET)
		return -EBADMSG;
	*ret = v;
	return 0;
}

uint64_t cg_parse_key(const char *text, const char *key)
{
	size_t len = strlen(key);
	while (text && *text) {
		if (strncmp(text, key, len) == 0 && text[len] == ' ')
			return cg_parse_u64(text + len + 1);
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return CG_UNSET;
}
