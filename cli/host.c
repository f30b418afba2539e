/* SPDX-License-Identifier: GPL-2.0-or-later */
/* host: check, gc, start-all, stop-all. */
#include "cli/verbs.h"

const struct cli_opt host_gc_opts[] = {{0}};

const struct cli_opt host_all_opts[] = {
	{"parallel", 0, "N", "at most N at once (default 4)"},
	{0},
};

static void json_findings(struct json_out *o, const struct vps_finding *f, size_t n)
{
	jo_array(o, NULL);
	for (size_t i = 0; i < n; i++) {
		jo_object(o, NULL);
		jo_str(o, "kind", f[i].leftover ? "leftover" : "advice");
		if (f[i].id)
			jo_u64(o, "id", f[i].id);
		jo_str(o, "what", f[i].what);
		jo_str(o, "help", f[i].help);
		jo_bool(o, "fixed", f[i].fixed);
		jo_end_object(o);
	}
	jo_end_array(o);
}

static void print_finding(const struct vps_finding *f)
{
	printf("%-8s  ", f->fixed ? "fixed" : f->leftover ? "leftover" : "note");
	if (f->id)
		printf("VPS %u: ", f->id);
	cli_print_escaped(stdout, f->what);
	if (f->help) {
		printf("\n          -> ");
		cli_print_escaped(stdout, f->help);
	}
	printf("\n");
}

/* Exit code 15 (wrong state) while leftovers are there, so that scripts need not read the words. */
static int check(struct cli *c, bool fix)
{
	struct vps_err err = {0};
	struct vps_finding *f = NULL;
	size_t n = 0, left = 0, fixed = 0;
	int r = cli_host(c, &err);
	if (r >= 0)
		r = vps_host_check(c->host, fix, &f, &n, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	for (size_t i = 0; i < n; i++) {
		left += f[i].leftover && !f[i].fixed;
		fixed += f[i].fixed;
	}
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, true);
		json_findings(&o, f, n);
		cli_print_json(&sb);
	} else {
		for (size_t i = 0; i < n; i++)
			if (!c->quiet || f[i].leftover)
				print_finding(&f[i]);
		if (!c->quiet && fix)
			printf("%zu fixed, %zu left\n", fixed, left);
		else if (!c->quiet)
			printf(left ? "%zu leftover%s; 'vps host gc' removes them\n"
				    : "no leftovers\n",
			       left, left == 1 ? "" : "s");
	}
	vps_findings_free(f, n);
	return left ? EXIT_STATE : EXIT_OK;
}

int verb_host_check(struct cli *c) { return check(c, false); }
int verb_host_gc(struct cli *c) { return check(c, true); }

static void tell(void *arg, const char *name, int r, const struct vps_err *e)
{
	struct cli *c = arg;
	if (r < 0) {
		cli_fail(c, r, e);
	} else if (!c->quiet) {
		cli_print_escaped(stdout, name);
		printf("\n");
		fflush(stdout);
	}
}

typedef int all_fn(struct vps_host *h, unsigned parallel,
		   void (*tell)(void *arg, const char *name, int r, const struct vps_err *e),
		   void *arg, struct vps_err *err);

static int all(struct cli *c, all_fn *fn)
{
	struct vps_err err = {0};
	uint64_t n = 4;
	const char *v = cli_value(c, "parallel");
	if (v && (parse_u64(v, 256, &n) < 0 || !n))
		return cli_usage(c, "--parallel '%s': from 1 to 256", v);
	int r = cli_host(c, &err);
	if (r >= 0)
		r = fn(c->host, (unsigned)n, tell, c, &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_host_start_all(struct cli *c) { return all(c, vps_host_start_all); }
int verb_host_stop_all(struct cli *c) { return all(c, vps_host_stop_all); }
