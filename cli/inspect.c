/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inspect and status: one VPS, whole or in one line. */
#include "cli/verbs.h"

const struct cli_opt status_opts[] = {
	{"all", 'a', NULL, "every VPS"},
	{0},
};

const char *cli_size(uint64_t v, char *buf, size_t len)
{
	if (v == SPEC_UNSET)
		return "-";
	return v == SPEC_MAX ? "max" : fmt_size(v, buf, len);
}

void cli_json_vps(struct json_out *o, const char *key, const struct vps_info *i)
{
	jo_object(o, key);
	jo_u64(o, "id", i->spec.id);
	jo_str(o, "name", i->spec.name);
	jo_str(o, "status", vps_status_name(i->status));
	jo_bool(o, "ready", i->ready);
	if (i->init)
		jo_int(o, "pid", i->init);
	if (i->monitor)
		jo_int(o, "monitor", i->monitor);
	if (i->started)
		jo_u64(o, "started", i->started);
	if (i->stopped)
		jo_u64(o, "stopped", i->stopped);
	if (i->exit_code >= 0)
		jo_int(o, "exit_code", i->exit_code);
	jo_u64(o, "restarts", i->restarts);
	jo_u64(o, "oom_kills", i->oom_kills);
	if (i->last_error)
		jo_str(o, "last_error", i->last_error);
	jo_strv(o, "addresses", i->spec.addrs);
	jo_str(o, "path", i->path);
	if (i->status != VPS_BROKEN)
		spec_to_json(&i->spec, o, "spec");
	jo_end_object(o);
}

int cli_print_new(struct cli *c, const struct vps_info *i)
{
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, true);

		cli_json_vps(&o, NULL, i);
		return cli_print_json(&sb);
	}
	if (cli_flag(c, "id"))
		printf("%u\n", i->spec.id);
	else
		printf("%s\n", i->spec.name);
	return EXIT_OK;
}

int verb_inspect(struct cli *c)
{
	struct vps_err err = {0};
	int r = cli_host(c, &err);
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	jo_array(&o, NULL);
	for (int i = 0; r >= 0 && i < c->n_args; i++) {
		auto_done(vps_info_done) struct vps_info info = {0};
		r = vps_get(c->host, c->args[i], &info, &err);
		if (r >= 0)
			cli_json_vps(&o, NULL, &info);
	}
	jo_end_array(&o);
	return r < 0 ? cli_fail(c, r, &err) : cli_print_json(&sb);
}

/* "VPS 101 web1 running ready oom=0 restarts=0": words by position, then key=value. A VPS that is
 * not there says so, with exit code 14, as vzctl's status does. */
static int status_one(struct cli *c, const char *name)
{
	struct vps_err err = {0};
	auto_done(vps_info_done) struct vps_info i = {0};
	int r = vps_get(c->host, name, &i, &err);
	if (r == -VPS_ENOVPS && !c->json) {
		printf("VPS - ");
		cli_print_escaped(stdout, name);
		printf(" absent\n");
		return EXIT_NOVPS;
	}
	if (r < 0)
		return cli_fail(c, r, &err);
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, false);
		cli_json_vps(&o, NULL, &i);
		return cli_print_json(&sb);
	}
	printf("VPS %u %s %s%s oom=%lu restarts=%u", i.spec.id, i.spec.name ? i.spec.name : "-",
	       vps_status_name(i.status),
	       i.status == VPS_RUNNING ? i.ready ? " ready" : " booting" : "",
	       (unsigned long)i.oom_kills, i.restarts);
	if (i.exit_code >= 0)
		printf(" exit=%d", i.exit_code);
	if (i.last_error) {
		printf(" error=\"");
		cli_print_escaped(stdout, i.last_error);
		printf("\"");
	}
	printf("\n");
	return EXIT_OK;
}

int verb_status(struct cli *c)
{
	struct vps_err err = {0};
	auto_strv names = NULL;
	int r = cli_names(c, ~0u, &names, &err), code = EXIT_OK;
	if (r < 0)
		return cli_fail(c, r, &err);
	for (char **n = names; n && *n; n++) {
		int one = status_one(c, *n);
		code = code ? code : one;
	}
	return code;
}
