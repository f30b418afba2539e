/* SPDX-License-Identifier: GPL-2.0-or-later */
/* list, as vzlist and docker ps: running ones unless -a; columns, sorting, filters. */
#include "cli/verbs.h"

#include <fnmatch.h>
#include <string.h>
#include <time.h>

const struct cli_opt list_opts[] = {
	{"all", 'a', NULL, "stopped ones too"},
	{"stopped", 'S', NULL, "only stopped ones"},
	{"output", 'o', "COL,...", "columns; -L lists them"},
	{"columns", 'L', NULL, "list the columns"},
	{"sort", 's', "[-]COL", "sort by a column, - for descending"},
	{"no-header", 'H', NULL, "no header line"},
	{"filter", 'f', "COL=PATTERN", "only where the column matches (label=K=V too)"},
	{"names", '1', NULL, "names only, one a line"},
	{0},
};

struct column {
	const char *name, *title, *help;
	bool right;
	void (*text)(const struct vps_info *i, struct strbuf *sb);
	uint64_t (*number)(const struct vps_info *i); /* sort by this instead */
};

static void put_limit(struct strbuf *sb, uint64_t v)
{
	char buf[16];
	sb_add(sb, cli_size(v, buf, sizeof(buf)));
}

static void put_strv(struct strbuf *sb, char *const *v)
{
	for (; v && *v; v++)
		sb_addf(sb, "%s%s", sb->len ? "," : "", *v);
}

static void put_time(struct strbuf *sb, uint64_t t)
{
	char buf[32];
	time_t when = (time_t)t;
	struct tm tm;
	if (t && gmtime_r(&when, &tm) && strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm))
		sb_add(sb, buf);
}

static bool is_up(const struct vps_info *i)
{
	return i->status == VPS_RUNNING || i->status == VPS_PAUSED || i->status == VPS_STARTING ||
	       i->status == VPS_STOPPING || i->status == VPS_RESTARTING;
}

static uint64_t uptime_of(const struct vps_info *i)
{
	uint64_t now = (uint64_t)time(NULL);
	return is_up(i) && i->started && now > i->started ? now - i->started : 0;
}

static void c_id(const struct vps_info *i, struct strbuf *sb) { sb_addf(sb, "%u", i->spec.id); }
static uint64_t n_id(const struct vps_info *i) { return i->spec.id; }
static void c_name(const struct vps_info *i, struct strbuf *sb)
{
	sb_add(sb, i->spec.name ? i->spec.name : "-");
}
static void c_uuid(const struct vps_info *i, struct strbuf *sb) { sb_add(sb, i->spec.uuid); }
static void c_status(const struct vps_info *i, struct strbuf *sb)
{
	sb_add(sb, vps_status_name(i->status));
}
static void c_image(const struct vps_info *i, struct strbuf *sb)
{
	sb_add(sb, i->spec.image ? i->spec.image : "-");
}
static void c_host(const struct vps_info *i, struct strbuf *sb)
{
	sb_add(sb, i->spec.hostname ? i->spec.hostname : i->spec.name ? i->spec.name : "-");
}
/* A routed address is one host's: its /32 or /128 says nothing. */
static void c_ip(const struct vps_info *i, struct strbuf *sb)
{
	for (char **a = i->spec.addrs; a && *a; a++) {
		const char *len = strchr(*a, '/');
		bool host = len && (str_eq(len, "/32") || str_eq(len, "/128"));
		sb_addf(sb, "%s%.*s", a == i->spec.addrs ? "" : ",",
			host ? (int)(len - *a) : (int)strlen(*a), *a);
	}
}
static void c_ports(const struct vps_info *i, struct strbuf *sb) { put_strv(sb, i->spec.publish); }
static void c_memory(const struct vps_info *i, struct strbuf *sb) { put_limit(sb, i->spec.memory); }
static uint64_t n_memory(const struct vps_info *i) { return i->spec.memory; }
static void c_disk(const struct vps_info *i, struct strbuf *sb) { put_limit(sb, i->spec.disk); }
static uint64_t n_disk(const struct vps_info *i) { return i->spec.disk; }
static void c_cpus(const struct vps_info *i, struct strbuf *sb)
{
	if (i->spec.cpus < SPEC_UNSET)
		sb_addf(sb, "%g", (double)i->spec.cpus / 1000);
}
static uint64_t n_cpus(const struct vps_info *i) { return i->spec.cpus; }
static void c_uptime(const struct vps_info *i, struct strbuf *sb)
{
	char buf[16];
	if (is_up(i) && i->started)
		sb_add(sb, fmt_duration(uptime_of(i), buf, sizeof(buf)));
}
static void c_created(const struct vps_info *i, struct strbuf *sb)
{
	put_time(sb, i->spec.created);
}
static uint64_t n_created(const struct vps_info *i) { return i->spec.created; }
static void c_started(const struct vps_info *i, struct strbuf *sb) { put_time(sb, i->started); }
static void c_pid(const struct vps_info *i, struct strbuf *sb)
{
	if (i->init)
		sb_addf(sb, "%d", (int)i->init);
}
static uint64_t n_pid(const struct vps_info *i) { return (uint64_t)i->init; }
static void c_exit(const struct vps_info *i, struct strbuf *sb)
{
	if (i->exit_code >= 0)
		sb_addf(sb, "%d", i->exit_code);
}
static void c_restarts(const struct vps_info *i, struct strbuf *sb)
{
	sb_addf(sb, "%u", i->restarts);
}
static uint64_t n_restarts(const struct vps_info *i) { return i->restarts; }
static void c_autostart(const struct vps_info *i, struct strbuf *sb)
{
	sb_add(sb, i->spec.autostart ? "yes" : "no");
}
static void c_boot(const struct vps_info *i, struct strbuf *sb)
{
	sb_addf(sb, "%d", i->spec.boot_order);
}
static void c_isolation(const struct vps_info *i, struct strbuf *sb)
{
	sb_add(sb, i->spec.isolation == ISOLATION_VM ? "vm" : "container");
}
static void c_labels(const struct vps_info *i, struct strbuf *sb) { put_strv(sb, i->spec.labels); }
static void c_net(const struct vps_info *i, struct strbuf *sb)
{
	sb_add(sb, i->spec.net ? i->spec.net : "routed");
}
static void c_oom(const struct vps_info *i, struct strbuf *sb)
{
	sb_addf(sb, "%lu", (unsigned long)i->oom_kills);
}

static const struct column columns[] = {
	{"id", "ID", "number", true, c_id, n_id},
	{"name", "NAME", "name", false, c_name, NULL},
	{"status", "STATUS", "stopped, running, paused, …", false, c_status, NULL},
	{"ip", "IP", "addresses", false, c_ip, NULL},
	{"memory", "MEMORY", "memory limit", true, c_memory, n_memory},
	{"cpus", "CPUS", "CPU limit", true, c_cpus, n_cpus},
	{"disk", "DISK", "disk size", true, c_disk, n_disk},
	{"image", "IMAGE", "image", false, c_image, NULL},
	{"uptime", "UPTIME", "time since the start", true, c_uptime, uptime_of},
	{"uuid", "UUID", "uuid", false, c_uuid, NULL},
	{"hostname", "HOSTNAME", "host name inside", false, c_host, NULL},
	{"net", "NET", "kind of network", false, c_net, NULL},
	{"ports", "PORTS", "published ports", false, c_ports, NULL},
	{"isolation", "ISOLATION", "container or vm", false, c_isolation, NULL},
	{"pid", "PID", "host pid of init", true, c_pid, n_pid},
	{"exit", "EXIT", "last exit code", true, c_exit, NULL},
	{"restarts", "RESTARTS", "restarts by policy", true, c_restarts, n_restarts},
	{"oom", "OOM", "OOM kills in this run", true, c_oom, NULL},
	{"autostart", "AUTOSTART", "starts with the host", false, c_autostart, NULL},
	{"bootorder", "BOOTORDER", "higher starts first", true, c_boot, NULL},
	{"created", "CREATED", "time of creation", false, c_created, n_created},
	{"started", "STARTED", "time of the last start", false, c_started, NULL},
	{"labels", "LABELS", "labels", false, c_labels, NULL},
};
#define DEFAULT_COLUMNS "id,name,status,ip,memory,cpus,disk,image,uptime"

const char *list_column(size_t i)
{
	return i < ARRAY_LEN(columns) ? columns[i].name : NULL;
}

static const struct column *find_column(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(columns); i++)
		if (strcasecmp(columns[i].name, name) == 0)
			return &columns[i];
	return NULL;
}

static int bad_column(struct vps_err *err, const char *name)
{
	return vps_err_set(err, VPS_EUSAGE, "no column '%s'; 'vps list -L' shows them", name);
}

static bool label_matches(const struct vps_info *i, const char *want)
{
	bool with_value = strchr(want, '=');
	for (char **l = i->spec.labels; l && *l; l++) {
		size_t key = strcspn(*l, "=");
		if (with_value ? fnmatch(want, *l, 0) == 0
			       : strlen(want) == key && memcmp(*l, want, key) == 0)
			return true;
	}
	return false;
}

/* One "column=pattern". 1: matches, 0: not, -VPS_EUSAGE. */
static int filter_one(const struct vps_info *i, const char *filter, struct vps_err *err)
{
	const char *eq = strchr(filter, '=');
	if (!eq)
		return vps_err_set(err, VPS_EUSAGE, "--filter '%s': say COLUMN=PATTERN", filter);
	if (str_starts(filter, "label="))
		return label_matches(i, eq + 1);
	autofree char *name = strndup(filter, eq - filter);
	const struct column *col = name ? find_column(name) : NULL;
	if (!col)
		return bad_column(err, name ? name : "");
	auto_strbuf sb = STRBUF_INIT;
	col->text(i, &sb);
	return fnmatch(eq + 1, sb.s ? sb.s : "", 0) == 0;
}

static bool asked_for(const struct cli *c, const struct vps_info *i)
{
	char id[16];
	snprintf(id, sizeof(id), "%u", i->spec.id);
	for (char **a = c->args; *a; a++)
		if (str_eq(*a, id) || (i->spec.name && fnmatch(*a, i->spec.name, 0) == 0))
			return true;
	return false;
}

static int keep(const struct cli *c, const struct vps_info *i, struct vps_err *err)
{
	if (c->n_args && !asked_for(c, i))
		return 0;
	if (cli_flag(c, "stopped") && is_up(i))
		return 0;
	if (!c->n_args && !cli_flag(c, "all") && !cli_flag(c, "stopped") && !is_up(i))
		return 0;
	for (size_t k = 0; k < c->n_given; k++) {
		if (!str_eq(c->given[k].name, "filter"))
			continue;
		int r = filter_one(i, c->given[k].value, err);
		if (r <= 0)
			return r;
	}
	return 1;
}

static int compare(const void *a, const void *b, void *arg)
{
	const struct vps_info *x = *(const struct vps_info *const *)a,
			      *y = *(const struct vps_info *const *)b;
	const struct column *col = arg;
	if (col->number) {
		uint64_t n = col->number(x), m = col->number(y);
		return n < m ? -1 : n > m;
	}
	auto_strbuf s = STRBUF_INIT, t = STRBUF_INIT;
	col->text(x, &s);
	col->text(y, &t);
	return strcmp(s.s ? s.s : "", t.s ? t.s : "");
}

static int sort_rows(const struct cli *c, const struct vps_info **rows, size_t n,
		     struct vps_err *err)
{
	const char *key = cli_value(c, "sort");
	if (!key)
		return 0;
	bool down = key[0] == '-';
	const struct column *col = find_column(key + down);
	if (!col)
		return bad_column(err, key + down);
	qsort_r(rows, n, sizeof(*rows), compare, (void *)col);
	for (size_t i = 0; down && i < n / 2; i++) {
		const struct vps_info *t = rows[i];
		rows[i] = rows[n - 1 - i];
		rows[n - 1 - i] = t;
	}
	return 0;
}

static int print_table(const struct cli *c, const struct vps_info **rows, size_t n,
		       struct vps_err *err)
{
	const char *want = cli_value(c, "output");
	if (!want)
		want = cli_flag(c, "names") || c->quiet ? "name" : DEFAULT_COLUMNS;
	auto_strv names = NULL;
	int r = strv_split(want, ",", &names);
	if (r < 0)
		return r;
	size_t n_cols = strv_len(names);
	auto_done(table_freep) struct table *t = table_new(n_cols);
	if (!t)
		return -ENOMEM;
	for (size_t k = 0; k < n_cols; k++) {
		const struct column *col = find_column(names[k]);
		if (!col)
			return bad_column(err, names[k]);
		table_head(t, k, col->title, col->right);
	}
	auto_strbuf sb = STRBUF_INIT;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < n_cols; k++) {
			sb_reset(&sb);
			find_column(names[k])->text(rows[i], &sb);
			table_cell(t, k, sb.len ? sb.s : NULL);
		}
		table_row(t);
	}
	table_print(t, stdout, !cli_flag(c, "no-header") && !cli_flag(c, "names") && !c->quiet);
	return 0;
}

static int print_json(const struct vps_info **rows, size_t n)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	jo_array(&o, NULL);
	for (size_t i = 0; i < n; i++)
		cli_json_vps(&o, NULL, rows[i]);
	jo_end_array(&o);
	return cli_print_json(&sb);
}

static int list_columns(void)
{
	for (size_t i = 0; i < ARRAY_LEN(columns); i++)
		printf("%-10s  %s\n", columns[i].name, columns[i].help);
	return EXIT_OK;
}

int verb_list(struct cli *c)
{
	if (cli_flag(c, "columns"))
		return list_columns();
	struct vps_err err = {0};
	struct vps_info *all = NULL;
	size_t n_all = 0, n = 0;
	int r = cli_uuid_args(c, &err);
	if (r >= 0)
		r = vps_list(c->host, &all, &n_all, &err);
	autofree const struct vps_info **rows = calloc(n_all + 1, sizeof(*rows));
	if (r >= 0 && !rows)
		r = -ENOMEM;
	for (size_t i = 0; r >= 0 && i < n_all; i++) {
		r = keep(c, &all[i], &err);
		if (r > 0)
			rows[n++] = &all[i];
	}
	if (r >= 0)
		r = sort_rows(c, rows, n, &err);
	if (r >= 0)
		r = c->json ? print_json(rows, n) : print_table(c, rows, n, &err);
	int code = r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
	vps_list_free(all, n_all);
	return code;
}
