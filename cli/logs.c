/* SPDX-License-Identifier: GPL-2.0-or-later */
/* logs and events: bounded files that grow, followed by inotify. */
#include "cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const struct cli_opt logs_opts[] = {
	{"follow", 'f', NULL, "go on as it grows"},
	{"tail", 'n', "N", "only the last N lines"},
	{"raw", 0, NULL, "bytes as they came (never to a terminal you care about)"},
	{0},
};

const struct cli_opt events_opts[] = {
	{"follow", 'f', NULL, "go on as they happen"},
	{"event", 0, "NAME", "only these (start, ready, exit, oom, …)"},
	{"since", 0, "TIME", "only younger than this (10m, 2h)"},
	{0},
};

/* A file read to its end, then followed over rotations (the path is another inode then). */
struct follower {
	const char *path;
	int fd, inotify;
	struct strbuf line; /* what has no newline yet */
	bool (*take)(void *arg, const char *line, size_t len);
	void *arg;
};

static bool take_lines(struct follower *f, bool rest)
{
	char *start = f->line.s, *nl;
	if (!start)
		return true;
	char *end = start + f->line.len;
	bool go = true;
	while (go && (nl = memchr(start, '\n', end - start))) {
		go = f->take(f->arg, start, nl - start);
		start = nl + 1;
	}
	if (go && rest && start < end) {
		go = f->take(f->arg, start, end - start);
		start = end;
	}
	size_t left = end - start;
	memmove(f->line.s, start, left);
	f->line.len = left;
	f->line.s[left] = '\0';
	return go;
}

static int read_to_end(struct follower *f, bool rest)
{
	char buf[16384];
	ssize_t n;
	while ((n = read(f->fd, buf, sizeof(buf))) > 0) {
		sb_addn(&f->line, buf, n);
		if (sb_ok(&f->line) < 0)
			return -ENOMEM;
		if (!take_lines(f, f->line.len > 65536))
			return 0;
	}
	if (n < 0)
		return -errno;
	return rest && !take_lines(f, true) ? 0 : 1;
}

static bool rotated(const struct follower *f)
{
	struct stat a, b;
	return stat(f->path, &b) == 0 &&
	       (fstat(f->fd, &a) < 0 || a.st_ino != b.st_ino || a.st_dev != b.st_dev);
}

/* Go on in the file that has the name now. False: that is the one already, or there is none. */
static bool next_file(struct follower *f)
{
	int fd = rotated(f) ? open(f->path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return false;
	close(f->fd);
	f->fd = fd;
	return true;
}

static int read_all(struct follower *f)
{
	int r;
	do
		r = read_to_end(f, false);
	while (r > 0 && next_file(f));
	return r > 0 ? read_to_end(f, true) : r;
}

static int follow(struct follower *f)
{
	autofree char *dir = strdup(f->path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	if (!slash)
		return -ENOMEM;
	*slash = '\0';
	autoclose int in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (in < 0 || inotify_add_watch(in, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return -errno;
	while (!cli_interrupted) {
		int r = read_to_end(f, false);
		if (r <= 0)
			return r;
		if (next_file(f))
			continue;
		struct pollfd p = {.fd = in, .events = POLLIN};
		char buf[4096];
		if (poll(&p, 1, -1) > 0)
			while (read(in, buf, sizeof(buf)) > 0)
				;
	}
	return 0;
}

static bool print_log_line(void *arg, const char *line, size_t len)
{
	const struct cli *c = arg;
	if (cli_flag(c, "raw")) {
		fwrite(line, 1, len, stdout);
	} else {
		while (len && line[len - 1] == '\r')
			len--;
		auto_strbuf sb = STRBUF_INIT;
		sb_add_escaped(&sb, line, len);
		fwrite(sb.s ? sb.s : "", 1, sb.len, stdout);
	}
	fputc('\n', stdout);
	fflush(stdout);
	return !ferror(stdout) && !cli_interrupted;
}

/* Put the offset where the last n lines begin; how many lines there are from there on. */
static uint64_t seek_tail(int fd, uint64_t n)
{
	off_t end = lseek(fd, 0, SEEK_END), pos = end;
	uint64_t seen = 0;
	char buf[8192];
	while (pos > 0) {
		size_t len = pos > (off_t)sizeof(buf) ? sizeof(buf) : (size_t)pos;
		if (pread(fd, buf, len, pos - (off_t)len) != (ssize_t)len)
			break;
		for (size_t i = len; i-- > 0;) {
			off_t behind = pos - (off_t)len + (off_t)i + 1;
			/* the newline that ends the last line counts for nothing */
			if (buf[i] != '\n' || behind == end)
				continue;
			if (++seen >= n) {
				lseek(fd, behind, SEEK_SET);
				return n;
			}
		}
		pos -= (off_t)len;
	}
	lseek(fd, 0, SEEK_SET);
	return end > 0 ? seen + 1 : 0;
}

/* The same over both files of a log: f has the older one, or the only one. */
static void tail_of(struct follower *f, uint64_t n)
{
	autoclose int old = f->fd;
	uint64_t have = 0;
	f->fd = rotated(f) ? open(f->path, O_RDONLY | O_CLOEXEC) : -1;
	if (f->fd >= 0) {
		have = n ? seek_tail(f->fd, n) : (lseek(f->fd, 0, SEEK_END), 0);
		if (have >= n)
			return;
		close(f->fd);
	}
	/* A line that goes over from one file to the next counts in each: rather one too few. */
	f->fd = take_fd(old);
	if (n)
		seek_tail(f->fd, n - have);
	else
		lseek(f->fd, 0, SEEK_END);
}

int verb_logs(struct cli *c)
{
	struct vps_err err = {0};
	autofree char *path = NULL;
	uint64_t n = 0;
	const char *tail = cli_value(c, "tail");
	if (tail && parse_u64(tail, UINT32_MAX, &n) < 0)
		return cli_usage(c, "--tail '%s': a number of lines", tail);
	int r = cli_host(c, &err);
	if (r >= 0)
		r = vps_log_open(c->host, c->args[0], &path, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	struct follower f = {.path = path, .fd = r, .take = print_log_line, .arg = c};
	if (tail)
		tail_of(&f, n);
	r = cli_flag(c, "follow") ? follow(&f) : read_all(&f);
	close(f.fd);
	sb_done(&f.line);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

struct event_filter {
	struct cli *c;
	uint64_t since; /* milliseconds of 1970; 0: all */
};

/* "2025-06-01T12:00:00.123Z" in milliseconds of 1970; 0 when it is something else. */
static uint64_t event_time(const struct json *e)
{
	const char *text = json_str(json_get(e, "time"), "");
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	unsigned ms = 0;
	if (!rest)
		return 0;
	if (*rest == '.')
		sscanf(rest, ".%3uZ", &ms);
	return (uint64_t)timegm(&tm) * 1000 + ms;
}

static bool event_wanted(const struct event_filter *f, const struct json *e)
{
	const struct cli *c = f->c;
	if (f->since && event_time(e) < f->since)
		return false;
	bool any = false, hit = false;
	for (size_t i = 0; i < c->n_given; i++) {
		if (!str_eq(c->given[i].name, "event"))
			continue;
		any = true;
		hit |= str_eq(c->given[i].value, json_str(json_get(e, "event"), ""));
	}
	if (any && !hit)
		return false;
	char id[24];
	snprintf(id, sizeof(id), "%lld", (long long)json_int(json_get(e, "id"), 0));
	for (char **a = c->args; *a; a++)
		if (str_eq(*a, id) || str_eq(*a, json_str(json_get(e, "name"), "")))
			return true;
	return !c->n_args;
}

static void print_event(const struct json *e)
{
	uint64_t ms = event_time(e);
	time_t secs = (time_t)(ms / 1000);
	struct tm tm;
	char when[40] = "-";
	if (localtime_r(&secs, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s.%03u  %-5lld ", when, (unsigned)(ms % 1000),
	       (long long)json_int(json_get(e, "id"), 0));
	autofree char *name = str_escape(json_str(json_get(e, "name"), "-"));
	printf("%-16s %-10s", name ? name : "", json_str(json_get(e, "event"), "?"));
	for (size_t i = 0; i < json_len(e); i++) {
		const char *key = json_key(e, i);
		if (str_eq(key, "time") || str_eq(key, "id") || str_eq(key, "name") ||
		    str_eq(key, "event"))
			continue;
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, false);
		const struct json *v = json_at(e, i);
		if (json_type(v) == JSON_STRING)
			sb_add_escaped(&sb, json_str(v, ""), strlen(json_str(v, "")));
		else
			jo_json(&o, NULL, v);
		printf(" %s=%s", key, sb.s ? sb.s : "");
	}
	printf("\n");
}

static bool take_event(void *arg, const char *line, size_t len)
{
	struct event_filter *f = arg;
	auto_json e = NULL;
	if (json_parse(line, len, &e, NULL) < 0) /* a line cut by a crash */
		return true;
	if (!event_wanted(f, e))
		return true;
	if (f->c->json)
		printf("%.*s\n", (int)len, line);
	else
		print_event(e);
	fflush(stdout);
	return !ferror(stdout) && !cli_interrupted;
}

int verb_events(struct cli *c)
{
	struct vps_err err = {0};
	struct event_filter filter = {.c = c};
	uint64_t ms = 0;
	const char *since = cli_value(c, "since");
	if (since && parse_duration_ms(since, &ms) < 0)
		return cli_usage(c, "--since '%s': say it as 30s, 5m or 1h", since);
	if (since) {
		struct timespec ts;
		clock_gettime(CLOCK_REALTIME, &ts);
		uint64_t now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
		filter.since = ms < now ? now - ms : 0;
	}
	int r = cli_uuid_args(c, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	const char *path = vps_events_path(c->host);
	bool go_on = cli_flag(c, "follow");
	int fd = open(path, O_RDONLY | O_CLOEXEC | (go_on ? O_CREAT : 0), 0600);
	if (fd < 0)
		return errno == ENOENT
			       ? EXIT_OK
			       : cli_fail(c, vps_err_sys(&err, -errno, "open '%s'", path), &err);
	struct follower f = {.path = path, .fd = fd, .take = take_event, .arg = &filter};
	r = go_on ? follow(&f) : read_to_end(&f, true);
	close(f.fd);
	sb_done(&f.line);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}
