/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stats: usage and pressure, once or as rates between two looks; top: the same, refreshed. */
#include "cli/verbs.h"

#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"

const struct cli_opt stats_opts[] = {
	{"follow", 'f', NULL, "again and again"},
	{"interval", 'i', "TIME", "between two looks (default 1s)"},
	{"no-header", 'H', NULL, "no header line"},
	{0},
};

const struct cli_opt top_opts[] = {
	{"interval", 'i', "TIME", "between two looks (default 2s)"},
	{"once", '1', NULL, "print once and end"},
	{0},
};

#define UNKNOWN (UINT64_MAX - 1)

struct sample {
	unsigned id;
	char *name;
	struct vps_stats s;
	uint64_t at; /* ns */
};

struct samples {
	struct sample *v;
	size_t n;
};

static void samples_done(struct samples *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].name);
	free(s->v);
	*s = (struct samples){0};
}

static bool wanted(const struct cli *c, const struct vps_info *i)
{
	char id[16];
	snprintf(id, sizeof(id), "%u", i->spec.id);
	for (char **a = c->args; *a; a++)
		if (str_eq(*a, id) || str_eq(*a, i->spec.name))
			return true;
	return !c->n_args && (i->status == VPS_RUNNING || i->status == VPS_PAUSED);
}

static int take_samples(struct cli *c, struct samples *ret, struct vps_err *err)
{
	struct vps_info *list = NULL;
	size_t n = 0;
	int r = vps_list(c->host, &list, &n, err);
	struct samples s = {.v = calloc(n + 1, sizeof(*s.v))};
	if (r >= 0 && !s.v)
		r = -ENOMEM;
	for (size_t i = 0; r >= 0 && i < n; i++) {
		if (!wanted(c, &list[i]))
			continue;
		struct sample *x = &s.v[s.n];
		struct vps_err e = {0};
		char id[16];
		snprintf(id, sizeof(id), "%u", list[i].spec.id);
		int one = vps_stats(c->host, id, &x->s, &e);
		if (one < 0 && c->n_args) /* asked for by name */
			r = (*err = e, one);
		if (one < 0)
			continue; /* ended since the list was made */
		x->id = list[i].spec.id;
		x->name = strdup(list[i].spec.name ? list[i].spec.name : id);
		x->at = sys_now_mono();
		s.n++;
	}
	vps_list_free(list, n);
	if (r < 0) {
		samples_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Names that were asked for and are not there are an error, as everywhere. */
static int check_names(struct cli *c, struct vps_err *err)
{
	int r = cli_uuid_args(c, err);
	for (char **a = c->args; r >= 0 && *a; a++) {
		auto_done(vps_info_done) struct vps_info i = {0};
		r = vps_get(c->host, *a, &i, err);
		if (r < 0)
			return r;
		if (i.status != VPS_RUNNING && i.status != VPS_PAUSED)
			return vps_err_set(err, VPS_ESTATE, "'%s' is %s", *a,
					   vps_status_name(i.status));
	}
	return r;
}

static const struct sample *before(const struct samples *was, unsigned id)
{
	for (size_t i = 0; was && i < was->n; i++)
		if (was->v[i].id == id)
			return &was->v[i];
	return NULL;
}

/* Per cent of one CPU since the last look; since the start when there was none. */
static double cpu_percent(const struct sample *x, const struct sample *was)
{
	if (x->s.cpu_usage_us == UNKNOWN)
		return -1;
	if (!was)
		return x->s.uptime_s ? (double)x->s.cpu_usage_us / 1e4 / (double)x->s.uptime_s : 0;
	double us = (double)(x->at - was->at) / 1e3;
	return us > 0 ? (double)(x->s.cpu_usage_us - was->s.cpu_usage_us) * 100 / us : 0;
}

static uint64_t rate(uint64_t now, uint64_t then, uint64_t ns)
{
	if (now == UNKNOWN || then == UNKNOWN || now < then || !ns)
		return UNKNOWN;
	return (uint64_t)((double)(now - then) * 1e9 / (double)ns);
}

static void cell_size(struct table *t, size_t col, uint64_t v, const char *suffix)
{
	char buf[16], text[24];
	snprintf(text, sizeof(text), "%s%s", cli_size(v, buf, sizeof(buf)),
		 v < UNKNOWN ? suffix : "");
	table_cell(t, col, text);
}

static void cell_percent(struct table *t, size_t col, double v)
{
	char buf[24];
	snprintf(buf, sizeof(buf), "%.1f", v);
	table_cell(t, col, v < 0 ? NULL : buf);
}

static void stats_row(struct table *t, const struct sample *x, const struct sample *was)
{
	char buf[32];
	uint64_t ns = was ? x->at - was->at : 0;
	size_t col = 0;
	snprintf(buf, sizeof(buf), "%u", x->id);
	table_cell(t, col++, buf);
	table_cell(t, col++, x->name);
	cell_percent(t, col++, cpu_percent(x, was));
	cell_size(t, col++, x->s.memory_current, "");
	cell_size(t, col++, x->s.memory_limit, "");
	snprintf(buf, sizeof(buf), "%lu", (unsigned long)x->s.pids_current);
	table_cell(t, col++, x->s.pids_current == UNKNOWN ? NULL : buf);
	cell_size(t, col++, x->s.disk_used, "");
	cell_size(t, col++, was ? rate(x->s.io_rbytes, was->s.io_rbytes, ns) : x->s.io_rbytes,
		  was ? "/s" : "");
	cell_size(t, col++, was ? rate(x->s.io_wbytes, was->s.io_wbytes, ns) : x->s.io_wbytes,
		  was ? "/s" : "");
	cell_size(t, col++,
		  was ? rate(x->s.net_rx_bytes, was->s.net_rx_bytes, ns) : x->s.net_rx_bytes,
		  was ? "/s" : "");
	cell_size(t, col++,
		  was ? rate(x->s.net_tx_bytes, was->s.net_tx_bytes, ns) : x->s.net_tx_bytes,
		  was ? "/s" : "");
	cell_percent(t, col++, x->s.psi_cpu10);
	cell_percent(t, col++, x->s.psi_memory10);
	cell_percent(t, col++, x->s.psi_io10);
	table_row(t);
}

/* top on a terminal: what fits beside the header and the cursor. 0: all. */
static bool on_screen;
static size_t screen_rows(void)
{
	unsigned short rows = 24, cols = 80;
	if (!on_screen)
		return 0;
	term_size(STDOUT_FILENO, &rows, &cols);
	return rows > 3 ? rows - 2 : 1;
}

static int print_stats(const struct samples *now, const struct samples *was, bool head)
{
	static const char *const titles[] = {"ID",	"NAME",	  "CPU%",   "MEMORY",  "LIMIT",
					     "PIDS",	"DISK",	  "READ",   "WRITTEN", "NET-IN",
					     "NET-OUT", "P-CPU%", "P-MEM%", "P-IO%"};
	auto_done(table_freep) struct table *t = table_new(ARRAY_LEN(titles));
	if (!t)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_LEN(titles); i++)
		table_head(t, i, titles[i], i != 1);
	for (size_t i = 0; i < now->n; i++)
		stats_row(t, &now->v[i], before(was, now->v[i].id));
	table_fit(t, screen_rows());
	table_print(t, stdout, head);
	return 0;
}

static void jo_known(struct json_out *o, const char *key, uint64_t v)
{
	if (v == UINT64_MAX)
		jo_str(o, key, "max");
	else if (v != UNKNOWN)
		jo_u64(o, key, v);
}

static void json_stats(struct json_out *o, const struct sample *x)
{
	const struct vps_stats *s = &x->s;
	jo_object(o, NULL);
	jo_u64(o, "id", x->id);
	jo_str(o, "name", x->name);
	jo_u64(o, "uptime", s->uptime_s);
	jo_known(o, "cpu_usage_us", s->cpu_usage_us);
	jo_known(o, "cpu_user_us", s->cpu_user_us);
	jo_known(o, "cpu_system_us", s->cpu_system_us);
	jo_known(o, "cpu_throttled_us", s->cpu_throttled_us);
	jo_known(o, "memory_current", s->memory_current);
	jo_known(o, "memory_peak", s->memory_peak);
	jo_known(o, "memory_limit", s->memory_limit);
	jo_known(o, "memory_anon", s->memory_anon);
	jo_known(o, "memory_file", s->memory_file);
	jo_known(o, "memory_kernel", s->memory_kernel);
	jo_known(o, "guest_memory", s->guest_memory);
	jo_known(o, "guest_memory_available", s->guest_memory_available);
	jo_known(o, "balloon", s->balloon);
	jo_known(o, "swap_current", s->swap_current);
	jo_known(o, "pids_current", s->pids_current);
	jo_known(o, "pids_limit", s->pids_limit);
	jo_known(o, "io_rbytes", s->io_rbytes);
	jo_known(o, "io_wbytes", s->io_wbytes);
	jo_known(o, "io_rios", s->io_rios);
	jo_known(o, "io_wios", s->io_wios);
	jo_known(o, "net_rx_bytes", s->net_rx_bytes);
	jo_known(o, "net_tx_bytes", s->net_tx_bytes);
	jo_known(o, "net_rx_packets", s->net_rx_packets);
	jo_known(o, "net_tx_packets", s->net_tx_packets);
	jo_known(o, "net_dropped", s->net_dropped);
	jo_known(o, "disk_size", s->disk_size);
	jo_known(o, "disk_used", s->disk_used);
	jo_known(o, "inodes", s->inodes);
	jo_known(o, "inodes_used", s->inodes_used);
	jo_known(o, "oom_kills", s->oom_kills);
	if (s->psi_cpu10 >= 0)
		jo_num(o, "psi_cpu_some10", s->psi_cpu10);
	if (s->psi_memory10 >= 0)
		jo_num(o, "psi_memory_some10", s->psi_memory10);
	if (s->psi_io10 >= 0)
		jo_num(o, "psi_io_some10", s->psi_io10);
	if (s->load1 >= 0) {
		jo_num(o, "load1", s->load1);
		jo_num(o, "load5", s->load5);
		jo_num(o, "load15", s->load15);
	}
	jo_end_object(o);
}

static int print_stats_json(const struct samples *now)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	jo_array(&o, NULL);
	for (size_t i = 0; i < now->n; i++)
		json_stats(&o, &now->v[i]);
	jo_end_array(&o);
	return cli_print_json(&sb) ? -ENOMEM : 0;
}

static int interval_of(struct cli *c, uint64_t dflt, uint64_t *ret, struct vps_err *err)
{
	const char *v = cli_value(c, "interval");
	*ret = dflt;
	if (v && (parse_duration_ms(v, ret) < 0 || *ret < 100 || *ret > 3600000))
		return vps_err_set(err, VPS_EUSAGE, "--interval '%s': from 100ms to 1h", v);
	return 0;
}

static int stats_loop(struct cli *c, uint64_t interval, struct vps_err *err)
{
	auto_done(samples_done) struct samples was = {0};
	bool again = cli_flag(c, "follow"), head = !cli_flag(c, "no-header");
	for (bool first = true; first || again; first = false) {
		auto_done(samples_done) struct samples now = {0};
		int r = take_samples(c, &now, err);
		if (r >= 0)
			r = c->json ? print_stats_json(&now)
				    : print_stats(&now, first ? NULL : &was, head);
		if (r < 0)
			return r;
		fflush(stdout);
		samples_done(&was);
		was = now;
		now = (struct samples){0};
		if (again)
			poll(NULL, 0, (int)interval);
		if (cli_interrupted || ferror(stdout))
			break;
	}
	return 0;
}

int verb_stats(struct cli *c)
{
	struct vps_err err = {0};
	uint64_t interval = 0;
	int r = interval_of(c, 1000, &interval, &err);
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = check_names(c, &err);
	if (r >= 0)
		r = stats_loop(c, interval, &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

/* ---- top ---------------------------------------------------------------- */

static int by_cpu(const void *a, const void *b)
{
	const struct vps_proc *x = a, *y = b;
	return x->cpu_us < y->cpu_us ? 1 : x->cpu_us > y->cpu_us ? -1 : x->pid - y->pid;
}

static int print_procs(struct cli *c, const char *name, struct vps_err *err)
{
	struct vps_proc *p = NULL;
	size_t n = 0;
	int r = vps_procs(c->host, name, &p, &n, err);
	if (r < 0)
		return r;
	qsort(p, n, sizeof(*p), by_cpu);
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	auto_done(table_freep) struct table *t = table_new(7);
	static const char *const titles[] = {"PID", "HOSTPID", "UID",	 "S",
					     "RSS", "TIME",    "COMMAND"};
	for (size_t i = 0; t && i < 7; i++)
		table_head(t, i, titles[i], i != 3 && i != 6);
	jo_array(&o, NULL);
	for (size_t i = 0; t && i < n; i++) {
		char buf[32];
		jo_object(&o, NULL);
		jo_int(&o, "pid", p[i].pid);
		if (p[i].host_pid)
			jo_int(&o, "host_pid", p[i].host_pid);
		jo_u64(&o, "uid", p[i].uid);
		jo_u64(&o, "rss", p[i].rss);
		jo_u64(&o, "cpu_us", p[i].cpu_us);
		jo_strn(&o, "state", &p[i].state, 1);
		autofree char *cmd = str_escape(p[i].cmdline);
		jo_str(&o, "command", cmd);
		jo_end_object(&o);
		snprintf(buf, sizeof(buf), "%d", (int)p[i].pid);
		table_cell(t, 0, buf);
		snprintf(buf, sizeof(buf), "%d", (int)p[i].host_pid);
		table_cell(t, 1, p[i].host_pid ? buf : "-");
		snprintf(buf, sizeof(buf), "%u", (unsigned)p[i].uid);
		table_cell(t, 2, buf);
		snprintf(buf, sizeof(buf), "%c", p[i].state);
		table_cell(t, 3, buf);
		cell_size(t, 4, p[i].rss, "");
		snprintf(buf, sizeof(buf), "%lu:%05.2f", (unsigned long)(p[i].cpu_us / 60000000),
			 (double)(p[i].cpu_us % 60000000) / 1e6);
		table_cell(t, 5, buf);
		table_cell(t, 6, p[i].cmdline);
		table_row(t);
	}
	jo_end_array(&o);
	vps_procs_free(p, n);
	if (c->json)
		return cli_print_json(&sb) ? -ENOMEM : 0;
	if (t) {
		table_fit(t, screen_rows());
		table_print(t, stdout, true);
	}
	return t ? 0 : -ENOMEM;
}

static int top_once(struct cli *c, struct samples *was, struct vps_err *err)
{
	if (c->n_args)
		return print_procs(c, c->args[0], err);
	struct samples now = {0};
	int r = take_samples(c, &now, err);
	if (r >= 0)
		r = c->json ? print_stats_json(&now) : print_stats(&now, was->n ? was : NULL, true);
	samples_done(was);
	*was = now;
	return r;
}

/* 'q' ends it; needs no Enter. */
static bool quit_pressed(int ms)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	char ch = 0;
	if (poll(&p, 1, ms) <= 0)
		return false;
	return read(STDIN_FILENO, &ch, 1) <= 0 || ch == 'q' || ch == 'Q';
}

int verb_top(struct cli *c)
{
	struct vps_err err = {0};
	uint64_t interval = 0;
	int r = interval_of(c, 2000, &interval, &err);
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = check_names(c, &err);
	auto_done(samples_done) struct samples was = {0};
	on_screen =
		isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && !cli_flag(c, "once") && !c->json;
	if (!on_screen) {
		if (r >= 0)
			r = top_once(c, &was, &err);
		return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
	}
	if (r >= 0)
		term_keys(STDIN_FILENO);
	while (r >= 0 && !cli_interrupted) {
		printf("\033[H\033[2J\033[?7l"); /* long lines are cut, not wrapped */
		r = top_once(c, &was, &err);
		printf("\033[?7h");
		fflush(stdout);
		if (r < 0 || quit_pressed((int)interval))
			break;
	}
	term_restore();
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}
