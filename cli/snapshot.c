/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapshot: create, list, show, restore, delete, run. */
#include "cli/verbs.h"

#include <string.h>
#include <time.h>

const struct cli_opt snapshot_create_opts[] = {
	{"memory", 'm', NULL, "what it has in memory, too: a restore goes on from there"},
	{"description", 'd', "TEXT", "what it is for"},
	{"expiry", 'e', "TIME", "remove it after that time (7d, 12h); with --schedule: each of them"},
	{"schedule", 0, "CRON", "none now, but by this schedule ('0 3 * * *', @daily); '' ends it"},
	{"pattern", 0, "NAME", "names of scheduled ones, as of strftime (auto-%Y%m%d-%H%M)"},
	{0},
};

const struct cli_opt snapshot_list_opts[] = {
	{"no-header", 'H', NULL, "no header line"},
	{0},
};

const struct cli_opt snapshot_restore_opts[] = {
	{"timeout", 't', "TIME", "how long a running VPS may take to stop, before it is killed"},
	{"force", 'f', NULL, "kill it at once: what is in its memory goes with its disk"},
	{"no-memory", 0, NULL, "though there is memory in the snapshot, boot"},
	{0},
};

static void json_snapshot(struct json_out *o, const struct vps_snapshot *s)
{
	jo_object(o, NULL);
	jo_str(o, "name", s->name);
	jo_str(o, "description", s->description);
	jo_u64(o, "created", s->created);
	if (s->expires)
		jo_u64(o, "expires", s->expires);
	jo_bool(o, "scheduled", s->scheduled);
	jo_bool(o, "memory", s->memory);
	jo_str(o, "how", s->how);
	jo_u64(o, "still_us", s->still_us);
	jo_str(o, "image", s->image);
	jo_str(o, "image_digest", s->image_digest);
	jo_str(o, "disk_backend", s->disk_backend);
	if (s->disk < SPEC_UNSET)
		jo_u64(o, "disk", s->disk);
	if (s->used < SPEC_UNSET)
		jo_u64(o, "used", s->used);
	jo_end_object(o);
}

static const char *date(uint64_t t, char *buf, size_t size)
{
	time_t tt = (time_t)t;
	struct tm tm;

	if (!t || !localtime_r(&tt, &tm) || !strftime(buf, size, "%Y-%m-%d %H:%M", &tm))
		return "-";
	return buf;
}

/* ---- create --------------------------------------------------------------------------- */

static int add_setting(char ***settings, const char *name, const char *value)
{
	return value ? strv_addf(settings, "%s=%s", name, value) : 0;
}

/* A schedule is a setting as others are. */
static int schedule(struct cli *c, struct vps_err *err)
{
	auto_strv settings = NULL;
	int r = add_setting(&settings, "snapshot-schedule", cli_value(c, "schedule"));

	if (c->n_args > 1)
		return vps_err_set(err, VPS_EUSAGE, "scheduled snapshots are named by --pattern");
	r = r ?: add_setting(&settings, "snapshot-expiry", cli_value(c, "expiry"));
	r = r ?: add_setting(&settings, "snapshot-pattern", cli_value(c, "pattern"));
	return r < 0 ? vps_err_sys(err, r, "schedule") : vps_set(c->host, c->args[0], settings, err);
}

static int parse_opts(struct cli *c, struct vps_snapshot_opts *o, struct vps_err *err)
{
	const char *expiry = cli_value(c, "expiry");

	o->description = cli_value(c, "description");
	o->memory = cli_flag(c, "memory");
	if (expiry && (parse_duration_ms(expiry, &o->expiry_ms) < 0 || o->expiry_ms < 1000))
		return vps_err_set(err, VPS_EUSAGE, "--expiry '%.40s': a time is wanted, for example 12h or 7d",
				   expiry);
	if (cli_value(c, "pattern"))
		return vps_err_set(err, VPS_EUSAGE, "--pattern goes with --schedule");
	return 0;
}

int verb_snapshot_create(struct cli *c)
{
	struct vps_err err = {0};
	struct vps_snapshot_opts o = {0};
	auto_done(vps_snapshot_done) struct vps_snapshot s = {0};
	int r = cli_host(c, &err);

	if (r >= 0 && cli_value(c, "schedule")) {
		r = schedule(c, &err);
		return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
	}
	if (r >= 0)
		r = parse_opts(c, &o, &err);
	if (r >= 0)
		r = vps_snapshot_create(c->host, c->args[0], c->n_args > 1 ? c->args[1] : NULL, &o, cli_progress(c),
					&s, &err);
	cli_progress_end();
	if (r < 0)
		return cli_fail(c, r, &err);
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out out = JSON_OUT(&sb, true);

		json_snapshot(&out, &s);
		return cli_print_json(&sb);
	}
	printf("%s\n", s.name);
	return EXIT_OK;
}

/* ---- list, show -------------------------------------------------------------------------- */

static void print_table(struct cli *c, const struct vps_snapshot *v, size_t n)
{
	static const char *const titles[] = {"NAME", "CREATED", "EXPIRES", "USED", "HOW", "DESCRIPTION"};
	auto_done(table_freep) struct table *t = table_new(ARRAY_LEN(titles));
	char buf[40];

	for (size_t k = 0; k < ARRAY_LEN(titles); k++)
		table_head(t, k, titles[k], k == 3);
	for (size_t i = 0; i < n; i++) {
		table_cell(t, 0, v[i].name);
		table_cell(t, 1, date(v[i].created, buf, sizeof(buf)));
		table_cell(t, 2, date(v[i].expires, buf, sizeof(buf)));
		table_cell(t, 3, cli_size(v[i].used, buf, sizeof(buf)));
		table_cell(t, 4, v[i].how);
		table_cell(t, 5, v[i].description ? v[i].description : "");
		table_row(t);
	}
	table_print(t, stdout, !cli_flag(c, "no-header"));
}

int verb_snapshot_list(struct cli *c)
{
	struct vps_err err = {0};
	struct vps_snapshot *v = NULL;
	size_t n = 0;
	int r = cli_host(c, &err);

	if (r >= 0)
		r = vps_snapshot_list(c->host, c->args[0], &v, &n, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, true);

		jo_array(&o, NULL);
		for (size_t i = 0; i < n; i++)
			json_snapshot(&o, &v[i]);
		jo_end_array(&o);
		r = cli_print_json(&sb);
	} else if (c->quiet) {
		for (size_t i = 0; i < n; i++)
			printf("%s\n", v[i].name);
	} else {
		print_table(c, v, n);
	}
	vps_snapshot_list_free(v, n);
	return r;
}

static void print_one(const struct vps_snapshot *s)
{
	char buf[40];

	printf("name         %s\n", s->name);
	printf("created      %s%s\n", date(s->created, buf, sizeof(buf)), s->scheduled ? ", by schedule" : "");
	printf("expires      %s\n", s->expires ? date(s->expires, buf, sizeof(buf)) : "never");
	printf("consistent   %s", s->how);
	if (s->still_us)
		printf(", for %.1f ms", (double)s->still_us / 1000);
	printf("\nmemory       %s", s->memory ? "yes" : "no");
	printf("\nimage        ");
	cli_print_escaped(stdout, s->image);
	printf("  %.19s\ndisk         %s, %s", s->image_digest, s->disk_backend, cli_size(s->disk, buf, sizeof(buf)));
	if (s->used < SPEC_UNSET)
		printf(", %s in use", cli_size(s->used, buf, sizeof(buf)));
	printf("\ndescription  ");
	cli_print_escaped(stdout, s->description ? s->description : "-");
	printf("\n");
}

int verb_snapshot_show(struct cli *c)
{
	struct vps_err err = {0};
	struct vps_snapshot *v = NULL;
	size_t n = 0, i;
	int r = cli_host(c, &err);

	if (r >= 0)
		r = vps_snapshot_list(c->host, c->args[0], &v, &n, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	for (i = 0; i < n && !str_eq(v[i].name, c->args[1]); i++)
		;
	if (i == n) {
		r = cli_fail(c, vps_err_set(&err, VPS_ENOVPS, "'%s' has no snapshot '%s'", c->args[0], c->args[1]),
			     &err);
	} else if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, true);

		json_snapshot(&o, &v[i]);
		r = cli_print_json(&sb);
	} else {
		print_one(&v[i]);
	}
	vps_snapshot_list_free(v, n);
	return r;
}

/* ---- restore, delete, run ------------------------------------------------------------------- */

int verb_snapshot_restore(struct cli *c)
{
	struct vps_err err = {0};
	struct vps_snapshot_restore_opts o = {.stop.kill = cli_flag(c, "force"), .no_memory = cli_flag(c, "no-memory")};
	int r = cli_timeout(c, -1, &o.stop.timeout_ms, &err);

	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = vps_snapshot_restore(c->host, c->args[0], c->args[1], &o, cli_progress(c), &err);
	cli_progress_end();
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_snapshot_delete(struct cli *c)
{
	struct vps_err err = {0};
	int r = cli_host(c, &err);

	for (int i = 1; r >= 0 && i < c->n_args; i++)
		r = vps_snapshot_delete(c->host, c->args[0], c->args[i], &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

struct ran {
	struct cli *c;
	int failed; /* exit code of the first */
};

static void tell(void *arg, const char *vps, const char *what, int r, const struct vps_err *err)
{
	struct ran *ran = arg;

	if (r < 0) {
		int code = cli_fail(ran->c, r, err);
		ran->failed = ran->failed ? ran->failed : code;
	} else if (!ran->c->quiet) {
		printf("%s: %s\n", vps, what);
	}
}

int verb_snapshot_run(struct cli *c)
{
	struct ran ran = {.c = c};
	struct vps_err err = {0};
	int r = cli_host(c, &err);

	if (r >= 0)
		r = vps_snapshot_run(c->host, tell, &ran, &err);
	return r < 0 ? cli_fail(c, r, &err) : ran.failed;
}
