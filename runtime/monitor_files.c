/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two small files of a monitor: "key=value key=value …" on one line. Words, not JSON: the
 * monitor and a shell script read them without a parser. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/fs.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/str.h"
#include "runtime/monitor.h"
#include "runtime/monitor_files.h"

#define LOCK_WAIT_MS 1000 /* for those who only ask whether it is held */

static const char *const phases[] = {"up", "stopping", "ended", "backoff"};
static const char *const causes[] = {"exited", "signaled", "reboot", "halt", "stop", "lost"};

const char *monitor_cause_name(enum monitor_cause c)
{
	return (unsigned)c < ARRAY_LEN(causes) ? causes[c] : "unknown";
}

/* The value of key, up to a space or the end. 0, or -ENOENT; cut values are -EINVAL. */
static int value_of(const char *line, const char *key, char *buf, size_t size)
{
	size_t klen = strlen(key);

	for (const char *p = line; p && *p; p = strchr(p, ' ')) {
		p += *p == ' ';
		if (strncmp(p, key, klen) != 0 || p[klen] != '=')
			continue;
		size_t n = strcspn(p + klen + 1, " \n");

		if (n >= size)
			return -EINVAL;
		memcpy(buf, p + klen + 1, n);
		buf[n] = '\0';
		return 0;
	}
	return -ENOENT;
}

static int number_of(const char *line, const char *key, uint64_t max, uint64_t *ret)
{
	char text[24];
	int r = value_of(line, key, text, sizeof(text));

	return r < 0 ? r : parse_u64(text, max, ret);
}

static int word_of(const char *line, const char *key, const char *const *words, size_t n)
{
	char text[24];
	int r = value_of(line, key, text, sizeof(text));

	for (size_t i = 0; r == 0 && i < n; i++)
		if (str_eq(text, words[i]))
			return (int)i;
	return r < 0 ? r : -EINVAL;
}

int monitor_status_write(int run_dir, const struct monitor_status *s)
{
	char line[512];
	int n = snprintf(line, sizeof(line),
			 "phase=%s pid=%d ready=%d oom_kills=%llu restarts=%u failures=%u "
			 "next=%llu text=%s\n",
			 phases[s->phase], s->pid, s->ready, (unsigned long long)s->oom_kills,
			 s->restarts, s->failures, (unsigned long long)s->next, s->text);

	/* A teardown clears the directory of temp files: once more, then. */
	int r = fs_write_rename(run_dir, MONITOR_STATUS_FILE, line, (size_t)n, 0600);

	return r == -ENOENT ? fs_write_rename(run_dir, MONITOR_STATUS_FILE, line, (size_t)n, 0600) : r;
}

int monitor_status_read(int run_dir, struct monitor_status *ret)
{
	struct monitor_status s = {0};
	uint64_t pid, ready, restarts, failures;
	char line[512];
	ssize_t n = fs_read_buf(run_dir, MONITOR_STATUS_FILE, line, sizeof(line));

	if (n < 0)
		return (int)n;

	/* The text comes last and may hold anything, " pid=1" too. */
	char *text = strstr(line, " text=");

	if (!text)
		return -EINVAL;
	snprintf(s.text, sizeof(s.text), "%s", text + strlen(" text="));
	*text = '\0';

	int phase = word_of(line, "phase", phases, ARRAY_LEN(phases));

	if (phase < 0 || number_of(line, "pid", INT32_MAX, &pid) < 0 ||
	    number_of(line, "ready", 1, &ready) < 0 ||
	    number_of(line, "oom_kills", UINT64_MAX, &s.oom_kills) < 0 ||
	    number_of(line, "restarts", UINT32_MAX, &restarts) < 0 ||
	    number_of(line, "failures", UINT32_MAX, &failures) < 0 ||
	    number_of(line, "next", UINT64_MAX, &s.next) < 0)
		return -EINVAL;
	s.phase = (enum monitor_phase)phase;
	s.pid = (pid_t)pid;
	s.ready = ready != 0;
	s.restarts = (unsigned)restarts;
	s.failures = (unsigned)failures;
	*ret = s;
	return 0;
}

int monitor_last_write(int instance_dir, const struct monitor_last *l)
{
	char line[256];
	int n = snprintf(line, sizeof(line),
			 "cause=%s exit_code=%d started=%llu stopped=%llu oom_kills=%llu restarts=%u "
			 "init=%d init_start=%llu\n",
			 monitor_cause_name(l->cause), l->exit_code, (unsigned long long)l->started,
			 (unsigned long long)l->stopped, (unsigned long long)l->oom_kills,
			 l->restarts, l->init, (unsigned long long)l->init_start);

	return fs_write_atomic(instance_dir, MONITOR_LAST_FILE, line, (size_t)n, 0600);
}

int monitor_last_read(int instance_dir, struct monitor_last *ret)
{
	struct monitor_last l = {.exit_code = -1};
	uint64_t restarts, init;
	char line[256], code[8];
	ssize_t n = fs_read_buf(instance_dir, MONITOR_LAST_FILE, line, sizeof(line));

	if (n < 0)
		return (int)n;

	int cause = word_of(line, "cause", causes, ARRAY_LEN(causes));
	uint64_t exit_code = 0;

	if (cause < 0 || value_of(line, "exit_code", code, sizeof(code)) < 0 ||
	    (!str_eq(code, "-1") && parse_u64(code, 255, &exit_code) < 0) ||
	    number_of(line, "started", UINT64_MAX, &l.started) < 0 ||
	    number_of(line, "stopped", UINT64_MAX, &l.stopped) < 0 ||
	    number_of(line, "oom_kills", UINT64_MAX, &l.oom_kills) < 0 ||
	    number_of(line, "restarts", UINT32_MAX, &restarts) < 0 ||
	    number_of(line, "init", INT32_MAX, &init) < 0 ||
	    number_of(line, "init_start", UINT64_MAX, &l.init_start) < 0)
		return -EINVAL;
	l.init = (pid_t)init;
	l.cause = (enum monitor_cause)cause;
	l.exit_code = str_eq(code, "-1") ? -1 : (int)exit_code;
	l.restarts = (unsigned)restarts;
	*ret = l;
	return 0;
}

int monitor_alive(int run_dir)
{
	autoclose int fd = openat(run_dir, MONITOR_LOCK_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	/* Shared, so that two who ask do not see each other; a monitor that starts waits it out. */
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? 1 : -errno;
}

int monitor_lock(int run_dir)
{
	return lock_take(run_dir, MONITOR_LOCK_FILE, true, LOCK_WAIT_MS);
}
