/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/lock.h"
#include "base/mem.h"
#include "base/sys.h"

#define LINE_MAX_BYTES 4096
#define STR_MAX_BYTES  512 /* of one value: a line holds a handful */

/* RFC 8259, section 7. What is no UTF-8 becomes U+FFFD: values may come from a tenant; controls
 * and what acts on a terminal are written as \u. */
static void add_json_str(struct strbuf *sb, const char *s)
{
	size_t n = strnlen(s, STR_MAX_BYTES);

	sb_addc(sb, '"');
	for (size_t i = 0; i < n;) {
		uint32_t cp;
		size_t len = utf8_next(s + i, n - i, &cp);

		if (len == 0)
			sb_add(sb, "\\ufffd");
		else if (cp == '"' || cp == '\\')
			sb_addf(sb, "\\%c", (char)cp);
		else if (utf8_is_unsafe(cp)) /* all of them are in the first plane */
			sb_addf(sb, "\\u%04x", cp);
		else
			sb_addn(sb, s + i, len);
		i += len ? len : 1;
	}
	sb_addc(sb, '"');
}

int event_format(uint64_t real_ns, unsigned id, const char *name, const char *event,
		 const struct event_field *fields, size_t n, struct strbuf *ret)
{
	time_t sec = (time_t)(real_ns / 1000000000u);
	struct tm tm;

	if (!gmtime_r(&sec, &tm))
		return -EINVAL;
	sb_addf(ret, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03uZ\",\"id\":%u", tm.tm_year + 1900,
		tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		(unsigned)(real_ns / 1000000u % 1000u), id);
	if (name) {
		sb_add(ret, ",\"name\":");
		add_json_str(ret, name);
	}
	sb_add(ret, ",\"event\":");
	add_json_str(ret, event);
	for (size_t i = 0; i < n; i++) {
		size_t before = ret->len;

		sb_addc(ret, ',');
		add_json_str(ret, fields[i].key);
		sb_addc(ret, ':');
		if (fields[i].str)
			add_json_str(ret, fields[i].str);
		else
			sb_addf(ret, "%lld", (long long)fields[i].num);
		if (ret->oom)
			return -ENOMEM;
		if (ret->len + 2 > LINE_MAX_BYTES) { /* a field that does not fit is left out */
			ret->len = before;
			ret->s[before] = '\0';
		}
	}
	sb_add(ret, "}\n");
	return sb_ok(ret);
}

/* Under the lock, since two writers that both see a full file would else lose a whole file. A
 * writer that opened before the rename writes to events.1: nothing is lost. */
static void rotate(int run_fd)
{
	struct stat st;
	autoclose int lock = lock_take(run_fd, EVENTS_FILE ".lock", true, LOCK_TRY);

	if (lock >= 0 && fstatat(run_fd, EVENTS_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_size >= EVENTS_MAX)
		renameat(run_fd, EVENTS_FILE, run_fd, EVENTS_FILE ".1");
}

int event_add(int run_fd, unsigned id, const char *name, const char *event,
	      const struct event_field *fields, size_t n)
{
	auto_strbuf line = STRBUF_INIT;
	struct stat st;
	int r = event_format(sys_now_real(), id, name, event, fields, n, &line);

	if (r < 0)
		return r;

	autoclose int fd = openat(run_fd, EVENTS_FILE,
				  O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	/* One write: O_APPEND makes it atomic against other writers of a regular file. */
	if (write(fd, line.s, line.len) != (ssize_t)line.len)
		return errno ? -errno : -EIO;
	if (fstat(fd, &st) == 0 && st.st_size >= EVENTS_MAX)
		rotate(run_fd);
	return 0;
}
